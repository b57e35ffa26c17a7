"""What waits for an account."""
