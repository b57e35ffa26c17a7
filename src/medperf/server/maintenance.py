"""Work on the whole database from outside a running server: one transaction on SQLAlchemy's connection, the same on both kinds."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa

from medperf.domain.errors import MedPerfError
from medperf.server import presence
from medperf.server.location import PostgresURL, located
from medperf.server.presence import Presence
from medperf.server.settings import Settings
from medperf.server.tables import metadata

T = TypeVar("T")
#: Holds off other programs that make, migrate or reset the same PostgreSQL database.
_LOCK = 0x6D656470657266
_TRIES = 3


def look(settings: Settings) -> Presence:
    """What is in the database.

    Raises:
        MedPerfError: it cannot be reached, or is no database.
    """
    url = located(settings)
    return presence.of_file(settings.database_file) if url is None else asyncio.run(_look(settings, url))


def place(settings: Settings) -> str:
    """The database for people: the data folder, or an address without its password."""
    url = located(settings)
    return str(settings.data) if url is None else url.shown


def transact(settings: Settings, work: Callable[[sa.Connection], T]) -> T:
    """Run ``work`` in one transaction, which waits for others of its kind and is undone if ``work`` raises.

    ``work`` may be called again where PostgreSQL undid it because of others.

    Raises:
        MedPerfError: it cannot be reached, is locked, or gives too few rights.
    """
    url = located(settings)
    if url is None:
        return _in_file(settings, work)
    for left in reversed(range(_TRIES)):
        try:
            return asyncio.run(_in_postgres(settings, url, work))
        except sa.exc.DBAPIError as error:
            state = getattr(error.orig, "sqlstate", None)
            if state == "42501":
                raise MedPerfError(
                    "database_rights",
                    f"The user of {url.shown} may not make tables there.",
                    f"As the database's owner: GRANT CREATE ON SCHEMA public TO that user, or ALTER DATABASE {url.name} OWNER TO it.",
                ) from None
            if state not in ("40001", "40P01") or not left:
                raise
    raise AssertionError("unreachable")


def lock_out(connection: sa.Connection) -> None:
    """Wait for every change that is under way, and hold off the next: each reads ``settings`` before anything else."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("LOCK TABLE settings IN ACCESS EXCLUSIVE MODE")


def empty(connection: sa.Connection) -> None:
    """Remove all rows and begin ids anew."""
    if connection.dialect.name == "postgresql":
        names = ", ".join(f'"{table.name}"' for table in metadata.sorted_tables)
        connection.exec_driver_sql(f"TRUNCATE {names} RESTART IDENTITY")
        return
    for table in reversed(metadata.sorted_tables):
        connection.execute(sa.delete(table))
    connection.exec_driver_sql("DELETE FROM sqlite_sequence")


def _in_file(settings: Settings, work: Callable[[sa.Connection], T]) -> T:
    from medperf.server.sqlite import make_engine

    engine = make_engine(settings.database_file, wait_seconds=30)
    try:
        # Alembic leaves alone what it is told has begun, so SQLAlchemy is told too; the driver does the beginning and the end.
        with engine.connect() as connection, connection.begin():
            raw = connection.connection.dbapi_connection
            assert isinstance(raw, sqlite3.Connection)
            try:
                raw.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                raise MedPerfError(
                    "database_busy",
                    f"{settings.database_file} is locked by another program.",
                    "Stop it and try again.",
                ) from error
            return work(connection)
    finally:
        engine.dispose()


async def _in_postgres(settings: Settings, url: PostgresURL, work: Callable[[sa.Connection], T]) -> T:
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    from medperf.server.postgresql import connect

    async def creator() -> Any:
        return await connect(url, settings, limited=False)

    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=creator, poolclass=NullPool, hide_parameters=True
    )
    try:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


async def _look(settings: Settings, url: PostgresURL) -> Presence:
    from medperf.server.postgresql import connect

    connection = await connect(url, settings, limited=False)
    try:
        return await presence.of_connection(connection)
    finally:
        await connection.close()
