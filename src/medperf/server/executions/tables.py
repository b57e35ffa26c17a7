"""Tables of executions, attempts and releases.

An execution repeats who owns its dataset, benchmark and model, and a release all of that again: they never change, and what an account may
see is found by an index of each.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from medperf.domain import limits
from medperf.server.schema import id_column, json_column, table, time_column


def _parties() -> list[sa.Column[Any]]:
    """Who owns the dataset (and so the thing itself), the benchmark, the model."""
    return [
        sa.Column(name, sa.ForeignKey("parties.id"), nullable=False)
        for name in ("owner_id", "benchmark_owner_id", "model_owner_id")
    ]


def _what() -> list[sa.Column[Any]]:
    return [
        sa.Column("benchmark_id", sa.ForeignKey("benchmarks.id"), nullable=False),
        sa.Column("dataset_id", sa.ForeignKey("datasets.id"), nullable=False),
        sa.Column("mlcube_id", sa.ForeignKey("mlcubes.id"), nullable=False),
    ]


def _listed(name: str) -> list[sa.Index]:
    """See `medperf.server.executions.listing`."""
    columns = ("owner_id", "benchmark_owner_id", "model_owner_id", "benchmark_id", "dataset_id", "mlcube_id")
    return [sa.Index(f"ix_{name}_{column}", column, "id") for column in columns]


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> sa.Index:
    text = sa.text(where)
    return sa.Index(name, *columns, unique=unique, sqlite_where=text, postgresql_where=text)


executions = table(
    "executions",
    id_column(),
    *_parties(),
    *_what(),
    # the number of the attempt that `medperf.domain.results.cell_state` finds while none is LOST
    sa.Column("speaks", sa.Integer, nullable=True),
    sa.Column("attempt_count", sa.Integer, nullable=False),
    time_column("created_at"),
    time_column("modified_at"),
    sa.UniqueConstraint("benchmark_id", "dataset_id", "mlcube_id"),
    *_listed("executions"),
)

OPEN = "state IN ('REGISTERED', 'RUNNING')"

attempts = table(
    "attempts",
    id_column(),
    sa.Column("execution_id", sa.ForeignKey("executions.id"), nullable=False),
    sa.Column("owner_id", sa.ForeignKey("parties.id"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("uuid", sa.String(36), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("failure", sa.String(16), nullable=True),
    sa.Column("task", sa.String(16), nullable=True),
    sa.Column("percent", sa.Integer, nullable=True),
    sa.Column("disclosure", sa.String(16), nullable=True),
    time_column("heartbeat_at"),
    time_column("created_at"),
    time_column("started_at", nullable=True),
    time_column("finished_at", nullable=True),
    sa.Column("reason", sa.String(limits.REASON_LENGTH), nullable=True),
    sa.Column("disclosure_reason", sa.String(limits.REASON_LENGTH), nullable=True),
    json_column("pins"),
    sa.UniqueConstraint("execution_id", "number"),
    sa.Index("uq_attempts_uuid", "execution_id", "uuid", unique=True),
    _partial("uq_attempts_open", "execution_id", where=OPEN, unique=True),
    _partial("uq_attempts_released", "execution_id", where="disclosure = 'RELEASED'", unique=True),
    # for the inbox
    _partial("ix_attempts_open", "owner_id", "id", where=OPEN),
    _partial("ix_attempts_review", "owner_id", "id", where="disclosure = 'UNDER_REVIEW'"),
)

releases = table(
    "releases",
    id_column(),
    *_parties(),
    *_what(),
    sa.Column("execution_id", sa.ForeignKey("executions.id"), nullable=False, index=True),
    sa.Column("attempt_id", sa.ForeignKey("attempts.id"), nullable=False, unique=True),
    sa.Column("uuid", sa.String(36), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    time_column("released_at"),
    time_column("retracted_at", nullable=True),
    # last: it may be long
    json_column("metrics"),
    _partial("uq_releases_live", "execution_id", where="state = 'RELEASED'", unique=True),
    *_listed("releases"),
)
