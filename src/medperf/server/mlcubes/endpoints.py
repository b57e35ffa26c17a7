"""``/mlcubes``."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from pydantic import Field
from starlette.responses import Response

from medperf.domain.permissions import Action
from medperf.domain.states import Kind, State
from medperf.server.authz import Actor, may
from medperf.server.context import Server
from medperf.server.mlcubes import repository, service
from medperf.server.paging import NamedQuery, OwnerFilter
from medperf.server.requests import Sent, body, describe_body, describe_query, if_match, query
from medperf.server.responses import versioned
from medperf.server.routing import router as make_router
from medperf.wire.models import Id, MLCubeCreate, MLCubeUpdate, MLCubeView, Page

router = make_router("mlcubes")


class MLCubeQuery(NamedQuery):
    """Filters of ``GET /mlcubes``."""

    owner: OwnerFilter = None
    kind: Annotated[Kind | None, Field(description="Only this kind.")] = None
    state: Annotated[State | None, Field(description="Only this state.")] = None
    is_valid: Annotated[bool | None, Field(description="Only valid or only invalid ones.")] = None


@router.get("/mlcubes", response_model=Page[MLCubeView], openapi_extra=describe_query(MLCubeQuery))
async def list_mlcubes(
    actor: Annotated[Actor, may(Action.MLCUBE_LIST)],
    server: Server,
    asked: Annotated[MLCubeQuery, Depends(query(MLCubeQuery), use_cache=False)],
) -> Response:
    """MLCubes one may see."""
    async with server.database.single() as tx:
        return await repository.LISTING.page(tx, actor, asked)


@router.post("/mlcubes", status_code=201, response_model=MLCubeView, openapi_extra=describe_body(MLCubeCreate))
async def create_mlcube(
    actor: Annotated[Actor, may(Action.MLCUBE_REGISTER)],
    server: Server,
    sent: Annotated[Sent[MLCubeCreate], Depends(body(MLCubeCreate), use_cache=False)],
) -> Response:
    """Register an MLCube."""
    return await service.create(server, actor, sent)


@router.get("/mlcubes/{mlcube_id}", response_model=MLCubeView)
async def read_mlcube(actor: Annotated[Actor, may(Action.MLCUBE_READ)], server: Server, mlcube_id: Id) -> Response:
    """One MLCube, with its manifest."""
    async with server.database.single() as tx:
        return versioned(repository.detail(await service.found(tx, actor, mlcube_id)))


@router.patch("/mlcubes/{mlcube_id}", response_model=MLCubeView, openapi_extra=describe_body(MLCubeUpdate))
async def update_mlcube(
    actor: Annotated[Actor, may(Action.MLCUBE_EDIT, Action.MLCUBE_SET_VALIDITY)],
    server: Server,
    mlcube_id: Id,
    version: Annotated[int, Depends(if_match, use_cache=False)],
    sent: Annotated[Sent[MLCubeUpdate], Depends(body(MLCubeUpdate), use_cache=False)],
) -> Response:
    """Change an MLCube."""
    return versioned(await service.update(server, actor, mlcube_id, version, sent.value))
