"""Table of audit events."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.server.schema import id_column, json_column, table, time_column

audit_events = table(
    "audit_events",
    id_column(),
    time_column("at"),
    # no foreign key: an event outlives what it speaks of
    sa.Column("actor_id", sa.Integer, nullable=True),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("target", sa.String(64), nullable=False, index=True),
    json_column("data"),
)
