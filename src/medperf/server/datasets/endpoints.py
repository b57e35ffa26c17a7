"""``/datasets``."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from pydantic import Field
from starlette.responses import Response

from medperf.domain.permissions import Action
from medperf.domain.states import State
from medperf.server.authz import Actor, may
from medperf.server.context import Server
from medperf.server.datasets import repository, service
from medperf.server.paging import NamedQuery, OwnerFilter
from medperf.server.requests import Sent, body, describe_body, describe_query, if_match, query
from medperf.server.responses import versioned
from medperf.server.routing import router as make_router
from medperf.wire.datasets import DatasetCreate, DatasetStatistics, DatasetUpdate, DatasetView
from medperf.wire.models import Id, Page

router = make_router("datasets")


class DatasetQuery(NamedQuery):
    """Filters of ``GET /datasets``."""

    owner: OwnerFilter = None
    preparator: Annotated[Id | None, Field(description="Prepared by this MLCube.")] = None
    state: Annotated[State | None, Field(description="Only this state.")] = None
    is_valid: Annotated[bool | None, Field(description="Only valid or only invalid ones.")] = None
    is_active: Annotated[bool | None, Field(description="Only active or only inactive ones.")] = None


@router.get("/datasets", response_model=Page[DatasetView], openapi_extra=describe_query(DatasetQuery))
async def list_datasets(
    actor: Annotated[Actor, may(Action.DATASET_LIST)],
    server: Server,
    asked: Annotated[DatasetQuery, Depends(query(DatasetQuery), use_cache=False)],
) -> Response:
    """Datasets one may see."""
    async with server.database.single() as tx:
        return await repository.LISTING.page(tx, actor, asked)


@router.post("/datasets", status_code=201, response_model=DatasetView, openapi_extra=describe_body(DatasetCreate))
async def create_dataset(
    actor: Annotated[Actor, may(Action.DATASET_REGISTER)],
    server: Server,
    sent: Annotated[Sent[DatasetCreate], Depends(body(DatasetCreate), use_cache=False)],
) -> Response:
    """Register a dataset: what it is called and salted digests of it. One with that UUID is answered again, with 200."""
    return await service.create(server, actor, sent)


@router.get("/datasets/{dataset_id}", response_model=DatasetView)
async def read_dataset(actor: Annotated[Actor, may(Action.DATASET_READ)], server: Server, dataset_id: Id) -> Response:
    """One dataset, with its statistics."""
    async with server.database.single() as tx:
        return versioned(repository.detail(await service.found(tx, actor, dataset_id)))


@router.patch("/datasets/{dataset_id}", response_model=DatasetView, openapi_extra=describe_body(DatasetUpdate))
async def update_dataset(
    actor: Annotated[Actor, may(Action.DATASET_EDIT, Action.DATASET_SET_VALIDITY, Action.DATASET_SET_ACTIVITY)],
    server: Server,
    dataset_id: Id,
    version: Annotated[int, Depends(if_match, use_cache=False)],
    sent: Annotated[Sent[DatasetUpdate], Depends(body(DatasetUpdate), use_cache=False)],
) -> Response:
    """Change a dataset."""
    return versioned(await service.update(server, actor, dataset_id, version, sent.value))


@router.put(
    "/datasets/{dataset_id}/statistics", response_model=DatasetView, openapi_extra=describe_body(DatasetStatistics)
)
async def set_dataset_statistics(
    actor: Annotated[Actor, may(Action.DATASET_EDIT)],
    server: Server,
    dataset_id: Id,
    sent: Annotated[Sent[DatasetStatistics], Depends(body(DatasetStatistics, idempotent=False), use_cache=False)],
) -> Response:
    """Give a dataset's statistics. What is so already is answered as it is."""
    return versioned(await service.set_statistics(server, actor, dataset_id, sent))
