"""Tables of associations and their history."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from medperf.domain import limits
from medperf.domain.associations import Asset, Status
from medperf.server.schema import id_column, table, time_column

#: What listings tell apart, and all its values.
FACETS: dict[str, Iterable[Any]] = {"kind": Asset, "status": Status}

associations = table(
    "associations",
    id_column(),
    # of the benchmark and of the dataset or MLCube; whoever asked first; whoever was asked last
    sa.Column("owner_id", sa.ForeignKey("parties.id"), nullable=False),
    sa.Column("asset_owner_id", sa.ForeignKey("parties.id"), nullable=False),
    sa.Column("maker_id", sa.ForeignKey("parties.id"), nullable=False),
    sa.Column("decider_id", sa.ForeignKey("parties.id"), nullable=False),
    sa.Column("benchmark_id", sa.ForeignKey("benchmarks.id"), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), nullable=True),
    sa.Column("mlcube_id", sa.ForeignKey("mlcubes.id"), nullable=True),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("asked_by", sa.String(16), nullable=False),
    sa.Column("asks", sa.Integer, nullable=False),
    sa.Column("is_automatic", sa.Boolean, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    time_column("asked_at"),
    time_column("decided_at", nullable=True),
    time_column("modified_at"),
    # last: SQLite reads a row from its beginning, and lists do not need the report
    sa.Column("report", sa.Text, nullable=True),
    sa.UniqueConstraint("benchmark_id", "dataset_id", name="uq_associations_dataset"),
    sa.UniqueConstraint("benchmark_id", "mlcube_id", name="uq_associations_mlcube"),
    sa.CheckConstraint("(dataset_id IS NULL) <> (mlcube_id IS NULL)", name="one_asset"),
    sa.Index("ix_associations_maker_id", "maker_id"),
    sa.Index("ix_associations_decider_id", "decider_id", "status", "id"),
    # for listings, see medperf.server.paging
    sa.Index("ix_associations_owner_id", "owner_id", "id"),
    sa.Index("ix_associations_asset_owner_id", "asset_owner_id", "id"),
    sa.Index("ix_associations_facets", *FACETS, "id"),
    sa.Index("ix_associations_owner_facets", "owner_id", *FACETS, "id"),
    *(
        sa.Index(f"ix_associations_{name}{column}", *owner, column, *FACETS, "id")
        for column in ("benchmark_id", "dataset_id", "mlcube_id")
        for name, owner in (("", ()), ("owner_", ("owner_id",)))
    ),
)

association_events = table(
    "association_events",
    id_column(),
    sa.Column("association_id", sa.ForeignKey("associations.id"), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("status", sa.String(16), nullable=False),
    sa.Column("side", sa.String(16), nullable=False),
    sa.Column("is_automatic", sa.Boolean, nullable=False),
    sa.Column("reason", sa.String(limits.REASON_LENGTH), nullable=True),
    # of a request; decisions have none
    sa.Column("uuid", sa.String(36), nullable=True),
    time_column("at"),
    sa.UniqueConstraint("association_id", "version"),
    sa.UniqueConstraint("association_id", "uuid", name="uq_association_events_uuid"),
)
