"""What is done with MLCubes."""

from __future__ import annotations

import asyncio
from typing import Any

import sqlalchemy as sa
from starlette.responses import Response

from medperf.domain.errors import NotFound
from medperf.domain.permissions import Action as Attempt
from medperf.domain.states import State, check_editable, check_state_change
from medperf.server.assets.service import check_references
from medperf.server.audit.service import Action, record
from medperf.server.authz import Actor, owner_for, require, standing
from medperf.server.context import ServerContext
from medperf.server.db import Transaction
from medperf.server.idempotency import Created, create_once
from medperf.server.metadata import column_values, metadata_text
from medperf.server.mlcubes import policy, repository, rules
from medperf.server.mlcubes.tables import mlcubes
from medperf.server.requests import Sent, stale
from medperf.server.responses import dump_text, dumps, etag
from medperf.server.rows import check_room
from medperf.wire.models import MLCubeCreate, MLCubeUpdate

_SHORT_MANIFEST = 4096  # characters; the worst that fit were parsed in 5 ms


async def create(server: ServerContext, actor: Actor, sent: Sent[MLCubeCreate]) -> Response:
    """Register an MLCube. Its kind follows from its manifest.

    Raises:
        InvalidInput: see `rules.check`, `owner_for` and `check_references`.
        Forbidden: no right to operate for that owner.
        Conflict: ``name_taken``.
    """
    wanted = sent.value
    # A thread costs more than a short manifest does; a long one that is meant to cost much must not hold up everybody.
    short = len(wanted.manifest_text) <= _SHORT_MANIFEST
    kind = rules.check(wanted) if short else await asyncio.to_thread(rules.check, wanted)
    values = {
        "name": wanted.name,
        "kind": kind.value,
        "state": wanted.state.value,
        "is_valid": True,
        "manifest_text": wanted.manifest_text,
        "files": dump_text({name: ref.model_dump(mode="json") for name, ref in wanted.files.items()}),
        "forms": dump_text(wanted.forms),
        "user_metadata": metadata_text(wanted.user_metadata),
    }

    async def make(tx: Transaction) -> Created:
        owner_id = await owner_for(tx, actor, wanted.owner, Attempt.MLCUBE_REGISTER)
        await check_room(server, tx, mlcubes, owner_id, most=server.settings.mlcube_count, things="MLCubes")
        asset_ids = await check_references(tx, actor, wanted.files.items())
        row = await repository.ROWS.insert_row(tx, {**values, "owner_id": owner_id}, asset_ids)
        await record(
            tx,
            actor.user_id,
            Action.MLCUBE_CREATED,
            f"mlcube:{row.id}",
            {"kind": kind.value, "state": wanted.state.value, "owner": owner_id},
        )
        view = repository.detail(row)
        return Created(dumps(view), headers=etag(view))

    return await create_once(server, actor, route="POST /mlcubes", key=sent.key, content=sent.content, make=make)


async def update(
    server: ServerContext, actor: Actor, mlcube_id: int, version: int, wanted: MLCubeUpdate
) -> dict[str, Any]:
    """Change what may change.

    Raises:
        NotFound, Forbidden, Conflict: hidden, without the right, or frozen.
        PreconditionFailed: edited meanwhile.
    """
    changes = wanted.model_dump(exclude_unset=True, exclude_none=True)
    async with actor.change(server.database) as tx:
        row = await found(tx, actor, mlcube_id)
        require(policy.may_update(await standing(tx, actor, row.owner_id), changes.keys()))
        if row.version != version:
            raise stale()
        check_editable("mlcube", State(row.state), changes)
        check_state_change(State(row.state), changes.get("state", State(row.state)))
        if not await repository.ROWS.update(tx, mlcube_id, version, column_values(changes)):
            raise stale()
        await record(tx, actor.user_id, Action.MLCUBE_UPDATED, f"mlcube:{mlcube_id}", {"fields": sorted(changes)})
        return repository.detail(await found(tx, actor, mlcube_id))


async def found(tx: Transaction, actor: Actor, mlcube_id: int) -> sa.Row[Any]:
    """Raises:
    NotFound: not there, or hidden.
    """
    row = await repository.get(tx, actor, mlcube_id)
    if row is None:
        raise NotFound(
            "no_such_mlcube", f"There is no MLCube {mlcube_id} that you may see.", "List them with: medperf mlcube ls"
        )
    return row
