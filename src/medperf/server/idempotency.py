"""Idempotency-Key: the same request twice makes one thing and gets one answer.

The key and the answer are stored in the transaction of the change. Of two at once the key's unique rule lets one through; the other waits
for it, and gets its answer, or its turn if the first one failed.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import sqlalchemy as sa
from starlette.responses import Response

from medperf.domain.errors import Conflict
from medperf.server.authz import Actor
from medperf.server.context import ServerContext
from medperf.server.db import Transaction
from medperf.server.responses import dump_text
from medperf.server.schema import as_text, idempotency_keys, now
from medperf.server.trouble import busy

_KEYS = idempotency_keys.c
#: A few at a time, and none that another request is sweeping already.
_SWEEP = sa.delete(idempotency_keys).where(
    _KEYS.id.in_(
        sa.select(_KEYS.id)
        .where(_KEYS.created_at < sa.bindparam("oldest"))
        .order_by(_KEYS.created_at)
        .limit(100)
        .with_for_update(skip_locked=True)
    )
)
_FORGOTTEN = sa.delete(idempotency_keys).where(
    _KEYS.user_id == sa.bindparam("user_id"),
    _KEYS.route == sa.bindparam("route"),
    _KEYS.key_hash == sa.bindparam("key_hash"),
    _KEYS.created_at < sa.bindparam("oldest"),
)
_KNOWN = sa.select(_KEYS.body_hash, _KEYS.status, _KEYS.headers, _KEYS.body).where(
    _KEYS.user_id == sa.bindparam("user_id"),
    _KEYS.route == sa.bindparam("route"),
    _KEYS.key_hash == sa.bindparam("key_hash"),
)
_ANSWERED = sa.update(idempotency_keys).where(_KEYS.id == sa.bindparam("row_id"))


@dataclass(frozen=True, slots=True)
class Created:
    """The answer to a creation, as bytes so that it can be given again."""

    body: bytes
    status: int = 201
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> Response:
        """As an HTTP answer."""
        return Response(self.body, self.status, media_type="application/json", headers=self.headers)


async def create_once(
    server: ServerContext,
    actor: Actor,
    *,
    route: str,
    key: str | None,
    content: bytes,
    make: Callable[[Transaction], Awaitable[Created]],
    alone: sa.Table | None = None,
) -> Response:
    """Run ``make`` in a write transaction, or give the first answer to this key again.

    Args:
        route: names the operation, e.g. ``"POST /mlcubes"``.
        content: the request's body, or what stands for it.
        alone: see `Actor.change`.

    Raises:
        Conflict: ``idempotency_key_reused``: the key came with another body.
    """
    async with actor.change(server.database, alone=alone) as tx:
        if key is None:
            return (await make(tx)).response()
        # The body may hold a password: its hash is keyed with what only the client knows.
        body_hash = hmac.digest(key.encode(), content, "sha256").hex()
        values = {
            "user_id": actor.user_id,
            "route": route,
            "key_hash": hashlib.sha256(key.encode()).hexdigest(),
            "body_hash": body_hash,
            "status": 0,
            "headers": "{}",
            "body": "",
            "created_at": now(),
        }
        # First, so that of two at once the other waits here for what this one makes of it.
        row_id = await tx.insert_or_none(idempotency_keys, values)
        if row_id is None:
            mine = {name: values[name] for name in ("user_id", "route", "key_hash")}
            forgotten = await tx.execute(_FORGOTTEN, {**mine, "oldest": _oldest(server)})
            row_id = await tx.insert_or_none(idempotency_keys, values) if forgotten.rowcount else None
        if row_id is None:
            return await _first_answer(tx, values)
        created = await make(tx)
        answer = {"status": created.status, "headers": dump_text(created.headers), "body": created.body.decode()}
        await tx.execute(_ANSWERED, {"row_id": row_id, **answer})
        return created.response()


async def sweep(server: ServerContext) -> None:
    """Forget the keys that are too old, a hundred at a time."""
    while True:
        async with server.database.write() as tx:
            if not (await tx.execute(_SWEEP, {"oldest": _oldest(server)})).rowcount:
                return


def _oldest(server: ServerContext) -> str:
    return as_text(datetime.now(UTC) - timedelta(seconds=server.settings.idempotency_seconds))


async def _first_answer(tx: Transaction, values: dict[str, Any]) -> Response:
    """What was answered to this key.

    Raises:
        Conflict: ``idempotency_key_reused``.
    """
    row = await tx.first(_KNOWN, {name: values[name] for name in ("user_id", "route", "key_hash")})
    if row is None:  # a reset or a sweep was faster
        raise busy()
    if not hmac.compare_digest(row.body_hash, values["body_hash"]):
        raise Conflict(
            "idempotency_key_reused",
            "This Idempotency-Key was already used for another request.",
            "Use a new key.",
        )
    return Created(row.body.encode(), row.status, orjson.loads(row.headers)).response()
