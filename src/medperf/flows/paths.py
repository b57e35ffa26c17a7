"""Paths as people give them."""

from __future__ import annotations

import os
from pathlib import Path


def local_path(text: str | Path) -> Path:
    """A path that a person gave: ``~`` and ``~name`` resolved; what names no account stays as it is, and does not exist then."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib's raises where there is no such account
