"""Tables of benchmarks, and of the asset that holds a benchmark's demo data."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.domain import limits
from medperf.server.schema import id_column, json_column, table, time_column

benchmarks = table(
    "benchmarks",
    id_column(),
    sa.Column("owner_id", sa.ForeignKey("parties.id"), nullable=False),
    sa.Column("name", sa.String(limits.NAME_LENGTH), nullable=False),
    sa.Column("description", sa.String(limits.DESCRIPTION_LENGTH), nullable=False),
    sa.Column("docs_url", sa.String(limits.URL_LENGTH), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("approval", sa.String(16), nullable=False),
    sa.Column("approval_reason", sa.String(limits.DESCRIPTION_LENGTH), nullable=False),
    sa.Column("is_valid", sa.Boolean, nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
    json_column("demo"),
    sa.Column("prepared_identity", sa.String(71), nullable=False),
    sa.Column("preparator_id", sa.ForeignKey("mlcubes.id"), nullable=False, index=True),
    sa.Column("reference_model_id", sa.ForeignKey("mlcubes.id"), nullable=False),
    sa.Column("evaluator_id", sa.ForeignKey("mlcubes.id"), nullable=False, index=True),
    json_column("user_metadata"),
    sa.Column("version", sa.Integer, nullable=False),
    time_column("created_at"),
    time_column("modified_at"),
    time_column("decided_at", nullable=True),
    # last: SQLite reads a row from its beginning, and lists do not need the report
    json_column("report"),
    json_column("metrics_contract"),
    sa.UniqueConstraint("owner_id", "name"),
)

benchmark_assets = sa.Table(
    "benchmark_assets",
    benchmarks.metadata,
    sa.Column("benchmark_id", sa.ForeignKey("benchmarks.id"), primary_key=True),
    sa.Column("asset_id", sa.ForeignKey("assets.id"), primary_key=True, index=True),
)
