"""Reading a container's own output."""

from __future__ import annotations

import os
from pathlib import Path


def last_lines(path: Path, *, lines: int = 20, max_bytes: int = 16384) -> list[str]:
    """The end of a log, for messages: without empty lines and control characters. Nothing where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - max_bytes, 0))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    clean = "".join(letter if letter.isprintable() or letter in "\n\t" else " " for letter in text)
    return [line.rstrip() for line in clean.splitlines() if line.strip()][-lines:]
