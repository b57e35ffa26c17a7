"""Who may see and do what with MLCubes."""

from __future__ import annotations

from collections.abc import Set

import sqlalchemy as sa

from medperf.domain.permissions import Action, Standing, Verdict, decide_all
from medperf.domain.states import State
from medperf.server.authz import owned
from medperf.server.mlcubes.tables import mlcubes

#: What everybody may see.
PUBLIC: dict[str, str] = {"state": State.OPERATION.value}
_FLAGS = {"is_valid": Action.MLCUBE_SET_VALIDITY}


def visible_to(is_admin: bool) -> sa.ColumnElement[bool]:
    """OPERATION: any account. DEVELOPMENT: members of the owner, admins."""
    if is_admin:
        return sa.true()
    public = sa.and_(*(mlcubes.c[name] == value for name, value in PUBLIC.items()))
    return sa.or_(owned(mlcubes.c.owner_id), public)


def may_update(standing: Standing, changes: Set[str]) -> Verdict:
    """May the actor change these fields? A change of nothing is an edit."""
    actions = {_FLAGS.get(field, Action.MLCUBE_EDIT) for field in changes} or {Action.MLCUBE_EDIT}
    return decide_all(sorted(actions), standing)
