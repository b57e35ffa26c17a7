"""Writing audit events."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from medperf.server.audit.tables import audit_events
from medperf.server.db import Transaction
from medperf.server.responses import dump_text
from medperf.server.schema import now


class Action(StrEnum):
    """What can happen. Names never change their meaning."""

    SERVER_INITIALISED = "server.initialised"
    SERVER_RESET = "server.reset"
    USER_CREATED = "user.created"
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    PASSWORD_CHANGED = "user.password_changed"  # noqa: S105 - the name of an event
    TOKEN_CREATED = "token.created"  # noqa: S105 - the name of an event
    TOKEN_REVOKED = "token.revoked"  # noqa: S105 - the name of an event
    MLCUBE_CREATED = "mlcube.created"
    MLCUBE_UPDATED = "mlcube.updated"
    BENCHMARK_CREATED = "benchmark.created"
    BENCHMARK_UPDATED = "benchmark.updated"
    BENCHMARK_DECIDED = "benchmark.decided"
    ASSET_CREATED = "asset.created"
    ASSET_DELETED = "asset.deleted"


async def record(
    tx: Transaction, actor_id: int | None, action: Action, target: str, data: dict[str, Any] | None = None
) -> None:
    """Write one event in the transaction of the change.

    Args:
        actor_id: the account's id.
        target: what was changed, e.g. ``"mlcube:3"``.
        data: ids, digests, states and field names; never names, addresses or secrets.
    """
    await tx.execute(
        sa.insert(audit_events).values(
            at=now(), actor_id=actor_id, action=action.value, target=target, data=dump_text(data or {})
        )
    )
