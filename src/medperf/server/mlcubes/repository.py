"""Statements about MLCubes."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from medperf.server.authz import Actor
from medperf.server.db import Transaction
from medperf.server.mlcubes import policy
from medperf.server.mlcubes.tables import FACETS, mlcube_assets, mlcubes
from medperf.server.paging import Listing
from medperf.server.parties.tables import parties
from medperf.server.responses import raw_json
from medperf.server.versioned import Versioned

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
    parties.c.kind.label("owner_kind"),
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
        "owner": {"id": row.owner_id, "name": row.owner_name, "kind": row.owner_kind},
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


def _of_owner(column: sa.ColumnElement[str], label: str) -> sa.ColumnElement[str]:
    # As text: SQLAlchemy does not see that a RETURNING speaks of the table that is inserted into.
    owner = sa.select(column).where(parties.c.id == sa.literal_column("mlcubes.owner_id", sa.Integer))
    return owner.scalar_subquery().label(label)


#: What `select_mlcubes` gives, of a row that is inserted just now.
_INSERTED = (
    *(column for column in COLUMNS[1:] if isinstance(column, sa.Column)),
    _of_owner(parties.c.name, "owner_name"),
    _of_owner(parties.c.kind, "owner_kind"),
    mlcubes.c.manifest_text,
)
ROWS = Versioned(mlcubes, mlcube_assets, label="an MLCube", noun="mlcube", returned=_INSERTED)

LISTING = Listing(
    select_mlcubes(),
    key=mlcubes.c.id,
    view=view,
    visible=policy.visible_to,
    filters={"owner": mlcubes.c.owner_id, "name": mlcubes.c.name},
    facets=FACETS,
    public=policy.PUBLIC,
    names=(mlcubes.c.name_key, mlcubes.c.name),
)
