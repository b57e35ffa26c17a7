"""Who may see and do what with benchmarks."""

from __future__ import annotations

from collections.abc import Set

import sqlalchemy as sa

from medperf.domain.permissions import Action, Standing, Verdict, decide, decide_all
from medperf.domain.states import Approval, State
from medperf.server.authz import owned
from medperf.server.benchmarks.tables import benchmarks

#: What everybody may see.
PUBLIC: dict[str, str] = {"approval": Approval.APPROVED.value, "state": State.OPERATION.value}
_FLAGS = {
    "is_valid": Action.BENCHMARK_SET_VALIDITY,
    "is_active": Action.BENCHMARK_SET_ACTIVITY,
    "auto_models": Action.ASSOCIATION_SET_POLICY,
    "auto_datasets": Action.ASSOCIATION_SET_POLICY,
    "results_visibility": Action.BENCHMARK_SET_VISIBILITY,
}


def visible_to(is_admin: bool) -> sa.ColumnElement[bool]:
    """Approved ones in OPERATION: any account. Others: members of the owner, admins."""
    if is_admin:
        return sa.true()
    public = sa.and_(*(benchmarks.c[name] == value for name, value in PUBLIC.items()))
    return sa.or_(owned(benchmarks.c.owner_id), public)


def may_update(standing: Standing, changes: Set[str]) -> Verdict:
    """May the actor change these fields? A change of nothing is an edit."""
    actions = {_FLAGS.get(field, Action.BENCHMARK_EDIT) for field in changes} or {Action.BENCHMARK_EDIT}
    return decide_all(sorted(actions), standing)


def may_decide(standing: Standing) -> Verdict:
    """May the actor approve or reject it?"""
    return decide(Action.BENCHMARK_DECIDE, standing)
