"""Listings: visibility, filters, search, order and keyset paging, as statements that are built once per combination.

The time of a page must not grow with the table, whatever the account may see of it. So nothing is walked past: the wanted rows are cut
into *ranges*, each of which is one stretch of one index in the order that is asked for, and the database merges the first few of
each. A range fixes every facet of a noun (approval, state, ...) and takes either everybody's rows or one owner's:

=================================  ============================================================================================
index                              serves
=================================  ============================================================================================
``(facets..., id)``                what is public, and everything for an admin
``(owner_id, facets..., id)``      one's own with filters, and somebody's public ones
``(owner_id, id)``                 one's own without filters (the same by name where there are many facets)
the same with a key before ``id``  an equal name or digest; names also serve the order by name, and the search by a name's beginning
=================================  ============================================================================================

Whether a row may be seen is decided by the noun's ``visible_to`` on the few rows that were found, as for a single row.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple

import sqlalchemy as sa
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from medperf.domain import limits
from medperf.server.authz import USER, Actor
from medperf.server.cursors import CURSOR, Position, position_of
from medperf.server.db import Transaction
from medperf.server.parties.tables import memberships
from medperf.server.responses import answer, dumps
from medperf.server.sql import IdsOf
from medperf.server.stretches import as_indexed, stretch

OwnerFilter = Annotated[
    str | None,
    Field(
        pattern=r"^(me|[1-9][0-9]{0,8})$",
        description="'me' (you, and organisations you may operate for) or a party's id.",
    ),
]
NameFilter = Annotated[str | None, Field(min_length=1, max_length=limits.NAME_LENGTH, description="Exactly this name.")]
SearchFilter = Annotated[
    str | None,
    Field(
        min_length=1,
        max_length=limits.NAME_LENGTH,
        description="Names that begin with this, whatever their capitals; the order is by name then.",
    ),
]


class PageQuery(BaseModel):
    """Query parameters of every listing, in the order of ids; filters are added by subclasses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=limits.PAGE_MAX, description="How many at most.")] = limits.PAGE_DEFAULT
    after: Annotated[str | None, Field(pattern=r"^[0-9]{1,10}$", description="The 'next' of the page before.")] = None


class SortedQuery(PageQuery):
    """A `Listing` by id, either way round."""

    sort: Annotated[
        Literal["id", "-id"], Field(description="Ids are given in the order of creation; '-' turns it round.")
    ] = "id"


class NamedQuery(PageQuery):
    """A `Listing` of things with names."""

    after: Annotated[str | None, Field(pattern=CURSOR, description="The 'next' of the page before.")] = None
    sort: Annotated[
        Literal["id", "-id", "name", "-name"] | None,
        Field(description="'id' where nothing is said, 'name' for a search; '-' turns it round."),
    ] = None
    name: NameFilter = None
    search: SearchFilter = None


class _Range(NamedTuple):
    """One stretch of one index.

    ``owner`` is the name of a parameter, None: everybody's; `_MINE` and `_OPERATED` stand for many stretches. ``facets`` has a value for each, None: the index without facets.
    ``granted``: what was opened to that party instead, of all owners or of ``of``: parties are opened little, so this is filtered.
    """

    owner: str | None
    facets: tuple[Any, ...] | None
    granted: bool = False
    of: str | None = None


class _Shape(NamedTuple):
    """What a statement is built for: everything that is asked but the values.

    ``whose``: everybody's rows; what the account may see; those of some ``parties``; or another party's that are public. ``parties``
    names the parameters of the account's parties.
    """

    whose: Literal["everybody's", "visible", "own", "another's"]
    parties: tuple[str, ...]
    is_admin: bool
    given: tuple[tuple[str, Any], ...]
    key: str | None
    by_name: bool
    descending: bool
    search: bool
    resumed: bool


#: Accounts with more parties than this have one range for all of them: statements of a thousand parts take long to build.
_PARTIES_APART = 4
_MINE, _OPERATED = "mine", "operated"
#: Nouns with more combinations of facets than this have an index ``(owner_id, name_key, name, id)``.
_FACETS_APART = 4
_SHAPES_KEPT = 1000
_PARTIES = (
    sa.select(memberships.c.party_id, memberships.c.can_operate)
    .where(memberships.c.user_id == USER)
    .order_by(memberships.c.party_id)
)
_LIMIT = sa.bindparam("page_limit", type_=sa.Integer)
_ID = sa.bindparam("page_id", type_=sa.BigInteger)


class Listing:
    """One noun's listing.

    Args:
        select: the statement without conditions.
        key: the id column; its table may have ``owner_id``.
        view: a row as an item of the answer.
        visible: the condition of what may be seen, by whether an admin asks; None: everything, for only admins ask.
        public: facets and the values with which a row is everybody's, exactly as ``visible`` has it.
        facets: column -> all its values; the query may have a filter of the same name.
        filters: query parameter -> column that must equal it; "owner" -> ``owner_id``. Besides the owner, one at a time.
        names: the name as it is sorted (see `medperf.server.names`), and as it is written.
        granted: a table of ``party_id`` and another column, which names rows that are opened to that party. Further columns of its
            primary key say why: several may, and the row is listed once.
    """

    def __init__(
        self,
        select: sa.Select[Any],
        *,
        key: sa.ColumnElement[int],
        view: Callable[[Any], Any],
        visible: Callable[[bool], sa.ColumnElement[bool]] | None,
        filters: Mapping[str, sa.ColumnElement[Any]],
        facets: Mapping[str, Iterable[Any]] | None = None,
        public: Mapping[str, Any] | None = None,
        names: tuple[sa.ColumnElement[str], sa.ColumnElement[str]] | None = None,
        granted: sa.FromClause | None = None,
    ) -> None:
        self._select, self._id, self._view, self._visible = select, key, view, visible
        self._table: Any = key.table
        self._facets = {name: tuple(map(_plain, values)) for name, values in (facets or {}).items()}
        self._public = {name: _plain(value) for name, value in (public or {}).items()}
        self._keys = {name: column for name, column in filters.items() if name != "owner"}
        self._names = names
        self._name = "" if names is None else str(names[1].name)
        self._granted = granted
        self._first_grant = None if granted is None else _first(granted)
        # Building a statement costs more than running it.
        self._built: dict[_Shape, sa.Select[Any] | None] = {}

    async def page(self, tx: Transaction, actor: Actor, query: PageQuery) -> Response:
        """One page: one statement, and before it one for the parties of whom they concern.

        Raises:
            InvalidInput: ``bad_cursor``, ``bad_combination``.
        """
        position = position_of(query, self._keys)
        whose, values, parties = await self._whose(tx, actor, getattr(query, "owner", None))
        given = tuple(
            (name, _plain(value)) for name in self._facets if (value := getattr(query, name, None)) is not None
        )
        asked = (position.key, position.by_name, position.descending, position.search, position.resumed)
        shape = _Shape(whose, parties, actor.is_admin, given, *asked)
        if shape not in self._built:
            if len(self._built) >= _SHAPES_KEPT:
                self._built.clear()
            self._built[shape] = self._statement(shape)
        statement = self._built[shape]
        if statement is None:
            return answer({"items": [], "next": None})
        rows = await tx.all(statement, {**position.parameters, **values, **actor.sql, "page_limit": query.limit + 1})
        items = [self._view(row) for row in rows[: query.limit]]
        found = self._answer(position, rows, items)
        if len(found.body) > limits.PAGE_BYTES and len(items) > 1:
            # Whoever reads slowly keeps it in memory, and whoever registered it decided how long it is.
            found = self._answer(position, rows, items[: _fitting(items)])
        return found

    def _answer(self, position: Position, rows: Sequence[Any], items: Sequence[Any]) -> Response:
        following = position.cursor(rows[len(items) - 1], name=self._name) if len(items) < len(rows) else None
        return answer({"items": items, "next": following})

    async def _whose(
        self, tx: Transaction, actor: Actor, owner: str | None
    ) -> tuple[Any, dict[str, int], tuple[str, ...]]:
        """Whose rows are asked for, the values of parameters, and the names of those of the account's own parties."""
        asked = {} if owner is None or owner == "me" else {"owner": int(owner)}
        if self._visible is None or (actor.is_admin and owner != "me"):
            return ("own", asked, ("owner",)) if asked else ("everybody's", {}, ())
        parties = {row.party_id: row.can_operate for row in await tx.all(_PARTIES, actor.sql)}
        if asked and asked["owner"] in parties:
            return "own", asked, ("owner",)
        if owner == "me":
            return "own", *_parties([party for party, operated in parties.items() if operated], _OPERATED)
        values, names = _parties(parties, _MINE)
        return ("another's" if asked else "visible"), asked | values, names

    # -- the statement -----------------------------------------------------------------------------------------------

    def _statement(self, shape: _Shape) -> sa.Select[Any] | None:
        """None: there is nothing that fits."""
        ranges, overlapping = self._ranges(shape)
        if not ranges:
            return None
        stretches = [stretch for entry in ranges for stretch in self._range(shape, entry)]
        ids = _merged(stretches, shape, overlapping=overlapping).subquery("page")
        found = self._select.join(ids, ids.c.i == self._id)
        if self._visible is not None and not shape.is_admin:
            found = found.where(self._visible(False))
        # By the names of the index, for those of the table may be far inside a row.
        return found.order_by(*_direction(shape, [ids.c[label] for label in _labels(shape)]))

    def _ranges(self, shape: _Shape) -> tuple[list[_Range], bool]:
        """The ranges, and whether a row may be in several."""
        given = dict(shape.given)
        wanted = list(
            itertools.product(*((given[name],) if name in given else values for name, values in self._facets.items()))
        )
        public = [facets for facets in wanted if self._is_public(facets)]
        plain = not given and shape.key is None and not shape.by_name
        if shape.whose == "everybody's":
            return ([_Range(None, None)] if plain else [_Range(None, facets) for facets in wanted]), False
        # Of one owner there is an index without facets also by name, where there are many of them.
        bare = plain or (not given and shape.key in (None, "name") and len(wanted) > _FACETS_APART)
        if shape.whose == "own":
            return self._owned(shape.parties, wanted, bare=bare), False
        opened = [] if self._granted is None else list(shape.parties)
        if shape.whose == "another's":
            found = [_Range("owner", facets) for facets in public]
            return found + [_Range(party, None, granted=True, of="owner") for party in opened], bool(opened)
        hidden = wanted if bare else [facets for facets in wanted if facets not in public]
        found = [_Range(None, facets) for facets in public] + self._owned(shape.parties, hidden, bare=bare)
        return found + [_Range(party, None, granted=True) for party in opened], bare or bool(opened)

    def _owned(self, parties: Iterable[str], wanted: Sequence[tuple[Any, ...]], *, bare: bool) -> list[_Range]:
        if bare:
            return [_Range(party, None) for party in parties]
        return [_Range(party, facets) for party in parties for facets in wanted]

    def _is_public(self, facets: tuple[Any, ...]) -> bool:
        return all(self._public.get(name, value) == value for name, value in zip(self._facets, facets, strict=True))

    def _range(self, shape: _Shape, entry: _Range) -> list[sa.Select[Any]]:
        """The ids of one range in order; by name, the names before them: first what has the name that the page before ended with."""
        key, source = self._id, self._table
        if entry.granted:
            assert self._granted is not None
            source = self._granted
            key = next(column for column in source.c if column.name != "party_id")
            if shape.by_name or shape.key is not None or shape.given or entry.of is not None:
                source = source.join(self._table, self._id == key)
        order = (*(self._names or ()), key) if shape.by_name else (key,)
        many = entry.owner in (_MINE, _OPERATED)
        columns = [column.label(label) for column, label in zip(order, _labels(shape), strict=True)]
        found = sa.select(*(columns[-1:] if many else columns)).select_from(source).limit(_LIMIT)
        fixed: Any = ()
        if entry.granted:
            given = (_unindexed(self._table.c[name]) == _constant(value) for name, value in shape.given)
            equal = (column == value for column, value in self._key_values(shape.key))
            found = found.where(*self._granted_to(entry), *equal, *given)
        else:
            fixed = as_indexed(self._table, self._fixed(shape, entry), order) if entry != _Range(None, None) else ()
        found = found.order_by(*_direction(shape, [*(column for column, _ in fixed), *order]))
        stretches = [found.where(self._between(shape, fixed, order))]
        if shape.resumed and shape.by_name:
            ended = [(order[0], _text("page_folded")), (order[1], _text("page_name"))]
            stretches.append(found.where(stretch([*fixed, *ended], [(order[2], _ID)], descending=shape.descending)))
        return [self._of_each(shape, entry, part) for part in stretches] if many else stretches

    def _of_each(self, shape: _Shape, entry: _Range, part: sa.Select[Any]) -> sa.Select[Any]:
        """A stretch for each party of the account."""
        each = IdsOf(part.correlate(memberships)).table_valued("value").alias("value")
        mine = [memberships.c.user_id == USER, *([memberships.c.can_operate] if entry.owner == _OPERATED else [])]
        source: sa.Join = memberships.join(each, sa.true())
        columns: tuple[sa.ColumnElement[Any], ...] = (each.c.value,)
        if shape.by_name:
            assert self._names is not None
            source = source.join(self._table, self._id == each.c.value)
            columns = (*self._names, self._id)
        labelled = [column.label(label) for column, label in zip(columns, _labels(shape), strict=True)]
        found = sa.select(*labelled).select_from(source).where(*mine)
        return found.order_by(*_direction(shape, [sa.column(label) for label in _labels(shape)])).limit(_LIMIT)

    def _fixed(self, shape: _Shape, entry: _Range) -> dict[str, sa.ColumnElement[Any]]:
        """The columns that have one value in a range, besides those that it is ordered by."""
        owner = {} if entry.owner is None else {"owner_id": _owner(entry.owner)}
        facets = zip(self._facets, map(_constant, entry.facets or ()), strict=False)
        return owner | dict(facets) | {column.name: value for column, value in self._key_values(shape.key)}

    def _granted_to(self, entry: _Range) -> Iterator[sa.ColumnElement[bool]]:
        assert self._granted is not None
        yield self._granted.c.party_id == _owner(entry.owner)
        if self._first_grant is not None:
            yield self._first_grant
        if entry.of is not None:
            yield _unindexed(self._table.c.owner_id) == _owner(entry.of)

    def _key_values(self, key: str | None) -> list[tuple[Any, sa.ColumnElement[Any]]]:
        if key is None:
            return []
        column = self._keys[key]
        found: list[tuple[Any, Any]] = [(column, sa.bindparam("key_value", type_=column.type))]
        if self._names is not None and column is self._names[1]:
            found.insert(0, (self._names[0], _text("key_folded")))
        return found

    def _between(self, shape: _Shape, fixed: Any, order: tuple[sa.ColumnElement[Any], ...]) -> sa.ColumnElement[bool]:
        """Behind the page before, and inside what is searched for."""
        if not shape.by_name:
            return stretch(fixed, [(order[0], _ID)], descending=shape.descending)
        here = [(order[0], _text("page_folded")), (order[1], _text("page_name"))]
        bound = _text("search_from" if shape.descending else "search_until")
        until = [(order[0], bound)] if shape.search else []
        return stretch(fixed, here, descending=shape.descending, until=until)


def _fitting(items: Sequence[Any]) -> int:
    """How many of ``items`` fit into `limits.PAGE_BYTES`; at least one."""
    sizes = itertools.accumulate(len(dumps(item)) + 1 for item in items)
    return max(sum(1 for _ in itertools.takewhile(lambda size: size < limits.PAGE_BYTES - 1024, sizes)), 1)


def _merged(ranges: list[sa.Select[Any]], shape: _Shape, *, overlapping: bool) -> Any:
    """The first rows of all ranges together."""
    if len(ranges) == 1:
        return ranges[0]
    order = _direction(shape, [sa.column(label) for label in _labels(shape)])
    unite = sa.union if overlapping else sa.union_all
    # Each with its own limit, so that no planner thinks of taking all of them and sorting that.
    united: Any = unite(*(sa.select(entry.subquery()) for entry in ranges))
    return united.order_by(*order).limit(_LIMIT)


def _unindexed(column: sa.ColumnElement[Any]) -> sa.ColumnElement[Any]:
    """A column that no index is looked for: what is granted is few, and all else of an owner's may be many."""
    return sa.func.coalesce(column, column)


def _first(granted: sa.FromClause) -> sa.ColumnElement[bool] | None:
    """That no smaller grant of the same to the same party is there; None: there is only one."""
    same, why = list(granted.c)[:2], list(granted.primary_key)[2:]
    if not why:
        return None
    smaller = granted.alias("smaller")
    before = sa.tuple_(*(smaller.c[column.name] for column in why)) < sa.tuple_(*why)
    return ~sa.exists().where(*(smaller.c[column.name] == column for column in same), before)


def _labels(shape: _Shape) -> tuple[str, ...]:
    return ("k", "n", "i") if shape.by_name else ("i",)


def _direction(shape: _Shape, order: Sequence[sa.ColumnElement[Any]]) -> list[sa.ColumnElement[Any]]:
    return [column.desc() if shape.descending else column for column in order]


def _parties(parties: Collection[int], all_of_them: str) -> tuple[dict[str, int], tuple[str, ...]]:
    """Parameters with their values, and the owners of ranges."""
    if len(parties) > _PARTIES_APART:
        return {}, (all_of_them,)
    named = {f"party_{number}": party for number, party in enumerate(parties)}
    return named, tuple(named)


def _owner(name: str | None) -> sa.ColumnElement[int]:
    if name in (_MINE, _OPERATED):
        return memberships.c.party_id
    return sa.bindparam(name, type_=sa.Integer)


def _text(name: str) -> sa.BindParameter[str]:
    return sa.bindparam(name, type_=sa.String)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value


def _constant(value: str | bool) -> Any:
    """Written into the statement: it is ours, and lets the database choose an index by it."""
    if isinstance(value, bool):
        return sa.true() if value else sa.false()
    assert value.isidentifier()
    return sa.literal_column(f"'{value}'")
