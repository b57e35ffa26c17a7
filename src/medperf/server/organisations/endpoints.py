"""``/organisations`` and ``/invitations``."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.responses import Response

from medperf.domain.permissions import Action
from medperf.server.authz import Actor, may
from medperf.server.context import Server
from medperf.server.organisations import answering, listings, repository, service
from medperf.server.paging import PageQuery
from medperf.server.requests import Sent, body, describe_body, describe_query, if_match, query
from medperf.server.responses import answer, versioned
from medperf.server.routing import router as make_router
from medperf.wire.models import Id, Page
from medperf.wire.organisations import (
    InvitationAnswer,
    InvitationAnswered,
    InvitationCreate,
    InvitationView,
    MemberUpdate,
    MemberView,
    OrganisationCreate,
    OrganisationUpdate,
    OrganisationView,
)

router = make_router("organisations")
Asked = Annotated[PageQuery, Depends(query(PageQuery), use_cache=False)]
_PAGE = describe_query(PageQuery)


@router.get("/organisations", response_model=Page[OrganisationView], openapi_extra=_PAGE)
async def list_organisations(
    actor: Annotated[Actor, may(Action.ORGANISATION_LIST)], server: Server, asked: Asked
) -> Response:
    """Organisations one belongs to; an admin sees all."""
    async with server.database.read() as tx:
        return await listings.organisations_of(tx, actor, asked)


@router.post(
    "/organisations",
    status_code=201,
    response_model=OrganisationView,
    openapi_extra=describe_body(OrganisationCreate),
)
async def create_organisation(
    actor: Annotated[Actor, may(Action.ORGANISATION_CREATE)],
    server: Server,
    sent: Annotated[Sent[OrganisationCreate], Depends(body(OrganisationCreate), use_cache=False)],
) -> Response:
    """Make an organisation; its maker is its first manager."""
    return await service.create(server, actor, sent)


@router.get("/organisations/{organisation_id}", response_model=OrganisationView)
async def read_organisation(
    actor: Annotated[Actor, may(Action.ORGANISATION_READ)], server: Server, organisation_id: Id
) -> Response:
    """One organisation, with one's own rights in it."""
    async with server.database.read() as tx:
        return versioned(repository.view(await service.found(tx, actor, organisation_id)))


@router.patch(
    "/organisations/{organisation_id}",
    response_model=OrganisationView,
    openapi_extra=describe_body(OrganisationUpdate),
)
async def update_organisation(
    actor: Annotated[Actor, may(Action.ORGANISATION_RENAME)],
    server: Server,
    organisation_id: Id,
    version: Annotated[int, Depends(if_match, use_cache=False)],
    sent: Annotated[Sent[OrganisationUpdate], Depends(body(OrganisationUpdate), use_cache=False)],
) -> Response:
    """Rename an organisation."""
    return versioned(await service.rename(server, actor, organisation_id, version, sent.value))


@router.get("/organisations/{organisation_id}/members", response_model=Page[MemberView], openapi_extra=_PAGE)
async def list_members(
    actor: Annotated[Actor, may(Action.MEMBER_LIST)], server: Server, organisation_id: Id, asked: Asked
) -> Response:
    """Who belongs to it, with which rights."""
    async with server.database.read() as tx:
        await service.read(tx, actor, organisation_id, Action.MEMBER_LIST)
        return await listings.members_of(tx, organisation_id, asked)


@router.patch(
    "/organisations/{organisation_id}/members/{user_id}",
    response_model=MemberView,
    openapi_extra=describe_body(MemberUpdate),
)
async def update_member(
    actor: Annotated[Actor, may(Action.MEMBER_SET_RIGHTS)],
    server: Server,
    organisation_id: Id,
    user_id: Id,
    sent: Annotated[Sent[MemberUpdate], Depends(body(MemberUpdate), use_cache=False)],
) -> Response:
    """Replace a member's rights."""
    return answer(await service.set_rights(server, actor, organisation_id, user_id, sent.value))


@router.delete("/organisations/{organisation_id}/members/{user_id}", status_code=204, response_class=Response)
async def remove_member(
    actor: Annotated[Actor, may(Action.MEMBER_REMOVE, Action.MEMBER_LEAVE)],
    server: Server,
    organisation_id: Id,
    user_id: Id,
) -> Response:
    """Remove a member; oneself: leave."""
    await service.remove(server, actor, organisation_id, user_id)
    return Response(status_code=204)


@router.get("/organisations/{organisation_id}/invitations", response_model=Page[InvitationView], openapi_extra=_PAGE)
async def list_sent_invitations(
    actor: Annotated[Actor, may(Action.INVITATION_LIST)], server: Server, organisation_id: Id, asked: Asked
) -> Response:
    """Its open invitations."""
    async with server.database.read() as tx:
        await service.read(tx, actor, organisation_id, Action.INVITATION_LIST)
        return await listings.sent_by(tx, organisation_id, asked)


@router.post(
    "/organisations/{organisation_id}/invitations",
    status_code=201,
    response_model=InvitationView,
    openapi_extra=describe_body(InvitationCreate),
)
async def create_invitation(
    actor: Annotated[Actor, may(Action.INVITATION_SEND)],
    server: Server,
    organisation_id: Id,
    sent: Annotated[Sent[InvitationCreate], Depends(body(InvitationCreate), use_cache=False)],
) -> Response:
    """Invite somebody by username, whether there is such an account or not."""
    return await answering.invite(server, actor, organisation_id, sent)


@router.delete("/organisations/{organisation_id}/invitations/{invitation_id}", status_code=204, response_class=Response)
async def cancel_invitation(
    actor: Annotated[Actor, may(Action.INVITATION_CANCEL)],
    server: Server,
    organisation_id: Id,
    invitation_id: Id,
) -> Response:
    """Take an invitation back."""
    await answering.cancel(server, actor, organisation_id, invitation_id)
    return Response(status_code=204)


@router.get("/invitations", response_model=Page[InvitationView], openapi_extra=_PAGE)
async def list_invitations(
    actor: Annotated[Actor, may(Action.INVITATION_READ)], server: Server, asked: Asked
) -> Response:
    """Open invitations to oneself."""
    async with server.database.read() as tx:
        return await listings.received_by(tx, actor, asked)


@router.post(
    "/invitations/{invitation_id}/answer",
    response_model=InvitationAnswered,
    openapi_extra=describe_body(InvitationAnswer),
)
async def answer_invitation(
    actor: Annotated[Actor, may(Action.INVITATION_ANSWER)],
    server: Server,
    invitation_id: Id,
    sent: Annotated[Sent[InvitationAnswer], Depends(body(InvitationAnswer), use_cache=False)],
) -> Response:
    """Accept or decline."""
    return await answering.respond(server, actor, invitation_id, sent)
