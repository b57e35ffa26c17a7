"""Erasing what is personal of an account. What it owns stays, and so do the audit events, which only knew its id."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from medperf.server.audit import service as audit
from medperf.server.authz import Actor
from medperf.server.context import ServerContext
from medperf.server.db import Transaction
from medperf.server.names import username_key
from medperf.server.organisations.tables import invitations
from medperf.server.parties.tables import parties
from medperf.server.responses import dump_text
from medperf.server.schema import idempotency_keys
from medperf.server.tokens.tables import tokens
from medperf.server.users import policy, repository
from medperf.server.users.service import found
from medperf.server.users.tables import users


async def erase(server: ServerContext, actor: Actor, user_id: int) -> dict[str, Any]:
    """Replace name and address, forget logins, kept answers and the personal values of its audit events. Twice is once.

    Raises:
        NotFound: no such account.
        Conflict: ``still_active``: it is disabled first, by the rules of that; ``username_taken``.
    """
    name = policy.erased_name(user_id)
    async with actor.change(server.database, alone=users) as tx:
        row = await found(tx, user_id)
        if row.username != name:
            policy.check_erase(row)
            await _forget(tx, row)
            await repository.rename_erased(tx, user_id, name)
            await tx.execute(sa.update(parties).where(parties.c.id == row.party_id).values(name=name))
            await audit.erase(tx, user_id)
            await audit.record(tx, actor.user_id, audit.Action.USER_ERASED, f"user:{user_id}")
        return repository.view(await found(tx, user_id))


async def _forget(tx: Transaction, row: sa.Row[Any]) -> None:
    """Whatever else names the account: logins, invitations, and answers kept for repeated requests, its own and others'."""
    await tx.execute(sa.delete(tokens).where(tokens.c.user_id == row.id))
    await tx.execute(sa.delete(invitations).where(invitations.c.username_key == username_key(row.username)))
    body = idempotency_keys.c.body
    says = [body.contains(dump_text(text), autoescape=True) for text in (row.username, row.email) if text]
    await tx.execute(sa.delete(idempotency_keys).where(sa.or_(idempotency_keys.c.user_id == row.id, *says)))
