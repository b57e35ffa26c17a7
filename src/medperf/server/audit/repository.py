"""Statements about audit events."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from medperf.server.audit.tables import audit_events
from medperf.server.paging import Listing
from medperf.server.responses import raw_json

COLUMNS = (
    audit_events.c.id,
    audit_events.c.at,
    audit_events.c.actor_id,
    audit_events.c.action,
    audit_events.c.target,
    audit_events.c.data,
)


def view(row: sa.Row[Any]) -> dict[str, Any]:
    """As `medperf.wire.models.AuditEventView`."""
    return {
        "id": row.id,
        "at": row.at,
        "actor_id": row.actor_id,
        "action": row.action,
        "target": row.target,
        "data": raw_json(row.data),
    }


LISTING = Listing(
    sa.select(*COLUMNS),
    key=audit_events.c.id,
    view=view,
    visible=None,
    filters={"action": audit_events.c.action, "target": audit_events.c.target},
)
