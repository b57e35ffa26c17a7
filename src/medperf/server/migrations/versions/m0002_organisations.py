"""Organisations: memberships and invitations. Every account becomes the one member of its own party."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward."""
    memberships = op.create_table(
        "memberships",
        sa.Column("user_id", sa.Integer(), nullable=False),
        sa.Column("party_id", sa.Integer(), nullable=False),
        sa.Column("can_manage", sa.Boolean(), nullable=False),
        sa.Column("can_operate", sa.Boolean(), nullable=False),
        sa.Column("can_release", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("modified_at", sa.String(length=27), nullable=False),
        sa.CheckConstraint("can_manage OR can_operate OR can_release", name=op.f("ck_memberships_has_a_right")),
        sa.ForeignKeyConstraint(["party_id"], ["parties.id"], name=op.f("fk_memberships_party_id")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_memberships_user_id")),
        sa.PrimaryKeyConstraint("user_id", "party_id", name=op.f("pk_memberships")),
    )
    op.create_index("ix_memberships_party_id", "memberships", ["party_id"], unique=False)
    op.create_table(
        "organisations",
        sa.Column("party_id", sa.Integer(), nullable=False),
        sa.Column("name_key", sa.String(length=512), nullable=False),
        sa.Column("created_by", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("modified_at", sa.String(length=27), nullable=False),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("fk_organisations_created_by")),
        sa.ForeignKeyConstraint(["party_id"], ["parties.id"], name=op.f("fk_organisations_party_id")),
        sa.PrimaryKeyConstraint("party_id", name=op.f("pk_organisations")),
        sa.UniqueConstraint("name_key", name=op.f("uq_organisations_name_key")),
    )
    op.create_index("ix_organisations_created_by", "organisations", ["created_by"], unique=False)
    op.create_table(
        "invitations",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("party_id", sa.Integer(), nullable=False),
        sa.Column("username", sa.String(length=64), nullable=False),
        sa.Column("username_key", sa.String(length=64), nullable=False),
        sa.Column("can_manage", sa.Boolean(), nullable=False),
        sa.Column("can_operate", sa.Boolean(), nullable=False),
        sa.Column("can_release", sa.Boolean(), nullable=False),
        sa.Column("invited_by", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.String(length=27), nullable=False),
        sa.Column("expires_at", sa.String(length=27), nullable=False),
        sa.CheckConstraint("can_manage OR can_operate OR can_release", name=op.f("ck_invitations_has_a_right")),
        sa.ForeignKeyConstraint(["invited_by"], ["users.id"], name=op.f("fk_invitations_invited_by")),
        sa.ForeignKeyConstraint(["party_id"], ["organisations.party_id"], name=op.f("fk_invitations_party_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitations")),
        sa.UniqueConstraint("party_id", "username_key", name=op.f("uq_invitations_party_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_invitations_username_key", "invitations", ["username_key"], unique=False)
    users = sa.table(
        "users",
        *(sa.column(name) for name in ("id", "party_id", "created_at", "modified_at")),
    )
    columns = ["user_id", "party_id", "can_manage", "can_operate", "can_release", "created_at", "modified_at"]
    yes = sa.true()
    everybody = sa.select(users.c.id, users.c.party_id, yes, yes, yes, users.c.created_at, users.c.created_at)
    op.execute(sa.insert(memberships).from_select(columns, everybody))
