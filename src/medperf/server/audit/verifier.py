"""Verifying: every event, checkpoint and signature again, in bounded memory, while the server may run."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from medperf.domain.events import Emit, Progress, ignore
from medperf.server.audit import chain, repository
from medperf.server.audit.faults import (
    ACCEPT,
    Fault,
    FaultKind,
    changed_checkpoint,
    changed_event,
    check_head,
)
from medperf.server.audit.folder import AuditFolder, Head, is_signed
from medperf.server.audit.service import PERSONAL, Action
from medperf.server.db import Database, Transaction
from medperf.server.trouble import DatabaseFault

_CHECKPOINTS = 100
_COLUMNS = len(repository.EVENT)


@dataclass(frozen=True)
class VerifyReport:
    """What was found.

    Attributes:
        ok: nothing was changed before ``last_event``.
        events, checkpoints: how many were verified.
        last_event: the newest sealed event that was verified, 0 for none.
        unsealed: events after the last seal, about which nothing can be said yet.
        head: hash of the newest checkpoint; a copy of it kept elsewhere can be compared with ``--head``.
        fault: the first one.
    """

    ok: bool
    events: int
    checkpoints: int
    last_event: int
    unsealed: int
    head: str | None
    fault: Fault | None


class Verifier:
    """Verifies the trail of one server.

    Args:
        copy: hash of a checkpoint that somebody kept; it must be one of this trail.
        anchored: compare with what the data folder has seen, and take signatures of its keys only.
    """

    def __init__(
        self,
        database: Database,
        data: Path,
        *,
        copy: str | None = None,
        anchored: bool = True,
        emit: Emit = ignore,
    ) -> None:
        self._database = database
        self._folder = AuditFolder(data)
        self._copy = copy
        self._anchored = anchored
        self._emit = emit
        self._events = self._checkpoints = self._total = 0
        #: The newest checkpoint that was verified.
        self.last: Head | None = None
        #: Public keys of the checkpoints.
        self.keys: set[str] = set()
        #: account -> its first event without its personal values; and accounts that were erased. As targets of events.
        self._without: dict[str, int] = {}
        self._erased: set[str] = set()

    async def run(self) -> VerifyReport:
        """Verify from the first event to the last seal, or to the first fault."""
        # Before the database: the server writes there first, so what the file knows is there by now.
        head, key = await asyncio.to_thread(lambda: (self._folder.head(), self._folder.key()))
        trusted = None
        if self._anchored and head is not None:
            trusted = {*head.keys, *([key.public] if key is not None else [])}
        fault = await self._chain(head, trusted)
        last_event = 0 if self.last is None else self.last.last_event
        async with self._database.read() as tx:
            unsealed = await repository.count_after(tx, last_event) if fault is None else 0
        return VerifyReport(
            fault is None,
            self._events,
            self._checkpoints,
            last_event,
            unsealed,
            None if self.last is None else self.last.hash,
            fault,
        )

    async def _chain(self, head: Head | None, trusted: Collection[str] | None) -> Fault | None:
        async with self._database.read() as tx:
            instance_id = await repository.instance(tx)
            self._total = await repository.count_sealed(tx)
        # A seal that ended between the file and the first checkpoint leaves a file that has seen none.
        hash_at_head = chain.GENESIS if head is not None and head.checkpoint == 0 else None
        copy_seen = self._copy is None
        while True:
            rows = await self._next_checkpoints()
            if rows is None:
                return changed_checkpoint(self._checkpoints + 1, "it cannot be read")
            for row in rows:
                fault = check_link(
                    row, number=self._checkpoints + 1, previous=self.last, trusted=trusted, instance_id=instance_id
                ) or await self._sealed_events(row)
                if fault is not None:
                    return fault
                self._checkpoints += 1
                self._events += row.events
                self.keys.add(row.key)
                self.last = Head(instance_id, row.id, row.last_event, row.hash, row.sealed_at)
                copy_seen = copy_seen or row.hash == self._copy
                if head is not None and row.id == head.checkpoint:
                    hash_at_head = row.hash
                self._emit(Progress("Verifying", self._events, max(self._total, self._events), "events"))
            if not rows:
                break
        if self._anchored:
            fault = check_head(head, instance_id=instance_id, last=self._checkpoints, hash_at_head=hash_at_head)
            if fault is not None:
                return fault
        fault = await self._removed_values()
        if fault is not None:
            return fault
        return None if copy_seen else _copy_differs(str(self._copy), self._checkpoints)

    async def _next_checkpoints(self) -> list[Any] | None:
        """The next page, the first from the lowest number on; None where the very next is no text any more."""
        after = self._checkpoints
        async with self._database.read() as tx:
            if self.last is None:
                after = min(0, await repository.lowest_checkpoint(tx) - 1)
            for page in (_CHECKPOINTS, 1):
                try:
                    return await repository.checkpoints(tx, after=after, page=page)
                except DatabaseFault as error:
                    _raise_unless_unreadable(error)
        return None

    async def _sealed_events(self, row: Any) -> Fault | None:
        """The events of one checkpoint against its leaves, its leaves against its root."""
        after = 0 if self.last is None else self.last.last_event
        async with self._database.read() as tx:
            if self.last is None:
                after = min(0, await repository.lowest_event(tx) - 1)
            packed = await repository.leaves(tx, row.id)
            if packed is None:
                return changed_checkpoint(row.id, "its leaves cannot be read")
            found = await _read_events(tx, after=after, until=row.last_event, page=row.events)
        fault = await asyncio.to_thread(_compare, row, packed, found)
        if fault is None:
            self._look_for_values(found)
        return fault

    def _look_for_values(self, found: list[tuple[Any, ...]]) -> None:
        for event_id, _, actor_id, action, target, data, salt, _ in found:
            if action == Action.USER_ERASED:
                self._erased.add(target)
            if salt is None and f'"{PERSONAL}"' in data and PERSONAL in orjson.loads(data):
                subject = target if action == Action.USER_CREATED else f"user:{actor_id}"
                self._without.setdefault(subject, event_id)

    async def _removed_values(self) -> Fault | None:
        """Personal values go when their account is erased, which is an event itself; else somebody removed them."""
        if not self._without.keys() - self._erased:
            return None
        async with self._database.read() as tx:
            self._erased |= await repository.erased_after(tx, 0 if self.last is None else self.last.last_event)
        removed = [event_id for subject, event_id in self._without.items() if subject not in self._erased]
        if not removed:
            return None
        return Fault(
            FaultKind.PERSONAL_REMOVED,
            f"The personal values of event {min(removed)} were removed, but its account was never erased.",
            event=min(removed),
        )


def check_link(
    row: Any,
    *,
    number: int,
    previous: Head | None,
    trusted: Collection[str] | None,
    instance_id: str,
) -> Fault | None:
    """Is this row the checkpoint that follows ``previous``, as it was written and signed?

    Args:
        row: of `repository.CHECKPOINT`.
        trusted: keys that may sign; None = whichever the checkpoint names.
        instance_id: of the server.
    """
    if row.id != number:
        return Fault(FaultKind.CHECKPOINT_REMOVED, f"Checkpoint {number} was removed.", checkpoint=number)
    if row.version != chain.VERSION:
        return changed_checkpoint(number, f"this program does not know version {row.version!r}")
    if row.previous != (chain.GENESIS if previous is None else previous.hash):
        return changed_checkpoint(number, "it does not follow the one before it")
    try:
        hashed = repository.checkpoint_of(row).hash()
    except TypeError:
        hashed = ""
    if hashed != row.hash:
        return changed_checkpoint(number, "its hash does not fit")
    if row.instance_id != instance_id:
        return changed_checkpoint(number, f"it is of server {row.instance_id}, the database of {instance_id}")
    after = previous.last_event if previous is not None else None
    if row.first_event > row.last_event or (after is not None and row.first_event <= after):
        return changed_checkpoint(number, "its events do not follow those before")
    if not is_signed(row.hash, row.signature, row.key):
        return changed_checkpoint(number, "its signature does not fit")
    if trusted is not None and row.key not in trusted:
        return Fault(
            FaultKind.UNKNOWN_KEY,
            f"Checkpoint {number} is signed with a key that is not this data folder's: {row.key}.",
            ACCEPT,
            checkpoint=number,
        )
    return None


async def _read_events(tx: Transaction, *, after: int, until: int, page: int) -> list[tuple[Any, ...]]:
    """Events with their personal values. One that is no text any more comes as its id alone."""
    try:
        return await repository.whole_events(tx, after=after, until=until, page=page)
    except DatabaseFault as error:
        _raise_unless_unreadable(error)
    found: list[tuple[Any, ...]] = []
    for event_id in await repository.event_ids(tx, after=after, until=until, page=page):
        try:
            found += await repository.whole_events(tx, after=event_id - 1, until=event_id, page=1)
        except DatabaseFault as error:
            _raise_unless_unreadable(error)
            found.append((event_id, *[None] * (_COLUMNS + 1)))
    return found


def _raise_unless_unreadable(error: DatabaseFault) -> None:
    """SQLite keeps any bytes as text, and refuses to give them."""
    if "decode" not in str(error):
        raise error


def _compare(row: Any, packed: bytes, found: list[tuple[Any, ...]]) -> Fault | None:
    try:
        entries = chain.unpack(packed)
        sound = chain.merkle_root([hashed for _, hashed in entries]) == row.root
    except ValueError:
        entries, sound = [], False
    if not sound or (entries[0][0], entries[-1][0], len(entries)) != (row.first_event, row.last_event, row.events):
        return changed_checkpoint(row.id, "its leaves do not have its root")
    leaf = chain.leaf
    for at, (event_id, hashed) in enumerate(entries):
        if at >= len(found) or found[at][0] > event_id:
            return Fault(
                FaultKind.EVENT_REMOVED,
                f"Event {event_id}, sealed in checkpoint {row.id}, was removed.",
                event=event_id,
                checkpoint=row.id,
            )
        event = found[at]
        if event[0] < event_id:
            return _inserted(event[0], row.id)
        if leaf(event[:_COLUMNS]) != hashed:
            return changed_event(event_id, row.id)
        if event[_COLUMNS] is not None and not _fits(event):
            return Fault(
                FaultKind.PERSONAL_CHANGED,
                f"The personal values of event {event_id} are not what the event commits to.",
                event=event_id,
                checkpoint=row.id,
            )
    return None  # what is too much stands before the last, and was met on the way


def _inserted(event_id: int, checkpoint: int) -> Fault:
    return Fault(
        FaultKind.EVENT_INSERTED,
        f"Event {event_id} was inserted: checkpoint {checkpoint} was sealed without it.",
        event=event_id,
        checkpoint=checkpoint,
    )


def _fits(event: tuple[Any, ...]) -> bool:
    data, salt, value = event[_COLUMNS - 1], event[_COLUMNS], event[_COLUMNS + 1]
    try:
        return bool(orjson.loads(data).get(PERSONAL) == chain.commitment(bytes.fromhex(salt), value))
    except (ValueError, TypeError, AttributeError):
        return False


def _copy_differs(copy: str, checkpoints: int) -> Fault:
    return Fault(
        FaultKind.COPY_DIFFERS,
        f"None of the {checkpoints} checkpoints has the hash {copy}: the trail was rewritten or cut after that copy was made, "
        "or the copy is of another server.",
    )
