"""Listings: visibility, equality filters and keyset paging by id, as statements that are built once per combination."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from medperf.domain import limits
from medperf.server.authz import Actor
from medperf.server.db import Transaction
from medperf.server.responses import answer

OwnerFilter = Annotated[str | None, Field(pattern=r"^(me|[1-9][0-9]{0,17})$", description="'me' or a party's id.")]
NameFilter = Annotated[str | None, Field(max_length=limits.NAME_LENGTH, description="Exactly this name.")]


class PageQuery(BaseModel):
    """Query parameters of every listing; filters are added by subclasses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=limits.PAGE_MAX, description="How many at most.")] = limits.PAGE_DEFAULT
    after: Annotated[int | None, Field(ge=0, lt=2**63, description="The 'next' of the page before.")] = None


class Listing:
    """One noun's listing.

    Args:
        select: the statement without conditions.
        key: the id column.
        view: a row as an item of the answer.
        visible: the condition of what may be seen, by whether an admin asks; None = everything.
        filters: query parameter -> column that must equal it.
    """

    def __init__(
        self,
        select: sa.Select[Any],
        *,
        key: sa.ColumnElement[int],
        view: Callable[[Any], Any],
        visible: Callable[[bool], sa.ColumnElement[bool]] | None,
        filters: Mapping[str, sa.ColumnElement[Any]],
    ) -> None:
        self._select = select
        self._key = key
        self._view = view
        self._visible = visible
        self._filters = filters
        # Building a statement costs more than running it. There are few combinations: two to the number of filters.
        self._built: dict[tuple[Any, ...], sa.Select[Any]] = {}

    async def page(self, tx: Transaction, actor: Actor, query: PageQuery) -> Response:
        """One page in ascending id order: one statement, whatever its size."""
        asked = {name: value for name in self._filters if (value := getattr(query, name)) is not None}
        if asked.get("owner") == "me":
            asked["owner"] = actor.party_id
        parameters = {**asked, **actor.sql, "page_limit": query.limit + 1, "page_after": query.after or 0}
        rows = await tx.all(self._statement(actor.is_admin, tuple(asked)), parameters)
        more = len(rows) > query.limit
        items = [self._view(row) for row in rows[: query.limit]]
        return answer({"items": items, "next": str(items[-1]["id"]) if more else None})

    def _statement(self, is_admin: bool, names: tuple[str, ...]) -> sa.Select[Any]:
        found = self._built.get((is_admin, names))
        if found is None:
            found = self._select.where(self._key > sa.bindparam("page_after"))
            if self._visible is not None:
                found = found.where(self._visible(is_admin))
            for name in names:
                column = self._filters[name]
                found = found.where(column == sa.bindparam(name, type_=column.type))
            found = found.order_by(self._key).limit(sa.bindparam("page_limit", type_=sa.Integer))
            self._built[is_admin, names] = found
        return found
