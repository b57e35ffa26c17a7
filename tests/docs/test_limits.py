"""The page of limits says what the code holds."""

from __future__ import annotations

import re

import playing

from medperf.domain import limits

PAGE = playing.ROOT / "docs" / "concepts" / "limits.md"


def written(name: str, value: int) -> str:
    """A value as the page writes it: bytes in the largest unit, everything else with commas."""
    if name.endswith("_BYTES") and name != "ARCHIVE_PATH_BYTES":
        unit, size = next(
            (unit, size) for unit, size in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)) if value >= size
        )
        return f"{value / size:g} {unit}"
    return f"{value:,}"


def test_every_limit_is_on_the_page() -> None:
    rows = dict(re.findall(r"^\| `([A-Z0-9_]+)` \| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE))
    held = {
        name: written(name, value) for name, value in vars(limits).items() if name.isupper() and isinstance(value, int)
    }
    assert rows == held
