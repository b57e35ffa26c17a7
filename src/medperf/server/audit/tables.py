"""Tables of the audit trail."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.server.schema import id_column, json_column, metadata, table, time_column

audit_events = table(
    "audit_events",
    id_column(),
    time_column("at"),
    # no foreign key: an event outlives what it speaks of
    sa.Column("actor_id", sa.Integer, nullable=True),
    sa.Column("action", sa.String(64), nullable=False),
    sa.Column("target", sa.String(64), nullable=False),
    json_column("data"),
    # for listings, see medperf.server.paging
    sa.Index("ix_audit_events_action", "action", "id"),
    sa.Index("ix_audit_events_target", "target", "id"),
)

#: Names, addresses and free text of an event. A row that is gone was erased: the event keeps only its salted commitment.
audit_personal = sa.Table(
    "audit_personal",
    metadata,
    sa.Column("event_id", sa.ForeignKey("audit_events.id"), primary_key=True, autoincrement=False),
    # the account whose erasure takes the row away
    sa.Column("subject_id", sa.Integer, nullable=False, index=True),
    sa.Column("salt", sa.String(64), nullable=False),
    json_column("value"),
)

audit_checkpoints = sa.Table(
    "audit_checkpoints",
    metadata,
    # counted by the sealer without gaps; of two sealers at once the key refuses one
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("instance_id", sa.String(36), nullable=False),
    sa.Column("first_event", sa.Integer, nullable=False),
    sa.Column("last_event", sa.Integer, nullable=False),
    sa.Column("events", sa.Integer, nullable=False),
    sa.Column("root", sa.String(71), nullable=False),
    sa.Column("previous", sa.String(71), nullable=False),
    time_column("sealed_at"),
    sa.Column("key", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(71), nullable=False),
    sa.Column("signature", sa.String(128), nullable=False),
    # last: a row is read without it
    sa.Column("leaves", sa.LargeBinary, nullable=False),
)
