"""``/associations``, and the invitations of benchmarks."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Depends
from pydantic import Field
from starlette.responses import Response

from medperf.domain import limits
from medperf.domain.associations import Asset, Status
from medperf.domain.errors import InvalidInput
from medperf.domain.permissions import Action
from medperf.server.associations import asking, repository, service
from medperf.server.authz import Actor, may
from medperf.server.context import Server
from medperf.server.paging import SortedQuery
from medperf.server.requests import Sent, body, describe_body, describe_query, if_match, query
from medperf.server.responses import versioned
from medperf.server.routing import router as make_router
from medperf.wire.associations import (
    AssociationCreate,
    AssociationDecision,
    AssociationInvite,
    AssociationUpdate,
    AssociationView,
)
from medperf.wire.models import Id, Page

router = make_router("associations")


class AssociationQuery(SortedQuery):
    """Filters of ``GET /associations``."""

    benchmark: Annotated[Id | None, Field(description="In this benchmark.")] = None
    dataset: Annotated[Id | None, Field(description="Of this dataset.")] = None
    model: Annotated[Id | None, Field(description="Of this MLCube.")] = None
    kind: Annotated[Asset | None, Field(description="Only these.")] = None
    status: Annotated[Status | None, Field(description="Only these.")] = None
    waiting_for_me: Annotated[
        bool | None, Field(description="Only those that you may approve or reject; takes no 'status'.")
    ] = None


@router.get("/associations", response_model=Page[AssociationView], openapi_extra=describe_query(AssociationQuery))
async def list_associations(
    actor: Annotated[Actor, may(Action.ASSOCIATION_LIST)],
    server: Server,
    asked: Annotated[AssociationQuery, Depends(query(AssociationQuery), use_cache=False)],
) -> Response:
    """Associations one may see, without their history."""
    async with server.database.single() as tx:
        if not asked.waiting_for_me:
            return await repository.LISTING.page(tx, actor, asked)
        if asked.status is not None:
            raise InvalidInput("bad_combination", "What waits for you is PENDING.", "Leave status out.")
        given: dict[str, Any] = {"benchmark": asked.benchmark, "dataset": asked.dataset, "model": asked.model}
        given["kind"] = None if asked.kind is None else asked.kind.value
        filters = {name: value for name, value in given.items() if value is not None}
        descending = asked.sort == "-id"
        first = limits.ID_MAX + 1 if descending else 0
        after = first if asked.after is None else int(asked.after)
        response: Response = await repository.waiting(
            tx, actor, filters, after=after, descending=descending, limit=asked.limit
        )
        return response


@router.post(
    "/associations", status_code=201, response_model=AssociationView, openapi_extra=describe_body(AssociationCreate)
)
async def create_association(
    actor: Annotated[Actor, may(Action.ASSOCIATION_ASK)],
    server: Server,
    sent: Annotated[Sent[AssociationCreate], Depends(body(AssociationCreate), use_cache=False)],
) -> Response:
    """Ask to join a benchmark with a dataset or a model. A request with that UUID is answered again, with 200."""
    return await asking.ask(server, actor, sent)


@router.post(
    "/benchmarks/{benchmark_id}/invitations",
    status_code=201,
    response_model=AssociationView,
    openapi_extra=describe_body(AssociationInvite),
)
async def invite_to_benchmark(
    actor: Annotated[Actor, may(Action.ASSOCIATION_ASK)],
    server: Server,
    benchmark_id: Id,
    sent: Annotated[Sent[AssociationInvite], Depends(body(AssociationInvite), use_cache=False)],
) -> Response:
    """Ask a dataset or a model to join a benchmark. A request with that UUID is answered again, with 200."""
    return await asking.invite(server, actor, benchmark_id, sent)


@router.get("/associations/{association_id}", response_model=AssociationView)
async def read_association(
    actor: Annotated[Actor, may(Action.ASSOCIATION_READ)], server: Server, association_id: Id
) -> Response:
    """One association, with its history for both sides."""
    async with server.database.read() as tx:
        return versioned(await service.read(tx, actor, association_id))


@router.patch(
    "/associations/{association_id}", response_model=AssociationView, openapi_extra=describe_body(AssociationUpdate)
)
async def update_association(
    actor: Annotated[Actor, may(Action.ASSOCIATION_SET_PRIORITY)],
    server: Server,
    association_id: Id,
    version: Annotated[int, Depends(if_match, use_cache=False)],
    sent: Annotated[Sent[AssociationUpdate], Depends(body(AssociationUpdate), use_cache=False)],
) -> Response:
    """Say when a model runs: higher priorities first."""
    return versioned(await service.update(server, actor, association_id, version, sent.value))


@router.post(
    "/associations/{association_id}/decision",
    response_model=AssociationView,
    openapi_extra=describe_body(AssociationDecision),
)
async def decide_association(
    actor: Annotated[Actor, may(Action.ASSOCIATION_DECIDE, Action.ASSOCIATION_CANCEL, Action.ASSOCIATION_REVOKE)],
    server: Server,
    association_id: Id,
    sent: Annotated[Sent[AssociationDecision], Depends(body(AssociationDecision), use_cache=False)],
) -> Response:
    """Approve or reject what was asked, take a request back, or revoke."""
    return await service.decide(server, actor, association_id, sent)
