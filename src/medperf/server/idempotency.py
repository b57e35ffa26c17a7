"""Idempotency-Key: the same request twice makes one thing and gets one answer.

The key and the answer are stored at the end of the transaction of the change. A second request with the key tries the same, and cannot
do it twice: either the change itself is refused, or the key's unique rule stands against it, so all of it is undone, and it gets the first
one's answer. Where the first one is not at its end yet, the second waits for it at one of these two, and has its turn if that fails.
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

from medperf.domain.errors import Conflict, MedPerfError, ServerUnavailable
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
    _KEYS.created_at >= sa.bindparam("oldest"),
)


class _Taken(Exception):
    """The key is there already."""


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
        make: changes nothing but the database, for it may be undone.
        route: names the operation, e.g. ``"POST /mlcubes"``.
        content: the request's body, or what stands for it.
        alone: see `Actor.change`.

    Raises:
        Conflict: ``idempotency_key_reused``: the key came with another body.
    """
    if key is None:
        async with actor.change(server.database, alone=alone) as tx:
            return (await make(tx)).response()
    mine = {
        "user_id": actor.user_id,
        "route": route,
        "key_hash": hashlib.sha256(key.encode()).hexdigest(),
    }
    # The body may hold a password: its hash is keyed with what only the client knows.
    body_hash = hmac.digest(key.encode(), content, "sha256").hex()
    try:
        async with actor.change(server.database, alone=alone) as tx:
            created = await make(tx)
            await _keep(server, tx, mine, body_hash, created)
            return created.response()
    except (_Taken, MedPerfError) as error:
        if isinstance(error, ServerUnavailable):
            raise
        # Perhaps only because it was done before. In a write, so that what was done is on the disk when its answer is given again.
        async with actor.change(server.database) as tx:
            answer = await _first_answer(tx, {**mine, "oldest": _oldest(server)}, body_hash)
        if answer is not None:
            return answer
        raise (busy() if isinstance(error, _Taken) else error) from None  # a reset or a sweep was faster


async def _keep(server: ServerContext, tx: Transaction, mine: dict[str, Any], body_hash: str, created: Created) -> None:
    """Write down the answer.

    Raises:
        _Taken: the key is there already.
    """
    values = {
        **mine,
        "body_hash": body_hash,
        "status": created.status,
        "headers": dump_text(created.headers),
        "body": created.body.decode(),
        "created_at": now(),
    }
    if await tx.insert_or_none(idempotency_keys, values) is not None:
        return
    forgotten = await tx.execute(_FORGOTTEN, {**mine, "oldest": _oldest(server)})
    if not forgotten.rowcount or await tx.insert_or_none(idempotency_keys, values) is None:
        raise _Taken


async def sweep(server: ServerContext) -> None:
    """Forget the keys that are too old, a hundred at a time."""
    while True:
        async with server.database.write() as tx:
            if not (await tx.execute(_SWEEP, {"oldest": _oldest(server)})).rowcount:
                return


def _oldest(server: ServerContext) -> str:
    return as_text(datetime.now(UTC) - timedelta(seconds=server.settings.idempotency_seconds))


async def _first_answer(tx: Transaction, asked: dict[str, Any], body_hash: str) -> Response | None:
    """What was answered to this key, None if it is unknown.

    Raises:
        Conflict: ``idempotency_key_reused``.
    """
    row = await tx.first(_KNOWN, asked)
    if row is None:
        return None
    if not hmac.compare_digest(row.body_hash, body_hash):
        raise Conflict(
            "idempotency_key_reused",
            "This Idempotency-Key was already used for another request.",
            "Use a new key.",
        )
    return Created(row.body.encode(), row.status, orjson.loads(row.headers)).response()
