"""What is done with accounts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from starlette.responses import Response

from medperf.domain.errors import NotFound, Unauthenticated
from medperf.domain.permissions import Action as Attempt
from medperf.domain.permissions import Standing, decide
from medperf.server.audit.service import Action, record
from medperf.server.auth import unauthenticated
from medperf.server.authz import Actor, require
from medperf.server.context import ServerContext
from medperf.server.db import Transaction
from medperf.server.idempotency import Created, create_once
from medperf.server.organisations import repository as organisations
from medperf.server.requests import Sent
from medperf.server.responses import dumps
from medperf.server.tokens import repository as tokens
from medperf.server.users import policy, repository
from medperf.server.users.tables import users
from medperf.wire.models import PasswordChange, UserCreate, UserUpdate


async def create(server: ServerContext, actor: Actor, sent: Sent[UserCreate]) -> Response:
    """A new account with its personal party."""
    wanted = sent.value
    policy.check_username(wanted.username)
    policy.check_password(wanted.password, development=actor.development)
    password_hash = await server.passwords.hash(wanted.password)

    async def make(tx: Transaction) -> Created:
        user_id = await repository.insert(
            tx, username=wanted.username, email=wanted.email, password_hash=password_hash, is_admin=wanted.is_admin
        )
        await record(
            tx,
            actor.user_id,
            Action.USER_CREATED,
            f"user:{user_id}",
            {"is_admin": wanted.is_admin},
            personal={"username": wanted.username, "email": wanted.email},
            subject=user_id,
        )
        return Created(dumps(repository.view(await found(tx, user_id))))

    return await create_once(
        server, actor, route="POST /users", key=sent.key, content=sent.content, make=make, alone=users
    )


async def update(server: ServerContext, actor: Actor, user_id: int, wanted: UserUpdate) -> dict[str, Any]:
    """Enable or disable an account; disabling ends its logins.

    Raises:
        NotFound: no such account.
        Conflict: ``own_account``, ``last_admin``, or ``last_manager`` unless the admin says that organisations may stay without one.
    """
    attempt = Attempt.USER_ENABLE if wanted.is_active else Attempt.USER_DISABLE
    async with actor.change(server.database, alone=users) as tx:
        require(decide(attempt, Standing(is_admin=actor.is_admin)))
        await repository.lock(tx, user_id)
        row = await found(tx, user_id)
        if row.is_active != wanted.is_active:
            data = {}
            if wanted.is_active:
                policy.check_enable(row)
            else:
                others = await repository.count_other_admins(tx, user_id)
                policy.check_disable(actor, user_id, is_admin=row.is_admin, other_admins=others)
                unmanaged = await organisations.left_unmanaged(tx, user_id)
                policy.check_managed(unmanaged, leave=wanted.leave_unmanaged)
                data = {"unmanaged": unmanaged} if unmanaged else {}
                await tokens.revoke_all(tx, user_id)
            await repository.set_active(tx, user_id, wanted.is_active)
            action = Action.USER_ENABLED if wanted.is_active else Action.USER_DISABLED
            await record(tx, actor.user_id, action, f"user:{user_id}", data)
        return repository.view(await found(tx, user_id))


async def change_password(server: ServerContext, actor: Actor, wanted: PasswordChange, *, address: str) -> None:
    """Replace one's own password and end all other logins of the account.

    Raises:
        Unauthenticated: the current password is wrong.
        TooMany: too many wrong ones.
    """
    policy.check_password(wanted.new, development=actor.development)
    async with server.database.read() as tx:
        known = await repository.password_hash(tx, actor.user_id)
    if known is None:  # the server was reset just now
        raise unauthenticated("bad_token")
    username, stored = known
    server.logins.take(username, address)
    if not await server.passwords.verify(stored, wanted.current):
        raise _wrong_password()
    server.logins.forgive(username, address)
    password_hash = await server.passwords.hash(wanted.new)
    async with actor.change(server.database, alone=users) as tx:
        if await repository.password_hash(tx, actor.user_id) != known:  # another login changed it meanwhile
            raise _wrong_password()
        await repository.set_password(tx, actor.user_id, password_hash)
        await tokens.revoke_all(tx, actor.user_id, but=actor.token_hash)
        await record(tx, actor.user_id, Action.PASSWORD_CHANGED, f"user:{actor.user_id}")


def _wrong_password() -> Unauthenticated:
    return Unauthenticated("bad_login", "The current password is wrong.", "Type it again.")


async def found(tx: Transaction, user_id: int) -> sa.Row[Any]:
    """Raises:
    NotFound: no such account.
    """
    row = await repository.get(tx, user_id)
    if row is None:
        raise NotFound("no_such_user", f"There is no account {user_id}.", "List them with: medperf user ls")
    return row
