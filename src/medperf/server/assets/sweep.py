"""What nobody needs: bytes of deleted assets, uploads and kept answers whose time is over, what kills and power losses left.

Nothing goes by its age. A file is removed under the lock that its maker would hold, after the database was asked, so that sweeps may run
in every process and at any time.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput, ServerUnavailable
from medperf.server import idempotency
from medperf.server.assets import repository
from medperf.server.assets.store import in_thread
from medperf.server.audit.service import Action, record
from medperf.server.auth import identify
from medperf.server.context import ServerContext
from medperf.server.rotation import rotate
from medperf.server.schema import now
from medperf.server.uploads import repository as uploads

_BATCH = 500


async def sweep_for_ever(server: ServerContext) -> None:
    """Sweep now and then, beginning now. All files are looked at once per process: what is deleted later goes by itself."""
    first = True
    while True:
        with suppress(ServerUnavailable):  # the database is busy or away: the next time, then
            await sweep(server, whole=first)
            first = False
        await asyncio.sleep(server.settings.sweep_seconds)


async def sweep(server: ServerContext, *, whole: bool) -> None:
    """Remove what nobody needs.

    Args:
        whole: look at every file, too.
    """
    await in_thread(rotate, server.settings.log_file, most=server.settings.log_bytes)
    # Listed before the instance is asked for: one that begins after that is not among them.
    instances = await in_thread(server.store.instances)
    async with server.database.read() as tx:
        instance_id = (await identify(tx, None)).instance_id
    for other in instances:
        if other != instance_id:
            await in_thread(server.store.remove_instance, other)
    await idempotency.sweep(server)
    await _expire_uploads(server, instance_id)
    await _drop_unknown_uploads(server, instance_id)
    if whole:
        for paths in server.store.digests(instance_id):
            await _drop_unknown_files(server, instance_id, paths)


async def forget(server: ServerContext, instance_id: str, digest: str) -> None:
    """Remove a digest's bytes unless an asset has them."""
    async with server.store.locked(instance_id, digest, exclusive=True):
        # As a change: what is seen to be gone is on the disk before its bytes go, so that no power cut brings back the row alone.
        async with server.database.write() as tx:
            known = await repository.known_digests(tx, [digest])
        if known:
            return
        await in_thread(server.store.path(instance_id, digest).unlink, missing_ok=True)


async def _expire_uploads(server: ServerContext, instance_id: str) -> None:
    while True:
        moment = now()
        async with server.database.read() as tx:
            found = await uploads.lapsed(tx, moment=moment)
        for row in found:
            async with server.database.write() as tx:
                gone = await uploads.expire(tx, row.id, moment=moment)
                if gone and row.asset_id is None:
                    await record(tx, None, Action.UPLOAD_CANCELLED, f"upload:{row.id}", {"reason": "expired"})
            if gone:
                await in_thread(server.store.drop_incoming, instance_id, row.id)
        if not found:
            return


async def _drop_unknown_uploads(server: ServerContext, instance_id: str) -> None:
    # An upload's row is there before its file, so listing first is safe.
    ids = await in_thread(server.store.incoming_ids, instance_id)
    for start in range(0, len(ids), _BATCH):
        batch = ids[start : start + _BATCH]
        async with server.database.read() as tx:
            known = await uploads.unfinished_among(tx, batch)
        for upload_id in batch:
            if upload_id not in known:
                await in_thread(server.store.drop_incoming, instance_id, upload_id)


async def _drop_unknown_files(server: ServerContext, instance_id: str, paths: list[Path]) -> None:
    names = {path.name: f"sha256:{path.name}" for path in paths}
    known: set[str] = set()
    for start in range(0, len(paths), _BATCH):
        async with server.database.read() as tx:
            known |= await repository.known_digests(tx, [names[path.name] for path in paths[start : start + _BATCH]])
    for path in paths:
        if names[path.name] in known:
            continue
        try:
            digest = Digest(names[path.name])
        except InvalidInput:  # on its way to its place when the power went
            async with server.store.locked(instance_id, f"sha256:{path.parent.name}", exclusive=True):
                await in_thread(path.unlink, missing_ok=True)
        else:
            await forget(server, instance_id, digest)
