"""Benchmarks and the decision about them."""
