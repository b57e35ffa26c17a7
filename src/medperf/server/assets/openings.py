"""Which assets a benchmark opens: its demo data, and the files of its preparator and its evaluator; and to the owners of the datasets that
joined it, the files of the models that did, and of its reference model.

Kept where it happens, so that reading an asset and listing assets cost the same however many benchmarks there are. A benchmark that
was approved stays so, and what it names is frozen: what it opened itself is never closed. What associations opened ends with them. Each
opening is a benchmark's own, and whoever changes its associations has locked the benchmark.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from medperf.domain.associations import Asset, Status
from medperf.server.assets.tables import assets, opened_assets
from medperf.server.associations.tables import associations
from medperf.server.benchmarks.tables import benchmark_assets, benchmarks
from medperf.server.db import Transaction
from medperf.server.mlcubes.tables import mlcube_assets

_BENCHMARK = sa.bindparam("benchmark_id", type_=sa.Integer)
_NAMED = sa.union(
    sa.select(benchmark_assets.c.asset_id).where(benchmark_assets.c.benchmark_id == _BENCHMARK),
    sa.select(mlcube_assets.c.asset_id)
    .join(
        benchmarks,
        sa.or_(
            benchmarks.c.preparator_id == mlcube_assets.c.mlcube_id,
            benchmarks.c.evaluator_id == mlcube_assets.c.mlcube_id,
        ),
    )
    .where(benchmarks.c.id == _BENCHMARK),
).subquery("named")
_CLOSED = (
    sa.select(_NAMED.c.asset_id)
    .where(
        ~sa.exists().where(
            opened_assets.c.asset_id == _NAMED.c.asset_id,
            opened_assets.c.party_id == sa.bindparam("party"),
            opened_assets.c.is_joined == sa.false(),
        )
    )
    .order_by(_NAMED.c.asset_id)
)
#: In one order, so that two benchmarks that share files can be approved at once.
_LOCK = (
    sa.select(assets.c.id)
    .where(assets.c.id.in_(sa.select(_NAMED.c.asset_id)), assets.c.is_public == sa.false())
    .order_by(assets.c.id)
    .with_for_update(key_share=True)
)
_PUBLISH = (
    sa.update(assets)
    .where(assets.c.id.in_(sa.select(_NAMED.c.asset_id)), assets.c.is_public == sa.false())
    .values(is_public=True)
)


async def open_to_owner(tx: Transaction, benchmark_id: int, owner_id: int) -> None:
    """The members of a new benchmark's owner see it from now on."""
    for row in await tx.all(_CLOSED, {"benchmark_id": benchmark_id, "party": owner_id}):
        values = {"party_id": owner_id, "asset_id": row.asset_id, "benchmark_id": benchmark_id, "is_joined": False}
        await tx.insert_or_none(opened_assets, values)


async def publish(tx: Transaction, benchmark_id: int) -> None:
    """Everybody sees the benchmark from now on."""
    await tx.all(_LOCK, {"benchmark_id": benchmark_id})
    await tx.execute(_PUBLISH, {"benchmark_id": benchmark_id})


# ---------------------------------------------------------------------------------------------------------- associations

_PARTY, _MODEL = sa.bindparam("party", type_=sa.Integer), sa.bindparam("model", type_=sa.Integer)
_JOINED = sa.and_(associations.c.benchmark_id == _BENCHMARK, associations.c.status == Status.APPROVED.value)
_DATASETS = sa.and_(_JOINED, associations.c.kind == Asset.DATASET.value)
_MODELS = sa.union(
    sa.select(associations.c.mlcube_id).where(_JOINED, associations.c.kind == Asset.MODEL.value),
    sa.select(benchmarks.c.reference_model_id).where(benchmarks.c.id == _BENCHMARK),
)
_OF_MODEL = sa.select(mlcube_assets.c.asset_id).where(mlcube_assets.c.mlcube_id == _MODEL)
_OF_MODELS = sa.select(mlcube_assets.c.asset_id).where(mlcube_assets.c.mlcube_id.in_(_MODELS))
_HERE = sa.and_(opened_assets.c.benchmark_id == _BENCHMARK, opened_assets.c.is_joined == sa.true())
_COLUMNS = ["party_id", "asset_id", "benchmark_id", "is_joined"]


def _open(party: sa.ColumnElement[int], models: Any, *which: sa.ColumnElement[bool]) -> sa.Insert:
    """Open the files of models to parties, where they are not open."""
    there = sa.exists().where(
        _HERE, opened_assets.c.party_id == party, opened_assets.c.asset_id == mlcube_assets.c.asset_id
    )
    found = (
        sa.select(party, mlcube_assets.c.asset_id, _BENCHMARK, sa.true())
        .distinct()
        .where(mlcube_assets.c.mlcube_id.in_(models), ~there, *which)
    )
    return sa.insert(opened_assets).from_select(_COLUMNS, found)


_OPEN_TO_PARTY = _open(_PARTY, _MODELS)
_OPEN_MODEL = _open(associations.c.asset_owner_id, [_MODEL], _DATASETS)
_CLOSE_TO_PARTY = sa.delete(opened_assets).where(
    _HERE, opened_assets.c.party_id == _PARTY, ~sa.exists().where(_DATASETS, associations.c.asset_owner_id == _PARTY)
)
_CLOSE_MODEL = sa.delete(opened_assets).where(
    _HERE, opened_assets.c.asset_id.in_(_OF_MODEL), opened_assets.c.asset_id.not_in(_OF_MODELS)
)


async def dataset_joined(tx: Transaction, benchmark_id: int, party: int) -> None:
    """Its owner reads the files of the benchmark's models from now on."""
    await tx.execute(_OPEN_TO_PARTY, {"benchmark_id": benchmark_id, "party": party})


async def dataset_left(tx: Transaction, benchmark_id: int, party: int) -> None:
    """Its owner reads them no more, unless another of their datasets is in the benchmark."""
    await tx.execute(_CLOSE_TO_PARTY, {"benchmark_id": benchmark_id, "party": party})


async def model_joined(tx: Transaction, benchmark_id: int, model: int) -> None:
    """The owners of the benchmark's datasets read its files from now on."""
    await tx.execute(_OPEN_MODEL, {"benchmark_id": benchmark_id, "model": model})


async def model_left(tx: Transaction, benchmark_id: int, model: int) -> None:
    """They read them no more, unless another of the benchmark's models has the same."""
    await tx.execute(_CLOSE_MODEL, {"benchmark_id": benchmark_id, "model": model})
