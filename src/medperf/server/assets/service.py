"""What is done with assets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from medperf.domain.errors import Conflict, InvalidInput, NotFound
from medperf.domain.permissions import Action as Attempt
from medperf.domain.permissions import decide
from medperf.server.assets import repository, sweep
from medperf.server.audit.service import Action, record
from medperf.server.authz import Actor, require, standing
from medperf.server.context import ServerContext
from medperf.server.db import Transaction
from medperf.server.uploads import repository as uploads
from medperf.wire.models import FileRef

_SCHEME = "asset:"


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


async def delete(server: ServerContext, actor: Actor, asset_id: int) -> None:
    """Forget an asset. Its bytes go soon, unless another asset has the same; the answer does not wait for that, so it tells nobody.

    Raises:
        NotFound: not there, or hidden.
        Forbidden: somebody else's.
        Conflict: ``asset_in_use``: something that is registered names it.
    """
    async with actor.change(server.database) as tx:
        row = await found(tx, actor, asset_id)
        require(decide(Attempt.ASSET_DELETE, await standing(tx, actor, row.owner_id)))
        await uploads.forget_asset(tx, asset_id)
        if not await repository.remove(tx, asset_id):
            await found(tx, actor, asset_id)  # somebody else may have deleted it meanwhile
            raise Conflict(
                "asset_in_use",
                f"The asset {asset_id} is part of a registered MLCube or benchmark.",
                "What was registered stays as it was.",
            )
        await record(tx, actor.user_id, Action.ASSET_DELETED, f"asset:{asset_id}", {"digest": row.digest})
    server.background.run(f"forgetting {asset_id}", lambda: sweep.forget(server, actor.instance_id, row.digest))


def hosted(ref: FileRef) -> list[int]:
    """The assets that a file can be had from: its URLs ``asset:ID``."""
    return [int(url.removeprefix(_SCHEME)) for url in ref.urls if url.startswith(_SCHEME)]


async def check_references(tx: Transaction, actor: Actor, files: Iterable[tuple[str, FileRef]]) -> frozenset[int]:
    """Check every ``asset:ID`` in named files; returns the ids. One statement. None of them can be deleted before this transaction ends.

    What is named can never be deleted, so to name an asset takes the right to operate for its owner. Others may name one only because a benchmark shows it: that was named by then.

    Raises:
        InvalidInput: ``unknown_asset`` for whatever the actor cannot name with that digest and size, whether it is there or not;
            ``file_without_url``.
    """
    wanted: list[tuple[str, FileRef, int]] = []
    for name, ref in files:
        if not ref.urls:
            raise InvalidInput(
                "file_without_url", f"The file {name!r} has no URL.", "Upload it with POST /uploads, or give its URL."
            )
        wanted += [(name, ref, asset_id) for asset_id in hosted(ref)]
    ids = frozenset(asset_id for _, _, asset_id in wanted)
    known = await repository.readable(tx, actor, ids, to_name=True)
    for name, ref, asset_id in wanted:
        if known.get(asset_id) != (ref.digest, ref.size):
            raise InvalidInput(
                "unknown_asset",
                f"The file {name!r} names asset:{asset_id}, which is no asset that you may use with that digest and size.",
                "Upload the file first, and give the id, digest and size of the answer; an organisation's takes the right to operate for it.",
            )
    return ids
