"""Tables of datasets, and of those that others may see."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from medperf.domain import limits
from medperf.domain.states import State
from medperf.server.names import name_key_column
from medperf.server.schema import id_column, metadata, table, time_column

#: What listings tell apart, and all its values.
FACETS: dict[str, Iterable[Any]] = {"state": State, "is_valid": (True, False), "is_active": (True, False)}

datasets = table(
    "datasets",
    id_column(),
    sa.Column("owner_id", sa.ForeignKey("parties.id"), nullable=False),
    sa.Column("uuid", sa.String(36), nullable=False),
    sa.Column("name", sa.String(limits.NAME_LENGTH), nullable=False),
    sa.Column("description", sa.String(limits.DESCRIPTION_LENGTH), nullable=False),
    sa.Column("location", sa.String(limits.NAME_LENGTH), nullable=False),
    sa.Column("site_label", sa.String(limits.NAME_LENGTH), nullable=False),
    sa.Column("preparator_id", sa.ForeignKey("mlcubes.id"), nullable=False),
    sa.Column("supersedes_id", sa.ForeignKey("datasets.id"), nullable=True),
    sa.Column("identity", sa.String(71), nullable=False),
    sa.Column("raw_identity", sa.String(71), nullable=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("is_valid", sa.Boolean, nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
    sa.Column("statistics_digest", sa.String(71), nullable=True),
    sa.Column("version", sa.Integer, nullable=False),
    time_column("created_at"),
    time_column("modified_at"),
    name_key_column(),
    # last: SQLite reads a row from its beginning, and lists do not need the statistics
    sa.Column("statistics", sa.Text, nullable=True),
    sa.UniqueConstraint("owner_id", "name"),
    sa.UniqueConstraint("owner_id", "uuid", name="uq_datasets_owner_uuid"),
    sa.UniqueConstraint("owner_id", "identity", name="uq_datasets_owner_identity"),
    # for listings, see medperf.server.paging
    sa.Index("ix_datasets_owner_id", "owner_id", "id"),
    sa.Index("ix_datasets_facets", *FACETS, "id"),
    sa.Index("ix_datasets_owner_facets", "owner_id", *FACETS, "id"),
    sa.Index("ix_datasets_name", *FACETS, "name_key", "name", "id"),
    sa.Index("ix_datasets_owner_name", "owner_id", "name_key", "name", "id"),
    sa.Index("ix_datasets_owner_facets_name", "owner_id", *FACETS, "name_key", "name", "id"),
    sa.Index("ix_datasets_facets_preparator", *FACETS, "preparator_id", "id"),
    sa.Index("ix_datasets_owner_facets_preparator", "owner_id", *FACETS, "preparator_id", "id"),
)

#: Datasets that the members of a benchmark's owner see: `medperf.domain.associations.shows_dataset` says when.
opened_datasets = sa.Table(
    "opened_datasets",
    metadata,
    sa.Column("party_id", sa.ForeignKey("parties.id"), primary_key=True),
    sa.Column("dataset_id", sa.ForeignKey("datasets.id"), primary_key=True, index=True),
    sa.Column("benchmark_id", sa.ForeignKey("benchmarks.id"), primary_key=True),
)
