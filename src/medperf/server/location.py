"""Which PostgreSQL database a server uses, if it does: told by its settings, or remembered in its data folder.

A connection string may hold a password. It is kept in a file of mode 0600 and is never part of a message, a log or a ``repr``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, unquote, urlsplit

from medperf.domain.errors import MedPerfError, UsageError
from medperf.server.files import write_whole
from medperf.server.settings import Settings

_FORM = "Write it as postgresql://USER@HOST:PORT/DATABASE, or postgresql://USER@/DATABASE?host=/var/run/postgresql for a socket."


@dataclass(frozen=True)
class PostgresURL:
    """A connection string that was looked at."""

    text: str = field(repr=False)
    #: without the password and other settings, for messages
    shown: str
    name: str
    has_password: bool

    @classmethod
    def parse(cls, text: str) -> PostgresURL:
        """Look at a connection string.

        Raises:
            UsageError: ``bad_database``.
        """
        try:
            parts = urlsplit(text)
            port, given = parts.port, parse_qs(parts.query)
        except ValueError:
            raise _bad("The database's address cannot be read.") from None
        if parts.scheme not in ("postgresql", "postgres"):
            raise _bad("The database's address does not begin with postgresql://.")
        name = unquote(parts.path[1:]) or given.get("dbname", [""])[0]
        if not name or "/" in name:
            raise _bad("The database's address names no database.")
        hosts = ",".join(given.get("host", ()))
        place = parts.hostname or ""
        if ":" in place:
            place = f"[{place}]"
        user = f"{quote(unquote(parts.username))}@" if parts.username else ""
        shown = (
            f"postgresql://{user}{place}{f':{port}' if port else ''}/{quote(name)}{f'?host={hosts}' if hosts else ''}"
        )
        return cls(text, shown, name, parts.password is not None or "password" in given)

    def with_password(self, password: str) -> PostgresURL:
        """The same with this password."""
        parts = urlsplit(self.text)
        user, _, place = parts.netloc.rpartition("@")
        netloc = f"{user.partition(':')[0]}:{quote(password, safe='')}@{place}"
        return PostgresURL(parts._replace(netloc=netloc).geturl(), self.shown, self.name, True)


def located(settings: Settings) -> PostgresURL | None:
    """The PostgreSQL database of a server; None where it is the SQLite file of its data folder.

    Raises:
        MedPerfError: ``bad_database``, also for a file that others may read.
    """
    if settings.database is not None:
        return PostgresURL.parse(settings.database)
    file = settings.database_url_file
    try:
        if file.stat().st_mode & 0o077:
            raise MedPerfError(
                "database_file_open", f"Others may read {file}, which may hold a password.", f"Run: chmod 600 {file}"
            )
        return PostgresURL.parse(file.read_text().strip())
    except FileNotFoundError:
        return None


def remember(settings: Settings, url: PostgresURL) -> None:
    """Write it into the data folder."""
    write_whole(settings.database_url_file, f"{url.text}\n".encode())


def forget(settings: Settings) -> None:
    """The server uses the SQLite file again."""
    settings.database_url_file.unlink(missing_ok=True)


def _bad(what: str) -> UsageError:
    return UsageError("bad_database", what, _FORM)
