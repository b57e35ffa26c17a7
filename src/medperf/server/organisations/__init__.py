"""Parties with members: organisations, who belongs to them, and who is invited."""
