"""Statements about organisations and their members."""

from __future__ import annotations

import functools
from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from medperf.domain.errors import Conflict
from medperf.domain.organisations import name_key
from medperf.domain.permissions import Right
from medperf.server.authz import USER, Actor, rights_of
from medperf.server.db import Transaction
from medperf.server.names import username_key
from medperf.server.organisations import policy
from medperf.server.organisations.tables import organisations
from medperf.server.parties.repository import columns_of, insert_owner, insert_party
from medperf.server.parties.tables import memberships, parties
from medperf.server.schema import now
from medperf.server.users.tables import users

_RIGHTS = (memberships.c.can_manage, memberships.c.can_operate, memberships.c.can_release)


def rights_list(row: Any) -> list[str]:
    """The rights of a row, in the order people read them."""
    held = rights_of(row)
    return [right.value for right in Right if right in held]


def view(row: sa.Row[Any]) -> dict[str, Any]:
    """As `medperf.wire.organisations.OrganisationView`."""
    return {
        "id": row.id,
        "name": row.name,
        "rights": rights_list(row),
        "version": row.version,
        "created_at": row.created_at,
        "modified_at": row.modified_at,
    }


def select_organisations(*, mine_only: bool = False) -> sa.Select[Any]:
    """Organisations with the asking account's rights. ``mine_only``: found through its memberships, however many there are."""
    mine = sa.and_(memberships.c.party_id == organisations.c.party_id, memberships.c.user_id == USER)
    return (
        sa.select(
            organisations.c.party_id.label("id"),
            parties.c.name,
            *_RIGHTS,
            organisations.c.version,
            parties.c.created_at,
            organisations.c.modified_at,
        )
        .join(parties, parties.c.id == organisations.c.party_id)
        .join(memberships, mine, isouter=not mine_only)
    )


@functools.cache
def _one(is_admin: bool) -> sa.Select[Any]:
    return select_organisations().where(
        organisations.c.party_id == sa.bindparam("organisation"), policy.visible_to(is_admin)
    )


async def get(tx: Transaction, actor: Actor, organisation_id: int) -> sa.Row[Any] | None:
    """One, if the actor may see it."""
    return await tx.first(_one(actor.is_admin), {"organisation": organisation_id, **actor.sql})


async def insert(tx: Transaction, *, name: str, user_id: int) -> int:
    """A new organisation with one member, who has every right; returns its id.

    Raises:
        Conflict: ``name_taken``.
    """
    party_id = await insert_party(tx, "organisation", name)
    try:
        await tx.execute(
            sa.insert(organisations).values(
                party_id=party_id, name_key=name_key(name), created_by=user_id, version=1, modified_at=now()
            )
        )
    except IntegrityError as error:
        raise name_taken(name) from error
    await insert_owner(tx, party_id, user_id)
    return party_id


async def rename(tx: Transaction, organisation_id: int, version: int, name: str) -> bool:
    """Give it another name if it still has that version; returns whether it had.

    Raises:
        Conflict: ``name_taken``.
    """
    table = organisations.c
    statement = sa.update(organisations).where(table.party_id == organisation_id, table.version == version)
    values = {"name_key": name_key(name), "version": version + 1, "modified_at": now()}
    try:
        done = await tx.execute(statement.values(**values))
    except IntegrityError as error:
        raise name_taken(name) from error
    if done.rowcount == 1:
        await tx.execute(sa.update(parties).where(parties.c.id == organisation_id).values(name=name))
    return done.rowcount == 1


def name_taken(name: str) -> Conflict:
    """The error of a name that another organisation has."""
    return Conflict("name_taken", f"There is already an organisation named {name!r}.", "Choose another name.")


# ------------------------------------------------------------------------------------------------------------------- locks

_LOCK = sa.select(organisations.c.party_id).where(organisations.c.party_id == sa.bindparam("organisation"))
_LOCK_TO_CHANGE = _LOCK.with_for_update()
_LOCK_TO_KEEP = _LOCK.with_for_update(read=True)
_LOCK_ACCOUNT = (
    sa.select(memberships.c.user_id)
    .where(memberships.c.user_id == sa.bindparam("user"), memberships.c.party_id == sa.bindparam("party"))
    .with_for_update()
)


async def lock_account(tx: Transaction, actor: Actor) -> None:
    """The account makes or joins no other organisation until this transaction ends. Taken before `lock_members`.

    It is the membership in its own party that is locked, for that never changes and nobody else waits for it.
    """
    await tx.first(_LOCK_ACCOUNT, {"user": actor.user_id, "party": actor.party_id})


async def lock_members(tx: Transaction, organisation_id: int) -> None:
    """Others wait to change who belongs to it, and with which rights, until this transaction ends."""
    await tx.first(_LOCK_TO_CHANGE, {"organisation": organisation_id})


async def keep_members(tx: Transaction, party_id: int) -> None:
    """Nobody joins or leaves that party until this transaction ends. A personal party never changes."""
    await tx.first(_LOCK_TO_KEEP, {"organisation": party_id})


# ----------------------------------------------------------------------------------------------------------------- members


def member_view(row: sa.Row[Any]) -> dict[str, Any]:
    """As `medperf.wire.organisations.MemberView`."""
    return {
        "id": row.id,
        "username": row.username,
        "is_active": row.is_active,
        "rights": rights_list(row),
        "created_at": row.created_at,
        "modified_at": row.modified_at,
    }


MEMBERS = (
    sa.select(
        memberships.c.user_id.label("id"),
        users.c.username,
        users.c.is_active,
        *_RIGHTS,
        memberships.c.created_at,
        memberships.c.modified_at,
    )
    .join(users, users.c.id == memberships.c.user_id)
    .where(memberships.c.party_id == sa.bindparam("organisation"))
)
_MEMBER = MEMBERS.where(memberships.c.user_id == sa.bindparam("user"))


async def member(tx: Transaction, organisation_id: int, user_id: int) -> sa.Row[Any] | None:
    """One member."""
    return await tx.first(_MEMBER, {"organisation": organisation_id, "user": user_id})


_MEMBER_NAMED = MEMBERS.where(users.c.username_key == sa.bindparam("name"))


async def is_member_named(tx: Transaction, organisation_id: int, username: str) -> bool:
    """Whether a member has that username."""
    values = {"organisation": organisation_id, "name": username_key(username)}
    return await tx.first(_MEMBER_NAMED, values) is not None


_OTHER_MANAGERS = (
    sa.select(sa.func.count())
    .select_from(memberships)
    .join(users, users.c.id == memberships.c.user_id)
    .where(
        memberships.c.party_id == sa.bindparam("organisation"),
        memberships.c.user_id != sa.bindparam("user"),
        memberships.c.can_manage,
        users.c.is_active,
    )
)


async def other_managers(tx: Transaction, organisation_id: int, user_id: int = 0) -> int:
    """Members besides this account who may manage and whose accounts are active."""
    values = {"organisation": organisation_id, "user": user_id}
    return int((await tx.execute(_OTHER_MANAGERS, values)).scalar_one())


_MANAGED = (
    sa.select(organisations.c.party_id)
    .join(memberships, memberships.c.party_id == organisations.c.party_id)
    .where(memberships.c.user_id == sa.bindparam("user"), memberships.c.can_manage)
    .order_by(organisations.c.party_id)
)
_LOCK_MANAGED = _MANAGED.with_for_update(of=organisations)
_others = memberships.alias("others")
_LEFT_UNMANAGED = _MANAGED.where(
    ~sa.exists()
    .where(
        _others.c.party_id == organisations.c.party_id,
        _others.c.user_id != sa.bindparam("user"),
        _others.c.can_manage,
        users.c.id == _others.c.user_id,
        users.c.is_active,
    )
    .correlate(organisations)
)


async def left_unmanaged(tx: Transaction, user_id: int) -> list[int]:
    """The organisations that would have no active manager without this account. They are locked as by `lock_members`."""
    values = {"user": user_id}
    await tx.all(_LOCK_MANAGED, values)
    return [row.party_id for row in await tx.all(_LEFT_UNMANAGED, values)]


async def count_of_user(tx: Transaction, user_id: int) -> int:
    """Organisations that an account belongs to or made, whichever are more."""
    belongs = (
        sa.select(sa.func.count())
        .select_from(memberships)
        .join(organisations, organisations.c.party_id == memberships.c.party_id)
        .where(memberships.c.user_id == user_id)
    )
    made = sa.select(sa.func.count()).select_from(organisations).where(organisations.c.created_by == user_id)
    return int(max((await tx.execute(sa.select(belongs.scalar_subquery(), made.scalar_subquery()))).one()))


async def count_members(tx: Transaction, organisation_id: int) -> int:
    """How many members there are."""
    statement = sa.select(sa.func.count()).where(memberships.c.party_id == organisation_id)
    return int((await tx.execute(statement)).scalar_one())


async def insert_member(tx: Transaction, organisation_id: int, user_id: int, rights: Collection[Right]) -> None:
    """A new member. The caller holds `lock_members` and saw that it is none yet."""
    moment = now()
    values = {"party_id": organisation_id, "user_id": user_id, "created_at": moment, "modified_at": moment}
    await tx.execute(sa.insert(memberships).values(**values, **columns_of(rights)))


async def set_rights(tx: Transaction, organisation_id: int, user_id: int, rights: Collection[Right]) -> None:
    """Replace a member's rights."""
    table = memberships.c
    statement = sa.update(memberships).where(table.party_id == organisation_id, table.user_id == user_id)
    await tx.execute(statement.values(modified_at=now(), **columns_of(rights)))


async def remove_member(tx: Transaction, organisation_id: int, user_id: int) -> None:
    """Its membership goes."""
    table = memberships.c
    await tx.execute(sa.delete(memberships).where(table.party_id == organisation_id, table.user_id == user_id))
