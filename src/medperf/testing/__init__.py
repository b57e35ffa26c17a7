"""Fakes, builders and contract suites, shipped so that an engine written elsewhere can prove itself."""
