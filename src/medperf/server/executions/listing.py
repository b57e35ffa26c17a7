"""Pages of executions and of results.

As in `medperf.server.paging`, nothing is walked past: what an account may see is the first few ids of each of its parties, by each of the
three owners of a thing, and of each benchmark whose policy shows results to it; merged. With a filter it is a stretch of that filter's
index, of which the rows that may be seen are taken.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple

import sqlalchemy as sa
from pydantic import Field
from starlette.responses import Response

from medperf.domain import limits
from medperf.server.authz import USER, Actor, operated
from medperf.server.benchmarks.tables import benchmarks
from medperf.server.db import Transaction
from medperf.server.executions import policy, repository
from medperf.server.executions.tables import executions, releases
from medperf.server.paging import SortedQuery
from medperf.server.parties.tables import memberships
from medperf.server.responses import answer, dumps
from medperf.server.sql import IdsOf

_ID = sa.bindparam("page_id", type_=sa.BigInteger)
_LIMIT = sa.bindparam("page_limit", type_=sa.Integer)
_OWNERS = ("owner_id", "benchmark_owner_id", "model_owner_id")
_FILTERS = {"benchmark": "benchmark_id", "dataset": "dataset_id", "model": "mlcube_id"}
_FilterId = Annotated[int | None, Field(ge=1, le=limits.ID_MAX)]


class ConcernedQuery(SortedQuery):
    """Filters of ``GET /executions`` and ``GET /results``."""

    owner: Annotated[
        Literal["me"] | None,
        Field(description="'me': of data that is yours, or of organisations you may operate for."),
    ] = None
    benchmark: Annotated[_FilterId, Field(description="Only of this benchmark.")] = None
    dataset: Annotated[_FilterId, Field(description="Only of this dataset.")] = None
    model: Annotated[_FilterId, Field(description="Only of this model.")] = None


class _Shape(NamedTuple):
    """What a statement is built for."""

    everything: bool
    mine: bool
    filters: tuple[str, ...]
    descending: bool


class Concerned:
    """The listing of `executions` or `releases`.

    Args:
        select: the statement without conditions.
        visible: the condition of what may be seen, by whether an admin asks.
        by_policy: a condition on benchmarks, all of whose rows are shown.
    """

    def __init__(
        self,
        table: sa.Table,
        select: sa.Select[Any],
        *,
        view: Callable[[Any], dict[str, Any]],
        visible: Callable[[bool], sa.ColumnElement[bool]],
        admin_sees_all: bool,
        by_policy: sa.ColumnElement[bool] | None = None,
    ) -> None:
        self._table, self._select, self._view, self._visible = table, select, view, visible
        self._admin_sees_all, self._by_policy = admin_sees_all, by_policy
        self._statement = functools.cache(self._build)

    async def page(self, tx: Transaction, actor: Actor, query: ConcernedQuery) -> Response:
        """One page, one statement."""
        descending = query.sort == "-id"
        given = {name: value for name in _FILTERS if (value := getattr(query, name)) is not None}
        everything = actor.is_admin and self._admin_sees_all
        statement = self._statement(_Shape(everything, query.owner == "me", tuple(given), descending))
        first = limits.ID_MAX + 1 if descending else 0
        values = {"page_id": first if query.after is None else int(query.after), "page_limit": query.limit + 1}
        rows = await tx.all(statement, {**values, **given, **actor.sql})
        items: list[dict[str, Any]] = []
        size = 0
        for row in rows[: query.limit]:
            item = self._view(row)
            size += len(dumps(item)) + 1
            if items and size > limits.PAGE_BYTES - 1024:
                break
            items.append(item)
        following = str(items[-1]["id"]) if len(items) < len(rows) else None
        return answer({"items": items, "next": following})

    def _build(self, shape: _Shape) -> sa.Select[Any]:
        key = self._table.c.id
        order = key.desc() if shape.descending else key
        seen = self._visible(shape.everything)
        if shape.filters:
            found = self._select.where(*(self._table.c[_FILTERS[name]] == sa.bindparam(name) for name in shape.filters))
            if shape.mine:
                found = found.where(operated(self._table.c.owner_id))
            return found.where(self._behind(shape), seen).order_by(order).limit(_LIMIT)
        if shape.everything and not shape.mine:
            return self._select.where(self._behind(shape)).order_by(order).limit(_LIMIT)
        stretches = [self._of_parties(shape, column) for column in (_OWNERS[:1] if shape.mine else _OWNERS)]
        if self._by_policy is not None and not shape.mine:
            stretches.append(self._each(shape, benchmarks, "benchmark_id", benchmarks.c.id, self._by_policy))
        united: Any = sa.union(*stretches) if len(stretches) > 1 else stretches[0]
        label: Any = sa.column("i")
        ids = united.order_by(label.desc() if shape.descending else label).limit(_LIMIT).subquery("page")
        return self._select.join(ids, ids.c.i == key).where(seen).order_by(order)

    def _behind(self, shape: _Shape) -> sa.ColumnElement[bool]:
        return self._table.c.id < _ID if shape.descending else self._table.c.id > _ID

    def _of_parties(self, shape: _Shape, column: str) -> sa.Select[Any]:
        which = memberships.c.user_id == USER
        return self._each(
            shape,
            memberships,
            column,
            memberships.c.party_id,
            which & memberships.c.can_operate if shape.mine else which,
        )

    def _each(
        self,
        shape: _Shape,
        source: sa.Table,
        column: str,
        equals: sa.ColumnElement[Any],
        which: sa.ColumnElement[bool],
    ) -> sa.Select[Any]:
        """The first ids of each row of ``source`` for which ``which`` holds."""
        rows = self._table.alias("stretch")
        behind = rows.c.id < _ID if shape.descending else rows.c.id > _ID
        stretch = (
            sa.select(rows.c.id.label("i"))
            .where(rows.c[column] == equals, behind)
            .order_by(rows.c.id.desc() if shape.descending else rows.c.id)
            .limit(_LIMIT)
            .correlate(source)
        )
        each = IdsOf(stretch).table_valued("value").alias("value")
        found = sa.select(each.c.value.label("i")).select_from(source.join(each, sa.true())).where(which)
        order: Any = sa.column("i")
        cut = found.order_by(order.desc() if shape.descending else order).limit(_LIMIT)
        # Each with its own limit, so that no planner thinks of taking all of them and sorting that.
        return sa.select(cut.subquery())


EXECUTIONS = Concerned(
    executions,
    repository.SELECT,
    view=repository.view,
    visible=policy.visible_to,
    admin_sees_all=True,
)
RESULTS = Concerned(
    releases,
    repository.RESULTS,
    view=repository.result_view,
    visible=lambda _: policy.results_visible(),
    admin_sees_all=False,
    by_policy=policy.shown_by_policy(),
)
