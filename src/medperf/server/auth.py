"""Who is asking: tokens and passwords."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from medperf.domain.errors import Conflict, ServerUnavailable, Unauthenticated
from medperf.server.db import Database, Transaction
from medperf.server.errors import TooMany
from medperf.server.schema import now, settings
from medperf.server.settings import PasswordCost
from medperf.server.tokens.tables import tokens
from medperf.server.users.tables import users

_WAITING_HASHES = 64
_LOGIN = "Log in with: medperf login"


@dataclass(frozen=True, slots=True)
class Identity:
    """What the one statement at the start of every request finds: the server's instance, and the token's account if there is one.

    ``refusal`` is why a token that was sent is not good; it is raised by routes that need an account.
    """

    instance_id: str
    development: bool
    token_hash: str | None = None
    user_id: int | None = None
    party_id: int | None = None
    is_admin: bool = False
    refusal: str | None = None


_LOOKUP = (
    sa.select(
        settings.c.instance_id,
        settings.c.development,
        tokens.c.expires_at,
        tokens.c.revoked_at,
        users.c.id,
        users.c.party_id,
        users.c.is_admin,
        users.c.is_active,
    )
    .select_from(settings)
    .outerjoin(tokens, tokens.c.hash == sa.bindparam("hash"))
    .outerjoin(users, users.c.id == tokens.c.user_id)
)


_LOGGED_IN = (
    sa.select(*_LOOKUP.selected_columns)
    .select_from(settings)
    .join(tokens, tokens.c.hash == sa.bindparam("hash"))
    .join(users, users.c.id == tokens.c.user_id)
)
#: Somebody who is logged in stays so, and stays as they are, until the transaction ends. A reset waits for whoever has read
#: ``settings``. The token too: a row that was not waited for is read as it was before the wait.
_KEPT = _LOGGED_IN.with_for_update(read=True, of=[users, tokens])
#: For who ends a login: what it is doing at this moment is waited for. Of two that both kept it none could go on.
_ENDING = _LOGGED_IN.with_for_update(key_share=True, of=[users, tokens])


async def identify(
    source: Transaction | Database, token_hash: str | None, *, keep: bool = False, ending: bool = False
) -> Identity:
    """Look up the instance and the token in one statement.

    Args:
        keep: for a change: account and login stay as they are found until the transaction ends.
        ending: as ``keep``, for a change that ends this login.

    Raises:
        ServerUnavailable: the database has no server in it.
    """
    row: Any = None
    if keep or ending:
        row = await source.first(_ENDING if ending else _KEPT, {"hash": token_hash})
    if row is None:
        row = await source.first(_LOOKUP, {"hash": token_hash})
    if row is None:
        raise ServerUnavailable(
            "not_initialised", "This server's database is empty.", "Its admin runs: medperf server init"
        )
    instance_id, development, expires_at, revoked_at, user_id, party_id, is_admin, is_active = row
    if token_hash is None:
        return Identity(instance_id, development)
    refusal = None
    if user_id is None:
        refusal = "bad_token"
    elif revoked_at is not None:
        refusal = "token_revoked"
    elif expires_at <= now():
        refusal = "token_expired"
    elif not is_active:
        refusal = "account_disabled"
    if refusal is not None:
        return Identity(instance_id, development, token_hash, refusal=refusal)
    return Identity(instance_id, development, token_hash, user_id, party_id, is_admin)


def unauthenticated(refusal: str | None) -> Unauthenticated:
    """The error of a request without an account that may go on."""
    what, fix = {
        None: ("This needs an account.", _LOGIN),
        "bad_token": ("This server does not know this token.", _LOGIN),
        "token_revoked": ("This login has ended.", _LOGIN),
        "token_expired": ("This login has expired.", _LOGIN),
        "account_disabled": ("This account is disabled.", "Ask an admin of this server."),
    }[refusal]
    return Unauthenticated(refusal or "login_required", what, fix)


def wrong_instance() -> Conflict:
    """The error of a request that was meant for another server."""
    return Conflict(
        "wrong_instance",
        "This server is not the one the request was meant for: it was reset or replaced.",
        "Log in again with: medperf login",
    )


def new_token() -> str:
    """256 random bits, recognisable to secret scanners."""
    return f"medperf_{secrets.token_urlsafe(32)}"


def hash_token(token: str) -> str:
    """What is stored of a token. It is random, so a fast hash is enough."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


class Passwords:
    """Argon2id in threads, a few at a time, so that logins never stop other requests or fill the memory."""

    def __init__(self, cost: PasswordCost, *, at_once: int = 2) -> None:
        self._hasher = make_hasher(cost)
        self._slots = asyncio.Semaphore(at_once)
        self._waiting = 0
        self._nobody: str | None = None

    async def hash(self, password: str) -> str:
        """The stored form of a password."""
        return str(await self._run(self._hasher.hash, password))

    async def verify(self, stored: str | None, password: str) -> bool:
        """Whether ``password`` is the one. ``stored`` None (no such account) takes as long and is always False."""
        if self._nobody is None:
            self._nobody = await self.hash(secrets.token_hex(16))
        good = await self._run(_verify, self._hasher, stored or self._nobody, password)
        return bool(good) and stored is not None

    async def _run(self, function: Any, *arguments: Any) -> Any:
        if self._waiting >= _WAITING_HASHES:
            raise TooMany(
                "too_many_logins",
                "Too many people are logging in.",
                "Try again in a few seconds.",
                details={"retry_after": 5},
            )
        self._waiting += 1
        try:
            async with self._slots:
                return await asyncio.to_thread(function, *arguments)
        finally:
            self._waiting -= 1


def make_hasher(cost: PasswordCost) -> Any:
    """An Argon2id hasher."""
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=cost.time, memory_cost=cost.memory_kib, parallelism=cost.lanes)


def _verify(hasher: Any, stored: str, password: str) -> bool:
    from argon2.exceptions import Argon2Error, InvalidHashError

    try:
        return bool(hasher.verify(stored, password))
    except (Argon2Error, InvalidHashError):
        return False
