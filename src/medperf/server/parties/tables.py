"""Tables of parties and of who belongs to them.

A person's party has one member, that person, with every right, for ever: so one query answers for persons and organisations alike.
"""

from __future__ import annotations

import sqlalchemy as sa

from medperf.domain import limits
from medperf.server.schema import id_column, table, time_column

parties = table(
    "parties",
    id_column(),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("name", sa.String(limits.NAME_LENGTH), nullable=False),
    time_column("created_at"),
    sa.CheckConstraint("kind IN ('person', 'organisation')", name="kind"),
)

memberships = sa.Table(
    "memberships",
    parties.metadata,
    # the account first: every request asks "which parties are mine", few ask "who is in this one"
    sa.Column("user_id", sa.ForeignKey("users.id"), primary_key=True),
    sa.Column("party_id", sa.ForeignKey("parties.id"), primary_key=True, index=True),
    sa.Column("can_manage", sa.Boolean, nullable=False),
    sa.Column("can_operate", sa.Boolean, nullable=False),
    sa.Column("can_release", sa.Boolean, nullable=False),
    time_column("created_at"),
    time_column("modified_at"),
    sa.CheckConstraint("can_manage OR can_operate OR can_release", name="has_a_right"),
)
