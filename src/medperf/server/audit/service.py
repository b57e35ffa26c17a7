"""Writing audit events."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import sqlalchemy as sa

from medperf.server.audit.chain import commitment
from medperf.server.audit.tables import audit_events, audit_personal
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
    USER_ERASED = "user.erased"
    PASSWORD_CHANGED = "user.password_changed"  # noqa: S105 - the name of an event
    TOKEN_CREATED = "token.created"  # noqa: S105 - the name of an event
    TOKEN_REVOKED = "token.revoked"  # noqa: S105 - the name of an event
    MLCUBE_CREATED = "mlcube.created"
    MLCUBE_UPDATED = "mlcube.updated"
    BENCHMARK_CREATED = "benchmark.created"
    BENCHMARK_UPDATED = "benchmark.updated"
    BENCHMARK_DECIDED = "benchmark.decided"
    DATASET_CREATED = "dataset.created"
    DATASET_UPDATED = "dataset.updated"
    DATASET_STATISTICS_SET = "dataset.statistics_set"
    ASSOCIATION_ASKED = "association.asked"
    ASSOCIATION_DECIDED = "association.decided"
    ASSOCIATION_UPDATED = "association.updated"
    ASSET_CREATED = "asset.created"
    ASSET_DELETED = "asset.deleted"
    ORGANISATION_CREATED = "organisation.created"
    ORGANISATION_RENAMED = "organisation.renamed"
    MEMBER_RIGHTS_CHANGED = "member.rights_changed"
    MEMBER_REMOVED = "member.removed"
    MEMBER_LEFT = "member.left"
    INVITATION_CREATED = "invitation.created"
    INVITATION_CANCELLED = "invitation.cancelled"
    INVITATION_ACCEPTED = "invitation.accepted"
    INVITATION_DECLINED = "invitation.declined"
    UPLOAD_CREATED = "upload.created"
    UPLOAD_CANCELLED = "upload.cancelled"
    EXECUTION_CREATED = "execution.created"
    ATTEMPT_REGISTERED = "attempt.registered"
    ATTEMPT_REPORTED = "attempt.reported"
    RESULT_RELEASED = "result.released"
    RESULT_WITHHELD = "result.withheld"
    RESULT_RETRACTED = "result.retracted"
    AUDIT_ACCEPTED = "audit.accepted"


#: The member of an event's data that commits to its personal values.
PERSONAL = "personal"
_SALT_BYTES = 32
_EVENT = sa.insert(audit_events)
_VALUE = sa.insert(audit_personal)
_ERASE = sa.delete(audit_personal).where(audit_personal.c.subject_id == sa.bindparam("subject"))


async def record(
    tx: Transaction,
    actor_id: int | None,
    action: Action,
    target: str,
    data: dict[str, Any] | None = None,
    *,
    personal: Mapping[str, str | None] | None = None,
    subject: int | None = None,
) -> None:
    """Write one event in the transaction of the change.

    Args:
        actor_id: the account's id.
        target: what was changed, e.g. ``"mlcube:3"``.
        data: ids, digests, states and field names; never names, addresses or secrets: it stays for ever.
        personal: names, addresses, free text: kept apart, so that they can be erased. Never secrets. None and "" are left out.
        subject: the account that ``personal`` speaks of, or whose words they are; ``actor_id`` when missing.
    """
    data = dict(data or {})
    said = {name: value for name, value in (personal or {}).items() if value}
    values = {"at": now(), "actor_id": actor_id, "action": action.value, "target": target}
    if not said:
        await tx.execute(_EVENT, {**values, "data": dump_text(data)})
        return
    text, salt = dump_text(said), secrets.token_bytes(_SALT_BYTES)
    data[PERSONAL] = commitment(salt, text)
    event_id = await tx.insert(_EVENT.values(**values, data=dump_text(data)))
    owner = subject if subject is not None else actor_id
    assert owner is not None, "personal values belong to somebody"
    await tx.execute(_VALUE, {"event_id": event_id, "subject_id": owner, "salt": salt.hex(), "value": text})


async def erase(tx: Transaction, subject: int) -> int:
    """Forget every personal value of an account; returns how many events had some. The events and their seals stay as they are."""
    return int((await tx.execute(_ERASE, {"subject": subject})).rowcount)
