"""What is done with uploads.

An upload is announced (its size is taken from the owner's room at once), comes in pieces, and is completed: the bytes on disk are read
and hashed, and the asset is made in one transaction. Its bytes always travel, so a digest opens nothing, and nobody learns whether the
server had them. Every step can be asked for again when its answer was lost.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa

from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict, InvalidInput, NotFound, ServerUnavailable
from medperf.domain.permissions import Action
from medperf.server.assets import repository as assets
from medperf.server.assets.store import in_thread
from medperf.server.audit.service import Action as Event
from medperf.server.audit.service import record
from medperf.server.authz import Actor, owner_for
from medperf.server.context import ServerContext
from medperf.server.db import Transaction
from medperf.server.errors import Gone, TooLarge
from medperf.server.idempotency import Created, create_once
from medperf.server.requests import Sent
from medperf.server.responses import dumps
from medperf.server.rows import together
from medperf.server.schema import as_text, now
from medperf.server.uploads import repository
from medperf.wire.assets import UploadCreate

_CANCEL = "Finish one (give the same command again), or cancel it: medperf asset quota lists them."


async def start(server: ServerContext, actor: Actor, sent: Sent[UploadCreate]) -> dict[str, Any]:
    """Announce a file; with a known idempotency key, give the upload as it is now.

    Raises:
        TooLarge: one file, or all of this owner, exceed their limit.
        Conflict: ``too_many_uploads``: too many are unfinished.
        StorageFull: it would not fit on the server's disk.
        Gone: the key's upload was cancelled, expired, or its asset was deleted.
    """
    wanted = sent.value
    if wanted.size > server.settings.asset_bytes:
        raise TooLarge(
            "asset_too_large",
            f"The file has more than {server.settings.asset_bytes:,} bytes.",
            "Upload a smaller one, or host it elsewhere.",
        )

    async def make(tx: Transaction) -> Created:
        server.store.check_room(wanted.size)
        owner_id = await owner_for(tx, actor, wanted.owner, Action.ASSET_UPLOAD)
        owners = await together(tx, owner_id)
        await repository.lock_owner(tx, owners[0])
        await _check_quota(server, tx, owner_id, owners, wanted.size)
        upload_id = str(uuid.uuid4())
        values = {
            "id": upload_id,
            "user_id": actor.user_id,
            "owner_id": owner_id,
            "name": wanted.name,
            "digest": wanted.digest,
            "size": wanted.size,
            "asset_id": None,
            "created_at": now(),
            "expires_at": _until(server),
        }
        await repository.insert(tx, values)
        data = {"digest": wanted.digest, "size": wanted.size, "owner": owner_id}
        await record(tx, actor.user_id, Event.UPLOAD_CREATED, f"upload:{upload_id}", data)
        return Created(dumps({"id": upload_id}))

    made = await create_once(server, actor, route="POST /uploads", key=sent.key, content=sent.content, make=make)
    upload_id = orjson.loads(bytes(made.body))["id"]
    try:
        return await read(server, actor, upload_id)
    except NotFound:
        raise Gone(
            "upload_gone",
            "This upload was cancelled, has expired, or its asset was deleted.",
            "Announce it again with a new Idempotency-Key.",
        ) from None


async def read(server: ServerContext, actor: Actor, upload_id: str) -> dict[str, Any]:
    """How far an upload is.

    Raises:
        NotFound: no upload of this account.
    """
    async with server.database.read() as tx:
        row = await _found(tx, actor, upload_id)
    return repository.view(row, _received(server, actor, row))


async def ls(server: ServerContext, actor: Actor) -> list[dict[str, Any]]:
    """The account's unfinished uploads."""
    async with server.database.read() as tx:
        rows = await repository.unfinished(tx, user_id=actor.user_id, moment=now())
    return [repository.view(row, _received(server, actor, row)) for row in rows]


async def append(
    server: ServerContext, actor: Actor, upload_id: str, *, offset: int, stream: AsyncIterator[bytes]
) -> int:
    """Take a piece; returns how much is on disk now.

    Raises:
        NotFound: no upload of this account.
        Conflict: ``wrong_offset``; ``details["offset"]`` is the right one.
        ServerUnavailable: ``upload_busy``: another request is writing; ``storage_full``.
        TooLarge: more than was announced.
    """
    async with server.database.read() as tx:
        row = await _found(tx, actor, upload_id)
    if row.asset_id is not None:
        raise _wrong_offset(row.size)
    with server.store.incoming(actor.instance_id, upload_id) as incoming:
        # Looked at again under the lock: a completion that had it may have ended just now.
        async with server.database.read() as tx:
            current = await repository.get(tx, user_id=actor.user_id, upload_id=upload_id, moment=now())
        if current is None:
            server.store.drop_incoming(actor.instance_id, upload_id)
            raise _no_such_upload()
        if current.asset_id is not None:
            raise _wrong_offset(current.size)
        if offset != incoming.size:
            raise _wrong_offset(incoming.size)
        await _extend(server, actor, row)
        await incoming.append(stream, limit=row.size)
        server.rates.forget_change(actor.user_id)
        return incoming.size


async def complete(server: ServerContext, actor: Actor, upload_id: str) -> dict[str, Any]:
    """Verify a file that is all here and make it an asset; asked again, give that asset.

    The work goes on when whoever asked is gone, and when it takes longer than a request should.

    Raises:
        NotFound: no upload of this account.
        Conflict: ``upload_incomplete``.
        InvalidInput: ``digest_mismatch``: the upload is gone.
        ServerUnavailable: ``upload_busy``, ``upload_verifying``: ask again.
    """
    async with server.database.read() as tx:
        row = await _found(tx, actor, upload_id)
        if row.asset_id is not None:
            return await _asset_view(tx, row.asset_id)
    task = server.background.run(f"completion {upload_id}", lambda: _complete(server, actor, row))
    done, _ = await asyncio.wait({task}, timeout=server.settings.verify_wait_seconds)
    if not done:
        raise ServerUnavailable(
            "upload_verifying", "The file is being verified.", "Ask again in a moment.", details={"retry_after": 1}
        )
    asset_id = await task
    async with server.database.read() as tx:
        return await _asset_view(tx, asset_id)


async def cancel(server: ServerContext, actor: Actor, upload_id: str) -> None:
    """Forget an unfinished upload and its bytes.

    Raises:
        NotFound: no upload of this account.
        Conflict: ``upload_complete``: it is an asset by now.
    """
    async with actor.change(server.database) as tx:
        row = await _found(tx, actor, upload_id, change=True)
        if row.asset_id is not None or not await repository.cancel(tx, user_id=actor.user_id, upload_id=upload_id):
            raise Conflict(
                "upload_complete",
                f"This upload became asset {row.asset_id}.",
                f"Delete the asset instead: medperf asset delete {row.asset_id}",
            )
        await record(tx, actor.user_id, Event.UPLOAD_CANCELLED, f"upload:{upload_id}", {"reason": "asked"})
    await in_thread(server.store.drop_incoming, actor.instance_id, upload_id)


async def storage(server: ServerContext, actor: Actor, owner: int | None) -> dict[str, Any]:
    """What an owner's files take, as `medperf.wire.assets.StorageView`. What counts together with them is not theirs to fill.

    Raises:
        InvalidInput: ``unknown_owner``: no party that the actor belongs to.
    """
    async with server.database.read() as tx:
        owner_id = await owner_for(tx, actor, owner, Action.ASSET_LIST, keep=False)
        moment = now()
        found = await repository.used(tx, [owner_id], moment=moment)
        others = await repository.used(tx, set(await together(tx, owner_id)) - {owner_id}, moment=moment)
        shown = await repository.owner_view(tx, owner_id)
    taken, theirs = (int(each.asset_bytes) + int(each.upload_bytes) for each in (found, others))
    return {
        "owner": shown,
        "bytes": taken,
        "bytes_limit": max(server.settings.asset_quota_bytes - theirs, 0),
        "assets": found.assets,
        "assets_limit": max(server.settings.asset_count - others.assets - others.uploads, 0),
        "uploads": found.uploads,
        "uploads_limit": server.settings.upload_count,
    }


# ------------------------------------------------------------------------------------------------------------ the pieces


async def _check_quota(
    server: ServerContext, tx: Transaction, owner_id: int, owners: Collection[int], size: int
) -> None:
    limits = server.settings
    found = await repository.used(tx, [owner_id], moment=now())
    if found.uploads >= limits.upload_count:
        raise Conflict(
            "too_many_uploads",
            f"There are {found.uploads} unfinished uploads of this owner, the most allowed.",
            _CANCEL,
        )
    whose = "This owner has"
    if len(owners) > 1:
        whose = "This organisation and the others of the same founder have"
        found = await repository.used(tx, owners, moment=now())
    if found.assets + found.uploads >= limits.asset_count:
        raise TooLarge(
            "too_many_assets",
            f"{whose} {found.assets + found.uploads:,} files, the most allowed.",
            "Delete what is not needed: medperf asset delete ID",
        )
    taken = int(found.asset_bytes) + int(found.upload_bytes)
    if taken + size > limits.asset_quota_bytes:
        raise TooLarge(
            "quota_exceeded",
            f"This file has {size:,} bytes. {whose} {taken:,} of {limits.asset_quota_bytes:,} already.",
            "Delete what is not needed (medperf asset delete ID), or ask the server's admin for room.",
        )


async def _extend(server: ServerContext, actor: Actor, row: sa.Row[Any]) -> None:
    """An upload that goes on is kept. Written down once in a while, not with each piece."""
    half = as_text(datetime.now(UTC) + timedelta(seconds=server.settings.upload_seconds / 2))
    if row.expires_at < half:
        async with actor.change(server.database) as tx:
            await repository.extend(tx, row.id, until=_until(server))


async def _complete(server: ServerContext, actor: Actor, row: sa.Row[Any]) -> int:
    """Runs in the background; returns the asset's id."""
    store, instance_id = server.store, actor.instance_id
    async with server.verifying:
        with store.incoming(instance_id, row.id) as incoming:
            async with server.database.read() as tx:
                current = await _found(tx, actor, row.id)
            if current.asset_id is not None:
                return int(current.asset_id)
            if incoming.size != row.size:
                raise Conflict(
                    "upload_incomplete",
                    f"{incoming.size:,} of {row.size:,} bytes are here.",
                    "Send the rest, then ask again.",
                )
            if await incoming.digest() != Digest(row.digest):
                await _refuse(server, actor, row)
            try:
                async with store.place(instance_id, row.id, row.digest):
                    asset_id = await _make_asset(server, actor, row)
            except FileNotFoundError:  # a reset came between
                raise _no_such_upload() from None
        await in_thread(store.drop_incoming, instance_id, row.id)
    return asset_id


async def _make_asset(server: ServerContext, actor: Actor, row: sa.Row[Any]) -> int:
    async with actor.change(server.database) as tx:
        await _found(tx, actor, row.id, change=True)
        await owner_for(tx, actor, row.owner_id, Action.ASSET_UPLOAD)  # a right may have been taken away meanwhile
        asset_id = await assets.insert(tx, owner_id=row.owner_id, name=row.name, digest=row.digest, size=row.size)
        if not await repository.complete(tx, row.id, asset_id):
            raise _no_such_upload()
        data = {"digest": row.digest, "size": row.size, "owner": row.owner_id}
        await record(tx, actor.user_id, Event.ASSET_CREATED, f"asset:{asset_id}", data)
    return asset_id


async def _refuse(server: ServerContext, actor: Actor, row: sa.Row[Any]) -> None:
    async with actor.change(server.database) as tx:
        if await repository.cancel(tx, user_id=actor.user_id, upload_id=row.id):
            await record(tx, actor.user_id, Event.UPLOAD_CANCELLED, f"upload:{row.id}", {"reason": "digest_mismatch"})
    await in_thread(server.store.drop_incoming, actor.instance_id, row.id)
    raise InvalidInput(
        "digest_mismatch",
        f"The file that arrived is not the one with {row.digest} that was announced; it was dropped.",
        "Upload it again when nothing writes to it.",
    )


async def _found(tx: Transaction, actor: Actor, upload_id: str, *, change: bool = False) -> sa.Row[Any]:
    row = await repository.get(tx, user_id=actor.user_id, upload_id=upload_id, moment=now(), change=change)
    if row is None:
        raise _no_such_upload()
    return row


async def _asset_view(tx: Transaction, asset_id: int) -> dict[str, Any]:
    row = await assets.by_id(tx, asset_id)
    if row is None:
        raise _no_such_upload()
    return assets.view(row)


def _received(server: ServerContext, actor: Actor, row: sa.Row[Any]) -> int:
    return int(row.size) if row.asset_id is not None else server.store.received(actor.instance_id, row.id)


def _until(server: ServerContext) -> str:
    return as_text(datetime.now(UTC) + timedelta(seconds=server.settings.upload_seconds))


def _no_such_upload() -> NotFound:
    return NotFound(
        "no_such_upload",
        "You have no such upload: it was cancelled, or has expired.",
        "Give the command that uploads once more.",
    )


def _wrong_offset(offset: int) -> Conflict:
    return Conflict(
        "wrong_offset",
        f"{offset:,} bytes of this upload are here.",
        "Send what follows them.",
        details={"offset": offset},
    )
