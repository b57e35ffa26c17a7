"""Results: what this site and the server know of runs and of the metrics that left, the table of a benchmark, and its leaderboard.

`medperf.flows.disclosing` submits, withholds and retracts them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from medperf.domain.errors import InvalidInput, MedPerfError, NotFound
from medperf.domain.executions import AttemptState, Disclosure
from medperf.domain.leaderboard import Leaderboard, leaderboard
from medperf.domain.metrics import MetricsContract, contract_from_document, flatten_metrics
from medperf.domain.numbers import whole_number
from medperf.domain.results import Cell, CellState, Totals, totals
from medperf.flows.checking import find_local, instance_of
from medperf.flows.site import Site

if TYPE_CHECKING:
    from medperf.wire.executions import ExecutionView, ResultView
    from medperf.workspace.runs import LocalRun

_NEWEST = "-id"


@dataclass(frozen=True)
class ResultSummary:
    """One line of a listing: metrics that were released, or an execution that has none yet.

    Attributes:
        result: id of the release; None: nothing was released.
        run: id of the run of this site; None: it ran elsewhere.
        execution, attempt: at the server; None: it does not know of it.
        site: the label that the dataset's owner chose, or the dataset's name here where the server was not asked.
        metrics: flat, undefined as None; those that are under review are seen at this site only.
        at: when it became so.
    """

    result: int | None
    run: str | None
    execution: int | None
    attempt: int | None
    benchmark: int
    dataset: int
    site: str
    model: int
    model_name: str
    state: CellState
    at: datetime
    revoked: bool = False
    reason: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ResultDetail:
    """All that is known of one result.

    Attributes:
        result: at the server; None: nothing was released of it.
        execution: with all its attempts; None: it is not registered, or not for this account to see.
        run: of this site; None: it ran elsewhere.
    """

    summary: ResultSummary
    result: ResultView | None
    execution: ExecutionView | None
    run: LocalRun | None

    @property
    def measured(self) -> Mapping[str, Any]:
        """The metrics, flat; also those that only this site still knows."""
        return self.summary.metrics or run_metrics(self.run)


@dataclass(frozen=True)
class BenchmarkResults:
    """All results of a benchmark that the account may see; missing cells are among them."""

    benchmark: int
    name: str
    contract: MetricsContract
    cells: tuple[Cell, ...]
    totals: Totals


@dataclass(frozen=True)
class BenchmarkLeaderboard:
    """A benchmark's models by one metric."""

    benchmark: int
    name: str
    board: Leaderboard


# ------------------------------------------------------------------------------------------------------------- looking


def list_results(
    site: Site,
    *,
    mine: bool = False,
    local: bool = False,
    benchmark: int | None = None,
    dataset: str | None = None,
    model: int | None = None,
    limit: int | None = None,
) -> list[ResultSummary]:
    """Results, and executions that have none yet, newest first.

    Args:
        mine: only of data of this account, or of organisations it operates for.
        local: only runs of this site, also those that failed; no server is asked.
        dataset: name or id here, or id at the server.

    Raises:
        NotFound: this site has no such dataset.
    """
    if local:
        runs = site.workspace.runs.ls(
            instance_of(site), benchmark=benchmark, dataset=_local_uuid(site, dataset), model=model
        )
        names = {entry.uuid: entry.name for entry in site.workspace.datasets.ls()}
        return [_of_run(run, names.get(run.dataset, "")) for run in runs[:limit]]
    owner = "me" if mine else None
    dataset_id = server_dataset(site, dataset) if dataset is not None else None
    instance = site.credential().instance_id
    runs = site.workspace.runs.ls(instance, benchmark=benchmark, model=model)
    by_attempt = {(run.execution, run.attempt): run for run in runs if run.execution is not None}
    found: list[ResultSummary] = []
    released: set[tuple[int, int]] = set()
    for view in site.api.results.list(
        owner=owner, benchmark=benchmark, dataset=dataset_id, model=model, sort=_NEWEST, limit=limit
    ):
        released.add((view.execution, view.attempt))
        found.append(_of_result(view, by_attempt.get((view.execution, view.attempt))))
    for execution in site.api.executions.list(
        owner=owner, benchmark=benchmark, dataset=dataset_id, model=model, sort=_NEWEST, limit=limit
    ):
        spoken = (execution.id, execution.attempt or 0)
        if spoken in released or execution.state.has_values:  # the latter: of a result that is beyond the limit
            continue
        found.append(_of_execution(execution, by_attempt.get(spoken)))
    names = {entry.uuid: entry.name for entry in site.workspace.datasets.ls()}
    found += [
        _of_run(run, names.get(run.dataset, ""))
        for run in runs
        if run.execution is None and dataset_id in (None, run.dataset_id)
    ]
    found.sort(key=lambda one: one.at, reverse=True)
    return found[:limit]


def view_result(site: Site, reference: str | None = None, *, run: str | None = None) -> ResultDetail:
    """One result.

    Args:
        reference: its id at the server, or the beginning of a run's id here.
        run: instead: see `find_run`.

    Raises:
        NotFound: there is none that the account may see.
    """
    number = whole_number(reference) if reference is not None else None
    if number is not None:
        result = _result_or_none(site, number)
        if result is not None:
            local = site.workspace.runs.find(site.credential().instance_id, result.execution, result.attempt)
            execution = _execution_or_none(site, result.execution)
            return ResultDetail(_of_result(result, local), result, execution, local)
    wanted = run if run is not None else str(reference)
    try:
        found = find_run(site, wanted)
    except NotFound as unknown:
        number = whole_number(wanted)
        if run is None:
            raise NotFound(
                "no_such_result",
                f"There is no result {wanted[:60]!r} that you may see, and no run of this site begins like this.",
                "List them with: medperf result ls",
            ) from unknown
        if number is None:
            raise
        return _detail_of_execution(site, site.api.executions.get(number))
    if found.execution is None:
        return ResultDetail(_of_run(found, _name_of(site, found.dataset)), None, None, found)
    execution = _execution_or_none(site, found.execution)
    result = result_of(site, found) if found.attempt is not None else None
    summary = _of_result(result, found) if result is not None else _of_run(found, _name_of(site, found.dataset))
    return ResultDetail(summary, result, execution, found)


def find_run(site: Site, reference: str) -> LocalRun:
    """A run of this site by the id of its execution at the server (then its newest attempt), or by the beginning of its own.

    Raises:
        NotFound: there is none.
        InvalidInput: several begin like this.
    """
    number = whole_number(reference)
    if number is not None:
        runs = [run for run in site.workspace.runs.ls(instance_of(site)) if run.execution == number]
        if runs:
            return max(runs, key=lambda run: run.attempt or 0)
    return site.workspace.runs.get(reference)


def result_of(site: Site, run: LocalRun) -> ResultView | None:
    """What was released of a run, retracted or not."""
    for view in site.api.results.list(benchmark=run.benchmark, dataset=run.dataset_id, model=run.model, sort=_NEWEST):
        if (view.execution, view.attempt) == (run.execution, run.attempt):
            return view
    return None


def server_dataset(site: Site, reference: str) -> int:
    """The id that the server knows a dataset by.

    Raises:
        NotFound: this site has no such dataset.
        InvalidInput: ``not_submitted``.
    """
    try:
        found = find_local(site, reference)
    except NotFound:
        number = whole_number(reference)
        if number is None:
            raise
        return number
    registered = found.registered.get(site.credential().instance_id)
    if registered is None:
        raise InvalidInput(
            "not_submitted",
            f"The server does not know the dataset {found.name!r} yet.",
            f"Register it first: medperf dataset submit {found.uuid[:8]}",
        )
    return registered


# -------------------------------------------------------------------------------------------------------- a benchmark's


def benchmark_results(site: Site, benchmark_id: int) -> BenchmarkResults:
    """The results of a benchmark as the server shows them to this account, a cell for every dataset with every model.

    Raises:
        NotFound: no benchmark that the account may see.
        InvalidInput: too many results; a contract that only a newer version reads.
    """
    benchmark = site.api.benchmarks.get(benchmark_id)
    cells = tuple(site.api.results.cells(benchmark_id))
    contract = contract_from_document(benchmark.metrics_contract or {})
    return BenchmarkResults(benchmark.id, benchmark.name, contract, cells, totals(cells))


def benchmark_leaderboard(site: Site, benchmark_id: int, *, metric: str | None = None) -> BenchmarkLeaderboard:
    """A benchmark's models by one metric, site by site.

    Args:
        metric: a key of its contract; None: the primary one.

    Raises:
        InvalidInput: ``unknown_metric``.
    """
    found = benchmark_results(site, benchmark_id)
    return BenchmarkLeaderboard(found.benchmark, found.name, leaderboard(found.contract, found.cells, metric=metric))


# -------------------------------------------------------------------------------------------------------------- helpers

_DECIDED = {
    Disclosure.UNDER_REVIEW: CellState.UNDER_REVIEW,
    Disclosure.WITHHELD: CellState.WITHHELD,
    Disclosure.RETRACTED: CellState.RETRACTED,
}


def run_state(run: LocalRun) -> CellState:
    """What a run makes of its cell, as far as this site knows. One whose process died shows as interrupted: it can be resumed."""
    if run.disclosure is Disclosure.RELEASED:
        return CellState.PARTIAL if run.state is AttemptState.PARTIAL else CellState.RELEASED
    if run.disclosure is not None:
        return _DECIDED[run.disclosure]
    if run.state is AttemptState.FAILED:
        return CellState.FAILED
    return CellState.RUNNING if run.is_running else CellState.INTERRUPTED


def run_metrics(run: LocalRun | None) -> Mapping[str, Any]:
    """The metrics of a run, flat; empty where it has none."""
    if run is None or not run.metrics:
        return {}
    try:
        return flatten_metrics(run.metrics)
    except InvalidInput:  # written by another version
        return {}


def _of_result(view: ResultView, run: LocalRun | None) -> ResultSummary:
    retracted = view.state is Disclosure.RETRACTED
    state = CellState.RETRACTED if retracted else CellState.PARTIAL if view.partial else CellState.RELEASED
    return ResultSummary(
        result=view.id,
        run=run.uuid if run is not None else None,
        execution=view.execution,
        attempt=view.attempt,
        benchmark=view.benchmark,
        dataset=view.dataset,
        site=view.site,
        model=view.model,
        model_name=view.model_name,
        state=state,
        at=(view.retracted_at if retracted else None) or view.released_at,
        revoked=view.revoked,
        reason=view.reason,
        metrics=view.metrics or {},
    )


def _of_execution(view: ExecutionView, run: LocalRun | None) -> ResultSummary:
    return ResultSummary(
        result=None,
        run=run.uuid if run is not None else None,
        execution=view.id,
        attempt=view.attempt,
        benchmark=view.benchmark,
        dataset=view.dataset,
        site=view.site,
        model=view.model,
        model_name=view.model_name,
        state=view.state,
        at=view.modified_at,
        metrics=run_metrics(run),
    )


def _of_run(run: LocalRun, name: str) -> ResultSummary:
    return ResultSummary(
        result=None,
        run=run.uuid,
        execution=run.execution,
        attempt=run.attempt,
        benchmark=run.benchmark,
        dataset=run.dataset_id,
        site=name,
        model=run.model,
        model_name=run.model_name,
        state=run_state(run),
        at=datetime.fromisoformat(run.modified_at),
        metrics=run_metrics(run),
    )


def _detail_of_execution(site: Site, execution: ExecutionView) -> ResultDetail:
    """Of one that ran elsewhere."""
    views: Iterable[ResultView] = site.api.results.list(
        benchmark=execution.benchmark, dataset=execution.dataset, model=execution.model, sort=_NEWEST
    )
    mine: Sequence[ResultView] = [view for view in views if view.execution == execution.id]
    spoken = next((view for view in mine if view.attempt == execution.attempt), None)
    if spoken is None:
        return ResultDetail(_of_execution(execution, None), None, execution, None)
    return ResultDetail(_of_result(spoken, None), spoken, execution, None)


def _result_or_none(site: Site, number: int) -> ResultView | None:
    try:
        return site.api.results.get(number)
    except NotFound:
        return None


def _execution_or_none(site: Site, number: int) -> ExecutionView | None:
    """None: a result may be shown to more people than its execution."""
    try:
        return site.api.executions.get(number)
    except NotFound:
        return None


def _local_uuid(site: Site, reference: str | None) -> str | None:
    return find_local(site, reference).uuid if reference is not None else None


def _name_of(site: Site, uuid: str) -> str:
    try:
        return site.workspace.datasets.get(uuid).name
    except MedPerfError:  # its prepared data were deleted since
        return ""
