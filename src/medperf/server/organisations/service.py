"""What is done with organisations and their members.

Every change of who belongs to an organisation, and with which rights, first locks the organisation; so there is always a manager, also
where two leave at once.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from starlette.responses import Response

from medperf.domain import limits
from medperf.domain.errors import Conflict, NotFound
from medperf.domain.organisations import check_still_managed
from medperf.domain.permissions import Action as Attempt
from medperf.domain.permissions import Right, Standing, decide
from medperf.server.audit.service import Action, record
from medperf.server.authz import Actor, require, rights_of
from medperf.server.context import ServerContext
from medperf.server.db import Transaction
from medperf.server.idempotency import Created, create_once
from medperf.server.organisations import invitations, repository
from medperf.server.requests import Sent, stale
from medperf.server.responses import dumps, etag
from medperf.server.uploads import repository as uploads
from medperf.server.users import repository as users
from medperf.wire.organisations import MemberUpdate, OrganisationCreate, OrganisationUpdate


async def create(server: ServerContext, actor: Actor, sent: Sent[OrganisationCreate]) -> Response:
    """A new organisation; its maker is its first member, with every right.

    Raises:
        Conflict: ``name_taken``, ``too_many_organisations``.
    """

    async def make(tx: Transaction) -> Created:
        await repository.lock_account(tx, actor)
        await check_room(tx, actor)
        organisation_id = await repository.insert(tx, name=sent.value.name, user_id=actor.user_id)
        await record(tx, actor.user_id, Action.ORGANISATION_CREATED, target(organisation_id))
        view = repository.view(await found(tx, actor, organisation_id))
        return Created(dumps(view), headers=etag(view))

    return await create_once(server, actor, route="POST /organisations", key=sent.key, content=sent.content, make=make)


async def rename(
    server: ServerContext, actor: Actor, organisation_id: int, version: int, wanted: OrganisationUpdate
) -> dict[str, Any]:
    """Another name.

    Raises:
        NotFound, Forbidden: hidden, or without the right.
        Conflict: ``name_taken``.
        PreconditionFailed: edited meanwhile.
    """
    async with actor.change(server.database) as tx:
        await permitted(tx, actor, organisation_id, Attempt.ORGANISATION_RENAME)
        if not await repository.rename(tx, organisation_id, version, wanted.name):
            raise stale()
        await record(tx, actor.user_id, Action.ORGANISATION_RENAMED, target(organisation_id))
        return repository.view(await found(tx, actor, organisation_id))


async def set_rights(
    server: ServerContext, actor: Actor, organisation_id: int, user_id: int, wanted: MemberUpdate
) -> dict[str, Any]:
    """Replace a member's rights. Who manages no longer has no open invitations any more, who operates no longer no unfinished uploads.

    Raises:
        NotFound, Forbidden: hidden, or without the right; no such member.
        Conflict: ``last_manager``.
    """
    async with actor.change(server.database) as tx:
        if Right.MANAGE in wanted.rights:  # who is being disabled is no manager on whom the others could rely
            await users.keep(tx, user_id)
        await permitted(tx, actor, organisation_id, Attempt.MEMBER_SET_RIGHTS)
        before = rights_of(await member(tx, organisation_id, user_id))
        if before != wanted.rights:
            if Right.MANAGE in before and Right.MANAGE not in wanted.rights:
                await _let_go(tx, organisation_id, user_id, doing="give up managing it")
            if Right.OPERATE not in wanted.rights:
                await _end_uploads(tx, actor, organisation_id, user_id)
            await repository.set_rights(tx, organisation_id, user_id, wanted.rights)
            data = {"user": user_id, "rights": sorted(wanted.rights)}
            await record(tx, actor.user_id, Action.MEMBER_RIGHTS_CHANGED, target(organisation_id), data)
        return repository.member_view(await member(tx, organisation_id, user_id))


async def remove(server: ServerContext, actor: Actor, organisation_id: int, user_id: int) -> None:
    """Take a member out, or leave. What the organisation owns stays with it.

    Raises:
        NotFound, Forbidden: hidden, or without the right; no such member.
        Conflict: ``last_manager``.
    """
    leaving = user_id == actor.user_id
    async with actor.change(server.database) as tx:
        attempt = Attempt.MEMBER_LEAVE if leaving else Attempt.MEMBER_REMOVE
        await permitted(tx, actor, organisation_id, attempt)
        if Right.MANAGE in rights_of(await member(tx, organisation_id, user_id)):
            await _let_go(tx, organisation_id, user_id, doing="leave it" if leaving else "be removed")
        await _end_uploads(tx, actor, organisation_id, user_id)
        await repository.remove_member(tx, organisation_id, user_id)
        event = Action.MEMBER_LEFT if leaving else Action.MEMBER_REMOVED
        await record(tx, actor.user_id, event, target(organisation_id), {"user": user_id})


async def _let_go(tx: Transaction, organisation_id: int, user_id: int, *, doing: str) -> None:
    check_still_managed(await repository.other_managers(tx, organisation_id, user_id), doing=doing)
    await invitations.remove_sent_by(tx, organisation_id, user_id)


async def _end_uploads(tx: Transaction, actor: Actor, organisation_id: int, user_id: int) -> None:
    """What nobody could finish takes none of the organisation's room. Before its membership is touched: a completion locks in that order."""
    for upload_id in await uploads.cancel_all(tx, user_id=user_id, owner_id=organisation_id):
        await record(tx, actor.user_id, Action.UPLOAD_CANCELLED, f"upload:{upload_id}", {"reason": "member_changed"})


# ----------------------------------------------------------------------------------------------------- shared by the noun


def target(organisation_id: int) -> str:
    """What an event is about."""
    return f"organisation:{organisation_id}"


async def found(tx: Transaction, actor: Actor, organisation_id: int) -> sa.Row[Any]:
    """Raises:
    NotFound: not there, or hidden.
    """
    row = await repository.get(tx, actor, organisation_id)
    if row is None:
        raise NotFound(
            "no_such_organisation",
            f"There is no organisation {organisation_id} that you may see.",
            "List yours with: medperf organisation ls",
        )
    return row


async def read(tx: Transaction, actor: Actor, organisation_id: int, attempt: Attempt) -> sa.Row[Any]:
    """An organisation about which the actor may read that.

    Raises:
        NotFound, Forbidden: hidden, or without the right.
    """
    row = await found(tx, actor, organisation_id)
    require(decide(attempt, await _standing(tx, actor, row)))
    return row


async def permitted(tx: Transaction, actor: Actor, organisation_id: int, attempt: Attempt) -> sa.Row[Any]:
    """An organisation that the actor may change so, locked.

    Raises:
        NotFound, Forbidden: hidden, or without the right.
    """
    await found(tx, actor, organisation_id)  # nobody waits for, or holds, the lock of what they may not see
    await repository.lock_members(tx, organisation_id)
    return await read(tx, actor, organisation_id, attempt)


async def _standing(tx: Transaction, actor: Actor, row: sa.Row[Any]) -> Standing:
    rights = rights_of(row)
    unmanaged = actor.is_admin and await repository.other_managers(tx, row.id) == 0
    # What is attempted as the addressee is attempted about one's own membership only: see `remove`.
    return Standing(is_admin=actor.is_admin, rights=rights, addressed=True, unmanaged=unmanaged, organisation=row.name)


async def member(tx: Transaction, organisation_id: int, user_id: int) -> sa.Row[Any]:
    """Raises:
    NotFound: no member.
    """
    row = await repository.member(tx, organisation_id, user_id)
    if row is None:
        raise NotFound(
            "no_such_member",
            f"The organisation {organisation_id} has no member with the account {user_id}.",
            f"List them with: medperf organisation members {organisation_id}",
        )
    return row


async def check_room(tx: Transaction, actor: Actor) -> None:
    """Raises:
    Conflict: ``too_many_organisations``. The caller holds `repository.lock_account`.
    """
    if await repository.count_of_user(tx, actor.user_id) >= limits.ORGANISATIONS_PER_USER:
        raise Conflict(
            "too_many_organisations",
            f"An account makes, and belongs to, at most {limits.ORGANISATIONS_PER_USER} organisations.",
            "Leave one first: medperf organisation leave",
        )
