"""Where a page begins: what a listing's query says about order, search and the page before."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from medperf.domain import limits
from medperf.domain.errors import InvalidInput
from medperf.server.names import after_prefix, name_key

#: An id; behind a point, in an order by name, the name that it stands at.
CURSOR = r"^[0-9]{1,10}(\.[A-Za-z0-9_-]{1,700})?$"


@dataclass(frozen=True, slots=True)
class Position:
    """``key``: the filter for one equal value, None: none. ``resumed``: behind a page. ``parameters``: of the statement."""

    key: str | None
    by_name: bool
    descending: bool
    search: bool
    resumed: bool
    parameters: dict[str, Any]

    def cursor(self, row: Any, *, name: str) -> str:
        """The position of a row, whose name is its attribute ``name``."""
        if not self.by_name:
            return str(row.id)
        return f"{row.id}.{base64.urlsafe_b64encode(getattr(row, name).encode()).decode().rstrip('=')}"


def position_of(query: Any, keys: Collection[str]) -> Position:
    """What a query says.

    Args:
        query: a `medperf.server.paging.PageQuery`.
        keys: its filters for equal values.

    Raises:
        InvalidInput: ``bad_combination``, ``bad_cursor``.
    """
    given = [name for name in keys if getattr(query, name) is not None]
    search = getattr(query, "search", None)
    if len(given) > 1 or (given and search is not None):
        told = ", ".join([*given, *(["search"] if search is not None else [])])
        raise InvalidInput("bad_combination", f"Only one of these can be asked at a time: {told}.", "Leave one out.")
    key = given[0] if given else None
    sort = query.sort or ("name" if search is not None else "id")
    by_name, descending = sort.endswith("name"), sort.startswith("-")
    if search is not None and not by_name:
        raise InvalidInput(
            "bad_combination", "What is searched by name is ordered by name.", "Leave sort out, or sort by name."
        )
    if by_name and key is not None and key != "name":
        raise InvalidInput(
            "bad_combination", f"What is filtered by {key} is ordered by id.", "Leave sort out, or sort by id."
        )
    by_name = by_name and key is None  # names that are equal are in the order of their ids
    parameters: dict[str, Any] = {}
    if key is not None:
        value = getattr(query, key)
        parameters["key_value"] = value
        if key == "name":
            parameters["key_folded"] = name_key(value)
    if not by_name:
        parameters["page_id"] = _id_after(query.after, descending)
        return Position(
            key=key,
            by_name=False,
            descending=descending,
            search=False,
            resumed=query.after is not None,
            parameters=parameters,
        )
    low = name_key(search or "")
    high = after_prefix(low)
    if search is not None:
        parameters["search_from" if descending else "search_until"] = low if descending else high
    # A name is never empty: in front of, or behind, all of its key.
    first = (high if descending else low, "", 0)
    here = first if query.after is None else _name_after(query.after)
    resumed = here != first and (here < first) == descending
    parameters |= dict(zip(("page_folded", "page_name", "page_id"), here if resumed else first, strict=True))
    return Position(
        key=None,
        by_name=True,
        descending=descending,
        search=search is not None,
        resumed=resumed,
        parameters=parameters,
    )


def _id_after(after: str | None, descending: bool) -> int:
    if after is None:
        return limits.ID_MAX + 1 if descending else 0
    if "." in after:
        raise _bad_cursor()
    return int(after)


def _name_after(after: str) -> tuple[str, str, int]:
    number, _, encoded = after.partition(".")
    try:
        name = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)).decode()
    except (binascii.Error, ValueError) as error:
        raise _bad_cursor() from error
    if not name or "\0" in name or len(name) > limits.NAME_LENGTH:
        raise _bad_cursor()
    return name_key(name), name, int(number)


def _bad_cursor() -> InvalidInput:
    return InvalidInput(
        "bad_cursor",
        "This 'after' is from a listing in another order.",
        "Give the 'next' of the page before, with the same query.",
    )
