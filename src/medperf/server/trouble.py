"""What a database may answer to a request that is in order: it is busy, too slow, away, or full."""

from __future__ import annotations

from medperf.domain.errors import InvalidInput, ServerUnavailable

_AGAIN = "Try again in a moment."


class DatabaseFault(RuntimeError):
    """A statement of ours is wrong. It says which kind of mistake, never the values."""


def busy() -> ServerUnavailable:
    """Others hold what is needed, or this change lost against another one and was undone."""
    return ServerUnavailable("database_busy", "The server's database is busy.", _AGAIN, details={"retry_after": 1})


def too_slow() -> ServerUnavailable:
    """A statement took longer than `Settings.query_seconds` and was stopped."""
    return ServerUnavailable(
        "query_too_slow",
        "The server's database took too long to answer this.",
        "Ask for less (a smaller page, another filter), or try again later.",
        details={"retry_after": 5},
    )


def away() -> ServerUnavailable:
    """Nobody answers, or the connection broke; whether a change was made is then not known."""
    return ServerUnavailable(
        "database_unavailable", "The server cannot reach its database.", _AGAIN, details={"retry_after": 2}
    )


def bad_text() -> InvalidInput:
    """A value that the database cannot hold."""
    return InvalidInput(
        "bad_value", "The request holds a value that cannot be stored.", "Leave out NUL and other odd characters."
    )
