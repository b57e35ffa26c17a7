"""Inviting to an organisation, and answering."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from starlette.responses import Response

from medperf.domain import limits
from medperf.domain.errors import Conflict, NotFound
from medperf.domain.permissions import Action as Attempt
from medperf.domain.permissions import Right, Standing, decide
from medperf.server.audit.service import Action, record
from medperf.server.authz import Actor, require, rights_of
from medperf.server.context import ServerContext
from medperf.server.db import Transaction
from medperf.server.idempotency import Created, create_once
from medperf.server.organisations import invitations, repository
from medperf.server.organisations.service import check_room, permitted, target
from medperf.server.requests import Sent
from medperf.server.responses import dumps
from medperf.wire.organisations import InvitationAnswer, InvitationCreate


async def invite(server: ServerContext, actor: Actor, organisation_id: int, sent: Sent[InvitationCreate]) -> Response:
    """Invite whoever has, or will have, that username. Whether somebody has is looked up only when they ask for their invitations.

    Raises:
        NotFound, Forbidden: hidden, or without the right.
        Conflict: ``already_invited``, ``already_member``, ``too_many_invitations``.
    """
    wanted = sent.value

    async def make(tx: Transaction) -> Created:
        await permitted(tx, actor, organisation_id, Attempt.INVITATION_SEND)
        if await repository.is_member_named(tx, organisation_id, wanted.username):
            raise Conflict(
                "already_member",
                f"{wanted.username!r} is a member already.",
                "Change their rights with: medperf organisation set-rights --help",
            )
        await invitations.remove_expired(tx, organisation_id)
        if await invitations.count(tx, organisation_id) >= limits.ORGANISATION_INVITATIONS:
            raise Conflict(
                "too_many_invitations",
                f"An organisation has at most {limits.ORGANISATION_INVITATIONS} open invitations.",
                "Cancel some: medperf organisation cancel-invitation --help",
            )
        invitation_id = await invitations.insert(
            tx, organisation_id, username=wanted.username, rights=wanted.rights, invited_by=actor.user_id
        )
        data = {"invitation": invitation_id, "rights": sorted(wanted.rights)}
        await record(tx, actor.user_id, Action.INVITATION_CREATED, target(organisation_id), data)
        row = await invitations.sent(tx, organisation_id, invitation_id)
        assert row is not None
        return Created(dumps(invitations.view(row)))

    route = f"POST /organisations/{organisation_id}/invitations"
    return await create_once(server, actor, route=route, key=sent.key, content=sent.content, make=make)


async def cancel(server: ServerContext, actor: Actor, organisation_id: int, invitation_id: int) -> None:
    """Take an invitation back.

    Raises:
        NotFound, Forbidden: hidden, without the right; no such invitation, or answered meanwhile.
    """
    async with actor.change(server.database) as tx:
        await permitted(tx, actor, organisation_id, Attempt.INVITATION_CANCEL)
        if await invitations.sent(tx, organisation_id, invitation_id) is None:
            raise _gone(invitation_id)
        await invitations.remove(tx, invitation_id)
        data = {"invitation": invitation_id}
        await record(tx, actor.user_id, Action.INVITATION_CANCELLED, target(organisation_id), data)


async def respond(server: ServerContext, actor: Actor, invitation_id: int, sent: Sent[InvitationAnswer]) -> Response:
    """Accept or decline an invitation to oneself; either way it is gone.

    Raises:
        NotFound: none to this account, answered already, cancelled or expired.
        Conflict: ``organisation_full``, ``too_many_organisations``.
    """
    accept = sent.value.accept

    async def make(tx: Transaction) -> Created:
        await repository.lock_account(tx, actor)
        organisation_id = int((await _addressed(tx, actor, invitation_id)).party_id)
        await repository.lock_members(tx, organisation_id)
        row = await _addressed(tx, actor, invitation_id)  # it may have been cancelled while this waited
        await invitations.remove(tx, invitation_id)
        event = Action.INVITATION_DECLINED
        data: dict[str, Any] = {"invitation": invitation_id}
        if accept:
            rights = rights_of(row)
            event = Action.INVITATION_ACCEPTED
            data |= {"user": actor.user_id, "rights": sorted(rights)}
            await _join(tx, actor, organisation_id, rights)
        await record(tx, actor.user_id, event, target(organisation_id), data)
        seen = invitations.view(row)
        got = {"organisation": seen["organisation"], "accepted": accept, "rights": seen["rights"] if accept else []}
        return Created(dumps(got), status=200)

    route = f"POST /invitations/{invitation_id}/answer"
    return await create_once(server, actor, route=route, key=sent.key, content=sent.content, make=make)


async def _join(tx: Transaction, actor: Actor, organisation_id: int, rights: frozenset[Right]) -> None:
    await check_room(tx, actor)
    if await repository.count_members(tx, organisation_id) >= limits.ORGANISATION_MEMBERS:
        raise Conflict(
            "organisation_full",
            f"The organisation has {limits.ORGANISATION_MEMBERS} members already.",
            "Ask one of its managers.",
        )
    await repository.insert_member(tx, organisation_id, actor.user_id, rights)


async def _addressed(tx: Transaction, actor: Actor, invitation_id: int) -> sa.Row[Any]:
    row = await invitations.received(tx, actor.user_id, invitation_id)
    if row is None:
        raise _gone(invitation_id)
    require(decide(Attempt.INVITATION_ANSWER, Standing(is_admin=actor.is_admin, addressed=True)))
    return row


def _gone(invitation_id: int) -> NotFound:
    return NotFound(
        "no_such_invitation",
        f"There is no open invitation {invitation_id} that you may see.",
        "List those to you with: medperf organisation invitations",
    )
