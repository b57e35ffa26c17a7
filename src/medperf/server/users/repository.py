"""Statements about accounts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from medperf.domain.errors import Conflict
from medperf.server.db import Transaction
from medperf.server.names import username_key
from medperf.server.paging import Listing
from medperf.server.parties.repository import insert_owner, insert_party
from medperf.server.schema import now
from medperf.server.users.tables import FACETS, users

COLUMNS = (
    users.c.id,
    users.c.username,
    users.c.email,
    users.c.is_admin,
    users.c.is_active,
    users.c.party_id,
    users.c.created_at,
)


def view(row: sa.Row[Any]) -> dict[str, Any]:
    """As `medperf.wire.models.UserView`."""
    return {
        "id": row.id,
        "username": row.username,
        "email": row.email,
        "is_admin": row.is_admin,
        "is_active": row.is_active,
        "party_id": row.party_id,
        "created_at": row.created_at,
    }


def select_users() -> sa.Select[Any]:
    """All accounts."""
    return sa.select(*COLUMNS)


async def get(tx: Transaction, user_id: int) -> sa.Row[Any] | None:
    """One account."""
    return await tx.first(select_users().where(users.c.id == user_id))


_BY_USERNAME = sa.select(*COLUMNS, users.c.password_hash).where(users.c.username_key == sa.bindparam("username_key"))
_BY_USERNAME_KEPT = _BY_USERNAME.with_for_update(read=True)


async def by_username(tx: Transaction, username: str, *, keep: bool = False) -> sa.Row[Any] | None:
    """One account with its password hash. ``keep``: it stays as it is until this (write) transaction ends."""
    return await tx.first(_BY_USERNAME_KEPT if keep else _BY_USERNAME, {"username_key": username_key(username)})


async def password_hash(tx: Transaction, user_id: int) -> tuple[str, str] | None:
    """Username and password hash of an account."""
    row = await tx.first(sa.select(users.c.username, users.c.password_hash).where(users.c.id == user_id))
    return None if row is None else (row.username, row.password_hash)


async def insert(tx: Transaction, *, username: str, email: str | None, password_hash: str, is_admin: bool) -> int:
    """A new account and its personal party; returns the account's id.

    Raises:
        Conflict: ``username_taken``.
    """
    moment = now()
    try:
        party_id = await insert_party(tx, "person", username)
        user_id = await tx.insert(
            sa.insert(users).values(
                username=username,
                username_key=username_key(username),
                email=email,
                password_hash=password_hash,
                is_admin=is_admin,
                is_active=True,
                party_id=party_id,
                created_at=moment,
                modified_at=moment,
            )
        )
    except IntegrityError as error:
        raise Conflict(
            "username_taken", f"There is already an account {username!r}.", "Choose another username."
        ) from error
    await insert_owner(tx, party_id, user_id)
    return user_id


async def set_active(tx: Transaction, user_id: int, active: bool) -> None:
    """Enable or disable."""
    await tx.execute(sa.update(users).where(users.c.id == user_id).values(is_active=active, modified_at=now()))


async def rename_erased(tx: Transaction, user_id: int, name: str) -> None:
    """Nothing of the person is left. No password fits the empty hash.

    Raises:
        Conflict: ``username_taken``, by an account older than the reservation of such names.
    """
    values = {"username": name, "username_key": name, "email": None, "password_hash": "", "is_admin": False}
    try:
        await tx.execute(sa.update(users).where(users.c.id == user_id).values(**values, modified_at=now()))
    except IntegrityError as error:
        raise Conflict(
            "username_taken", f"There is an account {name!r} that was not erased.", "Erase that account first."
        ) from error


async def set_password(tx: Transaction, user_id: int, password_hash: str) -> None:
    """Replace the password."""
    await tx.execute(
        sa.update(users).where(users.c.id == user_id).values(password_hash=password_hash, modified_at=now())
    )


_ID = sa.select(users.c.id).where(users.c.id == sa.bindparam("user"))
_LOCK = _ID.with_for_update(key_share=True)
_KEEP = _ID.with_for_update(read=True)


async def keep(tx: Transaction, user_id: int) -> None:
    """It is not disabled until this transaction ends. Taken before organisations are locked: see `lock`."""
    await tx.first(_KEEP, {"user": user_id})


async def lock(tx: Transaction, user_id: int) -> None:
    """Wait for what the account itself is changing at this moment, and let it begin nothing until this transaction ends.

    Locks are taken in this order: accounts, then organisations by id, then memberships.
    """
    await tx.first(_LOCK, {"user": user_id})


_OTHER_ADMINS = (
    sa.select(sa.func.count())
    .select_from(users)
    .where(users.c.is_admin, users.c.is_active, users.c.id != sa.bindparam("user"))
)


async def count_other_admins(tx: Transaction, user_id: int) -> int:
    """Active admins besides this account. The caller changes ``users`` alone, so it stays true."""
    return int((await tx.execute(_OTHER_ADMINS, {"user": user_id})).scalar_one())


LISTING = Listing(
    select_users(),
    key=users.c.id,
    view=view,
    visible=None,
    filters={"name": users.c.username},
    facets=FACETS,
    names=(users.c.username_key, users.c.username),
)
