"""Who may see and do what with MLCubes."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from medperf.domain.errors import Forbidden
from medperf.domain.states import State
from medperf.server.authz import PARTY, Actor
from medperf.server.mlcubes.tables import mlcubes


def visible_to(is_admin: bool) -> sa.ColumnElement[bool]:
    """OPERATION: any account. DEVELOPMENT: owner, admin."""
    if is_admin:
        return sa.true()
    return sa.or_(mlcubes.c.owner_id == PARTY, mlcubes.c.state == State.OPERATION.value)


def check_update(actor: Actor, row: sa.Row[Any], changes: set[str]) -> None:
    """The owner changes everything that may change; an admin only the validity.

    Raises:
        Forbidden: neither.
    """
    if row.owner_id == actor.party_id or (actor.is_admin and changes <= {"is_valid"}):
        return
    raise Forbidden("not_owner", "Only the owner changes this MLCube (an admin may change is_valid).", "Ask its owner.")
