"""The checks of `rules` that take long, on what a transaction has read: a dataset's statistics, a model's report.

What they look at is frozen, but for the statistics of a dataset that has none yet: `Checked.check_same` sees to that.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from medperf.domain.associations import Asset
from medperf.domain.eligibility import refuse
from medperf.domain.errors import InvalidInput
from medperf.server.associations import repository, rules
from medperf.server.benchmarks.service import registered
from medperf.server.benchmarks.tables import benchmarks
from medperf.server.db import Transaction
from medperf.server.mlcubes.tables import mlcubes
from medperf.server.requests import stale
from medperf.wire.models import CompatibilityReport

_SHORT = 32 * 1024  # characters; what is longer is looked at in a thread
_BENCHMARK = sa.select(benchmarks).where(benchmarks.c.id == sa.bindparam("benchmark"))
_CUBES = sa.select(mlcubes).where(mlcubes.c.id.in_(sa.bindparam("cubes", expanding=True)))


@dataclass(frozen=True)
class Subject:
    """What is looked at: rows of the benchmark, of the dataset or MLCube, of the benchmark's MLCubes by id; a model's report."""

    benchmark: Any
    kind: Asset
    asset: Any
    cubes: dict[int, Any]
    report: CompatibilityReport | None


@dataclass(frozen=True)
class Checked:
    """What was found to fit: statistics with this digest, where it is a dataset's."""

    statistics_digest: str | None

    def check_same(self, asset: Any) -> None:
        """Whether the dataset, locked by now, still has them.

        Raises:
            PreconditionFailed: they were given meanwhile.
        """
        if self.statistics_digest is not None and asset.statistics_digest != self.statistics_digest:
            raise stale()


async def subject(
    tx: Transaction, benchmark_id: int, kind: Asset, asset_id: int, report: CompatibilityReport | None
) -> Subject:
    """All of it; the benchmark and the dataset or MLCube are there."""
    benchmark = await tx.first(_BENCHMARK, {"benchmark": benchmark_id})
    asset = await repository.asset(tx, kind, asset_id)
    assert benchmark is not None
    assert asset is not None
    cubes: dict[int, Any] = {}
    if report is not None:
        wanted = {"cubes": sorted({benchmark.preparator_id, benchmark.evaluator_id})}
        cubes = {row.id: row for row in await tx.all(_CUBES, wanted)}
    return Subject(benchmark, kind, asset, cubes, report)


async def checked(about: Subject) -> Checked:
    """Check it, in a thread where it is long.

    Raises:
        InvalidInput: see `rules.check_report`, `rules.check_tested_cubes` and `rules.check_statistics_fit`.
    """
    short = len(about.benchmark.report) <= _SHORT and about.report is None
    return _check(about) if short else await asyncio.to_thread(_check, about)


def _check(about: Subject) -> Checked:
    benchmark, asset = about.benchmark, about.asset
    if about.kind is Asset.DATASET:
        if asset.statistics is not None:
            rules.check_statistics_fit(benchmark, asset.statistics)
        return Checked(asset.statistics_digest)
    rules.check_is_model(benchmark, asset)
    if about.report is not None:
        rules.check_report(benchmark, about.report)
        rules.check_tested_cubes(
            about.report,
            preparator=registered(about.cubes[benchmark.preparator_id]),
            model=registered(asset),
            evaluator=registered(about.cubes[benchmark.evaluator_id]),
        )
    return Checked(None)


def refuse_unfit(benchmark: Any, kind: Asset, asset: Any) -> None:
    """Raises:
    Conflict: the first of all that stands in the way of joining.
    """
    refuse(rules.refusals(benchmark, kind, asset))


def check_report_belongs(kind: Asset, *, invited: bool, known: bool) -> None:
    """Whether a decision may bring a report: it approves the invitation of a model that came without one.

    Raises:
        InvalidInput: ``report_not_needed``.
    """
    if kind is Asset.MODEL and invited and not known:
        return
    raise InvalidInput("report_not_needed", "This decision takes no report.", "Leave it out.")


def missing_report(benchmark_id: int, model_id: int) -> InvalidInput:
    """The error of a model that was not tested with the benchmark."""
    return InvalidInput(
        "missing_report",
        f"MLCube {model_id} was not tested with benchmark {benchmark_id}.",
        f"Test it, and give the report: medperf test run -b {benchmark_id} -m {model_id}",
    )
