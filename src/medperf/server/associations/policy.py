"""Who may see and do what with associations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from medperf.domain.associations import Asset, Side, Status
from medperf.domain.permissions import Action, Right, Standing, Verdict, decide
from medperf.server.associations.tables import associations
from medperf.server.authz import owned

#: What everybody may see: only what is approved and in OPERATION has associations.
PUBLIC: dict[str, str] = {"kind": Asset.MODEL.value, "status": Status.APPROVED.value}
_ACTIONS = {
    Status.APPROVED: Action.ASSOCIATION_DECIDE,
    Status.REJECTED: Action.ASSOCIATION_DECIDE,
    Status.CANCELLED: Action.ASSOCIATION_CANCEL,
    Status.REVOKED: Action.ASSOCIATION_REVOKE,
}
#: Rights that let somebody act for a side.
_ACTING = {
    Status.APPROVED: {Right.MANAGE},
    Status.REJECTED: {Right.MANAGE},
    Status.CANCELLED: {Right.OPERATE, Right.MANAGE},
    Status.REVOKED: {Right.MANAGE},
}


def inside() -> sa.ColumnElement[bool]:
    """The asking account belongs to one of the two owners."""
    return sa.or_(owned(associations.c.owner_id), owned(associations.c.asset_owner_id))


def visible_to(is_admin: bool) -> sa.ColumnElement[bool]:
    """Members of the owners of both sides, admins; which models are in a benchmark: any account."""
    if is_admin:
        return sa.true()
    public = sa.and_(*(associations.c[name] == value for name, value in PUBLIC.items()))
    return sa.or_(inside(), public)


def standing_of(row: Any, *, benchmark: Standing, asset: Standing) -> Standing:
    """What the actor is to an association: of the side that asked, and of the other one.

    Args:
        row: of associations.
        benchmark, asset: what it is to the two owners.
    """
    asked, other = (benchmark, asset) if row.asked_by == Side.BENCHMARK else (asset, benchmark)
    published = row.kind == Asset.MODEL and row.status == Status.APPROVED
    return replace(asked, asked=other.rights, benchmark=benchmark.rights, published=published)


def may_ask(standing: Standing) -> Verdict:
    """May the actor ask, or invite, for that owner?"""
    return decide(Action.ASSOCIATION_ASK, standing)


def may_decide(standing: Standing, wanted: Status) -> Verdict:
    """May the actor approve, reject, cancel or revoke it?"""
    return decide(_ACTIONS.get(wanted, Action.ASSOCIATION_DECIDE), standing)


def sides(standing: Standing, asked_by: Side, wanted: Status) -> frozenset[Side]:
    """The sides that the actor may decide this for."""
    needed = _ACTING.get(wanted, set())
    held = {asked_by: standing.rights, asked_by.other: standing.asked}
    return frozenset(side for side, rights in held.items() if rights & needed)


def may_set_priority(standing: Standing) -> Verdict:
    """May the actor say when it runs?"""
    return decide(Action.ASSOCIATION_SET_PRIORITY, standing)
