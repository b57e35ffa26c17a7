"""``/users`` and ``/me``."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from medperf.domain.permissions import Action
from medperf.server.authz import Actor, may
from medperf.server.context import Server
from medperf.server.paging import NamedQuery
from medperf.server.requests import Sent, body, describe_body, describe_query, query
from medperf.server.responses import answer
from medperf.server.routing import router as make_router
from medperf.server.tokens.service import address_of
from medperf.server.users import erasure, repository, service
from medperf.wire.models import Id, Page, PasswordChange, UserCreate, UserUpdate, UserView

router = make_router("users")


class UserQuery(NamedQuery):
    """Filters of ``GET /users``; names are usernames."""

    is_admin: Annotated[bool | None, Field(description="Only admins, or only others.")] = None
    is_active: Annotated[bool | None, Field(description="Only enabled or only disabled ones.")] = None


@router.get("/me", response_model=UserView)
async def read_me(actor: Annotated[Actor, may(Action.ACCOUNT_READ)], server: Server) -> Response:
    """The account that asks."""
    async with server.database.single() as tx:
        return answer(repository.view(await service.found(tx, actor.user_id)))


@router.post("/me/password", status_code=204, openapi_extra=describe_body(PasswordChange))
async def change_password(
    actor: Annotated[Actor, may(Action.PASSWORD_CHANGE)],
    server: Server,
    request: Request,
    sent: Annotated[Sent[PasswordChange], Depends(body(PasswordChange, idempotent=False), use_cache=False)],
) -> Response:
    """Replace one's own password; all other logins of the account end."""
    await service.change_password(server, actor, sent.value, address=address_of(request))
    return Response(status_code=204)


@router.get("/users", response_model=Page[UserView], openapi_extra=describe_query(UserQuery))
async def list_users(
    actor: Annotated[Actor, may(Action.USER_LIST)],
    server: Server,
    asked: Annotated[UserQuery, Depends(query(UserQuery), use_cache=False)],
) -> Response:
    """All accounts (admin)."""
    async with server.database.single() as tx:
        return await repository.LISTING.page(tx, actor, asked)


@router.post("/users", status_code=201, response_model=UserView, openapi_extra=describe_body(UserCreate))
async def create_user(
    actor: Annotated[Actor, may(Action.USER_CREATE)],
    server: Server,
    sent: Annotated[Sent[UserCreate], Depends(body(UserCreate), use_cache=False)],
) -> Response:
    """A new account (admin)."""
    return await service.create(server, actor, sent)


@router.get("/users/{user_id}", response_model=UserView)
async def read_user(_actor: Annotated[Actor, may(Action.USER_READ)], server: Server, user_id: Id) -> Response:
    """One account (admin)."""
    async with server.database.single() as tx:
        return answer(repository.view(await service.found(tx, user_id)))


@router.patch("/users/{user_id}", response_model=UserView, openapi_extra=describe_body(UserUpdate))
async def update_user(
    actor: Annotated[Actor, may(Action.USER_ENABLE, Action.USER_DISABLE)],
    server: Server,
    user_id: Id,
    sent: Annotated[Sent[UserUpdate], Depends(body(UserUpdate), use_cache=False)],
) -> Response:
    """Enable or disable an account (admin)."""
    return answer(await service.update(server, actor, user_id, sent.value))


@router.delete("/users/{user_id}/personal", response_model=UserView)
async def erase_user(actor: Annotated[Actor, may(Action.USER_ERASE)], server: Server, user_id: Id) -> Response:
    """Erase what is personal of a disabled account, for good: name, address, logins, values in the audit trail (admin)."""
    return answer(await erasure.erase(server, actor, user_id))
