"""Who may see and do what with datasets."""

from __future__ import annotations

from collections.abc import Set

import sqlalchemy as sa

from medperf.domain.permissions import Action, Standing, Verdict, decide, decide_all
from medperf.server.authz import owned
from medperf.server.datasets.tables import datasets, opened_datasets

#: What everybody may see: none.
PUBLIC: dict[str, str | None] = {"state": None}
_FLAGS = {"is_valid": Action.DATASET_SET_VALIDITY, "is_active": Action.DATASET_SET_ACTIVITY}


def visible_to(is_admin: bool) -> sa.ColumnElement[bool]:
    """Members of the owner, members of the owners of benchmarks that it asked to join, admins."""
    if is_admin:
        return sa.true()
    opened = opened_datasets.c.dataset_id == datasets.c.id
    return sa.or_(owned(datasets.c.owner_id), sa.exists().where(opened, owned(opened_datasets.c.party_id)))


def may_update(standing: Standing, changes: Set[str]) -> Verdict:
    """May the actor change these fields? A change of nothing is an edit."""
    actions = {_FLAGS.get(field, Action.DATASET_EDIT) for field in changes} or {Action.DATASET_EDIT}
    return decide_all(sorted(actions), standing)


def may_set_statistics(standing: Standing) -> Verdict:
    """May the actor give its statistics?"""
    return decide(Action.DATASET_EDIT, standing)
