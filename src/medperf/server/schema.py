"""What all tables share: one metadata with named constraints, ids that are never used twice, and times as text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

#: The newest migration; a test compares it with the migrations folder. Here so that starting a server does not load Alembic.
REVISION = "0007"

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(column_0_label)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def table(name: str, *columns: Any) -> sa.Table:
    """A table whose integer ids are never given twice, not even after a row is gone."""
    return sa.Table(name, metadata, *columns, sqlite_autoincrement=True)


def id_column() -> sa.Column[int]:
    """The integer id that people see."""
    return sa.Column("id", sa.Integer, primary_key=True, autoincrement=True)


def time_column(name: str, *, nullable: bool = False) -> sa.Column[str]:
    """UTC, written ``2026-01-31T12:00:00.000000Z``: fixed width, so text order is time order, and it goes into JSON as it is."""
    return sa.Column(name, sa.String(27), nullable=nullable)


def json_column(name: str) -> sa.Column[str]:
    """JSON text. It was checked when it came in and goes out unread."""
    return sa.Column(name, sa.Text, nullable=False)


def as_text(moment: datetime) -> str:
    """The stored form of a time."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def now() -> str:
    """This moment in stored form."""
    return as_text(datetime.now(UTC))


settings = sa.Table(
    "settings",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("instance_id", sa.String(36), nullable=False),
    sa.Column("development", sa.Boolean, nullable=False),
    time_column("created_at"),
    sa.CheckConstraint("id = 1", name="one_row"),
)

idempotency_keys = table(
    "idempotency_keys",
    id_column(),
    sa.Column("user_id", sa.ForeignKey("users.id"), nullable=False),
    sa.Column("route", sa.String(64), nullable=False),
    sa.Column("key_hash", sa.String(64), nullable=False),
    sa.Column("body_hash", sa.String(64), nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    json_column("headers"),
    json_column("body"),
    time_column("created_at"),
    sa.UniqueConstraint("user_id", "route", "key_hash"),
    sa.Index("ix_idempotency_keys_created_at", "created_at"),
)
