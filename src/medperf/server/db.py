"""The database behind a facade of two verbs: ``async with db.read() as tx`` and ``async with db.write() as tx``.

SQLite is called in place: its calls take tens of microseconds, a thread would cost more. So nothing inside a transaction may
wait for anything but the database. A driver that waits for a network fits behind the same facade.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from medperf.domain.errors import MedPerfError, ServerUnavailable
from medperf.server.errors import storage_full
from medperf.server.schema import REVISION

WRITE_WAIT_SECONDS = 10.0


def sqlite_engine(path: Path, *, wait_seconds: float) -> sa.Engine:
    """An engine whose transactions are begun and ended by hand, with the pragmas that make SQLite durable."""

    def connect() -> sqlite3.Connection:
        raw = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=rw",
            uri=True,
            timeout=wait_seconds,
            isolation_level=None,
            check_same_thread=False,
        )
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "trusted_schema=OFF",
            "cache_size=-16000",
        ):
            raw.execute(f"PRAGMA {pragma}")
        return raw

    # Parameters may be secrets: they must not appear in messages of errors.
    return sa.create_engine(
        "sqlite://", creator=connect, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True
    )


class Transaction:
    """Statements of one transaction."""

    def __init__(self, database: Database, connection: sa.Connection) -> None:
        self._database = database
        self._connection = connection

    async def execute(
        self, statement: sa.Executable, parameters: Mapping[str, Any] | None = None
    ) -> sa.CursorResult[Any]:
        """Run one statement.

        Raises:
            sqlalchemy.exc.IntegrityError: a unique or foreign key rule is broken; the transaction can go on.
        """
        self._database.statements += 1
        return self._connection.execute(statement, parameters)

    async def all(self, statement: sa.Executable, parameters: Mapping[str, Any] | None = None) -> Sequence[sa.Row[Any]]:
        """All rows."""
        return (await self.execute(statement, parameters)).all()

    async def first(self, statement: sa.Executable, parameters: Mapping[str, Any] | None = None) -> sa.Row[Any] | None:
        """The first row, or None."""
        return (await self.execute(statement, parameters)).first()

    async def insert(self, statement: sa.Insert) -> int:
        """Insert one row and return its id."""
        key = (await self.execute(statement)).inserted_primary_key
        assert key is not None
        return int(key[0])


class Database:
    """A server's database. ``statements`` counts what was executed, for tests and the benchmark."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine: sa.Engine | None = None
        self._idle: list[sa.Connection] = []
        self._lock = asyncio.Lock()
        self.statements = 0

    async def open(self) -> None:
        """Check that the file is there and has our schema.

        Raises:
            MedPerfError: see `check_schema`.
        """
        check_schema(self._path)
        self._engine = sqlite_engine(self._path, wait_seconds=0.05)

    async def close(self) -> None:
        """Close every connection."""
        while self._idle:
            self._idle.pop().close()
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None

    def read(self) -> _Read:
        """A transaction that sees one state of the data: ``async with db.read() as tx``."""
        return _Read(self)

    async def first(self, statement: sa.Executable, parameters: Mapping[str, Any]) -> sa.Row[Any] | None:
        """The first row of a read that is one statement, and so needs no transaction."""
        connection, raw = self.take()
        try:
            self.statements += 1
            return connection.execute(statement, parameters).first()
        finally:
            self.give(connection, raw)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        """A transaction that changes data: committed and on disk when the block ends, undone when it raises.

        Raises:
            ServerUnavailable: another process has been writing for too long.
            StorageFull: no room on the disk.
        """
        async with self._lock:
            connection, raw = self.take()
            try:
                await self._begin(raw)
                yield Transaction(self, connection)
                raw.execute("COMMIT")
            except (sqlite3.OperationalError, sa.exc.OperationalError) as error:
                cause = getattr(error, "orig", error)
                if getattr(cause, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
                    raise storage_full() from error
                raise
            finally:
                self.give(connection, raw)

    async def _begin(self, raw: sqlite3.Connection) -> None:
        """Another process may be writing: ask again without stopping the event loop."""
        deadline = asyncio.get_running_loop().time() + WRITE_WAIT_SECONDS
        while True:
            try:
                raw.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise
                if asyncio.get_running_loop().time() > deadline:
                    raise ServerUnavailable(
                        "database_busy", "The server's database is busy.", "Try again in a moment."
                    ) from error
            await asyncio.sleep(0.005)

    def take(self) -> tuple[sa.Connection, sqlite3.Connection]:
        """An idle connection."""
        if self._engine is None:
            raise RuntimeError("the database is not open")
        connection = self._idle.pop() if self._idle else self._engine.connect()
        raw = connection.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        return connection, raw

    def give(self, connection: sa.Connection, raw: sqlite3.Connection) -> None:
        """Undo what was not committed and keep the connection, unless it is broken."""
        try:
            if raw.in_transaction:
                raw.execute("ROLLBACK")
        except sqlite3.Error:
            connection.invalidate()
            connection.close()
            return
        if self._engine is None:
            connection.close()
        else:
            self._idle.append(connection)


class _Read:
    """As a class: entering and leaving is most of what a generator would cost here."""

    __slots__ = ("_connection", "_database", "_raw")

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __aenter__(self) -> Transaction:
        self._connection, self._raw = self._database.take()
        try:
            self._raw.execute("BEGIN")
        except BaseException:
            self._database.give(self._connection, self._raw)
            raise
        return Transaction(self._database, self._connection)

    async def __aexit__(self, *_: object) -> None:
        self._database.give(self._connection, self._raw)


def check_schema(path: Path) -> None:
    """Is this a database that this version can serve?

    Raises:
        MedPerfError: ``database_missing``, ``schema_older`` or ``schema_newer``.
    """
    found = schema_revision(path)
    if found is None:
        raise MedPerfError(
            "database_missing", f"There is no MedPerf server in {path.parent}.", "Make one with: medperf server init"
        )
    if found < REVISION:
        raise MedPerfError(
            "schema_older",
            f"The database has schema {found}, this version needs {REVISION}.",
            "Start it with: medperf server start (it keeps a copy and migrates).",
        )
    if found > REVISION:
        raise MedPerfError(
            "schema_newer",
            f"The database has schema {found}, newer than {REVISION}.",
            "Install the newer MedPerf that wrote it.",
        )


def schema_revision(path: Path) -> str | None:
    """The database's migration, or None where no server was made yet."""
    if not path.exists():
        return None
    raw = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)
    try:
        row = raw.execute("SELECT version_num FROM alembic_version").fetchone()
        made = raw.execute("SELECT 1 FROM settings").fetchone() if row is not None else None
    except sqlite3.OperationalError:
        return None
    except sqlite3.DatabaseError as error:
        raise MedPerfError(
            "bad_database", f"{path} is no SQLite database.", "Move it away, or restore a copy."
        ) from error
    finally:
        raw.close()
    return None if row is None or made is None else str(row[0])
