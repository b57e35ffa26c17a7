"""The egress journal: every body that left this site, when, to which server, and who agreed. It is added to, never changed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from medperf.domain.digests import Digest
from medperf.domain.disclosure import Exit
from medperf.domain.errors import NotFound
from medperf.workspace.database import Database
from medperf.workspace.pending import remember


class Agreed(StrEnum):
    """Who said yes before a body left."""

    PERSON = "person"
    POLICY = "policy"
    AUTOMATIC = "automatic"  # it belongs to what was agreed to before


class Event(StrEnum):
    """What became of a body. Whatever was ever SENT may have arrived, also where nothing follows."""

    SENT = "sent"  # written down just before the first byte goes
    ANSWERED = "answered"
    REFUSED = "refused"
    UNANSWERED = "unanswered"


@dataclass(frozen=True)
class EgressEvent:
    """One thing that happened. ``detail``: the code of a refusal, or empty."""

    event: Event
    detail: str
    at: str


@dataclass(frozen=True)
class EgressEntry:
    """One body. ``events`` oldest first; ``server``: its URL; ``about``: what of this site it speaks of, for people here (it
    is not sent); ``at``: when somebody agreed (ISO 8601, UTC)."""

    number: int
    key: str
    kind: Exit
    instance_id: str
    server: str
    about: str
    consent: Agreed
    body: dict[str, Any]
    at: str
    events: tuple[EgressEvent, ...] = ()

    @property
    def digest(self) -> Digest:
        """Digest of the body as it was kept."""
        return Digest.of_document(self.body)

    @property
    def outcome(self) -> Event | None:
        """The newest event; None: agreed to, but it never began to go."""
        return self.events[-1].event if self.events else None


_ALL = "SELECT number, key, kind, instance_id, server, about, consent, body, at FROM egress "
_BY_KEY = _ALL + "WHERE instance_id = ? AND key = ?"
_NEWEST = (
    _ALL
    + "WHERE (instance_id = :instance OR :instance IS NULL) AND (kind = :kind OR :kind IS NULL) ORDER BY number DESC LIMIT :limit"
)
_ONE = _ALL + "WHERE number = ?"
_Row = tuple[int, str, str, str, str, str, str, bytes, str]


class Egress:
    """The journal of one workspace. Triggers in the database refuse changes to it, whoever asks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def leaving(
        self,
        *,
        kind: Exit,
        pending: str,
        instance_id: str,
        digest: Digest,
        payload: bytes,
        server: str,
        about: str,
        consent: Agreed,
    ) -> EgressEntry:
        """Write down that a body goes now, here and in the outbox, in one transaction. The same body that is unanswered keeps its key.

        Args:
            pending: what the outbox calls its kind.
            payload: canonical JSON of exactly what is sent (and the ids that stand in its address).
        """
        now = _now()
        with self._database.writing() as connection:
            key = remember(connection, pending, instance_id, digest, payload)
            connection.execute(
                "INSERT INTO egress (key, kind, instance_id, server, about, consent, body, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING",
                (key, kind, instance_id, server, about, consent, payload, now),
            )
            row = connection.execute(_BY_KEY, (instance_id, key)).fetchone()
            connection.execute("INSERT INTO egress_events VALUES (?, ?, ?, ?)", (row[0], Event.SENT, "", now))
            events = _events(connection, row[0])
        return _entry(row, events)

    def settled(self, entry: EgressEntry, event: Event, detail: str = "") -> None:
        """What became of it for good: the outbox forgets it."""
        with self._database.writing() as connection:
            connection.execute("INSERT INTO egress_events VALUES (?, ?, ?, ?)", (entry.number, event, detail, _now()))
            connection.execute("DELETE FROM pending WHERE key = ?", (entry.key,))

    def note(self, number: int, event: Event, detail: str = "") -> None:
        """What became of it."""
        with self._database.writing() as connection:
            connection.execute("INSERT INTO egress_events VALUES (?, ?, ?, ?)", (number, event, detail, _now()))

    def find(self, instance_id: str, key: str) -> EgressEntry | None:
        """The entry of an Idempotency-Key."""
        found = self._read(_BY_KEY, (instance_id, key))
        return found[0] if found else None

    def ls(
        self, *, instance_id: str | None = None, kind: Exit | None = None, limit: int | None = None
    ) -> list[EgressEntry]:
        """Entries, newest first."""
        return self._read(_NEWEST, {"instance": instance_id, "kind": kind, "limit": -1 if limit is None else limit})

    def get(self, number: int) -> EgressEntry:
        """One entry.

        Raises:
            NotFound: there is none of this number.
        """
        found = self._read(_ONE, (number,))
        if not found:
            raise NotFound(
                "unknown_egress", f"The egress journal has no entry {number}.", "List them with: medperf egress ls"
            )
        return found[0]

    def _read(self, query: str, values: tuple[Any, ...] | dict[str, Any]) -> list[EgressEntry]:
        with self._database.reading() as connection:
            if connection is None:
                return []
            rows: list[_Row] = connection.execute(query, values).fetchall()
            return [_entry(row, _events(connection, row[0])) for row in rows]


def _events(connection: Any, number: int) -> tuple[EgressEvent, ...]:
    rows = connection.execute("SELECT event, detail, at FROM egress_events WHERE entry = ? ORDER BY rowid", (number,))
    return tuple(EgressEvent(Event(event), detail, at) for event, detail, at in rows)


def _entry(row: _Row, events: tuple[EgressEvent, ...]) -> EgressEntry:
    number, key, kind, instance_id, server, about, consent, body, at = row
    return EgressEntry(
        number, key, Exit(kind), instance_id, server, about, Agreed(consent), json.loads(bytes(body)), at, events
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
