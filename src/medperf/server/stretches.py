"""Stretches of an index: rows whose first columns have certain values, from a place on, in the order of the index.

SQLite takes the index that fits. PostgreSQL weighs indexes by how many rows it believes there are, and believes that columns know nothing of
each other: where no row has all of the values it may walk through the whole table by another index in search of the first. So there the
stretch is said as what it is, everything between two rows of values, and ordered by all columns: no other index has that order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

_Values = Sequence[tuple[sa.ColumnElement[Any], sa.ColumnElement[Any]]]


class _EachItsOwn(FunctionElement[bool]):
    """One condition, said plainly and for PostgreSQL."""

    name = "each_its_own"
    inherit_cache = True
    type = sa.Boolean()

    def __init__(self, plain: sa.ColumnElement[bool], postgresql: sa.ColumnElement[bool]) -> None:
        super().__init__(plain.self_group(), postgresql.self_group())

    def self_group(self, against: Any = None) -> Any:  # noqa: ARG002 - as it is called
        """A condition already, also where truth is a number."""
        return self


@compiles(_EachItsOwn)
def _plain(element: _EachItsOwn, compiler: Any, **options: Any) -> str:
    said, _ = element.clauses
    return f"({compiler.process(said, **options)})"


@compiles(_EachItsOwn, "postgresql")
def _between_rows(element: _EachItsOwn, compiler: Any, **options: Any) -> str:
    _, said = element.clauses
    return f"({compiler.process(said, **options)})"


def as_indexed(
    table: Any, fixed: Mapping[str, sa.ColumnElement[Any]], order: Sequence[sa.ColumnElement[Any]]
) -> _Values:
    """Columns and their values as an index has them, which goes on with the columns of ``order``.

    Args:
        fixed: column -> value.
    """
    last = [column.name for column in order]
    for index in table.indexes:
        names = [column.name for column in index.columns]
        if names[len(fixed) :] == last and set(names[: len(fixed)]) == set(fixed):
            return [(table.c[name], fixed[name]) for name in names[: len(fixed)]]
    raise AssertionError(f"{table.name} has no index of {', '.join(fixed)}, then {', '.join(last)}")


def stretch(fixed: _Values, here: _Values, *, descending: bool, until: _Values = ()) -> sa.ColumnElement[bool]:
    """Rows that have the values of ``fixed`` and are behind ``here``, before ``until``.

    Args:
        fixed: as an index has them; empty: all rows.
        here: the columns that come next in it.
        until: the first of those; descending it is the last value that belongs to it.
    """
    plain = [column == value for column, value in fixed]
    plain.append(_compare(here, before=descending))
    if until:
        plain.append(_compare(until, before=not descending, with_equal=descending))
    if not fixed:
        return sa.and_(*plain)
    rows = [
        _compare([*fixed, *here], before=descending),
        _compare([*fixed, *until], before=not descending, with_equal=descending or not until),
    ]
    return _EachItsOwn(sa.and_(*plain), sa.and_(*rows))


def _compare(values: _Values, *, before: bool, with_equal: bool = False) -> sa.ColumnElement[bool]:
    there = sa.tuple_(*(column for column, _ in values))
    given = sa.tuple_(*(value for _, value in values))
    if before:
        return there <= given if with_equal else there < given
    return there >= given if with_equal else there > given
