"""Who owns things: each person has a party."""
