"""Whether a benchmark's compatibility report speaks of exactly the MLCubes it names. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from medperf.domain.errors import InvalidInput
from medperf.domain.metrics import MetricsContract, check_metrics, contract_from_document
from medperf.domain.states import Kind, State
from medperf.domain.statistics import derive_statistics_contract
from medperf.wire.models import BenchmarkCreate, CompatibilityReport, FileRef, TestedCube
from medperf.wire.reports import check_steps, check_tested


@dataclass(frozen=True)
class RegisteredCube:
    """What the rules look at. ``files`` name -> reference, ``forms`` form -> digests."""

    id: int
    name: str
    kind: Kind
    state: State
    is_valid: bool
    files: Mapping[str, FileRef]
    forms: Mapping[str, Mapping[str, str]]


#: The parts of a benchmark and the kind that each must be.
PARTS: dict[str, Kind] = {"preparator": Kind.PREPARATOR, "reference_model": Kind.MODEL, "evaluator": Kind.EVALUATOR}
_REPORT_FIELD = {"preparator": "preparator", "reference_model": "model", "evaluator": "evaluator"}


def check_report(wanted: BenchmarkCreate) -> MetricsContract:
    """What can be checked without the MLCubes: demo data, tasks, metrics, and that the statistics make a contract for datasets.

    Raises:
        InvalidInput: ``demo_mismatch``, ``missing_step``, ``bad_contract``, ``metrics_contract``, ``bad_statistics``.
    """
    report = wanted.report
    if report.demo_digest != wanted.demo.digest:
        raise InvalidInput(
            "demo_mismatch",
            f"The report was made with demo data {report.demo_digest or 'of unknown digest'}, but the benchmark's is {wanted.demo.digest}.",
            "Run the compatibility test with the demo data of the benchmark: medperf test",
        )
    check_steps(report)
    contract = contract_from_document(wanted.metrics_contract)
    check_metrics(contract, report.metrics)
    derive_statistics_contract(report.statistics)
    return contract


def check_cubes(wanted: BenchmarkCreate, cubes: Mapping[int, RegisteredCube]) -> None:
    """``cubes`` holds what the actor may see.

    Raises:
        InvalidInput: ``unknown_mlcube``, ``wrong_kind``, ``not_in_operation``, ``invalid_mlcube``, ``report_mismatch``, ``form_mismatch``.
    """
    for part, kind in PARTS.items():
        label = part.replace("_", " ")
        cube = cubes.get(getattr(wanted, part))
        if cube is None:
            raise InvalidInput(
                "unknown_mlcube", f"The {label} is no MLCube that you may see.", "List them with: medperf mlcube ls"
            )
        if cube.kind is not kind:
            raise InvalidInput(
                "wrong_kind",
                f"The {label}, MLCube {cube.id}, is {cube.kind.with_article}.",
                f"Give {kind.with_article}.",
            )
        if cube.state is not State.OPERATION:
            raise InvalidInput(
                "not_in_operation",
                f"The {label}, MLCube {cube.id}, is in DEVELOPMENT.",
                "Its owner puts it in OPERATION first.",
            )
        if not cube.is_valid:
            raise InvalidInput(
                "invalid_mlcube", f"The {label}, MLCube {cube.id}, was marked invalid.", "Use another one."
            )
        check_tested(label, cube, _tested(wanted.report, part))


def _tested(report: CompatibilityReport, part: str) -> TestedCube:
    found = getattr(report, _REPORT_FIELD[part])
    assert isinstance(found, TestedCube)
    return found
