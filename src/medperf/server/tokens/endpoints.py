"""``/tokens``."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from medperf.domain.permissions import Action
from medperf.server.authz import Actor, Visitor, may
from medperf.server.context import Server
from medperf.server.requests import Sent, body, describe_body
from medperf.server.responses import answer
from medperf.server.routing import router as make_router
from medperf.server.tokens import service
from medperf.wire.models import TokenCreate, TokenView

router = make_router("tokens")


@router.post("/tokens", status_code=201, response_model=TokenView, openapi_extra=describe_body(TokenCreate))
async def create_token(
    visitor: Visitor,
    server: Server,
    request: Request,
    sent: Annotated[Sent[TokenCreate], Depends(body(TokenCreate, idempotent=False), use_cache=False)],
) -> Response:
    """Log in."""
    return answer(await service.login(server, visitor, sent.value, address=service.address_of(request)), status=201)


@router.delete("/tokens/current", status_code=204)
async def delete_token(actor: Annotated[Actor, may(Action.TOKEN_END)], server: Server) -> Response:
    """Log out."""
    await service.logout(server, actor)
    return Response(status_code=204)
