"""The results of a benchmark as a table: one row for each execution that the account may see."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import orjson
import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from medperf.domain import limits
from medperf.domain.associations import Status
from medperf.domain.metrics import contract_from_document
from medperf.domain.results import CellState
from medperf.server.associations.tables import associations
from medperf.server.authz import Actor, owned
from medperf.server.benchmarks.service import found as found_benchmark
from medperf.server.benchmarks.tables import benchmarks
from medperf.server.context import ServerContext
from medperf.server.datasets.tables import datasets
from medperf.server.executions import policy
from medperf.server.executions.disclosing import metric_keys
from medperf.server.executions.repository import FROM, STATE, joined, revoked, spoken, state_of
from medperf.server.executions.tables import executions, releases
from medperf.server.mlcubes.tables import mlcubes
from medperf.server.responses import answer

#: Of an answer, for one row without values, and for each value.
_ROW_BYTES, _VALUE_BYTES = 64, 20
_FEW = 256  # rows; more are written in a thread
_WITH_VALUES = frozenset(state.value for state in CellState if state.has_values)
_BENCHMARK = sa.bindparam("benchmark", type_=sa.Integer)
_AFTER = sa.bindparam("page_id", type_=sa.BigInteger)
_ROWS = (
    sa.select(
        executions.c.id,
        executions.c.dataset_id,
        datasets.c.site_label,
        executions.c.mlcube_id,
        mlcubes.c.name.label("model_name"),
        *STATE,
        releases.c.id.label("result_id"),
        releases.c.metrics,
        revoked(executions).label("revoked"),
        policy.concerned(executions).label("concerned"),
    )
    .select_from(
        joined(FROM.outerjoin(releases, releases.c.attempt_id == spoken.c.id), executions),
    )
    .where(
        executions.c.benchmark_id == _BENCHMARK,
        executions.c.id > _AFTER,
        sa.or_(policy.concerned(executions), sa.and_(sa.bindparam("admitted"), releases.c.id.is_not(None))),
    )
    .order_by(executions.c.id)
    .limit(sa.bindparam("page_limit", type_=sa.Integer))
)
_MAY = sa.select(policy.shown_by_policy().label("admitted")).where(benchmarks.c.id == _BENCHMARK)
_JOINED = sa.and_(associations.c.benchmark_id == _BENCHMARK, associations.c.status == Status.APPROVED.value)
#: The owner of the benchmark knows all datasets in it; others know their own.
_SITES = (
    sa.select(datasets.c.id, datasets.c.site_label)
    .join(associations, associations.c.dataset_id == datasets.c.id)
    .join(benchmarks, benchmarks.c.id == associations.c.benchmark_id)
    .where(_JOINED, sa.or_(owned(benchmarks.c.owner_id), owned(datasets.c.owner_id)))
    .order_by(datasets.c.id)
    .limit(limits.RESULTS_PAGE)
)
_REFERENCE = sa.select(benchmarks.c.reference_model_id).where(benchmarks.c.id == _BENCHMARK).scalar_subquery()
_MODELS = (
    sa.select(mlcubes.c.id, mlcubes.c.name)
    .where(
        sa.or_(
            mlcubes.c.id == _REFERENCE,
            mlcubes.c.id.in_(sa.select(associations.c.mlcube_id).where(_JOINED, associations.c.mlcube_id.is_not(None))),
        )
    )
    .order_by(mlcubes.c.id)
    .limit(limits.RESULTS_PAGE)
)


class MatrixQuery(BaseModel):
    """Query parameters of ``GET /benchmarks/{id}/results``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[
        int,
        Field(ge=1, le=limits.RESULTS_PAGE, description="How many rows at most; fewer where there are many metrics."),
    ] = limits.RESULTS_PAGE
    after: Annotated[str | None, Field(pattern=r"^[0-9]{1,10}$", description="The 'next' of the page before.")] = None


async def page(server: ServerContext, actor: Actor, benchmark_id: int, query: MatrixQuery) -> Response:
    """One page, as `medperf.wire.executions.ResultsTable`.

    Raises:
        NotFound: no benchmark that the actor may see.
    """
    async with server.database.read() as tx:
        benchmark = await found_benchmark(tx, actor, benchmark_id)
        keys = metric_keys(contract_from_document(orjson.loads(benchmark.metrics_contract)))
        # Known before any of it is read: what is in memory at once is bounded by it.
        most = max(limits.RESULTS_PAGE_BYTES // (_ROW_BYTES + _VALUE_BYTES * len(keys)), 1)
        limit = min(query.limit, most)
        asked = {"benchmark": benchmark_id, **actor.sql}
        admitted = bool((await tx.execute(_MAY, asked)).scalar_one())
        paged = {"page_id": int(query.after or 0), "page_limit": limit + 1, "admitted": admitted}
        rows = await tx.all(_ROWS, {**asked, **paged})
        sites = {} if query.after else {row.id: row.site_label for row in await tx.all(_SITES, asked)}
        models = {} if query.after else {row.id: row.name for row in await tx.all(_MODELS, {"benchmark": benchmark_id})}
    following = str(rows[limit - 1].id) if len(rows) > limit else None
    head = {"benchmark": benchmark_id, "metrics": keys, "next": following}
    arguments = (head, rows[:limit], sites, models)
    return _table(*arguments) if len(rows) <= _FEW else await asyncio.to_thread(_table, *arguments)


def _table(head: dict[str, Any], rows: Sequence[Any], sites: dict[int, str], models: dict[int, str]) -> Response:
    at = datetime.now(UTC)
    keys = head["metrics"]
    lines = []
    for row in rows:
        sites[row.dataset_id], models[row.mlcube_id] = row.site_label, row.model_name
        state, number = state_of(row, at, opened=bool(row.concerned))
        # What speaks may have been lost since: then nothing of the attempt before it is shown.
        is_result = row.result_id is not None and number == row.spoken_number
        values = None
        if is_result and state in _WITH_VALUES:
            metrics = orjson.loads(row.metrics)
            values = [metrics.get(key) for key in keys]
        result_id = row.result_id if is_result else None
        is_revoked = is_result and bool(row.revoked)
        lines.append((row.dataset_id, row.mlcube_id, state, is_revoked, result_id, values))
    return answer(
        {
            **head,
            "sites": [{"id": site, "label": label} for site, label in sites.items()],
            "models": [{"id": model, "name": name} for model, name in models.items()],
            "rows": lines,
        }
    )
