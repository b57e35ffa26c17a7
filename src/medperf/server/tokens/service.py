"""Logging in and out."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from medperf.domain.errors import Unauthenticated
from medperf.server.audit.service import Action, record
from medperf.server.auth import hash_token, identify, new_token, wrong_instance
from medperf.server.authz import Actor, Visitor
from medperf.server.context import ServerContext
from medperf.server.tokens import repository
from medperf.server.users import repository as users
from medperf.wire.models import TokenCreate


async def login(server: ServerContext, visitor: Visitor, wanted: TokenCreate, *, address: str) -> dict[str, Any]:
    """A new token for a name and a password. An unknown name takes as long as a wrong password, and gives the same answer.

    Raises:
        Unauthenticated: ``bad_login``, or ``account_disabled`` for those who know the password.
        TooMany: too many failures.
    """
    server.logins.take(wanted.username, address)
    async with server.database.read() as tx:
        row = await users.by_username(tx, wanted.username)
    if not await server.passwords.verify(None if row is None else row.password_hash, wanted.password):
        raise _bad_login()
    assert row is not None
    server.logins.forgive(wanted.username, address)
    server.rates.take_change(row.id)  # the account's own, wherever it logs in from: each login is an event
    token = new_token()
    async with server.database.write() as tx:
        if (await identify(tx, None)).instance_id != visitor.instance_id:
            raise wrong_instance()
        # The password was checked outside this transaction: look again at what it was checked against.
        current = await users.by_username(tx, wanted.username, keep=True)
        if current is None or current.password_hash != row.password_hash:
            raise _bad_login()
        if not current.is_active:
            raise Unauthenticated("account_disabled", "This account is disabled.", "Ask an admin of this server.")
        token_id, expires_at = await repository.insert(
            tx, token_hash=hash_token(token), user_id=current.id, seconds=server.settings.token_seconds
        )
        for ended in await repository.end_oldest(tx, current.id, most=server.settings.login_count):
            await record(tx, current.id, Action.TOKEN_REVOKED, f"token:{ended}", {"reason": "too_many"})
        await record(tx, current.id, Action.TOKEN_CREATED, f"token:{token_id}", personal={"address": address})
        return {"token": token, "expires_at": expires_at, "user": users.view(current)}


async def logout(server: ServerContext, actor: Actor) -> None:
    """End the login that asks."""
    async with actor.change(server.database, ending=True) as tx:
        token_id = await repository.revoke(tx, actor.token_hash)
        await record(tx, actor.user_id, Action.TOKEN_REVOKED, f"token:{token_id}")


def address_of(request: Request) -> str:
    """The client's address, as the limiter of failed logins knows it."""
    return request.client.host if request.client is not None else "-"


def _bad_login() -> Unauthenticated:
    return Unauthenticated(
        "bad_login", "The username or the password is wrong.", "Type them again, or ask an admin of this server."
    )
