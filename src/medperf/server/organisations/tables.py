"""Tables of organisations and of invitations to them. Members are in `medperf.server.parties.tables`."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.domain import limits
from medperf.server.parties.tables import parties
from medperf.server.schema import id_column, table, time_column

organisations = sa.Table(
    "organisations",
    parties.metadata,
    sa.Column("party_id", sa.ForeignKey("parties.id"), primary_key=True, autoincrement=False),
    # the name as `medperf.domain.organisations.name_key` sees it, so that none can pass for another by capitals, width or spaces; longer than the name at worst
    sa.Column("name_key", sa.String(4 * limits.NAME_LENGTH), nullable=False, unique=True),
    sa.Column("created_by", sa.ForeignKey("users.id"), nullable=False, index=True),
    sa.Column("version", sa.Integer, nullable=False),
    time_column("modified_at"),
)

#: Open ones only: an answer or an end removes the row, and the audit trail keeps what happened. The account is known by its name
#: alone, so an invitation to nobody is no different.
invitations = table(
    "invitations",
    id_column(),
    sa.Column("party_id", sa.ForeignKey("organisations.party_id"), nullable=False),
    sa.Column("username", sa.String(limits.USERNAME_LENGTH), nullable=False),
    sa.Column("username_key", sa.String(limits.USERNAME_LENGTH), nullable=False, index=True),
    sa.Column("can_manage", sa.Boolean, nullable=False),
    sa.Column("can_operate", sa.Boolean, nullable=False),
    sa.Column("can_release", sa.Boolean, nullable=False),
    sa.Column("invited_by", sa.ForeignKey("users.id"), nullable=False),
    time_column("created_at"),
    time_column("expires_at"),
    sa.CheckConstraint("can_manage OR can_operate OR can_release", name="has_a_right"),
    sa.UniqueConstraint("party_id", "username_key"),
)
