"""Statements about assets."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from medperf.server.assets import policy
from medperf.server.assets.tables import assets
from medperf.server.authz import Actor
from medperf.server.benchmarks.tables import benchmark_assets
from medperf.server.db import Transaction
from medperf.server.mlcubes.tables import mlcube_assets
from medperf.server.paging import Listing
from medperf.server.parties.tables import parties
from medperf.server.schema import now

COLUMNS = (
    assets.c.id,
    assets.c.name,
    assets.c.digest,
    assets.c.size,
    assets.c.owner_id,
    parties.c.name.label("owner_name"),
    assets.c.created_at,
)


def view(row: sa.Row[Any]) -> dict[str, Any]:
    """As `medperf.wire.models.AssetView`."""
    return {
        "id": row.id,
        "name": row.name,
        "digest": row.digest,
        "size": row.size,
        "owner": {"id": row.owner_id, "name": row.owner_name},
        "created_at": row.created_at,
    }


def select_assets() -> sa.Select[Any]:
    """Assets with their owners."""
    return sa.select(*COLUMNS).join(parties, parties.c.id == assets.c.owner_id)


@functools.cache
def _one(is_admin: bool, content: bool) -> sa.Select[Any]:
    condition = policy.readable_by(is_admin) if content else policy.visible_to(is_admin)
    return select_assets().where(assets.c.id == sa.bindparam("asset_id"), condition)


async def get(tx: Transaction, actor: Actor, asset_id: int, *, content: bool) -> sa.Row[Any] | None:
    """One asset, if the actor may see it (``content``: read its bytes)."""
    return await tx.first(_one(actor.is_admin, content), {"asset_id": asset_id, **actor.sql})


async def readable(tx: Transaction, actor: Actor, ids: Collection[int]) -> dict[int, tuple[str, int]]:
    """Digest and size of those among ``ids`` that the actor may read."""
    rows = await tx.all(
        sa.select(assets.c.id, assets.c.digest, assets.c.size).where(
            assets.c.id.in_(ids), policy.readable_by(actor.is_admin)
        ),
        actor.sql,
    )
    return {row.id: (row.digest, row.size) for row in rows}


async def owned_bytes(tx: Transaction, party_id: int) -> int:
    """Size of all assets of one owner together."""
    statement = sa.select(sa.func.coalesce(sa.func.sum(assets.c.size), 0)).where(assets.c.owner_id == party_id)
    return int((await tx.execute(statement)).scalar_one())


async def insert(tx: Transaction, *, owner_id: int, name: str, digest: str, size: int) -> int:
    """A new asset; returns its id."""
    return await tx.insert(
        sa.insert(assets).values(owner_id=owner_id, name=name, digest=digest, size=size, created_at=now())
    )


async def is_used(tx: Transaction, asset_id: int) -> bool:
    """Whether a file of an MLCube or a benchmark's demo data names it."""
    uses = (
        sa.exists().where(mlcube_assets.c.asset_id == asset_id),
        sa.exists().where(benchmark_assets.c.asset_id == asset_id),
    )
    return bool((await tx.execute(sa.select(sa.or_(*uses)))).scalar_one())


async def remove(tx: Transaction, asset_id: int) -> None:
    """Its row goes; the number is never given again."""
    await tx.execute(sa.delete(assets).where(assets.c.id == asset_id))


async def digests(tx: Transaction) -> frozenset[str]:
    """Every digest there is."""
    return frozenset(row.digest for row in await tx.all(sa.select(assets.c.digest).distinct()))


LISTING = Listing(
    select_assets(),
    key=assets.c.id,
    view=view,
    visible=policy.visible_to,
    filters={"owner": assets.c.owner_id, "name": assets.c.name, "digest": assets.c.digest},
)
