"""Nested mappings of small values: taken apart, put together again, and bounded."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medperf.domain.errors import InvalidInput
from medperf.domain.values import digits_of, leaves, nested

names = st.text(
    st.characters(categories=["L", "N", "P", "Z"], exclude_characters=".\u2028\u2029"), min_size=1, max_size=6
)
mappings = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.dictionaries(names, inner, min_size=1, max_size=4),
    max_leaves=12,
).filter(lambda value: isinstance(value, dict))


def refuse(what: str, fix: str) -> InvalidInput:
    return InvalidInput("refused", what, fix)


def flat(document: Any, *, most: int = 100) -> dict[str, Any]:
    return dict(leaves(document, refuse, noun="value", most=most))


@given(mappings)
def test_what_is_taken_apart_can_be_put_together(document: dict[str, Any]) -> None:
    assert nested(flat(document)) == document


@pytest.mark.parametrize("name", ["", "a.b", ".", "a\nb", "\x00", "\x7f", "x" * 65, 1.5])
@pytest.mark.parametrize("depth", [0, 1])
def test_names_that_no_level_has(name: Any, depth: int) -> None:
    document = {name: 1} if depth == 0 else {"a": {name: 1}}
    with pytest.raises(InvalidInput, match="is not allowed"):
        flat(document)


def test_names_together_are_bounded_too() -> None:
    assert flat({"a" * 64: {"b" * 63: 1}})
    with pytest.raises(InvalidInput, match="longer than 128"):
        flat({"a" * 64: {"b" * 64: 1}})


def test_all_entries_together_are_counted() -> None:
    document = {f"n{outer}": {f"m{inner}": 1 for inner in range(10)} for outer in range(10)}
    assert len(flat(document, most=100)) == 100
    with pytest.raises(InvalidInput, match="More than 99 values"):
        flat(document, most=99)
    with pytest.raises(InvalidInput, match="More than 9 values"):
        flat({f"n{number}": {} for number in range(10)}, most=9)


@pytest.mark.parametrize(
    ("value", "digits"),
    [
        (0, (1, 0)),
        (7, (1, 0)),
        (-120, (3, 0)),
        (0.5, (1, 1)),
        (12.25, (4, 2)),
        (1e15, (16, 0)),
        (1e-7, (7, 7)),
        (-0.0, (1, 0)),
    ],
)
def test_digits_of_a_number(value: float, digits: tuple[int, int]) -> None:
    assert digits_of(value) == digits
