"""Which assets a benchmark opens: its demo data, and the files of its preparator and its evaluator. Not those of its reference model.

Kept where it happens, so that reading an asset and listing assets cost the same however many benchmarks there are. A benchmark that
was approved stays so, and what it names is frozen: nothing opened is ever closed.
"""

from __future__ import annotations

import sqlalchemy as sa

from medperf.server.assets.tables import assets, opened_assets
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
            opened_assets.c.asset_id == _NAMED.c.asset_id, opened_assets.c.party_id == sa.bindparam("party")
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
        await tx.insert_or_none(opened_assets, {"party_id": owner_id, "asset_id": row.asset_id})


async def publish(tx: Transaction, benchmark_id: int) -> None:
    """Everybody sees the benchmark from now on."""
    await tx.all(_LOCK, {"benchmark_id": benchmark_id})
    await tx.execute(_PUBLISH, {"benchmark_id": benchmark_id})
