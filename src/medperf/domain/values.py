"""What metrics and statistics have in common: a nested mapping of small values, its names, and the digits of a number."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from medperf.domain import limits
from medperf.domain.errors import InvalidInput

#: One part of a dotted name.
NAME = re.compile(r"[^\x00-\x1f\x7f.]{1,64}")
_INTEGERS = 10**limits.DOCUMENT_INT_DIGITS

#: How a caller words a refusal: what is wrong, and what to do.
Refuse = Callable[[str, str], InvalidInput]


def leaves(document: Mapping[str, Any], refuse: Refuse, *, noun: str, most: int) -> Iterator[tuple[str, Any]]:
    """Every value that is no mapping with entries, under its dotted name, e.g. ``("AUC.Edema", 0.91)``.

    NaN and infinities come as None (``undefined``), as does null. Lists and empty mappings come as they are: the caller judges them.

    Args:
        noun: what one entry is called in messages: ``"metric"``.
        most: entries; one more is refused before it is yielded.

    Raises:
        InvalidInput: from ``refuse``: a name of a wrong shape, too long or given twice, a number beyond all use, too many entries.
    """
    seen: set[str] = set()
    # A stack, not recursion: how deep the document is must not matter. Names bound it: each level adds two characters.
    waiting: list[tuple[str, Any]] = [("", document)]
    while waiting:
        prefix, value = waiting.pop()
        if isinstance(value, Mapping) and (value or not prefix):
            if len(value) > most:
                raise _too_many(refuse, noun, most)
            entries = [(_joined(prefix, key, refuse, noun=noun), entry) for key, entry in value.items()]
            waiting += reversed(entries)
            continue
        if prefix in seen:
            raise refuse(f"The {noun} {prefix!r} is given twice.", "Give each name once, as text.")
        seen.add(prefix)
        if len(seen) > most:
            raise _too_many(refuse, noun, most)
        if isinstance(value, int) and not -_INTEGERS < value < _INTEGERS:
            raise refuse(
                f"The {noun} {prefix!r} is a whole number with more than {limits.DOCUMENT_INT_DIGITS} digits.",
                "Report a smaller one.",
            )
        yield prefix, None if isinstance(value, float) and not math.isfinite(value) else value


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping that `leaves` took apart: ``{"AUC.Edema": 0.91}`` becomes ``{"AUC": {"Edema": 0.91}}``."""
    found: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, last = name.split(".")
        place = found
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return found


def is_number(value: Any) -> bool:
    """A whole number or a finite one with a point; truth values are none."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and math.isfinite(value)
    )


def digits_of(value: float) -> tuple[int, int]:
    """How many digits count in a finite number, and how many of them are after the point (as it is written: ``repr``)."""
    _, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    places = exponent if isinstance(exponent, int) else 0
    return max(len(digits) + max(places, 0), -places), max(-places, 0)


def _joined(prefix: str, key: Any, refuse: Refuse, *, noun: str) -> str:
    name = key if isinstance(key, str) else str(key)[:65]
    if not NAME.fullmatch(name):
        raise refuse(
            f"The {noun} name {name[:70]!r} is not allowed.",
            "Use 1 to 64 characters without dots or control characters.",
        )
    joined = f"{prefix}.{name}" if prefix else name
    if len(joined) > limits.METRIC_KEY_LENGTH:
        raise refuse(
            f"The {noun} name {joined[:60]!r}... is longer than {limits.METRIC_KEY_LENGTH} characters.", "Shorten it."
        )
    return joined


def _too_many(refuse: Refuse, noun: str, most: int) -> InvalidInput:
    return refuse(f"More than {most} {noun}s are reported.", "Report aggregates, not cases.")
