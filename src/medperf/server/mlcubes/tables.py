"""Tables of MLCubes, and of the assets their files name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from medperf.domain import limits
from medperf.domain.states import Kind, State
from medperf.server.names import name_key_column
from medperf.server.schema import id_column, json_column, table, time_column

#: What listings tell apart, and all its values.
FACETS: dict[str, Iterable[Any]] = {"kind": Kind, "state": State, "is_valid": (True, False)}

mlcubes = table(
    "mlcubes",
    id_column(),
    sa.Column("owner_id", sa.ForeignKey("parties.id"), nullable=False),
    sa.Column("name", sa.String(limits.NAME_LENGTH), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("is_valid", sa.Boolean, nullable=False),
    json_column("files"),
    json_column("forms"),
    json_column("user_metadata"),
    sa.Column("version", sa.Integer, nullable=False),
    time_column("created_at"),
    time_column("modified_at"),
    # last: SQLite reads a row from its beginning, and lists do not need the manifest
    sa.Column("manifest_text", sa.Text, nullable=False),
    sa.UniqueConstraint("owner_id", "name"),
    name_key_column(),
    # for listings, see medperf.server.paging
    sa.Index("ix_mlcubes_owner_id", "owner_id", "id"),
    sa.Index("ix_mlcubes_facets", *FACETS, "id"),
    sa.Index("ix_mlcubes_owner_facets", "owner_id", *FACETS, "id"),
    sa.Index("ix_mlcubes_name", *FACETS, "name_key", "name", "id"),
    sa.Index("ix_mlcubes_owner_name", "owner_id", "name_key", "name", "id"),
    sa.Index("ix_mlcubes_owner_facets_name", "owner_id", *FACETS, "name_key", "name", "id"),
)

mlcube_assets = sa.Table(
    "mlcube_assets",
    mlcubes.metadata,
    sa.Column("mlcube_id", sa.ForeignKey("mlcubes.id"), primary_key=True),
    sa.Column("asset_id", sa.ForeignKey("assets.id"), primary_key=True, index=True),
)
