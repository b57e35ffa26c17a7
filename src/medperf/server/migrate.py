"""Running the migrations on a SQLite file, with a copy of it first."""

from __future__ import annotations

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


def backup(database: Path, *, revision: str) -> Path:
    """A whole copy of the database beside it, also while a server runs; returns its path."""
    folder = database.parent / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / f"db-{revision}-{datetime.now(UTC).strftime('%Y%m%dT%H%M%S%fZ')}.sqlite3"
    target.touch(mode=0o600, exist_ok=False)
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)
    return target
