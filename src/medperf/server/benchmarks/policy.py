"""Who may see and do what with benchmarks."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from medperf.domain.errors import Forbidden
from medperf.domain.states import Approval, State
from medperf.server.authz import PARTY, Actor
from medperf.server.benchmarks.tables import benchmarks


def visible_to(is_admin: bool) -> sa.ColumnElement[bool]:
    """Approved ones in OPERATION: any account. Others: owner, admin."""
    if is_admin:
        return sa.true()
    approved = sa.and_(benchmarks.c.approval == Approval.APPROVED.value, benchmarks.c.state == State.OPERATION.value)
    return sa.or_(benchmarks.c.owner_id == PARTY, approved)


def check_update(actor: Actor, row: sa.Row[Any], changes: set[str]) -> None:
    """The owner changes everything that may change; an admin only the validity.

    Raises:
        Forbidden: neither.
    """
    if row.owner_id == actor.party_id or (actor.is_admin and changes <= {"is_valid"}):
        return
    raise Forbidden(
        "not_owner", "Only the owner changes this benchmark (an admin may change is_valid).", "Ask its owner."
    )
