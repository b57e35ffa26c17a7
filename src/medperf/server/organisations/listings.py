"""Pages of organisations, members and invitations: few rows each, in the order of their ids, one statement a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa
from starlette.responses import Response

from medperf.server.authz import Actor
from medperf.server.db import Transaction
from medperf.server.organisations import invitations, policy, repository
from medperf.server.organisations.tables import invitations as invitation_rows
from medperf.server.organisations.tables import organisations
from medperf.server.paging import PageQuery
from medperf.server.parties.tables import memberships
from medperf.server.responses import answer
from medperf.server.schema import now


class Pages:
    """One such listing. ``select`` has no order and no limit; ``key`` is its id."""

    def __init__(self, select: sa.Select[Any], *, key: sa.ColumnElement[int], view: Callable[[Any], Any]) -> None:
        self._statement = (
            select.where(key > sa.bindparam("page_after", type_=sa.Integer))
            .order_by(key)
            .limit(sa.bindparam("page_limit", type_=sa.Integer))
        )
        self._view = view

    async def page(self, tx: Transaction, query: PageQuery, parameters: Mapping[str, Any]) -> Response:
        """One page."""
        values = {**parameters, "page_after": int(query.after or 0), "page_limit": query.limit + 1}
        rows = await tx.all(self._statement, values)
        items = [self._view(row) for row in rows[: query.limit]]
        return answer({"items": items, "next": str(items[-1]["id"]) if len(rows) > query.limit else None})


_ORGANISATIONS = {
    is_admin: Pages(
        repository.select_organisations(mine_only=not is_admin).where(policy.visible_to(is_admin)),
        key=organisations.c.party_id if is_admin else memberships.c.party_id,
        view=repository.view,
    )
    for is_admin in (False, True)
}
_MEMBERS = Pages(repository.MEMBERS, key=memberships.c.user_id, view=repository.member_view)
_SENT = Pages(invitations.SENT, key=invitation_rows.c.id, view=invitations.view)
_RECEIVED = Pages(invitations.RECEIVED, key=invitation_rows.c.id, view=invitations.view)


async def organisations_of(tx: Transaction, actor: Actor, query: PageQuery) -> Response:
    """Those the actor belongs to; all for an admin."""
    return await _ORGANISATIONS[actor.is_admin].page(tx, query, actor.sql)


async def members_of(tx: Transaction, organisation_id: int, query: PageQuery) -> Response:
    """Who belongs to it."""
    return await _MEMBERS.page(tx, query, {"organisation": organisation_id})


async def sent_by(tx: Transaction, organisation_id: int, query: PageQuery) -> Response:
    """Its open invitations."""
    return await _SENT.page(tx, query, {"organisation": organisation_id, "moment": now()})


async def received_by(tx: Transaction, actor: Actor, query: PageQuery) -> Response:
    """Open invitations to the actor."""
    return await _RECEIVED.page(tx, query, {**actor.sql, "moment": now()})
