"""Associations: datasets and models in benchmarks, and who decides about them."""
