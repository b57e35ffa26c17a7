"""Logins: bearer tokens, stored hashed."""
