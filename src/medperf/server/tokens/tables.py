"""Table of tokens."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.server.schema import id_column, table, time_column

tokens = table(
    "tokens",
    id_column(),
    sa.Column("hash", sa.String(64), nullable=False, unique=True),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    time_column("created_at"),
    time_column("expires_at"),
    time_column("revoked_at", nullable=True),
)
