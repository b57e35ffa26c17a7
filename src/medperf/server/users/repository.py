"""Statements about accounts."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from medperf.domain.errors import Conflict
from medperf.server.db import Transaction
from medperf.server.paging import Listing
from medperf.server.parties.repository import insert_person
from medperf.server.schema import now
from medperf.server.users.tables import users

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


async def by_username(tx: Transaction, username: str) -> sa.Row[Any] | None:
    """One account with its password hash."""
    return await tx.first(sa.select(*COLUMNS, users.c.password_hash).where(users.c.username_key == username.lower()))


async def password_hash(tx: Transaction, user_id: int) -> tuple[str, str]:
    """Username and password hash of an account that is there."""
    row = (await tx.execute(sa.select(users.c.username, users.c.password_hash).where(users.c.id == user_id))).one()
    return row.username, row.password_hash


async def insert(tx: Transaction, *, username: str, email: str | None, password_hash: str, is_admin: bool) -> int:
    """A new account and its personal party; returns the account's id.

    Raises:
        Conflict: ``username_taken``.
    """
    moment = now()
    try:
        party_id = await insert_person(tx, username)
        return await tx.insert(
            sa.insert(users).values(
                username=username,
                username_key=username.lower(),
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


async def set_active(tx: Transaction, user_id: int, active: bool) -> None:
    """Enable or disable."""
    await tx.execute(sa.update(users).where(users.c.id == user_id).values(is_active=active, modified_at=now()))


async def set_password(tx: Transaction, user_id: int, password_hash: str) -> None:
    """Replace the password."""
    await tx.execute(
        sa.update(users).where(users.c.id == user_id).values(password_hash=password_hash, modified_at=now())
    )


async def count_other_admins(tx: Transaction, user_id: int) -> int:
    """Active admins besides this account."""
    statement = (
        sa.select(sa.func.count()).select_from(users).where(users.c.is_admin, users.c.is_active, users.c.id != user_id)
    )
    return int((await tx.execute(statement)).scalar_one())


LISTING = Listing(select_users(), key=users.c.id, view=view, visible=None, filters={})
