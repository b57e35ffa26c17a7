"""Statements about what waits for an account. Each takes a stretch of an index for each of its parties."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sa

from medperf.domain.associations import Status
from medperf.domain.executions import LOST_AFTER, Disclosure
from medperf.domain.states import Approval, State
from medperf.server.associations.tables import associations
from medperf.server.authz import USER, owned
from medperf.server.benchmarks.tables import benchmarks
from medperf.server.executions.tables import OPEN, attempts, executions
from medperf.server.organisations import invitations
from medperf.server.parties.tables import memberships
from medperf.server.schema import as_text
from medperf.wire.inbox import Waiting

#: One more than is shown, of each kind.
LIMIT = sa.bindparam("most", type_=sa.Integer)


def _parties(right: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(memberships.c.party_id).where(memberships.c.user_id == USER, right)


#: To whoever may decide: a member who may manage for the side that was asked.
_ASSOCIATIONS = (
    sa.select(
        associations.c.id,
        benchmarks.c.name,
        associations.c.benchmark_id,
        associations.c.dataset_id,
        associations.c.mlcube_id,
        associations.c.asked_at.label("since"),
    )
    .join(benchmarks, benchmarks.c.id == associations.c.benchmark_id)
    .where(
        associations.c.decider_id.in_(_parties(memberships.c.can_manage)),
        associations.c.status == Status.PENDING.value,
    )
    .order_by(associations.c.id)
    .limit(LIMIT)
)
#: To admins, but not what is their own: nobody approves that.
_BENCHMARKS = (
    sa.select(
        benchmarks.c.id,
        benchmarks.c.name,
        benchmarks.c.id.label("benchmark_id"),
        benchmarks.c.created_at.label("since"),
    )
    .where(
        benchmarks.c.approval == Approval.PENDING.value,
        benchmarks.c.state == State.OPERATION.value,
        ~owned(benchmarks.c.owner_id),
    )
    .order_by(benchmarks.c.id)
    .limit(LIMIT)
)
_ATTEMPTS = (
    sa.select(
        executions.c.id,
        benchmarks.c.name,
        executions.c.benchmark_id,
        executions.c.dataset_id,
        executions.c.mlcube_id,
        attempts.c.number,
    )
    .join(executions, executions.c.id == attempts.c.execution_id)
    .join(benchmarks, benchmarks.c.id == executions.c.benchmark_id)
    .order_by(attempts.c.id)
    .limit(LIMIT)
)
#: To whoever may release. Not an older attempt than the one that speaks for its execution.
_REVIEWS = _ATTEMPTS.add_columns(attempts.c.finished_at.label("since")).where(
    attempts.c.owner_id.in_(_parties(memberships.c.can_release)),
    sa.literal_column("attempts.disclosure") == sa.literal_column(f"'{Disclosure.UNDER_REVIEW.value}'"),
    attempts.c.number == executions.c.speaks,
)
#: To whoever may run.
_LOST = _ATTEMPTS.add_columns(attempts.c.heartbeat_at.label("since")).where(
    attempts.c.owner_id.in_(_parties(memberships.c.can_operate)),
    sa.text(OPEN.replace("state", "attempts.state")),
    attempts.c.heartbeat_at < sa.bindparam("lost_before", type_=sa.String),
)
_INVITATIONS = invitations.RECEIVED.order_by(sa.literal_column("invitations.id")).limit(LIMIT)


class Source(NamedTuple):
    """One kind: its statement, and a row as `medperf.wire.inbox.InboxItem`."""

    kind: Waiting
    statement: sa.Select[Any]
    item: Callable[[Any], dict[str, Any]]


def _of_benchmark(row: Any) -> dict[str, Any]:
    return {"id": row.id, "name": row.name, "benchmark": row.benchmark_id, "since": row.since}


def _of_asset(row: Any) -> dict[str, Any]:
    return _of_benchmark(row) | {"dataset": row.dataset_id, "model": row.mlcube_id}


def _of_attempt(row: Any) -> dict[str, Any]:
    return _of_asset(row) | {"attempt": row.number}


def _of_invitation(row: Any) -> dict[str, Any]:
    return {"id": row.id, "name": row.organisation_name, "since": row.created_at}


_SOURCES = (
    Source(Waiting.INVITATION, _INVITATIONS, _of_invitation),
    Source(Waiting.ASSOCIATION, _ASSOCIATIONS, _of_asset),
    Source(Waiting.REVIEW, _REVIEWS, _of_attempt),
    Source(Waiting.LOST, _LOST, _of_attempt),
)
_OF_ADMINS = Source(Waiting.BENCHMARK, _BENCHMARKS, _of_benchmark)


def sources(*, is_admin: bool) -> Iterator[Source]:
    """All that may hold something for such an account."""
    yield from _SOURCES
    if is_admin:
        yield _OF_ADMINS


def moments() -> dict[str, str]:
    """Times that the statements compare with."""
    at = datetime.now(UTC)
    return {"moment": as_text(at), "lost_before": as_text(at - LOST_AFTER)}
