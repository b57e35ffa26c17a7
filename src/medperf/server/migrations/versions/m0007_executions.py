"""Executions, their attempts and releases."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    op.create_table(
        "executions",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("benchmark_owner_id", sa.Integer(), nullable=False),
        sa.Column("model_owner_id", sa.Integer(), nullable=False),
        sa.Column("benchmark_id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("mlcube_id", sa.Integer(), nullable=False),
        sa.Column("speaks", sa.Integer(), nullable=True),
        sa.Column("attempt_count", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("modified_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(["benchmark_id"], ["benchmarks.id"], name=op.f("fk_executions_benchmark_id")),
        sa.ForeignKeyConstraint(["benchmark_owner_id"], ["parties.id"], name=op.f("fk_executions_benchmark_owner_id")),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_executions_dataset_id")),
        sa.ForeignKeyConstraint(["mlcube_id"], ["mlcubes.id"], name=op.f("fk_executions_mlcube_id")),
        sa.ForeignKeyConstraint(["model_owner_id"], ["parties.id"], name=op.f("fk_executions_model_owner_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["parties.id"], name=op.f("fk_executions_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_executions")),
        sa.UniqueConstraint("benchmark_id", "dataset_id", "mlcube_id", name=op.f("uq_executions_benchmark_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_executions_benchmark_id", "executions", ["benchmark_id", "id"], unique=False)
    op.create_index("ix_executions_benchmark_owner_id", "executions", ["benchmark_owner_id", "id"], unique=False)
    op.create_index("ix_executions_dataset_id", "executions", ["dataset_id", "id"], unique=False)
    op.create_index("ix_executions_mlcube_id", "executions", ["mlcube_id", "id"], unique=False)
    op.create_index("ix_executions_model_owner_id", "executions", ["model_owner_id", "id"], unique=False)
    op.create_index("ix_executions_owner_id", "executions", ["owner_id", "id"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("execution_id", sa.Integer(), nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("failure", sa.String(length=16), nullable=True),
        sa.Column("task", sa.String(length=16), nullable=True),
        sa.Column("percent", sa.Integer(), nullable=True),
        sa.Column("disclosure", sa.String(length=16), nullable=True),
        sa.Column("heartbeat_at", sa.String(length=27), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("started_at", sa.String(length=27), nullable=True),
        sa.Column("finished_at", sa.String(length=27), nullable=True),
        sa.Column("reason", sa.String(length=500), nullable=True),
        sa.Column("disclosure_reason", sa.String(length=500), nullable=True),
        sa.Column("pins", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.id"], name=op.f("fk_attempts_execution_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["parties.id"], name=op.f("fk_attempts_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_attempts")),
        sa.UniqueConstraint("execution_id", "number", name=op.f("uq_attempts_execution_id")),
        sqlite_autoincrement=True,
    )
    _partial("ix_attempts_open", "attempts", ["owner_id", "id"], "state IN ('REGISTERED', 'RUNNING')", unique=False)
    _partial("ix_attempts_review", "attempts", ["owner_id", "id"], "disclosure = 'UNDER_REVIEW'", unique=False)
    _partial("uq_attempts_open", "attempts", ["execution_id"], "state IN ('REGISTERED', 'RUNNING')", unique=True)
    _partial("uq_attempts_released", "attempts", ["execution_id"], "disclosure = 'RELEASED'", unique=True)
    op.create_index("uq_attempts_uuid", "attempts", ["execution_id", "uuid"], unique=True)
    op.create_table(
        "releases",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("owner_id", sa.Integer(), nullable=False),
        sa.Column("benchmark_owner_id", sa.Integer(), nullable=False),
        sa.Column("model_owner_id", sa.Integer(), nullable=False),
        sa.Column("benchmark_id", sa.Integer(), nullable=False),
        sa.Column("dataset_id", sa.Integer(), nullable=False),
        sa.Column("mlcube_id", sa.Integer(), nullable=False),
        sa.Column("execution_id", sa.Integer(), nullable=False),
        sa.Column("attempt_id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("released_at", sa.String(length=27), nullable=False),
        sa.Column("retracted_at", sa.String(length=27), nullable=True),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["attempt_id"], ["attempts.id"], name=op.f("fk_releases_attempt_id")),
        sa.ForeignKeyConstraint(["benchmark_id"], ["benchmarks.id"], name=op.f("fk_releases_benchmark_id")),
        sa.ForeignKeyConstraint(["benchmark_owner_id"], ["parties.id"], name=op.f("fk_releases_benchmark_owner_id")),
        sa.ForeignKeyConstraint(["dataset_id"], ["datasets.id"], name=op.f("fk_releases_dataset_id")),
        sa.ForeignKeyConstraint(["execution_id"], ["executions.id"], name=op.f("fk_releases_execution_id")),
        sa.ForeignKeyConstraint(["mlcube_id"], ["mlcubes.id"], name=op.f("fk_releases_mlcube_id")),
        sa.ForeignKeyConstraint(["model_owner_id"], ["parties.id"], name=op.f("fk_releases_model_owner_id")),
        sa.ForeignKeyConstraint(["owner_id"], ["parties.id"], name=op.f("fk_releases_owner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
        sa.UniqueConstraint("attempt_id", name=op.f("uq_releases_attempt_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_releases_benchmark_id", "releases", ["benchmark_id", "id"], unique=False)
    op.create_index("ix_releases_benchmark_owner_id", "releases", ["benchmark_owner_id", "id"], unique=False)
    op.create_index("ix_releases_dataset_id", "releases", ["dataset_id", "id"], unique=False)
    op.create_index(op.f("ix_releases_execution_id"), "releases", ["execution_id"], unique=False)
    op.create_index("ix_releases_mlcube_id", "releases", ["mlcube_id", "id"], unique=False)
    op.create_index("ix_releases_model_owner_id", "releases", ["model_owner_id", "id"], unique=False)
    op.create_index("ix_releases_owner_id", "releases", ["owner_id", "id"], unique=False)
    _partial("uq_releases_live", "releases", ["execution_id"], "state = 'RELEASED'", unique=True)


def _partial(name: str, table: str, columns: list[str], where: str, *, unique: bool) -> None:
    text = sa.text(where)
    op.create_index(name, table, columns, unique=unique, sqlite_where=text, postgresql_where=text)
