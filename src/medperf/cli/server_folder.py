"""What the commands about this machine's own server share: which data folder is meant, and whether its libraries are there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from medperf.cli.base import Session
from medperf.domain.errors import MedPerfError

Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Its data folder; when missing: MEDPERF_SERVER_DATA, ./server if one is there, or server in MedPerf's home.",
    ),
]


def folder_of(session: Session, data: Path | None) -> Path:
    """The data folder meant."""
    if data is not None:
        return data
    named = session.environ.get("MEDPERF_SERVER_DATA")
    if named:
        return Path(named)
    here = session.cwd / "server"
    if any((here / file).is_file() for file in ("db.sqlite3", "database.url", "reset_db.sh")):
        return here
    return session.home / "server"


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Raises:
    MedPerfError: the server's libraries are not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] == "medperf":
            raise
        raise MedPerfError(
            "server_not_installed",
            f"The server needs {error.name}, which is not installed.",
            "Run: pip install 'medperf[server]'",
        ) from error
