"""Tables of benchmarks, and of the asset that holds a benchmark's demo data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from medperf.domain import limits
from medperf.domain.associations import AutoMode
from medperf.domain.executions import ResultsVisibility
from medperf.domain.states import Approval, State
from medperf.server.names import name_key_column
from medperf.server.schema import id_column, json_column, table, time_column

#: What listings tell apart, and all its values.
FACETS: dict[str, Iterable[Any]] = {
    "approval": Approval,
    "state": State,
    "is_valid": (True, False),
    "is_active": (True, False),
}

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
    name_key_column(),
    # whose requests are approved without a person, and who sees the results
    sa.Column("auto_models", sa.String(16), nullable=False, server_default=AutoMode.NEVER.value),
    sa.Column("auto_datasets", sa.String(16), nullable=False, server_default=AutoMode.NEVER.value),
    sa.Column("results_visibility", sa.String(16), nullable=False, server_default=ResultsVisibility.OWNERS.value),
    sa.Column("auto_models_parties", sa.Text, nullable=False, server_default="[]"),
    sa.Column("auto_datasets_parties", sa.Text, nullable=False, server_default="[]"),
    # for listings, see medperf.server.paging
    sa.Index("ix_benchmarks_owner_id", "owner_id", "id"),
    sa.Index("ix_benchmarks_facets", *FACETS, "id"),
    sa.Index("ix_benchmarks_owner_facets", "owner_id", *FACETS, "id"),
    sa.Index("ix_benchmarks_name", *FACETS, "name_key", "name", "id"),
    sa.Index("ix_benchmarks_owner_name", "owner_id", "name_key", "name", "id"),
    sa.Index("ix_benchmarks_owner_facets_name", "owner_id", *FACETS, "name_key", "name", "id"),
)

benchmark_assets = sa.Table(
    "benchmark_assets",
    benchmarks.metadata,
    sa.Column("benchmark_id", sa.ForeignKey("benchmarks.id"), primary_key=True),
    sa.Column("asset_id", sa.ForeignKey("assets.id"), primary_key=True, index=True),
)
