"""Statements about assets."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from medperf.server.assets import policy
from medperf.server.assets.tables import assets, opened_assets
from medperf.server.authz import Actor
from medperf.server.benchmarks.tables import benchmark_assets
from medperf.server.db import Transaction
from medperf.server.mlcubes.tables import mlcube_assets
from medperf.server.names import name_key
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
    parties.c.kind.label("owner_kind"),
    assets.c.created_at,
)


def view(row: sa.Row[Any]) -> dict[str, Any]:
    """As `medperf.wire.models.AssetView`."""
    return {
        "id": row.id,
        "name": row.name,
        "digest": row.digest,
        "size": row.size,
        "owner": {"id": row.owner_id, "name": row.owner_name, "kind": row.owner_kind},
        "created_at": row.created_at,
    }


def select_assets() -> sa.Select[Any]:
    """Assets with their owners."""
    return sa.select(*COLUMNS).join(parties, parties.c.id == assets.c.owner_id)


_INSERT = sa.insert(assets)
_ANY = select_assets().where(assets.c.id == sa.bindparam("asset_id"))
_KNOWN = sa.select(assets.c.digest).distinct().where(assets.c.digest.in_(sa.bindparam("digests", expanding=True)))
_LOCKED = sa.select(assets.c.id).where(assets.c.id == sa.bindparam("asset_id")).with_for_update()
_REMOVE = sa.delete(assets).where(
    assets.c.id == sa.bindparam("asset_id"),
    ~sa.exists().where(mlcube_assets.c.asset_id == assets.c.id),
    ~sa.exists().where(benchmark_assets.c.asset_id == assets.c.id),
)


@functools.cache
def _one(is_admin: bool, content: bool) -> sa.Select[Any]:
    condition = policy.readable_by(is_admin) if content else policy.visible_to(is_admin)
    return select_assets().where(assets.c.id == sa.bindparam("asset_id"), condition)


async def get(tx: Transaction, actor: Actor, asset_id: int, *, content: bool) -> sa.Row[Any] | None:
    """One asset, if the actor may see it (``content``: read its bytes)."""
    return await tx.first(_one(actor.is_admin, content), {"asset_id": asset_id, **actor.sql})


@functools.cache
def _readable(is_admin: bool, to_name: bool) -> sa.Select[Any]:
    wanted = assets.c.id.in_(sa.bindparam("ids", expanding=True))
    condition = policy.readable_by(is_admin, to_name=to_name, joined=False)
    statement = sa.select(assets.c.id, assets.c.digest, assets.c.size).where(wanted, condition)
    return statement.with_for_update(key_share=True, read=True, of=assets)


async def readable(
    tx: Transaction, actor: Actor, ids: Collection[int], *, to_name: bool = False
) -> dict[int, tuple[str, int]]:
    """Digest and size of those among ``ids`` that the actor may read (``to_name``: and put into something that is registered).
    They stay until this transaction ends. What is read only to run a model is not among them.
    """
    if not ids:
        return {}
    rows = await tx.all(_readable(actor.is_admin, to_name), {"ids": sorted(ids), **actor.sql})
    return {row.id: (row.digest, row.size) for row in rows}


async def by_id(tx: Transaction, asset_id: int) -> sa.Row[Any] | None:
    """One asset, whoever asks."""
    return await tx.first(_ANY, {"asset_id": asset_id})


async def insert(tx: Transaction, *, owner_id: int, name: str, digest: str, size: int) -> int:
    """A new asset; returns its id."""
    values = {
        "owner_id": owner_id,
        "name": name,
        "name_key": name_key(name),
        "digest": digest,
        "size": size,
        "is_public": False,
        "created_at": now(),
    }
    return await tx.insert(_INSERT, values)


async def remove(tx: Transaction, asset_id: int) -> bool:
    """Its row goes, unless a file of an MLCube or a benchmark's demo data names it; the number is never given again.

    A transaction that is about to name it is waited for.
    """
    if (await tx.first(_LOCKED, {"asset_id": asset_id})) is None:
        return False
    return (await tx.execute(_REMOVE, {"asset_id": asset_id})).rowcount == 1


async def known_digests(tx: Transaction, digests: Collection[str]) -> frozenset[str]:
    """Those of ``digests`` that an asset has."""
    return frozenset(row.digest for row in await tx.all(_KNOWN, {"digests": list(digests)}))


LISTING = Listing(
    select_assets(),
    key=assets.c.id,
    view=view,
    visible=policy.visible_to,
    filters={"owner": assets.c.owner_id, "name": assets.c.name, "digest": assets.c.digest},
    facets={"is_public": (True, False)},
    public=policy.PUBLIC,
    names=(assets.c.name_key, assets.c.name),
    granted=opened_assets,
)
