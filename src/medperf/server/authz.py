"""What a handler's signature says about permission: ``actor: Visitor``, ``actor: Account`` or ``actor: Admin``. Without one no route passes
the tests.

What an account may see is a SQL condition per noun (``visible_to`` in its policy), used for lists and for checks alike; what is not
visible is 404.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import sqlalchemy as sa
from fastapi import Depends
from starlette.requests import Request

from medperf.domain.errors import Forbidden, InvalidInput
from medperf.server.auth import Identity, identify, unauthenticated, wrong_instance
from medperf.server.db import Database, Transaction

#: The asking party, in statements that are built once: give them `Actor.sql`.
PARTY = sa.bindparam("actor_party", type_=sa.Integer)


@dataclass(frozen=True, slots=True)
class Actor:
    """An account that is logged in. ``party_id`` owns what it makes; ``development``: the server is marked for development."""

    user_id: int
    party_id: int
    is_admin: bool
    instance_id: str
    token_hash: str
    development: bool = False

    @property
    def sql(self) -> dict[str, int]:
        """The value of `PARTY`."""
        return {"actor_party": self.party_id}

    @asynccontextmanager
    async def change(self, database: Database) -> AsyncIterator[Transaction]:
        """A write transaction of this actor. The login and the instance are looked at again inside it, since the server may have
        been reset, or the account disabled, after the request began.
        """
        async with database.write() as tx:
            found = await identify(tx, self.token_hash)
            if found.instance_id != self.instance_id:
                raise wrong_instance()
            if found.user_id is None or found.is_admin != self.is_admin:
                raise unauthenticated(found.refusal)
            yield tx


async def visitor(request: Request) -> Identity:
    """Anybody, logged in or not."""
    _refuse_unread_query(request)
    identity = request.scope["medperf.identity"]
    assert isinstance(identity, Identity)
    return identity


async def account(request: Request) -> Actor:
    """Anybody with an account.

    Raises:
        Unauthenticated: no token, or one that is no good.
    """
    identity: Identity = request.scope["medperf.identity"]
    if identity.user_id is None or identity.party_id is None or identity.token_hash is None:
        raise unauthenticated(identity.refusal)
    _refuse_unread_query(request)
    return Actor(
        identity.user_id,
        identity.party_id,
        identity.is_admin,
        identity.instance_id,
        identity.token_hash,
        identity.development,
    )


async def admin(request: Request) -> Actor:
    """An admin of the server.

    Raises:
        Unauthenticated: as `account`.
        Forbidden: an account without the right.
    """
    actor = await account(request)
    if not actor.is_admin:
        raise Forbidden("admin_only", "Only an admin of the server may do this.", "Ask an admin of this server.")
    return actor


def _refuse_unread_query(request: Request) -> None:
    """A query that no one reads would be ignored: refuse it instead."""
    if request.scope["query_string"] and "parameters" not in (
        getattr(request.scope["route"], "openapi_extra", None) or {}
    ):
        raise InvalidInput("unknown_parameter", "This address takes no query parameters.", "Leave them out.")


Visitor = Annotated[Identity, Depends(visitor, use_cache=False)]
Account = Annotated[Actor, Depends(account, use_cache=False)]
Admin = Annotated[Actor, Depends(admin, use_cache=False)]
