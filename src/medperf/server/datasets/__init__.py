"""Datasets: what is registered of data that never leaves its site."""
