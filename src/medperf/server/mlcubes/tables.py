"""Tables of MLCubes, and of the assets their files name."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.domain import limits
from medperf.server.schema import id_column, json_column, table, time_column

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
)

mlcube_assets = sa.Table(
    "mlcube_assets",
    mlcubes.metadata,
    sa.Column("mlcube_id", sa.ForeignKey("mlcubes.id"), primary_key=True),
    sa.Column("asset_id", sa.ForeignKey("assets.id"), primary_key=True, index=True),
)
