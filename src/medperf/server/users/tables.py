"""Table of accounts."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.domain import limits
from medperf.server.schema import id_column, table, time_column

#: What listings tell apart, and all its values.
FACETS = {"is_admin": (True, False), "is_active": (True, False)}

users = table(
    "users",
    id_column(),
    sa.Column("username", sa.String(limits.USERNAME_LENGTH), nullable=False),
    # lower case, so that nobody can pass for another by capitals
    sa.Column("username_key", sa.String(limits.USERNAME_LENGTH), nullable=False, unique=True),
    sa.Column("email", sa.String(limits.EMAIL_LENGTH), nullable=True),
    sa.Column("password_hash", sa.String(256), nullable=False),
    sa.Column("is_admin", sa.Boolean, nullable=False),
    sa.Column("is_active", sa.Boolean, nullable=False),
    sa.Column("party_id", sa.ForeignKey("parties.id"), nullable=False, unique=True),
    time_column("created_at"),
    time_column("modified_at"),
    # for listings, see medperf.server.paging
    sa.Index("ix_users_facets", *FACETS, "id"),
    sa.Index("ix_users_name", *FACETS, "username_key", "username", "id"),
)
