"""Table of assets. Rows with one digest share one file; nobody can tell."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.domain import limits
from medperf.server.schema import id_column, table, time_column

assets = table(
    "assets",
    id_column(),
    sa.Column("owner_id", sa.ForeignKey("parties.id"), nullable=False, index=True),
    sa.Column("name", sa.String(limits.NAME_LENGTH), nullable=False),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    time_column("created_at"),
)
