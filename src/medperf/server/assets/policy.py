"""Who may see assets, and who may read their bytes."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.server.assets.tables import assets
from medperf.server.authz import PARTY
from medperf.server.benchmarks.policy import visible_to as benchmark_visible_to
from medperf.server.benchmarks.tables import benchmark_assets, benchmarks
from medperf.server.mlcubes.tables import mlcube_assets


def readable_by(is_admin: bool) -> sa.ColumnElement[bool]:
    """Its uploader; and whoever sees a benchmark reads that benchmark's demo data and its preparator's and evaluator's files.

    A reference model's files are its owner's alone. Being an admin opens no content.
    """
    seen = benchmark_visible_to(is_admin)
    demo = sa.exists().where(
        benchmark_assets.c.asset_id == assets.c.id, benchmark_assets.c.benchmark_id == benchmarks.c.id, seen
    )
    tools = sa.exists().where(
        mlcube_assets.c.asset_id == assets.c.id,
        sa.or_(
            benchmarks.c.preparator_id == mlcube_assets.c.mlcube_id,
            benchmarks.c.evaluator_id == mlcube_assets.c.mlcube_id,
        ),
        seen,
    )
    return sa.or_(assets.c.owner_id == PARTY, demo, tools)


def visible_to(is_admin: bool) -> sa.ColumnElement[bool]:
    """Whoever reads the bytes sees the entry; an admin sees all entries."""
    return sa.true() if is_admin else readable_by(is_admin)
