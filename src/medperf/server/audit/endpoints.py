"""``/audit-events``."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from pydantic import Field
from starlette.responses import Response

from medperf.server.audit import repository
from medperf.server.authz import Admin
from medperf.server.context import Server
from medperf.server.paging import PageQuery
from medperf.server.requests import describe_query, query
from medperf.server.routing import router as make_router
from medperf.wire.models import AuditEventView, Page

router = make_router("audit")


class AuditQuery(PageQuery):
    """Filters of ``GET /audit-events``."""

    action: Annotated[str | None, Field(max_length=64, description="e.g. benchmark.decided")] = None
    target: Annotated[str | None, Field(max_length=64, description="e.g. benchmark:1")] = None


@router.get("/audit-events", response_model=Page[AuditEventView], openapi_extra=describe_query(AuditQuery))
async def list_events(
    actor: Admin, server: Server, asked: Annotated[AuditQuery, Depends(query(AuditQuery), use_cache=False)]
) -> Response:
    """What was changed, oldest first (admin)."""
    async with server.database.read() as tx:
        return await repository.LISTING.page(tx, actor, asked)
