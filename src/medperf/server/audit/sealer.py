"""Sealing: events become checkpoints, in bounded steps, once among all processes of a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from medperf.domain.events import Emit, Progress, ignore
from medperf.server.audit import chain, repository
from medperf.server.audit.chain import Checkpoint
from medperf.server.audit.faults import ACCEPT, Fault, FaultKind, check_head
from medperf.server.audit.folder import AuditFolder, Head, SigningKey
from medperf.server.audit.tables import audit_events
from medperf.server.audit.verifier import check_link
from medperf.server.context import ServerContext
from medperf.server.db import Database
from medperf.server.schema import now

#: Events of one checkpoint at most, and of one statement: neither stops the event loop for long.
BATCH = 1000
_PAGE = 250
#: Checkpoints per look of a running server, and when it ends: a backlog is sealed over several looks.
_PER_LOOK = 20


@dataclass(frozen=True)
class SealReport:
    """What was sealed. ``head``: the newest checkpoint now, None where there are no events."""

    events: int
    checkpoints: int
    head: Head | None


class Sealer:
    """Seals the events of one server.

    Args:
        data: the data folder; servers that share a database share it.
    """

    def __init__(self, database: Database, data: Path) -> None:
        self._database = database
        self._folder = AuditFolder(data)

    async def seal(
        self, *, most: int | None = None, wait_seconds: float = 0.0, emit: Emit = ignore
    ) -> SealReport | None:
        """Seal what is there, at most ``most`` checkpoints; None where another process is doing it.

        Raises:
            Conflict: the database is not the one that this data folder has seen (restored, cut or rewritten): sealing it would hide that.
        """
        async with self._folder.sealing(wait_seconds=wait_seconds) as got:
            return await self.seal_locked(most=most, emit=emit) if got else None

    async def seal_locked(self, *, most: int | None = None, emit: Emit = ignore) -> SealReport:
        """As `seal`, for who holds the lock."""
        head = await self.checked_head()
        newest = await self._final_event(after=0 if head is None else head.last_event)
        start, events, made = (0 if head is None else head.last_event), 0, 0
        while (head is None or head.last_event < newest) and (most is None or made < most):
            sealed = await self._seal_batch(head, newest)
            if sealed is None:  # somebody was faster; their checkpoint is as good
                break
            head, count = sealed
            await asyncio.to_thread(self._folder.set_head, head)
            events, made = events + count, made + 1
            emit(Progress("Sealing", head.last_event - start, newest - start, "events"))
        return SealReport(events, made, head)

    async def checked_head(self) -> Head | None:
        """The newest checkpoint, after a look whether the database goes on from what this folder has seen.

        Raises:
            Conflict: it does not.
        """
        seen, key = await asyncio.to_thread(self._read_folder)
        async with self._database.read() as tx:
            instance_id = await repository.instance(tx)
            last = await repository.last_checkpoint(tx)
            rows = await repository.checkpoints(tx, after=0 if seen is None else max(seen.checkpoint - 1, 0), page=3)
        stored = next((row.hash for row in rows if seen is not None and row.id == seen.checkpoint), None)
        if seen is not None and seen.checkpoint == 0:
            stored = chain.GENESIS
        fault = check_head(seen, instance_id=instance_id, last=0 if last is None else last.id, hash_at_head=stored)
        if fault is not None:
            raise fault.error()
        if seen is None or last is None:
            return seen
        if key is None:
            raise Fault(
                FaultKind.UNKNOWN_KEY, "The signing key audit.key is missing in the data folder.", ACCEPT
            ).error()
        # A server that ended between the database and the file leaves one checkpoint that the file does not know.
        for row in rows:
            if row.id <= seen.checkpoint:
                continue
            fault = check_link(
                row,
                number=seen.checkpoint + 1,
                previous=seen,
                trusted={key.public, *seen.keys},
                instance_id=instance_id,
            )
            if fault is not None:
                raise fault.error()
            seen = replace(seen, checkpoint=row.id, last_event=row.last_event, hash=row.hash, sealed_at=row.sealed_at)
            await asyncio.to_thread(self._folder.set_head, seen)
        if last.id != seen.checkpoint:
            return await self.checked_head()
        return seen

    def _read_folder(self) -> tuple[Head | None, SigningKey | None]:
        return self._folder.head(), self._folder.key()

    async def _final_event(self, *, after: int) -> int:
        """The highest id below which nothing can appear any more.

        PostgreSQL gives ids before it commits. Who holds the table alone, for a moment, knows that nobody is between the two.
        """
        async with self._database.read() as tx:
            newest = await repository.newest_event(tx)
        if newest <= after:
            return newest
        async with self._database.write() as tx:
            await tx.lock_table(audit_events)
            return await repository.newest_event(tx)

    async def _seal_batch(self, head: Head | None, newest: int) -> tuple[Head, int] | None:
        after = 0 if head is None else head.last_event
        entries: list[tuple[int, bytes]] = []
        while len(entries) < BATCH:
            async with self._database.read() as tx:
                instance_id = await repository.instance(tx)
                rows = await repository.events(tx, after=after, until=newest, page=_PAGE)
            entries += await asyncio.to_thread(_hashed, rows)
            if len(rows) < _PAGE:
                break
            after = entries[-1][0]
        if not entries or (head is not None and head.instance_id != instance_id):
            return None  # the server was reset meanwhile
        if head is None:
            # Before the first checkpoint: the file would else be missing after a kill between the two, as if somebody had taken it.
            await asyncio.to_thread(self._folder.set_head, Head(instance_id, 0, 0, chain.GENESIS, now(), ()))
        key, root, packed = await asyncio.to_thread(self._prepare, entries)
        checkpoint = Checkpoint(
            id=1 if head is None else head.checkpoint + 1,
            version=chain.VERSION,
            instance_id=instance_id,
            first_event=entries[0][0],
            last_event=entries[-1][0],
            events=len(entries),
            root=root,
            previous=chain.GENESIS if head is None else head.hash,
            sealed_at=now(),
            key=key.public,
        )
        hashed = checkpoint.hash()
        async with self._database.write() as tx:
            if await repository.instance(tx, hold=True) != instance_id:
                return None
            if not await repository.insert_checkpoint(tx, checkpoint, signature=key.sign(hashed), packed=packed):
                return None
        keys = () if head is None else head.keys
        made = Head(instance_id, checkpoint.id, checkpoint.last_event, hashed, checkpoint.sealed_at, keys)
        return made, len(entries)

    def _prepare(self, entries: list[tuple[int, bytes]]) -> tuple[SigningKey, str, bytes]:
        return self._folder.make_key(), chain.merkle_root([hashed for _, hashed in entries]), chain.pack(entries)


def _hashed(rows: list[tuple[Any, ...]]) -> list[tuple[int, bytes]]:
    return [(row[0], chain.leaf(row)) for row in rows]


@asynccontextmanager
async def sealing(server: ServerContext) -> AsyncIterator[None]:
    """While a server runs: look now and then, seal when there is enough or when it has waited long enough, and once more at the end."""
    stop = asyncio.Event()
    loop = asyncio.create_task(_look_and_seal(server, stop))
    try:
        yield
    finally:
        stop.set()
        await loop


async def _look_and_seal(server: ServerContext, stop: asyncio.Event) -> None:
    sealer = Sealer(server.database, server.settings.data)
    clock = asyncio.get_running_loop().time
    seconds = server.settings.seal_seconds
    sealed_at, sealed_event = clock(), 0
    stopping = False
    while not stopping:
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), timeout=seconds / 12)
        stopping = stop.is_set()
        try:
            if not stopping and clock() - sealed_at < seconds:
                async with server.database.read() as tx:
                    waiting = await repository.newest_event(tx) - sealed_event
                if waiting < server.settings.seal_events:
                    continue
            done = await sealer.seal(most=_PER_LOOK)
            if done is not None and done.head is not None:
                sealed_event = done.head.last_event
        except Exception as error:  # noqa: BLE001 - a door: the server goes on, its log says why nothing was sealed
            server.log.fault(error, request_id="-", method="-", route="audit.seal")
        sealed_at = clock()
