"""``/benchmarks``."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from pydantic import Field
from starlette.responses import Response

from medperf.domain.permissions import Action
from medperf.domain.states import Approval, State
from medperf.server.authz import Actor, may
from medperf.server.benchmarks import repository, service
from medperf.server.context import Server
from medperf.server.paging import NamedQuery, OwnerFilter
from medperf.server.requests import Sent, body, describe_body, describe_query, if_match, query
from medperf.server.responses import versioned
from medperf.server.routing import router as make_router
from medperf.wire.models import BenchmarkCreate, BenchmarkUpdate, BenchmarkView, Decision, Id, Page

router = make_router("benchmarks")


class BenchmarkQuery(NamedQuery):
    """Filters of ``GET /benchmarks``."""

    owner: OwnerFilter = None
    approval: Annotated[Approval | None, Field(description="Only these.")] = None
    state: Annotated[State | None, Field(description="Only this state.")] = None
    is_valid: Annotated[bool | None, Field(description="Only valid or only invalid ones.")] = None
    is_active: Annotated[bool | None, Field(description="Only active or only inactive ones.")] = None


@router.get("/benchmarks", response_model=Page[BenchmarkView], openapi_extra=describe_query(BenchmarkQuery))
async def list_benchmarks(
    actor: Annotated[Actor, may(Action.BENCHMARK_LIST)],
    server: Server,
    asked: Annotated[BenchmarkQuery, Depends(query(BenchmarkQuery), use_cache=False)],
) -> Response:
    """Benchmarks one may see."""
    async with server.database.single() as tx:
        return await repository.LISTING.page(tx, actor, asked)


@router.post("/benchmarks", status_code=201, response_model=BenchmarkView, openapi_extra=describe_body(BenchmarkCreate))
async def create_benchmark(
    actor: Annotated[Actor, may(Action.BENCHMARK_REGISTER)],
    server: Server,
    sent: Annotated[Sent[BenchmarkCreate], Depends(body(BenchmarkCreate), use_cache=False)],
) -> Response:
    """Register a benchmark; an admin decides about it."""
    return await service.create(server, actor, sent)


@router.get("/benchmarks/{benchmark_id}", response_model=BenchmarkView)
async def read_benchmark(
    actor: Annotated[Actor, may(Action.BENCHMARK_READ)], server: Server, benchmark_id: Id
) -> Response:
    """One benchmark, with its report and metrics contract."""
    async with server.database.single() as tx:
        return versioned(repository.detail(await service.found(tx, actor, benchmark_id)))


@router.patch("/benchmarks/{benchmark_id}", response_model=BenchmarkView, openapi_extra=describe_body(BenchmarkUpdate))
async def update_benchmark(
    actor: Annotated[
        Actor,
        may(
            Action.BENCHMARK_EDIT,
            Action.BENCHMARK_SET_VALIDITY,
            Action.BENCHMARK_SET_ACTIVITY,
            Action.BENCHMARK_SET_VISIBILITY,
            Action.ASSOCIATION_SET_POLICY,
        ),
    ],
    server: Server,
    benchmark_id: Id,
    version: Annotated[int, Depends(if_match, use_cache=False)],
    sent: Annotated[Sent[BenchmarkUpdate], Depends(body(BenchmarkUpdate), use_cache=False)],
) -> Response:
    """Change a benchmark."""
    return versioned(await service.update(server, actor, benchmark_id, version, sent.value))


@router.post("/benchmarks/{benchmark_id}/decision", response_model=BenchmarkView, openapi_extra=describe_body(Decision))
async def decide_benchmark(
    actor: Annotated[Actor, may(Action.BENCHMARK_DECIDE)],
    server: Server,
    benchmark_id: Id,
    sent: Annotated[Sent[Decision], Depends(body(Decision), use_cache=False)],
) -> Response:
    """Approve or reject a benchmark (admin, never the owner)."""
    return await service.decide(server, actor, benchmark_id, sent)
