"""``/executions``, ``/results`` and ``/benchmarks/{id}/results``."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.responses import Response

from medperf.domain.errors import NotFound
from medperf.domain.permissions import Action
from medperf.server.authz import Actor, may
from medperf.server.context import Server
from medperf.server.executions import disclosing, matrix, registering, repository
from medperf.server.executions.listing import EXECUTIONS, RESULTS, ConcernedQuery
from medperf.server.executions.matrix import MatrixQuery
from medperf.server.requests import Sent, body, describe_body, describe_query, query
from medperf.server.responses import answer
from medperf.server.routing import router as make_router
from medperf.wire.executions import (
    AttemptCreate,
    AttemptReport,
    AttemptView,
    ExecutionCreate,
    ExecutionView,
    ProgressReport,
    ReleaseCreate,
    ResultsTable,
    ResultView,
    RetractionCreate,
    WithholdingCreate,
)
from medperf.wire.models import Id, Page

router = make_router("executions")
Asked = Annotated[ConcernedQuery, Depends(query(ConcernedQuery), use_cache=False)]
_QUERY = describe_query(ConcernedQuery)


@router.get("/executions", response_model=Page[ExecutionView], openapi_extra=_QUERY)
async def list_executions(
    actor: Annotated[Actor, may(Action.EXECUTION_LIST)], server: Server, asked: Asked
) -> Response:
    """Executions one may see, without their attempts."""
    async with server.database.single() as tx:
        return await EXECUTIONS.page(tx, actor, asked)


@router.post("/executions", status_code=201, response_model=ExecutionView, openapi_extra=describe_body(ExecutionCreate))
async def create_execution(
    actor: Annotated[Actor, may(Action.EXECUTION_REGISTER)],
    server: Server,
    sent: Annotated[Sent[ExecutionCreate], Depends(body(ExecutionCreate), use_cache=False)],
) -> Response:
    """Register an execution, before anything of it runs. One that is registered already is answered again, with 200."""
    return await registering.create(server, actor, sent)


@router.get("/executions/{execution_id}", response_model=ExecutionView)
async def read_execution(
    actor: Annotated[Actor, may(Action.EXECUTION_READ)], server: Server, execution_id: Id
) -> Response:
    """One execution, with all its attempts."""
    async with server.database.read() as tx:
        return answer(await registering.detail(tx, actor, execution_id))


@router.post(
    "/executions/{execution_id}/attempts",
    status_code=201,
    response_model=ExecutionView,
    openapi_extra=describe_body(AttemptCreate),
)
async def create_attempt(
    actor: Annotated[Actor, may(Action.EXECUTION_REGISTER)],
    server: Server,
    execution_id: Id,
    sent: Annotated[Sent[AttemptCreate], Depends(body(AttemptCreate), use_cache=False)],
) -> Response:
    """Register an attempt, before anything of it runs. One with that UUID is answered again, with 200."""
    return await registering.add_attempt(server, actor, execution_id, sent)


@router.patch(
    "/executions/{execution_id}/attempts/{number}",
    response_model=AttemptView,
    openapi_extra=describe_body(AttemptReport),
)
async def report_attempt(
    actor: Annotated[Actor, may(Action.EXECUTION_REPORT)],
    server: Server,
    execution_id: Id,
    number: Id,
    sent: Annotated[Sent[AttemptReport], Depends(body(AttemptReport, idempotent=False), use_cache=False)],
) -> Response:
    """Say how far an attempt came. What is so already is answered as it is."""
    return answer(await registering.report(server, actor, execution_id, number, sent.value))


@router.put(
    "/executions/{execution_id}/attempts/{number}/progress",
    response_model=AttemptView,
    openapi_extra=describe_body(ProgressReport),
)
async def report_progress(
    actor: Annotated[Actor, may(Action.EXECUTION_REPORT)],
    server: Server,
    execution_id: Id,
    number: Id,
    sent: Annotated[Sent[ProgressReport], Depends(body(ProgressReport, idempotent=False), use_cache=False)],
) -> Response:
    """A sign of life of an open attempt."""
    return answer(await registering.progress(server, actor, execution_id, number, sent.value))


@router.post(
    "/executions/{execution_id}/release",
    status_code=201,
    response_model=ResultView,
    openapi_extra=describe_body(ReleaseCreate),
)
async def release_metrics(
    actor: Annotated[Actor, may(Action.RESULT_RELEASE)],
    server: Server,
    execution_id: Id,
    sent: Annotated[Sent[ReleaseCreate], Depends(body(ReleaseCreate), use_cache=False)],
) -> Response:
    """Release the metrics of an attempt. The same again is answered again, with 200."""
    return await disclosing.release(server, actor, execution_id, sent)


@router.post(
    "/executions/{execution_id}/withholding",
    response_model=ExecutionView,
    openapi_extra=describe_body(WithholdingCreate),
)
async def withhold_metrics(
    actor: Annotated[Actor, may(Action.RESULT_WITHHOLD)],
    server: Server,
    execution_id: Id,
    sent: Annotated[Sent[WithholdingCreate], Depends(body(WithholdingCreate), use_cache=False)],
) -> Response:
    """Keep the metrics of an attempt at the site, for good."""
    return await disclosing.withhold(server, actor, execution_id, sent)


@router.post(
    "/executions/{execution_id}/retraction",
    response_model=ResultView,
    openapi_extra=describe_body(RetractionCreate),
)
async def retract_metrics(
    actor: Annotated[Actor, may(Action.RESULT_RETRACT)],
    server: Server,
    execution_id: Id,
    sent: Annotated[Sent[RetractionCreate], Depends(body(RetractionCreate), use_cache=False)],
) -> Response:
    """Say that released metrics count no more, and why."""
    return await disclosing.retract(server, actor, execution_id, sent)


@router.get("/results", response_model=Page[ResultView], openapi_extra=_QUERY)
async def list_results(actor: Annotated[Actor, may(Action.RESULT_LIST)], server: Server, asked: Asked) -> Response:
    """Results one may see; of those that were retracted, that they were, and why."""
    async with server.database.single() as tx:
        return await RESULTS.page(tx, actor, asked)


@router.get("/results/{result_id}", response_model=ResultView)
async def read_result(actor: Annotated[Actor, may(Action.RESULT_READ)], server: Server, result_id: Id) -> Response:
    """One result."""
    async with server.database.single() as tx:
        row = await repository.result(tx, actor, result_id)
    if row is None:
        raise NotFound(
            "no_such_result", f"There is no result {result_id} that you may see.", "List them with: medperf result ls"
        )
    return answer(repository.result_view(row))


@router.get(
    "/benchmarks/{benchmark_id}/results", response_model=ResultsTable, openapi_extra=describe_query(MatrixQuery)
)
async def read_benchmark_results(
    actor: Annotated[Actor, may(Action.RESULT_LIST)],
    server: Server,
    benchmark_id: Id,
    asked: Annotated[MatrixQuery, Depends(query(MatrixQuery), use_cache=False)],
) -> Response:
    """The results of a benchmark as a table, as far as one may see them."""
    return await matrix.page(server, actor, benchmark_id, asked)
