"""Statements about benchmarks."""

from __future__ import annotations

import functools
from typing import Any

import sqlalchemy as sa

from medperf.server.authz import Actor, owned
from medperf.server.benchmarks import policy
from medperf.server.benchmarks.tables import FACETS, benchmark_assets, benchmarks
from medperf.server.db import Transaction
from medperf.server.paging import Listing
from medperf.server.parties.tables import parties
from medperf.server.responses import raw_json
from medperf.server.versioned import Versioned

COLUMNS = (
    benchmarks.c.id,
    benchmarks.c.name,
    benchmarks.c.description,
    benchmarks.c.docs_url,
    benchmarks.c.state,
    benchmarks.c.approval,
    benchmarks.c.approval_reason,
    benchmarks.c.is_valid,
    benchmarks.c.is_active,
    benchmarks.c.demo,
    benchmarks.c.prepared_identity,
    benchmarks.c.preparator_id,
    benchmarks.c.reference_model_id,
    benchmarks.c.evaluator_id,
    benchmarks.c.auto_models,
    benchmarks.c.auto_datasets,
    benchmarks.c.results_visibility,
    benchmarks.c.user_metadata,
    benchmarks.c.owner_id,
    parties.c.name.label("owner_name"),
    parties.c.kind.label("owner_kind"),
    benchmarks.c.version,
    benchmarks.c.created_at,
    benchmarks.c.modified_at,
    benchmarks.c.decided_at,
)


def view(row: sa.Row[Any]) -> dict[str, Any]:
    """As `medperf.wire.models.BenchmarkView` in lists."""
    (
        benchmark_id,
        name,
        description,
        docs_url,
        state,
        approval,
        approval_reason,
        is_valid,
        is_active,
        demo,
        prepared_identity,
        preparator,
        reference_model,
        evaluator,
        auto_models,
        auto_datasets,
        results_visibility,
        user_metadata,
        owner_id,
        owner_name,
        owner_kind,
        version,
        created_at,
        modified_at,
        decided_at,
    ) = row[: len(COLUMNS)]
    return {
        "id": benchmark_id,
        "name": name,
        "description": description,
        "docs_url": docs_url,
        "state": state,
        "approval": approval,
        "approval_reason": approval_reason,
        "is_valid": is_valid,
        "is_active": is_active,
        "demo": raw_json(demo),
        "prepared_identity": prepared_identity,
        "preparator": preparator,
        "reference_model": reference_model,
        "evaluator": evaluator,
        "auto_models": {"mode": auto_models, "parties": None},
        "auto_datasets": {"mode": auto_datasets, "parties": None},
        "results_visibility": results_visibility,
        "user_metadata": raw_json(user_metadata),
        "owner": {"id": owner_id, "name": owner_name, "kind": owner_kind},
        "version": version,
        "created_at": created_at,
        "modified_at": modified_at,
        "decided_at": decided_at,
    }


def detail(row: sa.Row[Any]) -> dict[str, Any]:
    """With the report and the metrics contract; and for members of the owner and admins, whom it approves by itself."""
    found = view(row) | {"report": raw_json(row.report), "metrics_contract": raw_json(row.metrics_contract)}
    if row.inside:
        found["auto_models"]["parties"] = raw_json(row.auto_models_parties)
        found["auto_datasets"]["parties"] = raw_json(row.auto_datasets_parties)
    return found


def select_benchmarks(*more: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Benchmarks with their owners."""
    return sa.select(*COLUMNS, *more).join(parties, parties.c.id == benchmarks.c.owner_id)


@functools.cache
def _one(is_admin: bool) -> sa.Select[Any]:
    inside = sa.true() if is_admin else owned(benchmarks.c.owner_id)
    statement = select_benchmarks(
        benchmarks.c.report,
        benchmarks.c.metrics_contract,
        benchmarks.c.auto_models_parties,
        benchmarks.c.auto_datasets_parties,
        inside.label("inside"),
    )
    return statement.where(benchmarks.c.id == sa.bindparam("benchmark_id"), policy.visible_to(is_admin))


async def get(tx: Transaction, actor: Actor, benchmark_id: int) -> sa.Row[Any] | None:
    """One with everything, if the actor may see it."""
    return await tx.first(_one(actor.is_admin), {"benchmark_id": benchmark_id, **actor.sql})


ROWS = Versioned(benchmarks, benchmark_assets, label="a benchmark", noun="benchmark")

LISTING = Listing(
    select_benchmarks(),
    key=benchmarks.c.id,
    view=view,
    visible=policy.visible_to,
    filters={"owner": benchmarks.c.owner_id, "name": benchmarks.c.name},
    facets=FACETS,
    public=policy.PUBLIC,
    names=(benchmarks.c.name_key, benchmarks.c.name),
)
