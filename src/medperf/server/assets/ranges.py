"""Which bytes of a file an answer holds: ``Range`` and the conditions on it (RFC 9110), as pure functions."""

from __future__ import annotations

import re

_SINGLE = re.compile(r"bytes=[ \t]*(?:([0-9]+)-([0-9]*)|-([0-9]+))[ \t]*")
_TAG = re.compile(r'[ \t]*(?:W/)?("[^"]*")[ \t]*(?:,|$)')
_DIGITS = 18


class UnsatisfiableError(ValueError):
    """The range begins behind the end of the file."""


def part_of(size: int, *, wanted: str | None, condition: str | None, tag: str) -> tuple[int, int] | None:
    """First byte and end (exclusive) of what is asked for; None: the whole file.

    Several ranges, and what cannot be understood, ask for the whole file.

    Args:
        size: of the file, in bytes.
        wanted: the header ``Range``.
        condition: the header ``If-Range``: the range counts only if the file is still that one.
        tag: the file's strong ETag.

    Raises:
        UnsatisfiableError: nothing of the file is in the range.
    """
    if wanted is None or (condition is not None and condition.strip() != tag):
        return None
    found = _SINGLE.fullmatch(wanted)
    if found is None:
        return None
    first, last, suffix = (None if not group else _number(group) for group in found.groups())
    if suffix is not None:
        first, end = max(size - suffix, 0), size
        if suffix == 0:
            raise UnsatisfiableError
    else:
        assert first is not None
        if last is not None and last < first:
            return None
        end = size if last is None else min(last + 1, size)
    if first >= size:
        raise UnsatisfiableError
    return first, end


def names_tag(header: str | None, tag: str) -> bool:
    """Whether ``If-None-Match`` names this ETag, so that the client has the file."""
    if header is None:
        return False
    return header.strip() == "*" or any(found[1] == tag for found in _TAG.finditer(header))


def _number(digits: str) -> int:
    """Any number of digits: beyond what a file can have, more makes no difference."""
    stripped = digits.lstrip("0")
    return int(stripped or "0") if len(stripped) <= _DIGITS else 10**_DIGITS
