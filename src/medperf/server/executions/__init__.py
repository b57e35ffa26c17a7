"""Executions, their attempts, and the results that are released of them."""
