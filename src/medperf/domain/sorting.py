"""The orders that listings have; both sides agree on them."""

from __future__ import annotations

from enum import StrEnum


class Sort(StrEnum):
    """By id, which is the order of creation, or by name; ``-`` turns it round."""

    ID = "id"
    NEWEST = "-id"
    NAME = "name"
    NAME_REVERSED = "-name"
