"""The database behind a facade of a few verbs.

``async with db.read() as tx``      statements that all see one state
``async with db.single() as tx``    a read that is one statement, and so needs no transaction; for what is asked most
``async with db.write() as tx``     a change: committed and on disk when the block ends, undone when it raises
``await db.first(statement, ...)``  the first row of a read that is one statement

The statements are SQLAlchemy Core on both databases. On SQLite writers wait for each other; on PostgreSQL they do not (READ
COMMITTED), so a rule that reads and then writes is one conditional statement, rests on a constraint, or locks what it read
(``with_for_update``, which SQLAlchemy leaves out on SQLite; `Transaction.lock_table`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, cast

import sqlalchemy as sa

from medperf.server.settings import Settings

Values = Mapping[str, Any]
Columns = tuple[sa.ColumnElement[Any], ...]


class Result(Protocol):
    """What a statement gave."""

    @property
    def rowcount(self) -> int:
        """How many rows it changed."""

    def all(self) -> Sequence[Any]:
        """All rows."""

    def first(self) -> Any | None:
        """The first row, or None."""

    def one(self) -> Any:
        """The only row; an error if there is none or more."""

    def scalar_one(self) -> Any:
        """The only row's first column; an error if there is none or more."""


class Rows:
    """What a statement gave, as a `Result`."""

    __slots__ = ("_rows", "rowcount")

    def __init__(self, rows: Sequence[Any], rowcount: int) -> None:
        self._rows = rows
        self.rowcount = rowcount

    def all(self) -> Sequence[Any]:
        """All rows."""
        return self._rows

    def first(self) -> Any | None:
        """The first row, or None."""
        return self._rows[0] if self._rows else None

    def one(self) -> Any:
        """The only row."""
        (row,) = self._rows
        return row

    def scalar_one(self) -> Any:
        """The only row's first column."""
        return self.one()[0]


class Transaction(ABC):
    """Statements of one transaction."""

    __slots__ = ()

    @abstractmethod
    async def execute(self, statement: sa.Executable, parameters: Values | None = None) -> Result:
        """Run one statement.

        Raises:
            sqlalchemy.exc.IntegrityError: a unique or foreign key rule is broken. The transaction can only be undone then:
                let an error leave the block, or use `insert_or_none`.
            ServerUnavailable: ``database_busy``, ``query_too_slow``, ``database_unavailable``.
            StorageFull: no room on the disk.
        """

    @abstractmethod
    async def execute_many(self, statement: sa.Executable, rows: Iterable[Values]) -> None:
        """Run one statement for each of ``rows``, whose keys are the same."""

    async def all(self, statement: sa.Executable, parameters: Values | None = None) -> Sequence[sa.Row[Any]]:
        """All rows."""
        return (await self.execute(statement, parameters)).all()

    async def first(self, statement: sa.Executable, parameters: Values | None = None) -> sa.Row[Any] | None:
        """The first row, or None."""
        return (await self.execute(statement, parameters)).first()

    @abstractmethod
    async def insert(self, statement: sa.Insert, parameters: Values | None = None) -> int:
        """Insert one row and return its id."""

    @abstractmethod
    async def insert_row_or_none(self, table: sa.Table, values: Values, columns: Columns = ()) -> sa.Row[Any] | None:
        """Insert one row and return its id and ``columns`` (the same object each time) as they are in the database now; or None
        if a unique rule stands against it: the transaction can go on.

        On PostgreSQL it waits for a transaction that is about to insert the same.
        """

    async def insert_or_none(self, table: sa.Table, values: Values) -> int | None:
        """As `insert_row_or_none`; only the id."""
        row = await self.insert_row_or_none(table, values)
        return None if row is None else int(row[0])

    @abstractmethod
    async def lock_table(self, table: sa.Table) -> None:
        """Let nobody else write to ``table`` until this transaction ends; readers go on. Nothing on SQLite: there it is so anyway."""


class Backend(ABC):
    """One kind of database."""

    statements: int

    @abstractmethod
    async def open(self) -> None:
        """Connect and check the schema."""

    @abstractmethod
    async def close(self) -> None:
        """Close every connection."""

    @abstractmethod
    def single(self) -> AbstractAsyncContextManager[Transaction]:
        """See `Database.single`."""

    @abstractmethod
    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """See `Database.read`."""

    @abstractmethod
    def write(self) -> AbstractAsyncContextManager[Transaction]:
        """See `Database.write`."""

    @abstractmethod
    async def first(self, statement: sa.Executable, parameters: Values) -> sa.Row[Any] | None:
        """See `Database.first`."""


class Database:
    """A server's database, of the kind its settings name."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: Backend | None = None

    @property
    def backend(self) -> Backend:
        """The kind of database; only where it is open."""
        if self._open is None:
            raise RuntimeError("the database is not open")
        return self._open

    @property
    def statements(self) -> int:
        """How many were executed, for tests and the benchmark."""
        return self.backend.statements

    async def open(self) -> None:
        """Connect, and check that our schema is there.

        Raises:
            MedPerfError: see `medperf.server.presence.check`.
        """
        from medperf.server.location import located

        where = located(self._settings)
        backend: Backend
        if where is None:
            from medperf.server.sqlite import SQLite

            backend = SQLite(self._settings)
        else:
            from medperf.server.postgresql import PostgreSQL

            backend = PostgreSQL(self._settings, where)
        await backend.open()
        self._open = backend

    async def close(self) -> None:
        """Close every connection."""
        if self._open is not None:
            await self._open.close()
            self._open = None

    def single(self) -> AbstractAsyncContextManager[Transaction]:
        """Statements that each see what was committed when they began: no transaction, so one round trip less at each end."""
        return self.backend.single()

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """Statements that all see one state of the data."""
        return self.backend.read()

    def write(self) -> AbstractAsyncContextManager[Transaction]:
        """A transaction that changes data.

        Raises:
            ServerUnavailable: ``database_busy`` (also where this change lost against another and was undone), ``query_too_slow``,
                ``database_unavailable``.
            StorageFull: no room on the disk.
        """
        return self.backend.write()

    async def first(self, statement: sa.Executable, parameters: Values) -> sa.Row[Any] | None:
        """The first row of a read that is one statement."""
        return await self.backend.first(statement, parameters)


def as_rows(rows: Any) -> Sequence[sa.Row[Any]]:
    """Rows of both drivers have what the nouns use of SQLAlchemy's: names, unpacking, indexes and slices."""
    return cast("Sequence[sa.Row[Any]]", rows)
