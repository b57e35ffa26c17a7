"""What an admin does about the audit trail on the server's own machine, also while the server runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict, MedPerfError
from medperf.domain.events import Emit, ignore
from medperf.server.audit.faults import ACCEPTABLE
from medperf.server.audit.folder import AuditFolder, Head, busy
from medperf.server.audit.sealer import Sealer, SealReport
from medperf.server.audit.service import Action, record
from medperf.server.audit.verifier import Verifier, VerifyReport
from medperf.server.db import Database
from medperf.server.settings import Settings

_WAIT_SECONDS = 30.0


@dataclass(frozen=True)
class AcceptReport:
    """What was accepted. ``before``: the newest checkpoint this data folder had seen; ``after``: the newest one now."""

    before: Head | None
    after: Head | None


def verify(settings: Settings, *, copy: str | None = None, emit: Emit = ignore) -> VerifyReport:
    """Verify the whole trail, and ``copy``, the hash of a checkpoint that was kept elsewhere.

    Raises:
        InvalidInput: ``copy`` is no hash.
        MedPerfError: there is no server, or its files cannot be read.
    """
    wanted = None if copy is None else str(Digest(copy))

    async def run() -> VerifyReport:
        async with _opened(settings) as database:
            return await Verifier(database, settings.data, copy=wanted, emit=emit).run()

    return asyncio.run(run())


def seal(settings: Settings, *, emit: Emit = ignore) -> SealReport:
    """Seal every event that is there now.

    Raises:
        Conflict: see `Sealer.seal`; ``sealing_elsewhere``.
    """

    async def run() -> SealReport:
        async with _opened(settings) as database:
            done = await Sealer(database, settings.data).seal(wait_seconds=_WAIT_SECONDS, emit=emit)
            if done is None:
                raise busy()
            return done

    return asyncio.run(run())


def accept(settings: Settings, *, emit: Emit = ignore) -> AcceptReport:
    """Take the database's trail as the true one, after its admin restored or moved it: an event says so, and it is sealed.

    Raises:
        Conflict: ``nothing_to_accept``; or the trail itself is not whole, which nobody can accept.
    """

    async def run() -> AcceptReport:
        async with _opened(settings) as database:
            folder = AuditFolder(settings.data)
            async with folder.sealing(wait_seconds=_WAIT_SECONDS) as got:
                if not got:
                    raise busy()
                return await _accept(database, settings.data, folder, emit)

    return asyncio.run(run())


async def _accept(database: Database, data: Path, folder: AuditFolder, emit: Emit) -> AcceptReport:
    found = await Verifier(database, data, emit=emit).run()
    if found.fault is None:
        raise Conflict(
            "nothing_to_accept",
            "The database is the one that this data folder has seen.",
            "Nothing has to be accepted.",
        )
    if found.fault.kind not in ACCEPTABLE:
        raise found.fault.error()
    checked = Verifier(database, data, anchored=False, emit=emit)
    whole = await checked.run()
    if whole.fault is not None:
        raise whole.fault.error()
    before, last, key = folder.head(), checked.last, folder.make_key()
    async with database.write() as tx:
        data_of = {
            "fault": found.fault.kind.value,
            "expected": None if before is None else before.hash,
            "expected_event": None if before is None else before.last_event,
            "found": None if last is None else last.hash,
            "found_event": None if last is None else last.last_event,
        }
        await record(tx, None, Action.AUDIT_ACCEPTED, "server", data_of)
    if last is None:
        folder.forget()
    else:
        keys = tuple(sorted(checked.keys - {key.public}))
        folder.set_head(Head(last.instance_id, last.checkpoint, last.last_event, last.hash, last.sealed_at, keys))
    done = await Sealer(database, data).seal_locked(emit=emit)
    return AcceptReport(before, done.head)


def noticed(settings: Settings) -> str | None:
    """What an admin should know when a server starts: that it will not seal, why, and what to do. None: all is well.

    A short look, not a verification; also from inside an event loop.
    """

    async def run() -> str | None:
        try:
            async with _opened(settings) as database:
                await Sealer(database, settings.data).checked_head()
        except MedPerfError as error:
            return f"{error.what} {error.fix}"
        return None

    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, run()).result()


def public_key(settings: Settings) -> str:
    """The public key that checkpoints are signed with, hexadecimal; the key is made if there is none."""

    async def run() -> str:
        async with _opened(settings):
            return AuditFolder(settings.data).make_key().public

    return asyncio.run(run())


@asynccontextmanager
async def _opened(settings: Settings) -> AsyncIterator[Database]:
    database = Database(settings)
    await database.open()
    try:
        yield database
    finally:
        await database.close()
