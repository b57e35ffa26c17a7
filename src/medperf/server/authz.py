"""Who asks, and whether they may.

A handler's signature says what is attempted: ``actor: Annotated[Actor, may(Action.MLCUBE_EDIT)]``; ``Visitor`` is
anybody, with an account or without. Without one no route passes the tests. What is decided about a thing is decided by the table of
`medperf.domain.permissions`, through `standing` and `require`; nothing else raises Forbidden.

What an account may see is a SQL condition per noun (``visible_to`` in its policy), used for lists and for checks alike; what is not
visible is 404.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import sqlalchemy as sa
from fastapi import Depends
from starlette.requests import Request

from medperf.domain.errors import Forbidden, InvalidInput
from medperf.domain.permissions import EVERY_RIGHT, Action, Right, Standing, Verdict, decide, decide_early
from medperf.server.auth import Identity, identify, unauthenticated, wrong_instance
from medperf.server.db import Database, Transaction
from medperf.server.parties.tables import memberships, parties

#: The asking account, in statements that are built once: give them `Actor.sql`.
USER = sa.bindparam("actor_user", type_=sa.Integer)
_PARTIES = sa.select(memberships.c.party_id).where(memberships.c.user_id == USER)


def owned(owner: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Whether the asking account belongs to that owner: its personal party, and organisations with any right."""
    return owner.in_(_PARTIES)


def operated(owner: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Whether the asking account may operate for that owner."""
    return owner.in_(_PARTIES.where(memberships.c.can_operate))


@dataclass(frozen=True, slots=True)
class Actor:
    """An account that is logged in. ``party_id`` is its personal party; ``development``: the server is marked for development."""

    user_id: int
    party_id: int
    is_admin: bool
    instance_id: str
    token_hash: str
    development: bool = False

    @property
    def sql(self) -> dict[str, int]:
        """The value of `USER`."""
        return {"actor_user": self.user_id}

    @asynccontextmanager
    async def change(
        self, database: Database, *, alone: sa.Table | None = None, ending: bool = False
    ) -> AsyncIterator[Transaction]:
        """A write transaction of this actor. The login and the instance are looked at again inside it, since the server may have
        been reset, or the account disabled, after the request began; both stay as they are until it ends.

        Args:
            alone: nobody else writes to this table meanwhile. For ``users``, wherever it is written: of two admins that disable
                each other, or one who is disabled while making an account, each would hold what the other waits for.
            ending: it ends this login.
        """
        async with database.write() as tx:
            if alone is not None:
                await identify(tx, None)  # first, as everybody does: see `maintenance.lock_out`
                await tx.lock_table(alone)
            found = await identify(tx, self.token_hash, keep=True, ending=ending)
            if found.instance_id != self.instance_id:
                raise wrong_instance()
            if found.user_id is None or found.is_admin != self.is_admin:
                raise unauthenticated(found.refusal)
            yield tx


# ---------------------------------------------------------------------------------------------------------- what is decided


def require(verdict: Verdict) -> None:
    """The one place that turns a no into an error.

    Raises:
        Forbidden: with the verdict's reason.
    """
    if not verdict.allowed:
        raise Forbidden(verdict.code, verdict.reason, verdict.fix)


_MEMBER = (
    sa.select(memberships.c.can_manage, memberships.c.can_operate, memberships.c.can_release, parties.c.name)
    .join(parties, parties.c.id == memberships.c.party_id)
    .where(memberships.c.party_id == sa.bindparam("party"), memberships.c.user_id == sa.bindparam("user"))
)
_MEMBER_KEPT = _MEMBER.with_for_update(read=True, of=memberships)


def rights_of(row: Any) -> frozenset[Right]:
    """The rights of a row of memberships; None = no member."""
    if row is None:
        return frozenset()
    held = ((Right.MANAGE, row.can_manage), (Right.OPERATE, row.can_operate), (Right.RELEASE, row.can_release))
    return frozenset(right for right, has in held if has)


async def standing(tx: Transaction, actor: Actor, owner_id: int, *, keep: bool = True) -> Standing:
    """What the actor is to things of that owner. ``keep``: the rights stay until the (write) transaction ends.

    One's own party is held with every right, and that never changes, so nothing is asked.
    """
    if owner_id == actor.party_id:
        return Standing(is_admin=actor.is_admin, rights=EVERY_RIGHT, personal=True)
    member = await tx.first(_MEMBER_KEPT if keep else _MEMBER, {"party": owner_id, "user": actor.user_id})
    name = "" if member is None else member.name
    return Standing(is_admin=actor.is_admin, rights=rights_of(member), organisation=name)


async def owner_for(
    tx: Transaction, actor: Actor, wanted_owner: int | None, action: Action, *, keep: bool = True
) -> int:
    """The party that will own what the actor is about to make: its own, or one that it may do this for. ``keep``: see `standing`.

    Raises:
        InvalidInput: ``unknown_owner``: no party that the actor belongs to, whether it is there or not.
        Forbidden: a member without the right.
    """
    party_id = actor.party_id if wanted_owner is None else wanted_owner
    found = await standing(tx, actor, party_id, keep=keep)
    if not found.is_member:
        raise InvalidInput(
            "unknown_owner",
            f"The owner {party_id} is neither you nor an organisation you belong to.",
            "List yours with: medperf organisation ls",
        )
    require(decide(action, found))
    return party_id


# ----------------------------------------------------------------------------------------------------- handlers' signatures


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


def may(*actions: Action) -> Any:
    """The guard of a route: ``actor: Annotated[Actor, may(Action.USER_LIST)]``.

    It needs an account, and refuses what no thing could allow before anything is read. What depends on the thing is decided by its
    noun's service.
    """

    async def guard(request: Request) -> Actor:
        actor = await account(request)
        who = Standing(is_admin=actor.is_admin)
        for action in actions:
            require(decide_early(action, who))
        return actor

    guard.actions = actions  # type: ignore[attr-defined] # read by the table of routes
    return Depends(guard, use_cache=False)


def _refuse_unread_query(request: Request) -> None:
    """A query that no one reads would be ignored: refuse it instead."""
    if not request.scope["query_string"]:
        return
    described = getattr(request.scope["route"], "openapi_extra", None) or {}
    if all(parameter["in"] != "query" for parameter in described.get("parameters", ())):
        raise InvalidInput("unknown_parameter", "This address takes no query parameters.", "Leave them out.")


Visitor = Annotated[Identity, Depends(visitor, use_cache=False)]
