"""Statements about executions, attempts and releases."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa

from medperf.domain.associations import Status
from medperf.domain.executions import Attempt, AttemptState, Disclosure, FailureClass
from medperf.domain.results import cell_state
from medperf.server.associations.tables import associations
from medperf.server.authz import Actor
from medperf.server.benchmarks.tables import benchmarks
from medperf.server.datasets.tables import datasets
from medperf.server.db import Transaction
from medperf.server.executions import policy
from medperf.server.executions.tables import OPEN, attempts, executions, releases
from medperf.server.mlcubes.tables import mlcubes
from medperf.server.schema import now

#: The attempt that speaks for an execution, and the one that is open.
spoken, opened = attempts.alias("spoken"), attempts.alias("opened")
_SPOKEN = ("number", "state", "failure", "heartbeat_at", "disclosure")


def _columns(alias: Any, label: str) -> list[sa.ColumnElement[Any]]:
    return [alias.c[name].label(f"{label}_{name}") for name in _SPOKEN]


#: What `state_of` needs, in this order.
STATE = (*_columns(spoken, "spoken"), *_columns(opened, "opened"))
FROM = (
    executions.join(datasets, datasets.c.id == executions.c.dataset_id)
    .join(mlcubes, mlcubes.c.id == executions.c.mlcube_id)
    .outerjoin(spoken, sa.and_(spoken.c.execution_id == executions.c.id, spoken.c.number == executions.c.speaks))
    .outerjoin(
        opened, sa.and_(opened.c.execution_id == executions.c.id, sa.text(OPEN.replace("state", "opened.state")))
    )
)
SELECT = sa.select(
    executions.c.id,
    executions.c.owner_id,
    executions.c.benchmark_owner_id,
    executions.c.model_owner_id,
    executions.c.benchmark_id,
    executions.c.dataset_id,
    executions.c.mlcube_id,
    datasets.c.site_label,
    mlcubes.c.name.label("model_name"),
    executions.c.attempt_count,
    executions.c.created_at,
    executions.c.modified_at,
    *STATE,
).select_from(FROM)


def moment(text: str) -> datetime:
    """A stored time."""
    return datetime.fromisoformat(text)


def attempt_of(row: Any, label: str = "") -> Attempt:
    """An attempt as the rules need it, from columns that begin with ``label``."""
    number, state, failure, heartbeat_at, disclosure = (getattr(row, label + name) for name in _SPOKEN)
    return Attempt(
        number,
        AttemptState(state),
        moment(heartbeat_at),
        None if failure is None else FailureClass(failure),
        None if disclosure is None else Disclosure(disclosure),
    )


def state_of(row: Any, at: datetime, *, opened: bool = True) -> tuple[str, int | None]:
    """The state of a row with `STATE`, and the attempt that it speaks of.

    The others change nothing: at most one is open, and only that may be LOST.

    Args:
        opened: False: for somebody who learns nothing of an attempt that is open.
    """
    found = []
    if row.spoken_number is not None:
        found.append(attempt_of(row, "spoken_"))
    if opened and row.opened_number is not None and row.opened_number != row.spoken_number:
        found.append(attempt_of(row, "opened_"))
    state, number = cell_state(found, now=at)
    return state.value, number


def view(row: Any) -> dict[str, Any]:
    """As `medperf.wire.executions.ExecutionView` in lists."""
    state, number = state_of(row, datetime.now(UTC))
    return {
        "id": row.id,
        "benchmark": row.benchmark_id,
        "dataset": row.dataset_id,
        "site": row.site_label,
        "model": row.mlcube_id,
        "model_name": row.model_name,
        "state": state,
        "attempt": number,
        "attempt_count": row.attempt_count,
        "created_at": row.created_at,
        "modified_at": row.modified_at,
    }


def attempt_view(row: Any, at: datetime) -> dict[str, Any]:
    """As `medperf.wire.executions.AttemptView`."""
    return {
        "number": row.number,
        "uuid": row.uuid,
        "state": attempt_of(row).shown(at).value,
        "failure": row.failure,
        "task": row.task,
        "percent": row.percent,
        "reason": row.reason,
        "disclosure": row.disclosure,
        "disclosure_reason": row.disclosure_reason,
        **orjson.loads(row.pins),
        "created_at": row.created_at,
        "heartbeat_at": row.heartbeat_at,
        "started_at": row.started_at,
        "finished_at": row.finished_at,
    }


# ------------------------------------------------------------------------------------------------------------ executions


@functools.cache
def _one(is_admin: bool) -> sa.Select[Any]:
    return SELECT.where(executions.c.id == sa.bindparam("execution_id"), policy.visible_to(is_admin))


async def get(tx: Transaction, actor: Actor, execution_id: int) -> sa.Row[Any] | None:
    """One, if the actor may see it."""
    return await tx.first(_one(actor.is_admin), {"execution_id": execution_id, **actor.sql})


_TRIPLE = sa.select(executions.c.id).where(
    executions.c.benchmark_id == sa.bindparam("benchmark"),
    executions.c.dataset_id == sa.bindparam("dataset"),
    executions.c.mlcube_id == sa.bindparam("model"),
)


async def find(tx: Transaction, benchmark: int, dataset: int, model: int) -> int | None:
    """The id of the one of these three."""
    row = await tx.first(_TRIPLE, {"benchmark": benchmark, "dataset": dataset, "model": model})
    return None if row is None else int(row.id)


async def insert(tx: Transaction, values: dict[str, Any]) -> int | None:
    """A new one; None if it is there already."""
    at = now()
    return await tx.insert_or_none(executions, {**values, "attempt_count": 0, "created_at": at, "modified_at": at})


_LOCK = sa.select(executions.c.id).where(executions.c.id == sa.bindparam("execution_id")).with_for_update()
_ATTEMPTS = (
    sa.select(attempts).where(attempts.c.execution_id == sa.bindparam("execution_id")).order_by(attempts.c.number)
)
#: A heartbeat locks nothing but its own row.
_ATTEMPTS_KEPT = _ATTEMPTS.with_for_update()
_SPEAKS = (
    sa.update(executions)
    .where(executions.c.id == sa.bindparam("execution"))
    .values(
        speaks=sa.bindparam("new_speaks"),
        attempt_count=sa.bindparam("new_count"),
        modified_at=sa.bindparam("new_modified"),
    )
)
_NEVER_LOST = datetime.min.replace(tzinfo=UTC)


async def attempts_of(tx: Transaction, execution_id: int) -> Sequence[sa.Row[Any]]:
    """All attempts, oldest first."""
    return await tx.all(_ATTEMPTS, {"execution_id": execution_id})


async def lock(tx: Transaction, execution_id: int) -> Sequence[sa.Row[Any]]:
    """Whoever changes anything of an execution, but for a sign of life, does it alone. Returns its attempts, oldest first."""
    await tx.first(_LOCK, {"execution_id": execution_id})
    return await tx.all(_ATTEMPTS_KEPT, {"execution_id": execution_id})


async def refresh(tx: Transaction, execution_id: int) -> Sequence[sa.Row[Any]]:
    """Say anew which attempt speaks for the execution, after a change; returns all attempts."""
    rows = await attempts_of(tx, execution_id)
    _, number = cell_state([attempt_of(row) for row in rows], now=_NEVER_LOST)
    values = {"execution": execution_id, "new_speaks": number, "new_count": len(rows), "new_modified": now()}
    await tx.execute(_SPEAKS, values)
    return rows


async def insert_attempt(tx: Transaction, values: dict[str, Any]) -> int | None:
    """A new one; None if another one is open, or has this number or UUID."""
    return await tx.insert_or_none(attempts, values)


async def update_attempt(tx: Transaction, attempt_id: int, changes: dict[str, Any]) -> None:
    """Change one; the caller holds the lock."""
    await tx.execute(sa.update(attempts).where(attempts.c.id == attempt_id).values(**changes))


_BEAT = (
    sa.update(attempts)
    .where(
        attempts.c.execution_id == sa.bindparam("execution"),
        attempts.c.number == sa.bindparam("attempt"),
        sa.text(OPEN),
    )
    .values(
        heartbeat_at=sa.bindparam("new_heartbeat"),
        task=sa.func.coalesce(sa.bindparam("new_task", type_=sa.String), attempts.c.task),
        percent=sa.bindparam("new_percent", type_=sa.Integer),
    )
)


async def beat(tx: Transaction, execution_id: int, number: int, *, task: str | None, percent: int | None) -> bool:
    """A sign of life; False if it is not open."""
    values = {
        "execution": execution_id,
        "attempt": number,
        "new_heartbeat": now(),
        "new_task": task,
        "new_percent": percent,
    }
    return bool((await tx.execute(_BEAT, values)).rowcount)


# --------------------------------------------------------------------------------------------------------------- results

#: The associations of the dataset and of the model.
by_dataset, by_model = associations.alias("by_dataset"), associations.alias("by_model")


def revoked(table: sa.Table) -> sa.ColumnElement[bool]:
    """Whether the dataset or the model is in the benchmark no more; of a select that is `joined` to both."""
    approved = Status.APPROVED.value
    return sa.or_(
        sa.func.coalesce(by_dataset.c.status, "") != approved,
        sa.and_(
            benchmarks.c.reference_model_id != table.c.mlcube_id, sa.func.coalesce(by_model.c.status, "") != approved
        ),
    )


def joined(source: sa.FromClause, table: sa.Table) -> sa.FromClause:
    """``source`` with the benchmark and both associations."""
    in_it = table.c.benchmark_id
    return (
        source.join(benchmarks, benchmarks.c.id == in_it)
        .outerjoin(
            by_dataset,
            sa.and_(by_dataset.c.benchmark_id == in_it, by_dataset.c.dataset_id == table.c.dataset_id),
        )
        .outerjoin(by_model, sa.and_(by_model.c.benchmark_id == in_it, by_model.c.mlcube_id == table.c.mlcube_id))
    )


RESULTS = sa.select(
    releases.c.id,
    releases.c.execution_id,
    releases.c.benchmark_id,
    releases.c.dataset_id,
    datasets.c.site_label,
    releases.c.mlcube_id,
    mlcubes.c.name.label("model_name"),
    attempts.c.number,
    attempts.c.state.label("attempt_state"),
    attempts.c.disclosure_reason,
    releases.c.state,
    revoked(releases).label("revoked"),
    releases.c.released_at,
    releases.c.retracted_at,
    releases.c.metrics,
).select_from(
    joined(
        releases.join(datasets, datasets.c.id == releases.c.dataset_id)
        .join(mlcubes, mlcubes.c.id == releases.c.mlcube_id)
        .join(attempts, attempts.c.id == releases.c.attempt_id),
        releases,
    )
)
_RESULT = RESULTS.where(releases.c.id == sa.bindparam("result_id"), policy.results_visible())
_RESULT_OF = RESULTS.where(releases.c.attempt_id == sa.bindparam("attempt_id"))


def result_view(row: Any) -> dict[str, Any]:
    """As `medperf.wire.executions.ResultView`. What was retracted is shown no more."""
    live = row.state == Disclosure.RELEASED.value
    return {
        "id": row.id,
        "execution": row.execution_id,
        "benchmark": row.benchmark_id,
        "dataset": row.dataset_id,
        "site": row.site_label,
        "model": row.mlcube_id,
        "model_name": row.model_name,
        "attempt": row.number,
        "state": row.state,
        "partial": row.attempt_state == AttemptState.PARTIAL.value,
        "revoked": bool(row.revoked),
        "reason": row.disclosure_reason,
        "metrics": orjson.Fragment(row.metrics) if live else None,
        "released_at": row.released_at,
        "retracted_at": row.retracted_at,
    }


async def result(tx: Transaction, actor: Actor, result_id: int) -> sa.Row[Any] | None:
    """One, if the actor may see it."""
    return await tx.first(_RESULT, {"result_id": result_id, **actor.sql})


async def result_of(tx: Transaction, attempt_id: int) -> sa.Row[Any] | None:
    """The release of an attempt."""
    return await tx.first(_RESULT_OF, {"attempt_id": attempt_id})


async def insert_release(tx: Transaction, values: dict[str, Any]) -> int | None:
    """A new live release; None if there is one."""
    return await tx.insert_or_none(releases, values)


async def retract(tx: Transaction, attempt_id: int) -> None:
    """The release of an attempt counts no more."""
    changes = {"state": Disclosure.RETRACTED.value, "retracted_at": now()}
    await tx.execute(sa.update(releases).where(releases.c.attempt_id == attempt_id).values(**changes))


def domain_attempts(rows: Iterable[Any]) -> list[Attempt]:
    """Rows as the rules need them."""
    return [attempt_of(row) for row in rows]
