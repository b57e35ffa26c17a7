"""Numbers in text that somebody else wrote."""

from __future__ import annotations

from medperf.domain import limits


def whole_number(text: str) -> int | None:
    """``text`` as a whole number from 0 on: ASCII digits only, and no more of them than a document may have; None: it is none."""
    if text.isascii() and text.isdecimal() and len(text) <= limits.DOCUMENT_INT_DIGITS:
        return int(text)
    return None
