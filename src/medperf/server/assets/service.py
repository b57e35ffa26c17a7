"""What is done with assets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Any

import sqlalchemy as sa
from starlette.responses import Response

from medperf.domain.digests import Digest, canonical_json
from medperf.domain.errors import Conflict, Forbidden, InvalidInput, NotFound
from medperf.server.assets import repository
from medperf.server.audit.service import Action, record
from medperf.server.authz import Actor
from medperf.server.context import ServerContext
from medperf.server.db import Transaction
from medperf.server.errors import TooLarge
from medperf.server.idempotency import Created, create_once
from medperf.server.responses import dumps
from medperf.wire.models import FileRef

_SCHEME = "asset:"


async def upload(
    server: ServerContext, actor: Actor, *, name: str, digest: str | None, key: str | None, stream: AsyncIterator[bytes]
) -> Response:
    """Take a file in. Its bytes always travel, so nobody learns whether the server had them.

    Raises:
        InvalidInput: ``digest_mismatch``: the bytes are not what the client said.
        TooLarge: one file, or all of this owner, exceed their limit.
    """
    limit = server.settings.asset_bytes
    async with server.store.arrive(stream, instance_id=actor.instance_id, limit=limit) as arrived:
        if digest is not None and Digest(digest) != arrived.digest:
            raise InvalidInput(
                "digest_mismatch", f"The file that arrived has {arrived.digest}, not {digest}.", "Upload it again."
            )

        async def make(tx: Transaction) -> Created:
            quota = server.settings.asset_quota_bytes
            if await repository.owned_bytes(tx, actor.party_id) + arrived.size > quota:
                raise TooLarge(
                    "quota_exceeded",
                    f"Your files would exceed {quota:,} bytes together.",
                    "Ask the server's admin for room.",
                )
            asset_id = await repository.insert(
                tx, owner_id=actor.party_id, name=name, digest=arrived.digest, size=arrived.size
            )
            await record(
                tx,
                actor.user_id,
                Action.ASSET_CREATED,
                f"asset:{asset_id}",
                {"digest": arrived.digest, "size": arrived.size},
            )
            server.store.keep(arrived, instance_id=actor.instance_id)
            return Created(dumps(repository.view(await found(tx, actor, asset_id))))

        content = canonical_json({"name": name, "digest": arrived.digest})
        return await create_once(server, actor, route="POST /assets", key=key, content=content, make=make)


async def found(tx: Transaction, actor: Actor, asset_id: int, *, content: bool = False) -> sa.Row[Any]:
    """Raises:
    NotFound: not there, or hidden (``content``: or its bytes are not for this actor).
    """
    row = await repository.get(tx, actor, asset_id, content=content)
    if row is None:
        raise NotFound(
            "no_such_asset", f"There is no asset {asset_id} that you may read.", "List them with: medperf asset ls"
        )
    return row


async def delete(tx: Transaction, actor: Actor, asset_id: int) -> None:
    """Forget an asset. Its bytes go with the next sweep, unless another asset has the same.

    Raises:
        NotFound: not there, or hidden.
        Forbidden: somebody else's.
        Conflict: something that is registered names it.
    """
    row = await found(tx, actor, asset_id)
    if row.owner_id != actor.party_id:
        raise Forbidden("not_the_owner", f"The asset {asset_id} belongs to {row.owner_name}.", "Ask its owner.")
    if await repository.is_used(tx, asset_id):
        raise Conflict(
            "asset_in_use",
            f"The asset {asset_id} is part of a registered MLCube or benchmark.",
            "What was registered stays as it was.",
        )
    await repository.remove(tx, asset_id)
    await record(tx, actor.user_id, Action.ASSET_DELETED, f"asset:{asset_id}", {"digest": row.digest})


async def check_references(tx: Transaction, actor: Actor, files: Iterable[tuple[str, FileRef]]) -> frozenset[int]:
    """Check every ``asset:ID`` in named files; returns the ids. One statement.

    Raises:
        InvalidInput: ``unknown_asset`` for whatever the actor cannot read with that digest and size, whether it is there or not;
            ``file_without_url``.
    """
    wanted: list[tuple[str, FileRef, int]] = []
    for name, ref in files:
        if not ref.urls:
            raise InvalidInput(
                "file_without_url", f"The file {name!r} has no URL.", "Upload it with POST /assets, or give its URL."
            )
        wanted += [(name, ref, int(url.removeprefix(_SCHEME))) for url in ref.urls if url.startswith(_SCHEME)]
    ids = frozenset(asset_id for _, _, asset_id in wanted if asset_id < 2**63)
    known = await repository.readable(tx, actor, ids)
    for name, ref, asset_id in wanted:
        if known.get(asset_id) != (ref.digest, ref.size):
            raise InvalidInput(
                "unknown_asset",
                f"The file {name!r} names asset:{asset_id}, which is no asset that you may read with that digest and size.",
                "Upload the file first, and give the id, digest and size of the answer.",
            )
    return ids
