"""Running the migrations, on a SQLite file with a copy of it first."""

from __future__ import annotations

import itertools
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from medperf.server.schema import REVISION


def migrations_config(connection: sa.Connection | None = None) -> Any:
    """Alembic's configuration of the migrations in this package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def migrate(connection: sa.Connection) -> None:
    """Bring the database to this version's schema. The caller began the transaction and ends it."""
    from alembic import command

    command.upgrade(migrations_config(connection), REVISION)
    if connection.dialect.name == "postgresql":
        _sort_by_bytes(connection)


def _sort_by_bytes(connection: sa.Connection) -> None:
    """Text is compared as on SQLite, whatever the database's locale: pages of names have one order everywhere, and an update of the
    system's locales cannot spoil an index.
    """
    columns = connection.exec_driver_sql(
        "SELECT a.attrelid::regclass::text, a.attname::text, format_type(a.atttypid, a.atttypmod)"
        " FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped"
        " AND a.attcollation = (SELECT oid FROM pg_collation WHERE collname = 'default')"
        " AND (SELECT datcollate FROM pg_database WHERE datname = current_database()) NOT IN ('C', 'POSIX')"
        " ORDER BY 1, a.attnum"
    ).all()
    for table, several in itertools.groupby(columns, key=lambda row: str(row[0])):
        changes = ", ".join(f'ALTER COLUMN "{name}" TYPE {kind} COLLATE "C"' for _, name, kind in several)
        connection.exec_driver_sql(f"ALTER TABLE {table} {changes}")


def backup(database: Path, *, revision: str) -> Path:
    """A whole copy of the database beside it, also while a server runs; returns its path."""
    folder = database.parent / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / f"db-{revision}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%S%fZ')}.sqlite3"
    target.touch(mode=0o600, exist_ok=False)
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    return target
