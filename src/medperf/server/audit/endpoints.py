"""``/audit-events`` and ``/audit-checkpoints``."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from pydantic import Field
from starlette.responses import Response

from medperf.domain.permissions import Action
from medperf.server.audit import repository
from medperf.server.authz import Actor, may
from medperf.server.context import Server
from medperf.server.paging import SortedQuery
from medperf.server.requests import describe_query, query
from medperf.server.routing import router as make_router
from medperf.wire.audit import AuditEventView, CheckpointView
from medperf.wire.models import Page

router = make_router("audit")


class AuditQuery(SortedQuery):
    """Filters of ``GET /audit-events``."""

    action: Annotated[str | None, Field(max_length=64, description="e.g. benchmark.decided")] = None
    target: Annotated[str | None, Field(max_length=64, description="e.g. benchmark:1")] = None


@router.get("/audit-events", response_model=Page[AuditEventView], openapi_extra=describe_query(AuditQuery))
async def list_events(
    actor: Annotated[Actor, may(Action.AUDIT_READ)],
    server: Server,
    asked: Annotated[AuditQuery, Depends(query(AuditQuery), use_cache=False)],
) -> Response:
    """What was changed, oldest first (admin)."""
    async with server.database.single() as tx:
        return await repository.LISTING.page(tx, actor, asked)


@router.get("/audit-checkpoints", response_model=Page[CheckpointView], openapi_extra=describe_query(SortedQuery))
async def list_checkpoints(
    actor: Annotated[Actor, may(Action.CHECKPOINT_LIST)],
    server: Server,
    asked: Annotated[SortedQuery, Depends(query(SortedQuery), use_cache=False)],
) -> Response:
    """The seals of the audit trail, oldest first. They say nothing of what happened; whoever keeps copies is a witness."""
    async with server.database.single() as tx:
        return await repository.CHECKPOINTS.page(tx, actor, asked)
