"""Which PostgreSQL database the commands of ``medperf server`` mean. Passwords stay off the command line, which other accounts can read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

import typer

from medperf.cli.base import Session
from medperf.domain.errors import MedPerfError, UsageError

T = TypeVar("T")
Database = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="A PostgreSQL database, postgresql://USER@HOST/NAME; when missing: MEDPERF_DATABASE, the one given to init, or a SQLite file in the data folder.",
    ),
]


def database_of(session: Session, given: str | None) -> str | None:
    """The address meant; None: what the data folder remembers.

    Raises:
        UsageError: it is none, or holds a password on the command line.
    """
    from medperf.server.location import PostgresURL

    named = given or session.environ.get("MEDPERF_DATABASE") or None
    if named is not None and PostgresURL.parse(named).has_password and given is not None:
        raise UsageError(
            "password_on_command_line",
            "The address in --database holds a password, which every account of this machine could read.",
            "Leave it out: it is asked for. Or give the whole address in MEDPERF_DATABASE, or the password in ~/.pgpass.",
        )
    return named


def with_password(session: Session, database: str | None, work: Callable[[str | None], T]) -> T:
    """``work(database)``; where the database wants a password that nobody gave, it is asked for once.

    Raises:
        MedPerfError: what ``work`` raises.
    """
    from medperf.server.location import PostgresURL

    try:
        return work(database)
    except MedPerfError as error:
        if error.code != "database_login" or database is None or PostgresURL.parse(database).has_password:
            raise
        url = PostgresURL.parse(database)
    password = session.ask.secret(f"password for {url.shown}")
    return work(url.with_password(password).text)
