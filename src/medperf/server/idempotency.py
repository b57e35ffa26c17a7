"""Idempotency-Key: the same request twice makes one thing and gets one answer.

The key and the answer are stored in the transaction of the change, and writers wait for each other, so of two at once one makes the
thing and the other gets its answer.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import orjson
import sqlalchemy as sa
from starlette.responses import Response

from medperf.domain.errors import Conflict
from medperf.server.authz import Actor
from medperf.server.context import ServerContext
from medperf.server.db import Transaction
from medperf.server.responses import dump_text
from medperf.server.schema import as_text, idempotency_keys, now


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
) -> Response:
    """Run ``make`` in a write transaction, or give the first answer to this key again.

    Args:
        route: names the operation, e.g. ``"POST /mlcubes"``.
        content: the request's body, or what stands for it.

    Raises:
        Conflict: ``idempotency_key_reused``: the key came with another body.
    """
    async with actor.change(server.database) as tx:
        if key is None:
            return (await make(tx)).response()
        # The body may hold a password: its hash is keyed with what only the client knows.
        key_hash = hashlib.sha256(key.encode()).hexdigest()
        body_hash = hmac.digest(key.encode(), content, "sha256").hex()
        table = idempotency_keys.c
        row = await tx.first(
            sa.select(table.body_hash, table.status, table.headers, table.body).where(
                table.user_id == actor.user_id, table.route == route, table.key_hash == key_hash
            )
        )
        if row is not None:
            if not hmac.compare_digest(row.body_hash, body_hash):
                raise Conflict(
                    "idempotency_key_reused",
                    "This Idempotency-Key was already used for another request.",
                    "Use a new key.",
                )
            return Created(row.body.encode(), row.status, orjson.loads(row.headers)).response()
        created = await make(tx)
        oldest = as_text(datetime.now(UTC) - timedelta(seconds=server.settings.idempotency_seconds))
        await tx.execute(sa.delete(idempotency_keys).where(table.created_at < oldest))
        await tx.execute(
            sa.insert(idempotency_keys).values(
                user_id=actor.user_id,
                route=route,
                key_hash=key_hash,
                body_hash=body_hash,
                status=created.status,
                headers=dump_text(created.headers),
                body=created.body.decode(),
                created_at=now(),
            )
        )
        return created.response()
