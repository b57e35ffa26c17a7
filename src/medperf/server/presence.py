"""What is in a database before we touch it: nothing, a server of ours, or somebody else's tables."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medperf.domain.errors import Conflict, MedPerfError
from medperf.server.schema import REVISION


@dataclass(frozen=True)
class Presence:
    """``revision``: of our schema, None where it is not there. ``foreign``: tables that are not ours, where it is not."""

    revision: str | None = None
    foreign: tuple[str, ...] = ()


def check(found: Presence, where: str) -> None:
    """Is this a database that this version can serve?

    Args:
        where: the folder or address, for people.

    Raises:
        MedPerfError: ``database_missing``, ``schema_older`` or ``schema_newer``.
        Conflict: ``foreign_database``.
    """
    check_empty_or_ours(found, where)
    if found.revision is None:
        raise MedPerfError(
            "database_missing",
            f"There is no MedPerf server in {where}.",
            "Make one with: medperf server init (or say where it is, with --data)",
        )
    if found.revision < REVISION:
        raise MedPerfError(
            "schema_older",
            f"The database has schema {found.revision}, this version needs {REVISION}.",
            "Start it with: medperf server start (it migrates; SQLite is copied first, PostgreSQL you save with pg_dump).",
        )
    if found.revision > REVISION:
        raise MedPerfError(
            "schema_newer",
            f"The database has schema {found.revision}, newer than {REVISION}.",
            "Install the newer MedPerf that wrote it.",
        )


def check_empty_or_ours(found: Presence, where: str) -> None:
    """Raises:
    Conflict: ``foreign_database``.
    """
    if found.foreign:
        names = ", ".join(found.foreign[:3]) + (", ..." if len(found.foreign) > 3 else "")
        raise Conflict(
            "foreign_database",
            f"{where} holds tables that are not MedPerf's ({names}).",
            "Make an empty database for MedPerf, and give its address.",
        )


def check_none(found: Presence, where: str) -> None:
    """Raises:
    Conflict: ``already_initialised`` or ``foreign_database``.
    """
    check_empty_or_ours(found, where)
    if found.revision is not None:
        raise already_there(where)


def already_there(where: str) -> Conflict:
    """The error of making a server where there is one."""
    return Conflict(
        "already_initialised",
        f"There is a server in {where} already.",
        "Start it with: medperf server start, and the same --data if you gave one",
    )


def of_file(path: Path) -> Presence:
    """A SQLite file.

    Raises:
        MedPerfError: ``bad_database``: it is something else.
    """
    if not path.exists():
        return Presence()
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as raw:
        try:
            row = raw.execute("SELECT version_num FROM alembic_version").fetchone()
            made = raw.execute("SELECT 1 FROM settings").fetchone() if row is not None else None
        except sqlite3.OperationalError:
            return Presence()
        except sqlite3.DatabaseError as error:
            raise MedPerfError(
                "bad_database", f"{path} is no SQLite database.", "Move it away, or restore a copy."
            ) from error
    return Presence() if row is None or made is None else Presence(str(row[0]))


async def of_connection(connection: Any) -> Presence:
    """A PostgreSQL database, by a connection of asyncpg. A schema of ours that is half there is somebody else's: ours come whole."""
    names = [
        row[0]
        for row in await connection.fetch(
            "SELECT c.relname::text FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace"
            " AND c.relkind IN ('r', 'p', 'v', 'm', 'f') ORDER BY 1"
        )
    ]
    if not names:
        return Presence()
    if {"alembic_version", "settings", "audit_events", "parties"} <= set(names):
        row = await connection.fetchrow(
            "SELECT (SELECT max(version_num) FROM alembic_version), (SELECT min(id) FROM settings)"
        )
        if row[0] is not None and row[1] is not None and re.fullmatch(r"[0-9]{4}", row[0]):
            return Presence(str(row[0]))
    return Presence(foreign=tuple(names))
