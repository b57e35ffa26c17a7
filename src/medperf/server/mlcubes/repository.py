"""Statements about MLCubes."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from medperf.domain.errors import Conflict
from medperf.server.authz import Actor
from medperf.server.db import Transaction
from medperf.server.mlcubes import policy
from medperf.server.mlcubes.tables import mlcube_assets, mlcubes
from medperf.server.paging import Listing
from medperf.server.parties.tables import parties
from medperf.server.responses import raw_json
from medperf.server.schema import now

COLUMNS = (
    mlcubes.c.id,
    mlcubes.c.name,
    mlcubes.c.kind,
    mlcubes.c.state,
    mlcubes.c.is_valid,
    mlcubes.c.files,
    mlcubes.c.forms,
    mlcubes.c.user_metadata,
    mlcubes.c.owner_id,
    parties.c.name.label("owner_name"),
    mlcubes.c.version,
    mlcubes.c.created_at,
    mlcubes.c.modified_at,
)


def view(row: sa.Row[Any]) -> dict[str, Any]:
    """As `medperf.wire.models.MLCubeView` in lists."""
    return {
        "id": row.id,
        "name": row.name,
        "kind": row.kind,
        "state": row.state,
        "is_valid": row.is_valid,
        "files": raw_json(row.files),
        "forms": raw_json(row.forms),
        "user_metadata": raw_json(row.user_metadata),
        "owner": {"id": row.owner_id, "name": row.owner_name},
        "version": row.version,
        "created_at": row.created_at,
        "modified_at": row.modified_at,
    }


def detail(row: sa.Row[Any]) -> dict[str, Any]:
    """With the manifest."""
    return view(row) | {"manifest_text": row.manifest_text}


def select_mlcubes(*more: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """MLCubes with their owners."""
    return sa.select(*COLUMNS, *more).join(parties, parties.c.id == mlcubes.c.owner_id)


@functools.cache
def _one(is_admin: bool) -> sa.Select[Any]:
    statement = select_mlcubes(mlcubes.c.manifest_text)
    return statement.where(mlcubes.c.id == sa.bindparam("mlcube_id"), policy.visible_to(is_admin))


async def get(tx: Transaction, actor: Actor, mlcube_id: int) -> sa.Row[Any] | None:
    """One with everything, if the actor may see it."""
    return await tx.first(_one(actor.is_admin), {"mlcube_id": mlcube_id, **actor.sql})


async def get_many(tx: Transaction, actor: Actor, ids: Collection[int]) -> dict[int, sa.Row[Any]]:
    """Those among ``ids`` that the actor may see."""
    statement = select_mlcubes().where(mlcubes.c.id.in_(ids), policy.visible_to(actor.is_admin))
    return {row.id: row for row in await tx.all(statement, actor.sql)}


async def insert(tx: Transaction, values: dict[str, Any], asset_ids: Collection[int]) -> int:
    """A new MLCube; returns its id.

    Raises:
        Conflict: ``name_taken``.
    """
    moment = now()
    try:
        mlcube_id = await tx.insert(
            sa.insert(mlcubes).values(version=1, created_at=moment, modified_at=moment, **values)
        )
    except IntegrityError as error:
        raise name_taken(values["name"]) from error
    if asset_ids:
        links = [{"mlcube_id": mlcube_id, "asset_id": asset_id} for asset_id in asset_ids]
        await tx.execute(sa.insert(mlcube_assets).values(links))
    return mlcube_id


async def update(tx: Transaction, mlcube_id: int, version: int, changes: dict[str, Any]) -> bool:
    """Change it if it still has that version; returns whether it had.

    Raises:
        Conflict: ``name_taken``.
    """
    statement = sa.update(mlcubes).where(mlcubes.c.id == mlcube_id, mlcubes.c.version == version)
    try:
        done = await tx.execute(statement.values(version=version + 1, modified_at=now(), **changes))
    except IntegrityError as error:
        raise name_taken(changes.get("name", "")) from error
    return done.rowcount == 1


def name_taken(name: str) -> Conflict:
    """The error of a name that its owner uses already."""
    return Conflict(
        "name_taken",
        f"You already have an MLCube named {name!r}.",
        "Choose another name; see yours with: medperf mlcube ls --mine",
    )


LISTING = Listing(
    select_mlcubes(),
    key=mlcubes.c.id,
    view=view,
    visible=policy.visible_to,
    filters={
        "owner": mlcubes.c.owner_id,
        "kind": mlcubes.c.kind,
        "state": mlcubes.c.state,
        "name": mlcubes.c.name,
        "is_valid": mlcubes.c.is_valid,
    },
)
