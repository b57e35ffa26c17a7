"""SQLite, called in place: its calls take tens of microseconds, a thread would cost more. So nothing inside a transaction may
wait for anything but the database.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite as dialect
from sqlalchemy.pool import NullPool

from medperf.server import presence, trouble
from medperf.server.db import Backend, Columns, Result, Rows, Transaction, Values, as_rows
from medperf.server.errors import storage_full
from medperf.server.settings import Settings
from medperf.server.statements import Prepared, Statements

_NOTHING: Mapping[str, Any] = {}
_BOOLEAN = {0: False, 1: True, None: None}
_PROGRESS_STEPS = 20_000  # of SQLite's machine, between two looks at the clock: about a millisecond


def connect(path: Path, *, wait_seconds: float, sync: bool = True) -> sqlite3.Connection:
    """A connection whose transactions are begun and ended by hand, with the pragmas that make SQLite durable.

    Args:
        sync: every COMMIT waits for the disk; else the caller sees to that (`_Disk`).
    """
    raw = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=wait_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=500,
    )
    for pragma in (
        "journal_mode=WAL",
        f"synchronous={'FULL' if sync else 'NORMAL'}",
        "foreign_keys=ON",
        "trusted_schema=OFF",
        "secure_delete=ON",  # what was erased is gone from the file, too
        "cache_size=-16000",
        # A page that was written by many changes goes from the log into the file once; 16 MB.
        "wal_autocheckpoint=4000",
    ):
        raw.execute(f"PRAGMA {pragma}")
    return raw


def make_engine(path: Path, *, wait_seconds: float) -> sa.Engine:
    """SQLAlchemy's engine, for what needs one: migrations and the like."""
    # Parameters may be secrets: they must not appear in messages of errors.
    return sa.create_engine(
        "sqlite://",
        creator=lambda: connect(path, wait_seconds=wait_seconds),
        poolclass=NullPool,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
    )


class _Statements(Transaction):
    """Statements on one connection."""

    __slots__ = ("_database", "_raw")

    def __init__(self, database: SQLite, raw: sqlite3.Connection) -> None:
        self._database = database
        self._raw = raw

    async def execute(self, statement: sa.Executable, parameters: Values | None = None) -> Result:
        given = parameters or _NOTHING
        rows, cursor = self._database.run(self._raw, self._database.compiled.prepare(statement, given), given)
        return Rows(rows, len(rows) if rows else cursor.rowcount)

    async def execute_many(self, statement: sa.Executable, rows: Iterable[Values]) -> None:
        several = list(rows)
        if several:
            prepared = self._database.compiled.prepare(statement, several[0])
            self._database.run_many(self._raw, prepared, several)

    async def all(self, statement: sa.Executable, parameters: Values | None = None) -> Sequence[sa.Row[Any]]:
        given = parameters or _NOTHING
        return as_rows(self._database.run(self._raw, self._database.compiled.prepare(statement, given), given)[0])

    async def first(self, statement: sa.Executable, parameters: Values | None = None) -> sa.Row[Any] | None:
        rows = await self.all(statement, parameters)
        return rows[0] if rows else None

    async def insert(self, statement: sa.Insert, parameters: Values | None = None) -> int:
        given = parameters or _NOTHING
        _, cursor = self._database.run(self._raw, self._database.compiled.prepare(statement, given), given)
        assert cursor.lastrowid is not None
        return int(cursor.lastrowid)

    async def insert_row_or_none(self, table: sa.Table, values: Values, columns: Columns = ()) -> sa.Row[Any] | None:
        return await self.first(self._database.compiled.insertion(table, columns), values)

    async def lock_table(self, table: sa.Table) -> None:
        """Writers wait for each other anyway."""


class SQLite(Backend):
    """A file in the data folder."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.database_file
        self._settings = settings
        self._open = False
        self._disk: _Disk | None = None
        self._idle: list[sqlite3.Connection] = []
        self._lock = asyncio.Lock()
        self._deadline = 0.0
        self.compiled = Statements(dialect.dialect(paramstyle="qmark"), insert=dialect.insert)
        self.statements = 0

    async def open(self) -> None:
        """Check the schema.

        Raises:
            MedPerfError: see `presence.check`.
        """
        presence.check(presence.of_file(self._path), str(self._path.parent))
        self._open = True
        # What a server committed that ended before the disk had it is seen from now on, so it must be there.
        raw = self.take()
        try:
            self._deadline = time.monotonic() + self._settings.query_seconds
            raw.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        except sqlite3.Error as error:
            raise _meaning(error, "PRAGMA wal_checkpoint") from None
        finally:
            self.give(raw)
        self._disk = _Disk(self._path.with_name(f"{self._path.name}-wal"))

    async def close(self) -> None:
        """Close every connection."""
        self._open = False
        while self._idle:
            self._idle.pop().close()
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    def run(self, raw: sqlite3.Connection, prepared: Prepared, given: Values) -> tuple[Sequence[Any], sqlite3.Cursor]:
        """One statement, within the time limit; all its rows."""
        sql, values = prepared.bound(given)
        self.statements += 1
        self._deadline = time.monotonic() + self._settings.query_seconds
        try:
            cursor = raw.execute(sql, values)
            if not prepared.shape.rows:
                return (), cursor
            return _rows(prepared, cursor), cursor
        except (sqlite3.Error, ValueError, OverflowError) as error:
            raise _meaning(error, sql) from None

    def run_many(self, raw: sqlite3.Connection, prepared: Prepared, several: list[Values]) -> None:
        """One statement for several sets of parameters."""
        self.statements += 1
        self._deadline = time.monotonic() + self._settings.query_seconds
        try:
            raw.executemany(prepared.shape.sql, [prepared.bound(given)[1] for given in several])
        except (sqlite3.Error, ValueError, OverflowError) as error:
            raise _meaning(error, prepared.shape.sql) from None

    def single(self) -> _Read:
        """Statements one by one."""
        return _Read(self, begin=False)

    def read(self) -> _Read:
        """Statements that see one state."""
        return _Read(self, begin=True)

    async def first(self, statement: sa.Executable, parameters: Values) -> sa.Row[Any] | None:
        """One row."""
        raw = self.take()
        try:
            rows, _ = self.run(raw, self.compiled.prepare(statement, parameters), parameters)
        finally:
            self.give(raw)
        return rows[0] if rows else None

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Transaction]:
        """A change."""
        deadline = asyncio.get_running_loop().time() + self._settings.wait_seconds
        await self._turn()
        try:
            raw = self.take()
            try:
                await self._begin(raw, deadline)
                yield _Statements(self, raw)
                try:
                    raw.execute("COMMIT")
                except sqlite3.Error as error:
                    raise _meaning(error, "COMMIT") from None
            finally:
                self.give(raw)
        finally:
            self._lock.release()
        if self._disk is not None:
            await self._disk.hold()  # the next one writes meanwhile

    async def _turn(self) -> None:
        """Of this process, one writes at a time."""
        if not self._lock.locked():
            await self._lock.acquire()
            return
        try:
            async with asyncio.timeout(self._settings.wait_seconds):
                await self._lock.acquire()
        except TimeoutError:
            raise trouble.busy() from None

    async def _begin(self, raw: sqlite3.Connection, deadline: float) -> None:
        """Another process may be writing: ask again without stopping the event loop."""
        while True:
            try:
                raw.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not _is_locked(error) or asyncio.get_running_loop().time() > deadline:
                    raise _meaning(error, "BEGIN") from None
            await asyncio.sleep(0.005)

    def take(self) -> sqlite3.Connection:
        """An idle connection."""
        if not self._open:
            raise RuntimeError("the database is not open")
        if self._idle:
            return self._idle.pop()
        raw = connect(self._path, wait_seconds=0.05, sync=False)
        raw.set_progress_handler(self._is_late, _PROGRESS_STEPS)
        return raw

    def _is_late(self) -> bool:
        return time.monotonic() > self._deadline

    def give(self, raw: sqlite3.Connection) -> None:
        """Undo what was not committed and keep the connection, unless it is broken."""
        try:
            if raw.in_transaction:
                self._deadline = time.monotonic() + self._settings.query_seconds
                raw.execute("ROLLBACK")
        except sqlite3.Error:
            raw.close()
            return
        if self._open:
            self._idle.append(raw)
        else:
            raw.close()


class _Disk:
    """Waits until what was committed is on the disk, once for all who wait at the same time.

    SQLite's own ``synchronous=FULL`` does it inside each COMMIT: one wait after the other, and every reader waits too. Here COMMIT
    writes the log, whose frames carry checksums, and who committed is answered only when the log is on the disk. A power cut
    in between takes back the newest changes, whole and in order, of which nobody was told that they are done.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._thread = ThreadPoolExecutor(1, "sqlite-sync")
        self._next: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._failed = ""
        #: Kept open: the kernel tells of a write that failed to those who had the file open, and to others perhaps not.
        self._descriptor: int | None = None

    async def hold(self) -> None:
        """Come back when everything committed so far is on the disk.

        Raises:
            DatabaseFault: the disk failed, now or before: after a failure the kernel takes what it could not write for written, so
                what follows in the log may not be readable after a power cut. The next start writes all of it anew.
        """
        if self._failed:
            raise trouble.DatabaseFault(self._failed)
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
            if self._task is None:
                self._task = asyncio.create_task(self._work())
        await asyncio.shield(self._next)

    def close(self) -> None:
        """No more."""
        self._thread.shutdown()
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while (waiting := self._next) is not None:
            self._next = None  # who commits from here on may be too late for this round
            try:
                await loop.run_in_executor(self._thread, self._sync)
            except (
                BaseException
            ) as error:  # whatever it was: nobody may wait for ever, or be told that it is on the disk
                why = getattr(error, "strerror", None) or type(error).__name__
                self._failed = f"the disk failed, and nothing is promised until the server is started again: {why}"
                waiting.set_exception(trouble.DatabaseFault(self._failed))
                waiting.exception()  # also where nobody waits any more
                if not isinstance(error, Exception):
                    raise
            else:
                waiting.set_result(None)
        self._task = None

    def _sync(self) -> None:
        if self._descriptor is None or os.fstat(self._descriptor).st_nlink == 0:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
            self._descriptor = os.open(self._log, os.O_RDONLY | os.O_CLOEXEC)
            folder = os.open(self._log.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)  # the log is new: a power cut could take its name away
            finally:
                os.close(folder)
        os.fdatasync(self._descriptor)


class _Read:
    """As a class: entering and leaving is most of what a generator would cost here."""

    __slots__ = ("_begin", "_database", "_raw")

    def __init__(self, database: SQLite, *, begin: bool) -> None:
        self._database = database
        self._begin = begin

    async def __aenter__(self) -> Transaction:
        self._raw = self._database.take()
        if self._begin:
            try:
                self._raw.execute("BEGIN")
            except BaseException:
                self._database.give(self._raw)
                raise
        return _Statements(self._database, self._raw)

    async def __aexit__(self, *_: object) -> None:
        self._database.give(self._raw)


def _rows(prepared: Prepared, cursor: sqlite3.Cursor) -> Sequence[Any]:
    """All rows with names; SQLite has no booleans of its own."""
    shape = prepared.shape
    make = shape.row or shape.as_row(tuple, [column[0] for column in cursor.description])
    if not shape.booleans:
        return list(map(make, cursor))
    found = []
    for values in cursor:
        row = list(values)
        for i in shape.booleans:
            row[i] = _BOOLEAN[row[i]]
        found.append(make(row))
    return found


def _is_locked(error: sqlite3.Error) -> bool:
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _meaning(error: Exception, sql: str) -> Exception:
    """What a failure says. SQLite's messages name tables and columns, never values."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if isinstance(error, sqlite3.IntegrityError):
        return sa.exc.IntegrityError(sql, None, error, hide_parameters=True)
    if code == sqlite3.SQLITE_FULL:
        return storage_full()
    if isinstance(error, sqlite3.Error) and _is_locked(error):
        return trouble.busy()
    if code == sqlite3.SQLITE_INTERRUPT:
        return trouble.too_slow()
    if isinstance(error, UnicodeError | OverflowError):
        return trouble.bad_text()
    return trouble.DatabaseFault(f"{type(error).__name__}: {error} in: {sql}")
