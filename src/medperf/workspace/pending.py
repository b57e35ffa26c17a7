"""The outbox: what was about to be sent, with the key under which it is sent at most once."""

from __future__ import annotations

import sqlite3
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from medperf.domain.digests import Digest
from medperf.workspace.database import Database


@dataclass(frozen=True)
class PendingSubmission:
    """A body whose answer was never heard. ``key``: its Idempotency-Key."""

    key: str
    kind: str
    instance_id: str
    body_digest: Digest
    body: bytes
    created_at: str


class Pending:
    """Submissions by server instance: nothing is ever sent to a server that it was not made for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def remember(self, kind: str, instance_id: str, body_digest: Digest, body: bytes) -> str:
        """Write down what will be sent.

        Returns:
            the Idempotency-Key (a UUID): the old one if the same body for the same instance is still unanswered.
        """
        with self._database.writing() as connection:
            return remember(connection, kind, instance_id, body_digest, body)

    def forget(self, key: str) -> None:
        """The server answered; an unknown key is fine."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM pending WHERE key = ?", (key,))

    def ls(self, instance_id: str) -> list[PendingSubmission]:
        """Unanswered submissions to this instance, oldest first."""
        query = "SELECT key, kind, instance_id, body_digest, body, created_at FROM pending WHERE instance_id = ? ORDER BY rowid"
        with self._database.reading() as connection:
            rows = connection.execute(query, (instance_id,)).fetchall() if connection else []
        return [
            PendingSubmission(key, kind, instance, Digest(digest), bytes(body), at)
            for key, kind, instance, digest, body, at in rows
        ]


def remember(connection: sqlite3.Connection, kind: str, instance_id: str, body_digest: Digest, body: bytes) -> str:
    """See `Pending.remember`; within a transaction of the caller's."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    connection.execute(
        "INSERT OR IGNORE INTO pending VALUES (?, ?, ?, ?, ?, ?)",
        (str(uuid.uuid4()), kind, instance_id, body_digest, body, now),
    )
    (key,) = connection.execute(
        "SELECT key FROM pending WHERE instance_id = ? AND kind = ? AND body_digest = ?",
        (instance_id, kind, body_digest),
    ).fetchone()
    return str(key)
