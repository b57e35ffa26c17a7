"""Statements about audit events and checkpoints."""

from __future__ import annotations

from typing import Any

import orjson
import sqlalchemy as sa

from medperf.server.audit.chain import Checkpoint
from medperf.server.audit.service import PERSONAL, Action
from medperf.server.audit.tables import audit_checkpoints, audit_events, audit_personal
from medperf.server.db import Transaction
from medperf.server.paging import Listing
from medperf.server.responses import raw_json
from medperf.server.schema import settings

#: In the order of a leaf.
EVENT = (
    audit_events.c.id,
    audit_events.c.at,
    audit_events.c.actor_id,
    audit_events.c.action,
    audit_events.c.target,
    audit_events.c.data,
)
CHECKPOINT = tuple(column for column in audit_checkpoints.c if column.name != "leaves")
CHECKPOINT_NAMES = tuple(str(column.name) for column in CHECKPOINT)
_WITH_PERSONAL = audit_events.outerjoin(audit_personal, audit_personal.c.event_id == audit_events.c.id)


def view(row: sa.Row[Any]) -> dict[str, Any]:
    """As `medperf.wire.audit.AuditEventView`."""
    return {
        "id": row.id,
        "at": row.at,
        "actor_id": row.actor_id,
        "action": row.action,
        "target": row.target,
        "data": raw_json(row.data),
        "personal": None if row.value is None else raw_json(row.value),
        "erased": row.value is None and f'"{PERSONAL}"' in row.data and PERSONAL in orjson.loads(row.data),
    }


def checkpoint_view(row: sa.Row[Any]) -> dict[str, Any]:
    """As `medperf.wire.audit.CheckpointView`."""
    return {name: getattr(row, name) for name in CHECKPOINT_NAMES}


LISTING = Listing(
    sa.select(*EVENT, audit_personal.c.value).select_from(_WITH_PERSONAL),
    key=audit_events.c.id,
    view=view,
    visible=None,
    filters={"action": audit_events.c.action, "target": audit_events.c.target},
)
CHECKPOINTS = Listing(
    sa.select(*CHECKPOINT), key=audit_checkpoints.c.id, view=checkpoint_view, visible=None, filters={}
)

# ------------------------------------------------------------------------------------------------- for sealer and verifier

_PAGE = sa.bindparam("page", type_=sa.Integer)
_LAST = sa.select(*CHECKPOINT).order_by(audit_checkpoints.c.id.desc()).limit(1)
_FROM = (
    sa.select(*CHECKPOINT)
    .where(audit_checkpoints.c.id > sa.bindparam("after"))
    .order_by(audit_checkpoints.c.id)
    .limit(_PAGE)
)
_LEAVES = sa.select(audit_checkpoints.c.leaves).where(audit_checkpoints.c.id == sa.bindparam("checkpoint"))
_LOWEST_CHECKPOINT = sa.select(sa.func.min(audit_checkpoints.c.id))
_LOWEST = sa.select(sa.func.min(audit_events.c.id))
_NEWEST = sa.select(sa.func.max(audit_events.c.id))
_IN_RANGE = (audit_events.c.id > sa.bindparam("after")) & (audit_events.c.id <= sa.bindparam("until"))


def _ranged(statement: sa.Select[Any]) -> sa.Select[Any]:
    return statement.where(_IN_RANGE).order_by(audit_events.c.id).limit(_PAGE)


_EVENTS = _ranged(sa.select(*EVENT))
_EVENTS_WHOLE = _ranged(sa.select(*EVENT, audit_personal.c.salt, audit_personal.c.value).select_from(_WITH_PERSONAL))
_IDS = _ranged(sa.select(audit_events.c.id))
_SEALED = sa.select(sa.func.coalesce(sa.func.sum(audit_checkpoints.c.events), 0))
_AFTER = sa.select(sa.func.count()).select_from(audit_events).where(audit_events.c.id > sa.bindparam("after"))
_ERASED = sa.select(audit_events.c.target).where(
    audit_events.c.id > sa.bindparam("after"), audit_events.c.action == Action.USER_ERASED.value
)
_INSTANCE = sa.select(settings.c.instance_id)
#: Until this transaction ends, nobody resets the server.
_INSTANCE_HELD = _INSTANCE.with_for_update(read=True)


def checkpoint_of(row: sa.Row[Any]) -> Checkpoint:
    """A row without its own hash and signature."""
    return Checkpoint(
        id=row.id,
        version=row.version,
        instance_id=row.instance_id,
        first_event=row.first_event,
        last_event=row.last_event,
        events=row.events,
        root=row.root,
        previous=row.previous,
        sealed_at=row.sealed_at,
        key=row.key,
    )


async def instance(tx: Transaction, *, hold: bool = False) -> str:
    """The server's instance id; ``hold``: it stays until the transaction ends."""
    return str(await _value(tx, _INSTANCE_HELD if hold else _INSTANCE))


async def last_checkpoint(tx: Transaction) -> sa.Row[Any] | None:
    """The newest checkpoint."""
    return await tx.first(_LAST)


async def checkpoints(tx: Transaction, *, after: int, page: int) -> list[sa.Row[Any]]:
    """Checkpoints in ascending order, from the one behind ``after``."""
    return list(await tx.all(_FROM, {"after": after, "page": page}))


async def leaves(tx: Transaction, checkpoint: int) -> bytes | None:
    """What `chain.pack` made for a checkpoint; None where it is no bytes any more."""
    try:
        return bytes(await _value(tx, _LEAVES, checkpoint=checkpoint))
    except TypeError:
        return None


async def insert_checkpoint(tx: Transaction, checkpoint: Checkpoint, *, signature: str, packed: bytes) -> bool:
    """Whether it was written; not if there is one with this number."""
    values = {name: getattr(checkpoint, name) for name in CHECKPOINT_NAMES if hasattr(checkpoint, name)}
    values |= {"hash": checkpoint.hash(), "signature": signature, "leaves": packed}
    return await tx.insert_or_none(audit_checkpoints, values) is not None


async def newest_event(tx: Transaction) -> int:
    """The highest id of an event, 0 where there is none."""
    return int(await _value(tx, _NEWEST) or 0)


async def lowest_event(tx: Transaction) -> int:
    """The lowest id of an event, 1 where there is none."""
    return _or_one(await _value(tx, _LOWEST))


async def lowest_checkpoint(tx: Transaction) -> int:
    """The lowest number of a checkpoint, 1 where there is none."""
    return _or_one(await _value(tx, _LOWEST_CHECKPOINT))


async def events(tx: Transaction, *, after: int, until: int, page: int) -> list[tuple[Any, ...]]:
    """Events with ids above ``after`` and up to ``until``, as `chain.leaf` takes them."""
    return [tuple(row) for row in await tx.all(_EVENTS, {"after": after, "until": until, "page": page})]


async def whole_events(tx: Transaction, *, after: int, until: int, page: int) -> list[tuple[Any, ...]]:
    """As `events`, each with salt and personal value, or two None."""
    return [tuple(row) for row in await tx.all(_EVENTS_WHOLE, {"after": after, "until": until, "page": page})]


async def event_ids(tx: Transaction, *, after: int, until: int, page: int) -> list[int]:
    """Their ids alone."""
    return [row[0] for row in await tx.all(_IDS, {"after": after, "until": until, "page": page})]


async def count_sealed(tx: Transaction) -> int:
    """How many events the checkpoints say they cover."""
    return int(await _value(tx, _SEALED))


async def count_after(tx: Transaction, event_id: int) -> int:
    """How many events follow that one."""
    return int(await _value(tx, _AFTER, after=event_id))


async def erased_after(tx: Transaction, event_id: int) -> set[str]:
    """Targets of erasures that follow that event."""
    return {row.target for row in await tx.all(_ERASED, {"after": event_id})}


def _or_one(found: int | None) -> int:
    return 1 if found is None else int(found)


async def _value(tx: Transaction, statement: sa.Select[Any], **parameters: Any) -> Any:
    return (await tx.execute(statement, parameters)).scalar_one()
