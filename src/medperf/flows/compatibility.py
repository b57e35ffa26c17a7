"""The compatibility test: prepare, sanity_check, statistics, infer, evaluate on demo data, each step done at most once."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from medperf import __version__
from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.documents import load_yaml
from medperf.domain.errors import Interrupted, InvalidInput, MedPerfError, UsageError
from medperf.domain.events import Note
from medperf.domain.metrics import MetricsContract, check_metrics, contract_from_document, derive_contract
from medperf.domain.states import Kind
from medperf.flows.cubes import ReadyCube, registered_cube, resolve_cube
from medperf.flows.data import TestData, check_data, demo_data, local_data
from medperf.flows.files import obtain, obtain_registered
from medperf.flows.paths import local_path
from medperf.flows.site import Site
from medperf.flows.steps import DoneStep, StepRunner
from medperf.wire.models import BenchmarkView, CompatibilityReport, TestedCube

TestState = Literal["passed", "failed", "interrupted"]


@dataclass(frozen=True)
class TestRequest:
    """What to test. Cubes are paths or ids; what is missing comes from ``benchmark``."""

    __test__ = False

    preparator: str | None = None
    model: str | None = None
    evaluator: str | None = None
    data_path: str | None = None
    labels_path: str | None = None
    demo_url: str | None = None
    demo_hash: str | None = None
    benchmark: int | None = None
    no_cache: bool = False


@dataclass(frozen=True)
class TestCubes:
    """The three cubes of a workflow, ready to run."""

    __test__ = False

    preparator: ReadyCube
    model: ReadyCube
    evaluator: ReadyCube


@dataclass(frozen=True)
class TestResult:
    """What a test found. ``metrics`` is flat, None = undefined; ``seconds`` is the whole test's wall time."""

    __test__ = False

    report_id: Digest
    report: CompatibilityReport
    metrics: dict[str, Any]
    contract: MetricsContract
    containers_started: int
    seconds: float


@dataclass(frozen=True)
class TestSummary:
    """One test that was run: its report, or how it failed.

    Attributes:
        engine: empty for a test that did not pass.
        metrics: flat; empty for a test that did not pass.
        report: see `CompatibilityReport`; None for a test that did not pass.
        failure: ``code``, ``what``, ``fix`` and, of a task that failed, ``task`` and ``log``; None for a test that passed.
    """

    __test__ = False

    id: str
    created_at: str
    preparator: str
    model: str
    evaluator: str
    data: str
    engine: str
    metrics: dict[str, Any]
    report: dict[str, Any] | None
    state: TestState = "passed"
    failure: dict[str, Any] | None = None


def run_test(site: Site, request: TestRequest) -> TestResult:
    """Check everything that can be checked, then run the five steps and keep a report.

    Raises:
        UsageError: options that contradict each other or are missing.
        InvalidInput: a cube, the data or the metrics break a rule.
        TaskFailed: a task did not succeed.
    """
    _check_request(request)
    benchmark = site.api.benchmarks.get(request.benchmark) if request.benchmark is not None else None
    cubes = _resolve_cubes(site, request, benchmark)
    data = _resolve_data(site, request, benchmark)
    contract = None
    if benchmark is not None and benchmark.metrics_contract:
        if request.evaluator is None:
            contract = contract_from_document(benchmark.metrics_contract)
        else:
            told = (
                f"Another evaluator than benchmark {benchmark.id}'s: its metrics contract does not apply to this test."
            )
            site.emit(Note(told, level="warning"))
    return test_workflow(site, cubes, data, contract=contract, no_cache=request.no_cache)


def test_workflow(
    site: Site, cubes: TestCubes, data: TestData, *, contract: MetricsContract | None, no_cache: bool
) -> TestResult:
    """The five steps. See `run_test`. How it failed is kept too."""
    labels = {
        "preparator": cubes.preparator.label,
        "model": cubes.model.label,
        "evaluator": cubes.evaluator.label,
        "data": data.source,
    }
    started = datetime.now(UTC)
    try:
        return _five_steps(site, cubes, data, contract=contract, no_cache=no_cache, started=started, labels=labels)
    except MedPerfError as error:
        _keep_failure(site, error, labels=labels, started=started)
        raise


def _five_steps(
    site: Site,
    cubes: TestCubes,
    data: TestData,
    *,
    contract: MetricsContract | None,
    no_cache: bool,
    started: datetime,
    labels: dict[str, str],
) -> TestResult:
    from medperf.runtime.hashing import data_identity

    clock = site.clock()
    check_data(data, cubes.preparator.cube.manifest)
    runner = StepRunner(site, use_cache=not no_cache)
    for cube in (cubes.preparator, cubes.model, cubes.evaluator):
        runner.prepared(cube)
    raw = {
        "data_path": (data.data_path, str(data_identity({"data": data.data_path}, emit=site.emit_or_stop).root)),
        "labels_path": (
            data.labels_path,
            str(data_identity({"labels": data.labels_path}, emit=site.emit_or_stop).root),
        ),
    }
    prepare = runner.run(cubes.preparator, "prepare", raw)
    separate = cubes.preparator.cube.manifest.separates_labels
    prepared_data = (prepare.outputs / "output_path", prepare.identities["output_path"])
    prepared_labels = (
        (prepare.outputs / "output_labels_path", prepare.identities["output_labels_path"])
        if separate
        else prepared_data
    )
    checked = {
        task: _prepared_inputs(cubes.preparator, task, prepared_data, prepared_labels)
        for task in ("sanity_check", "statistics")
    }
    infer, sanity, stats = runner.side_by_side(
        (cubes.model, "infer", {"data_path": prepared_data}),
        (cubes.preparator, "sanity_check", checked["sanity_check"]),
        (cubes.preparator, "statistics", checked["statistics"]),
    )
    statistics = _read_statistics(stats)
    predictions = (infer.outputs / "output_path", infer.identities["output_path"])
    evaluate = runner.run(cubes.evaluator, "evaluate", {"predictions": predictions, "labels": prepared_labels})
    steps = (prepare, sanity, stats, infer, evaluate)
    raw_metrics = read_metrics(evaluate)
    contract = contract or derive_contract(raw_metrics)
    metrics = check_metrics(contract, raw_metrics)
    report = CompatibilityReport(
        client_version=__version__,
        engine=site.engine.name,
        architecture=_architecture(),
        policy=site.policy("infer").as_document(),
        demo_digest=data.demo_digest,
        prepared_identity=Digest.of_document({"data": prepared_data[1], "labels": prepared_labels[1]}),
        preparator=_tested(runner, cubes.preparator),
        model=_tested(runner, cubes.model),
        evaluator=_tested(runner, cubes.evaluator),
        steps=tuple(step.as_tested() for step in steps),
        statistics=statistics,
        metrics=raw_metrics,
        started_at=started,
        finished_at=datetime.now(UTC),
    )
    report_id = site.workspace.reports.save(
        {"labels": labels, "report": report.model_dump(mode="json"), "metrics": metrics}
    )
    return TestResult(
        report_id=report_id,
        report=report,
        metrics=metrics,
        contract=contract,
        containers_started=runner.containers_started,
        seconds=site.clock() - clock,
    )


def _keep_failure(site: Site, error: MedPerfError, *, labels: dict[str, str], started: datetime) -> None:
    """Write down that a test did not pass, and why, for ``medperf test ls``; a workspace that cannot be written keeps nothing."""
    failure = {"code": error.code, "what": error.what, "fix": error.fix}
    failure |= {name: error.details[name] for name in ("task", "log") if name in error.details}
    state: TestState = "interrupted" if isinstance(error, Interrupted) else "failed"
    with contextlib.suppress(MedPerfError):
        site.workspace.reports.save(
            {"labels": labels, "state": state, "failure": failure, "started_at": started.isoformat(), "metrics": {}}
        )


def _prepared_inputs(
    preparator: ReadyCube, task: str, data: tuple[Path, str], labels: tuple[Path, str]
) -> dict[str, tuple[Path, str]]:
    """What a check of prepared data reads: the labels too, where the manifest says so."""
    reads_labels = preparator.cube.manifest.tasks[task].input("labels_path") is not None
    return {"data_path": data, "labels_path": labels} if reads_labels else {"data_path": data}


def list_tests(site: Site) -> list[TestSummary]:
    """Tests that were run, newest first; those that did not pass too."""
    return [_summary(entry) for entry in site.workspace.reports.ls()]


def view_test(site: Site, id_or_prefix: str | None) -> TestSummary:
    """One test by the id of its report or the beginning of it; None = the latest.

    Raises:
        NotFound: there is none.
    """
    return _summary(site.workspace.reports.get(id_or_prefix))


def _check_request(request: TestRequest) -> None:
    has_benchmark = request.benchmark is not None
    for option, value in (
        ("--data_preparation", request.preparator),
        ("--model", request.model),
        ("--evaluator", request.evaluator),
        ("--data_path", request.data_path),
        ("--labels_path", request.labels_path),
        ("--demo_dataset_url", request.demo_url),
    ):
        if (
            value is not None and not value.strip()
        ):  # a variable of the shell that is not set would mean this very folder
            raise UsageError("empty_option", f"{option} is empty.", "Give a value, or leave the option out.")
    if request.demo_hash is not None and request.demo_url is None:
        raise UsageError(
            "missing_option", "--demo_dataset_hash is given without --demo_dataset_url.", "Give both, or neither."
        )
    for name, option, value in (
        ("data preparation MLCube", "--data_preparation", request.preparator),
        ("model MLCube", "--model", request.model),
        ("evaluator MLCube", "--evaluator", request.evaluator),
    ):
        if value is None and not has_benchmark:
            raise UsageError(
                "missing_option", f"No {name} is given.", f"Give {option} (a path or an id), or --benchmark."
            )
    if (request.data_path is None) != (request.labels_path is None):
        raise UsageError("missing_option", "--data_path and --labels_path belong together.", "Give both.")
    sources = [request.data_path is not None, request.demo_url is not None]
    if all(sources):
        raise UsageError(
            "two_data_sources",
            "Two data sources are given.",
            "Give either --data_path with --labels_path, or --demo_dataset_url.",
        )
    if not any(sources) and not has_benchmark:
        raise UsageError(
            "missing_option",
            "No data is given.",
            "Give --data_path and --labels_path, or --demo_dataset_url, or --benchmark.",
        )


def _resolve_cubes(site: Site, request: TestRequest, benchmark: BenchmarkView | None) -> TestCubes:
    def one(reference: str | None, registered: int | None, kind: Kind, option: str) -> ReadyCube:
        if reference is not None:
            return resolve_cube(site, reference, kind, option=option)
        if registered is None:
            raise UsageError("missing_option", f"{option} is missing.", "Give a path or an id.")
        return registered_cube(site, site.api.mlcubes.get(registered), kind)

    return TestCubes(
        preparator=one(
            request.preparator, benchmark.preparator if benchmark else None, Kind.PREPARATOR, "--data_preparation"
        ),
        model=one(request.model, benchmark.reference_model if benchmark else None, Kind.MODEL, "--model"),
        evaluator=one(request.evaluator, benchmark.evaluator if benchmark else None, Kind.EVALUATOR, "--evaluator"),
    )


def _resolve_data(site: Site, request: TestRequest, benchmark: BenchmarkView | None) -> TestData:
    if request.data_path is not None and request.labels_path is not None:
        data = local_data(local_path(request.data_path), local_path(request.labels_path))
        for option, path in (("--data_path", data.data_path), ("--labels_path", data.labels_path)):
            if site.home.resolve().is_relative_to(path):
                raise InvalidInput(
                    "holds_workspace",
                    f"{option} {str(path)!r} holds MedPerf's own files, which change while they are read.",
                    "Give the folder of the data themselves.",
                )
        return data
    if request.demo_url is not None:
        return demo_data(site, obtain(site, request.demo_url, option="--demo_dataset_url", expected=request.demo_hash))
    if benchmark is None or not benchmark.demo.urls:
        raise UsageError(
            "missing_option", "No data is given.", "Give --data_path and --labels_path, or --demo_dataset_url."
        )
    return demo_data(site, obtain_registered(site, benchmark.demo, name="demo data"))


def read_metrics(step: DoneStep) -> dict[str, Any]:
    """The evaluator's YAML with NaN and infinities as null, which is how the contract writes undefined."""
    example = "'AUC: {Edema: 0.91}'"
    document = _read_mapping(step, "evaluator", "metrics", limits.METRICS_BYTES, example=example, allow_nan=True)
    return {key: _undefined(value) for key, value in document.items()}


def _undefined(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _undefined(entry) for key, entry in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read_statistics(step: DoneStep) -> dict[str, Any]:
    return _read_mapping(step, "preparator", "statistics", limits.STATISTICS_BYTES, example="'cases: 120'")


def _read_mapping(
    step: DoneStep, author: str, what: str, max_bytes: int, *, example: str, allow_nan: bool = False
) -> dict[str, Any]:
    """The document that a task wrote as its ``output_path``.

    Raises:
        InvalidInput: no plain file, no YAML within bounds, or no mapping (``bad_metrics``, ``bad_statistics``).
    """
    from medperf.runtime.manifests.files import read_plain

    data = read_plain(step.outputs / "output_path", max_bytes, f"{author}'s output")
    document = load_yaml(data, label=f"The {author}'s {what}", max_bytes=max_bytes, allow_nan=allow_nan)
    if not isinstance(document, dict):
        raise InvalidInput(
            f"bad_{what}", f"The {author}'s {what} are no mapping.", f"Write a YAML mapping such as {example}."
        )
    return document


def _tested(runner: StepRunner, ready: ReadyCube) -> TestedCube:
    prepared = runner.prepared(ready)
    digests = {name: str(value) for name, value in prepared.digests.items()}
    return TestedCube(mlcube=ready.mlcube, files=ready.files, form=prepared.form, form_digests=digests)


def _summary(entry: Any) -> TestSummary:
    document = entry.report
    labels = document["labels"]
    return TestSummary(
        id=str(entry.id),
        created_at=entry.created_at,
        preparator=labels["preparator"],
        model=labels["model"],
        evaluator=labels["evaluator"],
        data=labels["data"],
        engine=document["report"]["engine"] if "report" in document else "",
        metrics=document["metrics"],
        report=document.get("report"),
        state=document.get("state", "passed"),
        failure=document.get("failure"),
    )


def _architecture() -> str:
    from platform import machine

    return machine()
