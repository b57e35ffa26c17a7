"""Table of parties."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.server.schema import id_column, table, time_column

parties = table(
    "parties",
    id_column(),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("name", sa.String(128), nullable=False),
    time_column("created_at"),
    sa.CheckConstraint("kind IN ('person', 'organisation')", name="kind"),
)
