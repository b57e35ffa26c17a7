"""Statements about invitations. They name an account, and never look whether it is there."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from medperf.domain import limits
from medperf.domain.errors import Conflict
from medperf.domain.permissions import Right
from medperf.server.authz import USER
from medperf.server.db import Transaction
from medperf.server.names import username_key
from medperf.server.organisations.repository import rights_list
from medperf.server.organisations.tables import invitations
from medperf.server.parties.repository import columns_of
from medperf.server.parties.tables import parties
from medperf.server.schema import as_text, now
from medperf.server.users.tables import users


def view(row: sa.Row[Any]) -> dict[str, Any]:
    """As `medperf.wire.organisations.InvitationView`."""
    return {
        "id": row.id,
        "organisation": {"id": row.party_id, "name": row.organisation_name, "kind": "organisation"},
        "username": row.username,
        "rights": rights_list(row),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
    }


_SELECT = (
    sa.select(
        invitations.c.id,
        invitations.c.party_id,
        parties.c.name.label("organisation_name"),
        invitations.c.username,
        invitations.c.can_manage,
        invitations.c.can_operate,
        invitations.c.can_release,
        invitations.c.created_at,
        invitations.c.expires_at,
    )
    .join(parties, parties.c.id == invitations.c.party_id)
    .where(invitations.c.expires_at > sa.bindparam("moment"))
)
SENT = _SELECT.where(invitations.c.party_id == sa.bindparam("organisation"))
_MY_NAME = sa.select(users.c.username_key).where(users.c.id == USER).scalar_subquery()
RECEIVED = _SELECT.where(invitations.c.username_key == _MY_NAME)
_ONE_SENT = SENT.where(invitations.c.id == sa.bindparam("invitation"))
_ONE_RECEIVED = RECEIVED.where(invitations.c.id == sa.bindparam("invitation"))


async def sent(tx: Transaction, organisation_id: int, invitation_id: int) -> sa.Row[Any] | None:
    """An open invitation of that organisation."""
    values = {"organisation": organisation_id, "invitation": invitation_id, "moment": now()}
    return await tx.first(_ONE_SENT, values)


async def received(tx: Transaction, user_id: int, invitation_id: int) -> sa.Row[Any] | None:
    """An open invitation to that account."""
    return await tx.first(_ONE_RECEIVED, {"actor_user": user_id, "invitation": invitation_id, "moment": now()})


async def remove_expired(tx: Transaction, organisation_id: int) -> None:
    """Those of that organisation which nobody can answer any more."""
    table = invitations.c
    await tx.execute(sa.delete(invitations).where(table.party_id == organisation_id, table.expires_at <= now()))


async def count(tx: Transaction, organisation_id: int) -> int:
    """How many rows that organisation has."""
    statement = sa.select(sa.func.count()).where(invitations.c.party_id == organisation_id)
    return int((await tx.execute(statement)).scalar_one())


async def insert(
    tx: Transaction, organisation_id: int, *, username: str, rights: Collection[Right], invited_by: int
) -> int:
    """A new invitation; returns its id.

    Raises:
        Conflict: ``already_invited``.
    """
    moment = datetime.now(UTC)
    values = {
        "party_id": organisation_id,
        "username": username,
        "username_key": username_key(username),
        "invited_by": invited_by,
        "created_at": as_text(moment),
        "expires_at": as_text(moment + timedelta(days=limits.INVITATION_DAYS)),
    }
    try:
        return await tx.insert(sa.insert(invitations).values(**values, **columns_of(rights)))
    except IntegrityError as error:
        raise Conflict(
            "already_invited",
            f"There is an open invitation to {username!r} already.",
            "Cancel it first, if its rights are wrong: medperf organisation cancel-invitation --help",
        ) from error


async def remove(tx: Transaction, invitation_id: int) -> None:
    """Its row goes. The caller holds `repository.lock_members` and saw it, so of two at once one removes it."""
    await tx.execute(sa.delete(invitations).where(invitations.c.id == invitation_id))


async def remove_sent_by(tx: Transaction, organisation_id: int, user_id: int) -> None:
    """What somebody sent who manages no longer."""
    table = invitations.c
    await tx.execute(sa.delete(invitations).where(table.party_id == organisation_id, table.invited_by == user_id))
