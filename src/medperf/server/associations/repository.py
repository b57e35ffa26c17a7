"""Statements about associations."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from medperf.domain.associations import Asset, Current, Side, Status, shows_dataset
from medperf.server.associations import policy
from medperf.server.associations.tables import FACETS, association_events, associations
from medperf.server.authz import USER, Actor, owned
from medperf.server.benchmarks.tables import benchmarks
from medperf.server.datasets.tables import datasets
from medperf.server.db import Transaction
from medperf.server.mlcubes.tables import mlcubes
from medperf.server.paging import Listing
from medperf.server.parties.tables import memberships, parties
from medperf.server.responses import answer, raw_json
from medperf.server.schema import now

_benchmark_owners, _asset_owners = parties.alias("benchmark_owners"), parties.alias("asset_owners")
# For each row of a page: of an outer join PostgreSQL may read all.
_MODEL_NAME = (
    sa.select(mlcubes.c.name).where(mlcubes.c.id == associations.c.mlcube_id).correlate(associations).scalar_subquery()
)
_SITE_LABEL = (
    sa.select(datasets.c.site_label)
    .where(datasets.c.id == associations.c.dataset_id)
    .correlate(associations)
    .scalar_subquery()
)
COLUMNS = (
    associations.c.id,
    associations.c.owner_id,
    associations.c.asset_owner_id,
    associations.c.benchmark_id,
    associations.c.kind,
    associations.c.dataset_id,
    associations.c.mlcube_id,
    associations.c.status,
    associations.c.asked_by,
    associations.c.asks,
    associations.c.is_automatic,
    associations.c.priority,
    associations.c.version,
    associations.c.asked_at,
    associations.c.decided_at,
    associations.c.modified_at,
    benchmarks.c.name.label("benchmark_name"),
    _benchmark_owners.c.name.label("benchmark_owner_name"),
    _benchmark_owners.c.kind.label("benchmark_owner_kind"),
    sa.func.coalesce(_MODEL_NAME, _SITE_LABEL).label("asset_name"),
    _asset_owners.c.name.label("asset_owner_name"),
    _asset_owners.c.kind.label("asset_owner_kind"),
    owned(associations.c.asset_owner_id).label("is_theirs"),
)


def current_of(row: Any) -> Current:
    """A row as the rules look at it."""
    return Current(Status(row.status), Side(row.asked_by), row.asks)


def view(row: sa.Row[Any]) -> dict[str, Any]:
    """As `medperf.wire.associations.AssociationView` in lists. A dataset that is not shown has an id, and nothing else."""
    shown = row.kind == Asset.MODEL or row.is_theirs or shows_dataset(current_of(row))
    owner = {"id": row.asset_owner_id, "name": row.asset_owner_name, "kind": row.asset_owner_kind}
    return {
        "id": row.id,
        "benchmark": row.benchmark_id,
        "benchmark_name": row.benchmark_name,
        "benchmark_owner": {
            "id": row.owner_id,
            "name": row.benchmark_owner_name,
            "kind": row.benchmark_owner_kind,
        },
        "kind": row.kind,
        "dataset": row.dataset_id,
        "model": row.mlcube_id,
        "name": row.asset_name if shown else None,
        "owner": owner if shown else None,
        "status": row.status,
        "asked_by": row.asked_by,
        "is_automatic": row.is_automatic,
        "priority": row.priority,
        "version": row.version,
        "asked_at": row.asked_at,
        "decided_at": row.decided_at,
        "modified_at": row.modified_at,
    }


def select_associations(*more: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Associations with what they join, and the owners of both sides."""
    return (
        sa.select(*COLUMNS, *more)
        .join(benchmarks, benchmarks.c.id == associations.c.benchmark_id)
        .join(_benchmark_owners, _benchmark_owners.c.id == associations.c.owner_id)
        .join(_asset_owners, _asset_owners.c.id == associations.c.asset_owner_id)
    )


@functools.cache
def _one(is_admin: bool) -> sa.Select[Any]:
    inside = sa.true() if is_admin else policy.inside()
    statement = select_associations(associations.c.report, inside.label("inside"))
    return statement.where(associations.c.id == sa.bindparam("association_id"), policy.visible_to(is_admin))


_EVENTS = (
    sa.select(association_events)
    .where(association_events.c.association_id == sa.bindparam("association_id"))
    .order_by(association_events.c.id)
)


async def get(tx: Transaction, actor: Actor, association_id: int) -> sa.Row[Any] | None:
    """One with its report, if the actor may see it."""
    return await tx.first(_one(actor.is_admin), {"association_id": association_id, **actor.sql})


async def detail(tx: Transaction, row: sa.Row[Any]) -> dict[str, Any]:
    """With the report and the history, for both sides and admins."""
    found = view(row)
    if row.inside:
        events = await tx.all(_EVENTS, {"association_id": row.id})
        found["report"] = None if row.report is None else raw_json(row.report)
        found["events"] = [
            {
                "status": event.status,
                "side": event.side,
                "is_automatic": event.is_automatic,
                "version": event.version,
                "reason": event.reason,
                "at": event.at,
            }
            for event in events
        ]
    return found


# ------------------------------------------------------------------------------------------------------------- changing

#: What an association rests on. Locks are taken in this order: the benchmark, the dataset or MLCube, the association.
_BENCHMARK = sa.select(benchmarks).where(benchmarks.c.id == sa.bindparam("the_id")).with_for_update(key_share=True)
_DATASET = sa.select(datasets).where(datasets.c.id == sa.bindparam("the_id"))
_MLCUBE = sa.select(mlcubes).where(mlcubes.c.id == sa.bindparam("the_id"))
_ASSETS = {Asset.DATASET: _DATASET, Asset.MODEL: _MLCUBE}
_KEPT = {asset: statement.with_for_update(read=True) for asset, statement in _ASSETS.items()}
_OWNERS = {
    asset: statement.with_only_columns(table.c.owner_id)
    for (asset, statement), table in zip(_ASSETS.items(), (datasets, mlcubes), strict=True)
}
_PAIR = {
    asset: sa.select(associations)
    .where(associations.c.benchmark_id == sa.bindparam("benchmark"), column == sa.bindparam("asset"))
    .with_for_update()
    for asset, column in ((Asset.DATASET, associations.c.dataset_id), (Asset.MODEL, associations.c.mlcube_id))
}
_ASKED = sa.select(association_events.c.id).where(
    association_events.c.association_id == sa.bindparam("association_id"),
    association_events.c.uuid == sa.bindparam("uuid"),
)
_JOINED = (
    sa.select(sa.func.count())
    .select_from(associations)
    .where(
        associations.c.benchmark_id == sa.bindparam("benchmark"),
        associations.c.kind == sa.bindparam("the_kind"),
        associations.c.status == Status.APPROVED.value,
    )
)
_INSERT = sa.insert(associations)
_EVENT = sa.insert(association_events)


async def lock_benchmark(tx: Transaction, benchmark_id: int) -> sa.Row[Any]:
    """It stays as it is, and its associations are changed by nobody else, until this transaction ends. It is there."""
    row = await tx.first(_BENCHMARK, {"the_id": benchmark_id})
    assert row is not None
    return row


async def keep_asset(tx: Transaction, kind: Asset, asset_id: int) -> sa.Row[Any]:
    """The dataset or MLCube stays as it is until this transaction ends. It is there."""
    row = await tx.first(_KEPT[kind], {"the_id": asset_id})
    assert row is not None
    return row


async def asset(tx: Transaction, kind: Asset, asset_id: int) -> sa.Row[Any] | None:
    """The dataset or MLCube, whoever asks."""
    return await tx.first(_ASSETS[kind], {"the_id": asset_id})


async def lock_pair(tx: Transaction, kind: Asset, *, benchmark_id: int, asset_id: int) -> sa.Row[Any] | None:
    """The one row of the two, which nobody else changes; None: they were never joined. The benchmark is locked already."""
    return await tx.first(_PAIR[kind], {"benchmark": benchmark_id, "asset": asset_id})


async def was_asked(tx: Transaction, association_id: int, uuid: str) -> bool:
    """Whether a request with that UUID came before."""
    return await tx.first(_ASKED, {"association_id": association_id, "uuid": uuid}) is not None


async def count_joined(tx: Transaction, benchmark_id: int, kind: Asset) -> int:
    """Those that are approved in the benchmark."""
    return int((await tx.execute(_JOINED, {"benchmark": benchmark_id, "the_kind": kind.value})).scalar_one())


async def insert(tx: Transaction, values: dict[str, Any]) -> int:
    """A new one; returns its id."""
    return await tx.insert(_INSERT.values(version=1, priority=0, modified_at=now(), **values))


async def update(tx: Transaction, association_id: int, version: int, changes: dict[str, Any]) -> bool:
    """Change one if it still has that version; returns whether it had."""
    statement = sa.update(associations).where(associations.c.id == association_id, associations.c.version == version)
    done = await tx.execute(statement.values(version=version + 1, modified_at=now(), **changes))
    return done.rowcount == 1


async def remember(tx: Transaction, values: dict[str, Any]) -> None:
    """One more line of an association's history."""
    await tx.execute(_EVENT, {"reason": None, "uuid": None, "at": now(), **values})


# ------------------------------------------------------------------------------------------------------------- listings

_theirs = sa.select(
    associations.c.asset_owner_id.label("party_id"), associations.c.id.label("association_id")
).subquery("theirs")
LISTING = Listing(
    select_associations(),
    key=associations.c.id,
    view=view,
    visible=policy.visible_to,
    filters={
        "benchmark": associations.c.benchmark_id,
        "dataset": associations.c.dataset_id,
        "model": associations.c.mlcube_id,
    },
    facets=FACETS,
    public=policy.PUBLIC,
    granted=_theirs,
)

_MANAGED = sa.select(memberships.c.party_id).where(memberships.c.user_id == USER, memberships.c.can_manage)
_WAITING = (
    select_associations()
    .where(associations.c.status == Status.PENDING.value, associations.c.decider_id.in_(_MANAGED))
    .limit(sa.bindparam("page_limit", type_=sa.Integer))
)
_FILTERS = {
    "benchmark": associations.c.benchmark_id,
    "dataset": associations.c.dataset_id,
    "model": associations.c.mlcube_id,
    "kind": associations.c.kind,
}


@functools.cache
def _waiting(given: tuple[str, ...], descending: bool) -> sa.Select[Any]:
    after = sa.bindparam("page_after", type_=sa.Integer)
    behind = associations.c.id < after if descending else associations.c.id > after
    order = associations.c.id.desc() if descending else associations.c.id
    equal = (_FILTERS[name] == sa.bindparam(f"the_{name}") for name in given)
    return _WAITING.where(behind, *equal).order_by(order)


async def waiting(
    tx: Transaction, actor: Actor, filters: Mapping[str, Any], *, after: int, descending: bool, limit: int
) -> Any:
    """A page of those that wait for a decision of the actor's: somebody else asked, and it manages for the side that was asked.

    Args:
        filters: of `_FILTERS`, those that are given.
        after: the id that the page before ended with.
    """
    values = {f"the_{name}": value for name, value in filters.items()}
    statement = _waiting(tuple(sorted(filters)), descending)
    rows = await tx.all(statement, {**values, **actor.sql, "page_after": after, "page_limit": limit + 1})
    items = [view(row) for row in rows[:limit]]
    return answer({"items": items, "next": str(items[-1]["id"]) if len(rows) > limit else None})
