"""Whether a compatibility report speaks of what is registered. Pure, and the same at the site, before it is sent, and at the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from medperf.domain.errors import InvalidInput
from medperf.domain.metrics import MetricsContract, check_metrics
from medperf.domain.statistics import StatisticsContract, check_statistics
from medperf.domain.steps import COMPATIBILITY_TASKS
from medperf.wire.models import CompatibilityReport, FileRef, TestedCube

_TEST = "Run the compatibility test again on the registered MLCubes: medperf test"


class RegisteredCube(Protocol):
    """What is looked at of an MLCube."""

    @property
    def id(self) -> int:
        """Of its registration."""

    @property
    def files(self) -> Mapping[str, FileRef]:
        """Name -> reference."""

    @property
    def forms(self) -> Mapping[str, Mapping[str, str]]:
        """Form -> digests."""


def check_steps(report: CompatibilityReport) -> None:
    """Whether all of the test ran.

    Raises:
        InvalidInput: ``missing_step``.
    """
    missing = [task for task in COMPATIBILITY_TASKS if task not in {step.task for step in report.steps}]
    if missing:
        raise InvalidInput("missing_step", f"The report lacks the task {missing[0]!r}.", _TEST)


def check_tested(label: str, cube: RegisteredCube, tested: TestedCube) -> None:
    """Whether exactly this MLCube was tested.

    Raises:
        InvalidInput: ``report_mismatch``, ``form_mismatch``.
    """
    if tested.mlcube is not None and tested.mlcube != cube.id:
        raise InvalidInput("report_mismatch", f"The report's {label} is MLCube {tested.mlcube}, not {cube.id}.", _TEST)
    registered = {name: ref.digest for name, ref in cube.files.items()}
    differing = sorted({name for name, _ in registered.items() ^ tested.files.items()})
    if differing:
        raise InvalidInput(
            "report_mismatch",
            f"The {label} that was tested differs from MLCube {cube.id} in {', '.join(differing)}.",
            _TEST,
        )
    if tested.form not in cube.forms:
        raise InvalidInput(
            "form_mismatch", f"The {label} was tested as {tested.form!r}, which MLCube {cube.id} does not have.", _TEST
        )
    for name, digest in cube.forms[tested.form].items():
        if tested.form_digests.get(name, digest) != digest:
            raise InvalidInput(
                "form_mismatch", f"The {label} was tested with another {name!r} than MLCube {cube.id} has.", _TEST
            )


def check_model_report(
    report: CompatibilityReport,
    *,
    benchmark_id: int,
    demo_digest: str,
    prepared_identity: str,
    metrics: MetricsContract,
    statistics: StatisticsContract,
) -> None:
    """What can be checked of a model's report without the MLCubes, which are many: demo data, steps, metrics, statistics.

    Args:
        demo_digest, prepared_identity, metrics, statistics: of the benchmark.

    Raises:
        InvalidInput: ``demo_mismatch``, ``report_mismatch``, ``missing_step``, ``bad_metrics``, ``metrics_contract``, ``bad_statistics``,
            ``statistics_contract``.
    """
    model = report.model.mlcube or "MODEL"
    fix = f"Run the compatibility test of the model with this benchmark again: medperf test run -b {benchmark_id} -m {model}"
    if report.demo_digest != demo_digest:
        raise InvalidInput(
            "demo_mismatch",
            f"The report was made with demo data {report.demo_digest or 'of unknown digest'}, but the benchmark's is {demo_digest}.",
            fix,
        )
    if report.prepared_identity != prepared_identity:
        raise InvalidInput(
            "report_mismatch", "The prepared demo data of the report is not that of the benchmark's own test.", fix
        )
    check_steps(report)
    check_metrics(metrics, report.metrics)
    check_statistics(statistics, report.statistics)
