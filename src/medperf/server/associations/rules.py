"""Whether a dataset or a model fits a benchmark. Pure; rows are read only."""

from __future__ import annotations

from typing import Any

import orjson

from medperf.domain.associations import Asset
from medperf.domain.eligibility import Fitness, Refusal, join_refusals
from medperf.domain.errors import InvalidInput
from medperf.domain.metrics import contract_from_document
from medperf.domain.states import Approval, Kind, State
from medperf.domain.statistics import check_statistics, derive_statistics_contract
from medperf.domain.values import nested
from medperf.server.benchmarks.rules import RegisteredCube
from medperf.wire.associations import AssociationCreate
from medperf.wire.models import CompatibilityReport
from medperf.wire.reports import check_model_report, check_tested


def fitness_of_benchmark(benchmark: Any) -> Fitness:
    """What counts of a benchmark's row."""
    return Fitness(
        f"benchmark {benchmark.id}",
        State(benchmark.state),
        benchmark.is_valid,
        benchmark.is_active,
        Approval(benchmark.approval),
    )


def refusals(benchmark: Any, kind: Asset, asset: Any) -> tuple[Refusal, ...]:
    """All that stands in the way of joining, that rows tell."""
    fitness = fitness_of_benchmark(benchmark)
    if kind is Asset.MODEL:
        return join_refusals(fitness, Fitness(f"MLCube {asset.id}", State(asset.state), asset.is_valid))
    same = bool(asset.preparator_id == benchmark.preparator_id)
    found = join_refusals(
        fitness,
        Fitness(f"dataset {asset.id}", State(asset.state), asset.is_valid, asset.is_active),
        same_preparator=same,
    )
    if asset.statistics_digest is None:
        found = (
            *found,
            Refusal(
                "no_statistics",
                f"Dataset {asset.id} has no statistics yet.",
                "Its owner sends them with: medperf dataset submit",
            ),
        )
    return found


def check_asks_for(wanted: AssociationCreate, dataset: Any) -> None:
    """Whether a request speaks of the dataset as it is registered.

    Raises:
        InvalidInput: ``association_mismatch``.
    """
    registered = {
        "preparator": dataset.preparator_id,
        "identity": dataset.identity,
        "statistics_digest": dataset.statistics_digest,
    }
    for field, value in registered.items():
        if value is not None and getattr(wanted, field) != value:
            raise InvalidInput(
                "association_mismatch",
                f"The request has another {field.replace('_', ' ')} than dataset {dataset.id} is registered with.",
                "Fetch the dataset again, and ask for what is registered: medperf dataset associate",
            )


def check_statistics_fit(benchmark: Any, statistics: str) -> None:
    """Whether a dataset's statistics keep the benchmark's contract.

    Args:
        statistics: JSON, flat.

    Raises:
        InvalidInput: ``bad_statistics``, ``statistics_contract``.
    """
    contract = derive_statistics_contract(orjson.loads(benchmark.report)["statistics"])
    check_statistics(contract, nested(orjson.loads(statistics)))


def check_is_model(benchmark: Any, cube: Any) -> None:
    """Whether an MLCube can join at all.

    Raises:
        InvalidInput: ``wrong_kind``, ``reference_model``.
    """
    kind = Kind(cube.kind)
    if kind is not Kind.MODEL:
        raise InvalidInput(
            "wrong_kind", f"MLCube {cube.id} is {kind.with_article}.", f"Give {Kind.MODEL.with_article}."
        )
    if cube.id == benchmark.reference_model_id:
        raise InvalidInput(
            "reference_model",
            f"MLCube {cube.id} is the reference model of benchmark {benchmark.id}: it is in it already.",
            "Nothing is left to ask.",
        )


def check_report(benchmark: Any, report: CompatibilityReport) -> None:
    """What can be checked of a model's report without the MLCubes, which are many: demo data, steps, metrics, statistics.

    Raises:
        InvalidInput: ``demo_mismatch``, ``report_mismatch``, ``missing_step``, ``bad_metrics``, ``metrics_contract``, ``bad_statistics``,
            ``statistics_contract``.
    """
    check_model_report(
        report,
        benchmark_id=benchmark.id,
        demo_digest=orjson.loads(benchmark.demo)["digest"],
        prepared_identity=benchmark.prepared_identity,
        metrics=contract_from_document(orjson.loads(benchmark.metrics_contract)),
        statistics=derive_statistics_contract(orjson.loads(benchmark.report)["statistics"]),
    )


def check_tested_cubes(
    report: CompatibilityReport, *, preparator: RegisteredCube, model: RegisteredCube, evaluator: RegisteredCube
) -> None:
    """Whether exactly these MLCubes were tested.

    Raises:
        InvalidInput: ``report_mismatch``, ``form_mismatch``.
    """
    for label, cube, tested in (
        ("preparator", preparator, report.preparator),
        ("model", model, report.model),
        ("evaluator", evaluator, report.evaluator),
    ):
        check_tested(label, cube, tested)
