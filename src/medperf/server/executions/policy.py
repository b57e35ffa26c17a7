"""Who may see executions and results. What may be done with them is decided in the service, by the table of `medperf.domain.permissions`."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.domain.associations import Status
from medperf.domain.executions import ResultsVisibility
from medperf.server.associations.tables import associations
from medperf.server.authz import owned
from medperf.server.benchmarks.tables import benchmarks
from medperf.server.executions.tables import executions, releases


def concerned(table: sa.Table) -> sa.ColumnElement[bool]:
    """Members of the owner of the dataset, of the benchmark, or of the model; of `executions` or `releases`."""
    columns = (table.c.owner_id, table.c.benchmark_owner_id, table.c.model_owner_id)
    return sa.or_(*(owned(column) for column in columns))


def visible_to(is_admin: bool) -> sa.ColumnElement[bool]:
    """Executions: whom they concern, and admins."""
    return sa.true() if is_admin else concerned(executions)


def _participates(benchmark: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Whether the asking account belongs to the owner of an asset that is approved in the benchmark."""
    approved = associations.c.status == Status.APPROVED.value
    return sa.exists().where(associations.c.benchmark_id == benchmark, approved, owned(associations.c.asset_owner_id))


def shown_by_policy() -> sa.ColumnElement[bool]:
    """Benchmarks whose results the asking account sees because of `ResultsVisibility`; see `ResultsVisibility.admits`."""
    visibility = benchmarks.c.results_visibility
    return sa.or_(
        visibility == ResultsVisibility.ACCOUNTS.value,
        sa.and_(visibility == ResultsVisibility.PARTICIPANTS.value, _participates(benchmarks.c.id)),
    )


def results_visible() -> sa.ColumnElement[bool]:
    """Results, of a select that is joined to the benchmark: whom they concern, and whoever its policy admits. Being an admin shows none."""
    return sa.or_(concerned(releases), shown_by_policy())
