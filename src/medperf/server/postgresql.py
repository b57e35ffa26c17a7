"""PostgreSQL, by asyncpg: a small pool of connections, and transactions that cost as few round trips as they can."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as dialect

from medperf.domain.errors import MedPerfError
from medperf.server import presence, trouble
from medperf.server.db import Backend, Columns, Result, Rows, Transaction, Values, as_rows
from medperf.server.errors import storage_full
from medperf.server.location import PostgresURL
from medperf.server.settings import Settings
from medperf.server.statements import AsyncpgDialect, Prepared, Statements

_NOTHING: Mapping[str, Any] = {}
_CLOSE_SECONDS = 5.0


class _Statements(Transaction):
    """Statements on one connection."""

    __slots__ = ("_connection", "_database")

    def __init__(self, database: PostgreSQL, connection: Any) -> None:
        self._database = database
        self._connection = connection

    async def execute(self, statement: sa.Executable, parameters: Values | None = None) -> Result:
        given = parameters or _NOTHING
        prepared = self._database.compiled.prepare(statement, given)
        if prepared.shape.rows:
            rows = await self._fetch(prepared, given)
            return Rows(rows, len(rows))
        sql, values = prepared.bound(given)
        self._database.statements += 1
        try:
            status = await self._connection.execute(sql, *values)
        except Exception as error:  # noqa: BLE001 - sorted out there
            raise meaning(error, sql) from None
        return Rows((), int(status.rpartition(" ")[2]))

    async def execute_many(self, statement: sa.Executable, rows: Iterable[Values]) -> None:
        several = list(rows)
        if not several:
            return
        prepared = self._database.compiled.prepare(statement, several[0])
        self._database.statements += 1
        try:
            await self._connection.executemany(prepared.shape.sql, [prepared.bound(row)[1] for row in several])
        except Exception as error:  # noqa: BLE001 - sorted out there
            raise meaning(error, prepared.shape.sql) from None

    async def all(self, statement: sa.Executable, parameters: Values | None = None) -> Sequence[sa.Row[Any]]:
        given = parameters or _NOTHING
        return as_rows(await self._fetch(self._database.compiled.prepare(statement, given), given))

    async def first(self, statement: sa.Executable, parameters: Values | None = None) -> sa.Row[Any] | None:
        given = parameters or _NOTHING
        rows = await self._fetch(self._database.compiled.prepare(statement, given), given)
        return rows[0] if rows else None

    async def insert(self, statement: sa.Insert, parameters: Values | None = None) -> int:
        rows = await self.all(statement, parameters)
        return int(rows[0][0])

    async def insert_row_or_none(self, table: sa.Table, values: Values, columns: Columns = ()) -> sa.Row[Any] | None:
        return await self.first(self._database.compiled.insertion(table, columns), values)

    async def lock_table(self, table: sa.Table) -> None:
        self._database.statements += 1
        sql = f'LOCK TABLE "{table.name}" IN SHARE ROW EXCLUSIVE MODE'
        try:
            await self._connection.execute(sql)
        except Exception as error:  # noqa: BLE001 - sorted out there
            raise meaning(error, sql) from None

    async def _fetch(self, prepared: Prepared, given: Values) -> Any:
        shape = prepared.shape
        sql, values = prepared.bound(given)
        self._database.statements += 1
        try:
            if shape.row is None:
                names = await self._names(sql)
                shape.as_row(asyncpg.Record, names)
            return await self._connection.fetch(sql, *values, record_class=shape.row)
        except Exception as error:  # noqa: BLE001 - sorted out there
            raise meaning(error, sql) from None

    async def _names(self, sql: str) -> list[str]:
        """Of the columns that a statement returns; asked once."""
        statement = await self._connection.prepare(sql)
        return [column.name for column in statement.get_attributes()]


class PostgreSQL(Backend):
    """A database of its own on a PostgreSQL server."""

    def __init__(self, settings: Settings, url: PostgresURL) -> None:
        self._settings = settings
        self._url = url
        self._slots = asyncio.Semaphore(settings.database_connections)
        self._idle: list[Any] = []
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.compiled = Statements(AsyncpgDialect(), insert=dialect.insert)  # type: ignore[no-untyped-call]
        self.statements = 0

    async def open(self) -> None:
        """Connect, and check the schema.

        Raises:
            MedPerfError: see `connect` and `presence.check`.
        """
        self._loop = asyncio.get_running_loop()
        connection = await connect(self._url, self._settings)
        try:
            presence.check(await presence.of_connection(connection), self._url.shown)
        except BaseException:
            connection.terminate()
            raise
        self._idle.append(connection)

    async def close(self) -> None:
        """Close every connection that nobody uses; the others close when they are given back."""
        self._closing = True
        while self._idle:
            with suppress(Exception):
                await self._idle.pop().close(timeout=_CLOSE_SECONDS)

    def single(self) -> _Read:
        """Statements one by one."""
        return _Read(self)

    def read(self) -> _Block:
        """Statements that see one state."""
        return _Block(self, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def write(self) -> _Block:
        """A change."""
        return _Block(self, "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")

    async def first(self, statement: sa.Executable, parameters: Values) -> sa.Row[Any] | None:
        """One row."""
        async with _Read(self) as tx:
            return await tx.first(statement, parameters)

    async def take(self) -> Any:
        """A connection; one that broke while it was idle is thrown away.

        Raises:
            ServerUnavailable: all are in use for too long, or there is none to be had.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                "a PostgreSQL database is used in the event loop that opened it"
            )  # the driver would crash
        if self._slots.locked():
            try:
                async with asyncio.timeout(self._settings.wait_seconds):
                    await self._slots.acquire()
            except TimeoutError:
                raise trouble.busy() from None
        else:
            await self._slots.acquire()
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed():
                    return connection
            try:
                return await connect(self._url, self._settings)
            except MedPerfError:
                raise trouble.away() from None  # its address is for the admin
        except BaseException:
            self._slots.release()
            raise

    async def give(self, connection: Any) -> None:
        """Undo what was not committed and keep the connection, unless it is broken."""
        try:
            if not connection.is_closed() and connection.is_in_transaction():
                try:
                    await connection.execute("ROLLBACK", timeout=_CLOSE_SECONDS)
                except BaseException:
                    connection.terminate()
                    raise
        except Exception:  # noqa: BLE001 - it is gone, and with it the transaction
            return
        finally:
            if not connection.is_closed():
                if self._closing:
                    connection.terminate()
                else:
                    self._idle.append(connection)
            self._slots.release()


class _Read:
    """A connection for a while."""

    __slots__ = ("_connection", "_database")

    def __init__(self, database: PostgreSQL) -> None:
        self._database = database

    async def __aenter__(self) -> Transaction:
        self._connection = await self._database.take()
        return _Statements(self._database, self._connection)

    async def __aexit__(self, *_: object) -> None:
        await self._database.give(self._connection)


class _Block:
    """A transaction."""

    __slots__ = ("_begin", "_connection", "_database")

    def __init__(self, database: PostgreSQL, begin: str) -> None:
        self._database = database
        self._begin = begin

    async def __aenter__(self) -> Transaction:
        self._connection = await self._database.take()
        try:
            await self._connection.execute(self._begin)
        except BaseException as error:
            if not isinstance(error, Exception):
                self._connection.terminate()  # cancelled: whether it has begun is not known, so nobody may have it next
            await self._database.give(self._connection)
            if isinstance(error, Exception):
                raise meaning(error, "BEGIN") from None
            raise
        return _Statements(self._database, self._connection)

    async def __aexit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                try:
                    status = await self._connection.execute("COMMIT")
                except Exception as error:  # noqa: BLE001 - sorted out there
                    raise meaning(error, "COMMIT") from None
                if status != "COMMIT":
                    raise trouble.DatabaseFault("a statement had failed in this transaction, so it was undone")
        finally:
            await self._database.give(self._connection)


async def connect(url: PostgresURL, settings: Settings, *, limited: bool = True) -> Any:
    """A new connection.

    Args:
        limited: with the time limits of requests.

    Raises:
        MedPerfError: ``database_unreachable``, ``database_login``, ``database_unknown`` or ``database_too_old``.
    """
    told = {"application_name": "medperf", "search_path": "public"} | (
        {
            "statement_timeout": str(max(1, int(settings.query_seconds * 1000))),
            "lock_timeout": str(max(1, int(settings.wait_seconds * 1000))),
            "idle_in_transaction_session_timeout": "60000",
        }
        if limited
        else {}
    )
    try:
        connection = await asyncpg.connect(
            url.text,
            timeout=settings.connect_seconds,
            # Where the network swallows the answer: a little more than the server's own limit.
            command_timeout=settings.query_seconds + settings.wait_seconds + 5 if limited else None,
            statement_cache_size=500,
            max_cached_statement_lifetime=0,
            server_settings=told,
        )
    except Exception as error:  # noqa: BLE001 - sorted out there
        raise _no_connection(error, url) from None
    if connection.get_server_version() < (13,):
        connection.terminate()
        raise MedPerfError("database_too_old", f"{url.shown} is older than PostgreSQL 13.", "Use a newer PostgreSQL.")
    return connection


def _no_connection(error: Exception, url: PostgresURL) -> MedPerfError:
    """Why there is no connection, without anything that may be secret."""
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError):
        return MedPerfError(
            "database_login",
            f"The database {url.shown} refuses this user or password.",
            "Give the right ones: in MEDPERF_DATABASE, or in ~/.pgpass (mode 0600).",
        )
    if isinstance(error, asyncpg.InvalidCatalogNameError):
        return MedPerfError(
            "database_unknown",
            f"The PostgreSQL server has no database {url.name!r}.",
            f"Make it there, e.g. with: createdb --encoding UTF8 --locale C --template template0 {url.name}",
        )
    if isinstance(error, asyncpg.TooManyConnectionsError):
        return MedPerfError(
            "database_unreachable",
            f"The database {url.shown} takes no more connections.",
            "Raise its max_connections, or start fewer workers.",
        )
    if isinstance(error, asyncpg.ClientConfigurationError):
        return MedPerfError(
            "bad_database",
            f"The address {url.shown} has a setting that is not understood, or a file of it cannot be read.",
            "See the page on choosing a database for what an address may hold.",
        )
    return MedPerfError(
        "database_unreachable",
        f"No PostgreSQL server answers at {url.shown} ({type(error).__name__}).",
        "Start it, or mend the address; then try again.",
    )


_BUSY = ("40001", "40P01", "55P03", "53300")
_AWAY = ("08", "57P", "25006", "53200", "28", "3D000")
_BAD_VALUE = ("22021", "22P05", "22003")


def meaning(error: Exception, sql: str) -> Exception:
    """What a failure says. Messages of the driver may hold values, so none of them is passed on."""
    state = getattr(error, "sqlstate", None) if isinstance(error, asyncpg.PostgresError) else None
    if state is None:
        if isinstance(error, asyncpg.DataError | ValueError | TypeError | OverflowError):
            if isinstance(error, UnicodeError):
                return trouble.bad_text()
            return trouble.DatabaseFault(f"a parameter has the wrong type in: {sql}")
        if isinstance(error, asyncpg.InterfaceError | OSError | TimeoutError | asyncpg.InternalClientError):
            return trouble.away()
        return error
    if state.startswith("23"):
        kind = f"{type(error).__name__}: {getattr(error, 'constraint_name', None)}"
        return sa.exc.IntegrityError(sql, None, RuntimeError(kind), hide_parameters=True)
    if state == "57014":
        return trouble.too_slow()
    if state == "53100":
        return storage_full()
    if state in _BUSY:
        return trouble.busy()
    if state.startswith(_AWAY):
        return trouble.away()
    if state in _BAD_VALUE:
        return trouble.bad_text()
    return trouble.DatabaseFault(f"{type(error).__name__} ({state}) in: {sql}")
