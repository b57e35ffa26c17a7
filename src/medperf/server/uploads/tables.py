"""Table of uploads. How much of one has come is the size of its file, which a killed server cannot get wrong."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.domain import limits
from medperf.server.schema import metadata, time_column

uploads = sa.Table(
    "uploads",
    metadata,
    sa.Column("id", sa.String(36), primary_key=True),  # random: it says nothing about how many there are
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("owner_id", sa.ForeignKey("parties.id"), nullable=False, index=True),
    sa.Column("name", sa.String(limits.NAME_LENGTH), nullable=False),
    sa.Column("digest", sa.String(71), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    # a completed upload stays a while, so that its completion can be asked for again
    sa.Column("asset_id", sa.ForeignKey("assets.id"), nullable=True, index=True),
    time_column("created_at"),
    time_column("expires_at"),
    sa.Index("ix_uploads_expires_at", "expires_at"),
)
