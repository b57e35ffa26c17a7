"""From SQLAlchemy Core to the text and positional parameters that a driver takes.

SQLAlchemy's own executor costs more than our queries do. Here a statement that was built once is found again by its identity,
and one that is built per request by SQLAlchemy's cache key, which is the same for all statements of one shape.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.sql.compiler import SQLCompiler

_SHAPES = 1000


class _WideInteger(sa.Integer):
    """A number of a request may be wider than the column it is compared with: then nothing is found, and nothing fails."""

    __visit_name__ = "BIGINT"
    render_bind_cast = True


class AsyncpgDialect(PGDialect_asyncpg):
    """The SQL that is written for asyncpg."""

    supports_statement_cache = True
    colspecs = {**PGDialect_asyncpg.colspecs, sa.Integer: _WideInteger}  # noqa: RUF012 - as in the base class


class Shape:
    """What statements of one shape share.

    Attributes:
        sql: the text, but for an IN with a list, whose length is in the text.
        rows: it returns rows.
        booleans: positions of booleans among its columns.
        row: makes its rows, once their names are known (`as_row`).
        shared: other statements have it too. What was compiled for one alone refers to that one, and kept with it would stay for ever.
    """

    __slots__ = ("booleans", "compiled", "expanding", "names", "row", "rows", "shared", "sql")

    def __init__(self, compiled: SQLCompiler, statement: Any, *, shared: bool) -> None:
        self.compiled = compiled
        self.shared = shared
        self.sql = compiled.string
        self.names = tuple(compiled.positiontup or ())
        self.expanding = bool(compiled.post_compile_params or compiled.literal_execute_params)
        changes = compiled.isinsert or compiled.isupdate or compiled.isdelete
        self.rows = not changes or bool(compiled.effective_returning)
        columns = compiled.effective_returning if changes else getattr(statement, "selected_columns", ())
        self.booleans = tuple(i for i, column in enumerate(columns or ()) if isinstance(column.type, sa.Boolean))
        self.row: Any = None

    def as_row(self, base: type, names: Sequence[str]) -> Any:
        """A subclass of ``base`` whose attributes are the columns; reading one costs as little as an index."""
        members = {name: property(itemgetter(i)) for i, name in enumerate(names)}
        self.row = type("Row", (base,), {"__slots__": (), **members})
        return self.row


class Prepared:
    """One statement, to be run with parameters of certain names."""

    __slots__ = ("_fixed", "shape")

    def __init__(self, shape: Shape, values: Mapping[str, Any], given: Mapping[str, Any]) -> None:
        self.shape = shape
        self._fixed = {name: value for name, value in values.items() if name not in given}

    def bound(self, given: Mapping[str, Any]) -> tuple[str, Any]:
        """The text and its values in their order."""
        shape, fixed = self.shape, self._fixed
        if shape.expanding:
            state = shape.compiled.construct_expanded_state({**fixed, **given}, escape_names=False)
            return state.statement, state.positional_parameters
        if not fixed:
            return shape.sql, [given[name] for name in shape.names]
        return shape.sql, [given[name] if name in given else fixed[name] for name in shape.names]


class _Known:
    """What was prepared for one statement object, for as long as that lives."""

    __slots__ = ("__weakref__", "prepared", "statement")

    def __init__(self, statement: Any, home: dict[int, _Known]) -> None:
        number, itself = id(statement), weakref.ref(self)

        def forget(_: object) -> None:
            # Another statement may have the number by now.
            if home.get(number) is itself():
                home.pop(number, None)

        self.statement = weakref.ref(statement, forget)
        self.prepared: dict[tuple[str, ...], Prepared] = {}


class Statements:
    """What was compiled for one kind of database."""

    def __init__(self, dialect: sa.Dialect, *, insert: Callable[[sa.Table], Any]) -> None:
        self._dialect = dialect
        self._insert = insert
        self._insertions: dict[tuple[sa.Table, int], tuple[Any, Any]] = {}
        #: By the statement's identity: a WeakKeyDictionary asks SQLAlchemy for hashes, which costs more than the rest.
        self._known: dict[int, _Known] = {}
        self._shapes: dict[Any, Shape] = {}

    def prepare(self, statement: Any, given: Mapping[str, Any]) -> Prepared:
        """The statement for parameters of these names."""
        names = tuple(given)
        known = self._known.get(id(statement))
        if known is None or known.statement() is not statement:
            known = self._known[id(statement)] = _Known(statement, self._known)
        found = known.prepared.get(names)
        if found is None:
            found = self._compile(statement, given, names)
            if found.shape.shared:
                known.prepared[names] = found
        return found

    def insertion(self, table: sa.Table, columns: tuple[Any, ...]) -> Any:
        """Insert a row and return its id and ``columns``, unless a unique rule stands against it."""
        found = self._insertions.get((table, id(columns)))
        if found is None:
            key = next(iter(table.primary_key.columns))
            statement = self._insert(table).on_conflict_do_nothing().returning(key, *columns)
            # With the columns, so that nothing else gets their number.
            found = self._insertions[table, id(columns)] = (statement, columns)
        return found[0]

    def _compile(self, statement: Any, given: Mapping[str, Any], names: tuple[str, ...]) -> Prepared:
        # SQLAlchemy's own executor asks for the key in the same way; there is no public name for it.
        key = statement._generate_cache_key()  # noqa: SLF001
        columns = list(names) or None
        if key is None:
            compiled = statement.compile(dialect=self._dialect, column_keys=columns)
            alone = Shape(compiled, statement, shared=False)
            return Prepared(alone, compiled.construct_params(given, escape_names=False), given)
        shape = self._shapes.get((key.key, names))
        if shape is None:
            if len(self._shapes) >= _SHAPES:
                self._shapes.clear()
            compiled = statement.compile(dialect=self._dialect, column_keys=columns, cache_key=key)
            shape = self._shapes[key.key, names] = Shape(compiled, statement, shared=True)
        values = shape.compiled.construct_params(given, extracted_parameters=key.bindparams, escape_names=False)
        return Prepared(shape, values, given)
