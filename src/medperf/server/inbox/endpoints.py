"""``/inbox``."""

from __future__ import annotations

from typing import Annotated

from starlette.responses import Response

from medperf.domain.permissions import Action
from medperf.server.authz import Actor, may
from medperf.server.context import Server
from medperf.server.inbox import repository
from medperf.server.responses import answer
from medperf.server.routing import router as make_router
from medperf.wire.inbox import InboxView

router = make_router("inbox")
_MOST = 100  # of each kind


@router.get("/inbox", response_model=InboxView)
async def read_inbox(actor: Annotated[Actor, may(Action.INBOX_READ)], server: Server) -> Response:
    """What waits for the account: invitations, requests to decide about, metrics to release, attempts that were lost; for admins
    benchmarks that nobody decided about yet.
    """
    items, more = [], False
    asked = {**actor.sql, **repository.moments(), "most": _MOST + 1}
    async with server.database.read() as tx:
        for source in repository.sources(is_admin=actor.is_admin):
            rows = await tx.all(source.statement, asked)
            more = more or len(rows) > _MOST
            items += [{"kind": source.kind.value, **source.item(row)} for row in rows[:_MOST]]
    return answer({"items": items, "more": more})
