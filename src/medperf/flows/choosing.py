"""Whose metrics a person means: one run, or those of a dataset in a benchmark."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medperf.domain.errors import Conflict, NotFound, UsageError
from medperf.domain.executions import Disclosure
from medperf.domain.numbers import whole_number
from medperf.flows.checking import find_local
from medperf.flows.site import Site

if TYPE_CHECKING:
    from medperf.wire.executions import ExecutionView
    from medperf.workspace.runs import LocalRun


@dataclass(frozen=True)
class Choice:
    """Whose metrics. Either one run, or those of a dataset in a benchmark.

    Attributes:
        run: the id of an execution at the server, or the beginning of a run's id here.
        dataset: name or id here, or id at the server.
        models: only of these; empty: of all.
    """

    run: str | None = None
    benchmark: int | None = None
    dataset: str | None = None
    models: tuple[int, ...] = ()


@dataclass(frozen=True)
class Subject:
    """One attempt, as the server has it. ``run`` None: it ran elsewhere."""

    execution: ExecutionView
    attempt: int
    run: LocalRun | None

    @property
    def about(self) -> str:
        """What it is, for questions."""
        view = self.execution
        return (
            f"model {view.model} ({view.model_name}) on dataset {view.dataset} ({view.site}) in benchmark {view.benchmark}, "
            f"attempt {self.attempt} of execution {view.id}"
        )


def chosen_runs(site: Site, choice: Choice, now: Disclosure) -> list[LocalRun]:
    """The runs of this site that are meant; where several attempts could be, the newest that stands as ``now``.

    Without models: all of the dataset in the benchmark that stand so.

    Raises:
        UsageError: too little or too much is said.
        NotFound: this site has no such run, or none that stands so.
    """
    if choice.run is not None:
        if choice.benchmark is not None or choice.dataset is not None or choice.models:
            raise UsageError(
                "usage", "A run is named, and a benchmark, dataset or model too.", "Give -r, or -b and -d."
            )
        number = whole_number(choice.run)
        runs = site.workspace.runs.ls(site.credential().instance_id) if number is not None else []
        attempts = [run for run in runs if run.execution == number]
        return [_best(attempts, now) if attempts else site.workspace.runs.get(choice.run)]
    if choice.benchmark is None or choice.dataset is None:
        raise UsageError(
            "missing_option", "It is not said which result is meant.", "Give -r RUN, or -b BENCHMARK and -d DATASET."
        )
    dataset = find_local(site, choice.dataset).uuid
    by_model: dict[int, list[LocalRun]] = {}
    for run in site.workspace.runs.ls(site.credential().instance_id, benchmark=choice.benchmark, dataset=dataset):
        by_model.setdefault(run.model, []).append(run)
    again = f"medperf run -b {choice.benchmark} -d {choice.dataset}"
    for model in choice.models:
        if model not in by_model:
            raise NotFound(
                "unknown_run",
                f"This site has no run of model {model} on this dataset for benchmark {choice.benchmark}.",
                f"Run it: {again} -m {model}",
            )
    if choice.models:
        return [_best(by_model[model], now) for model in dict.fromkeys(choice.models)]
    best = (_best(by_model[model], now) for model in sorted(by_model))
    standing = [run for run in best if run.disclosure is now]
    if not standing:
        how = "wait for a decision" if now is Disclosure.UNDER_REVIEW else f"are {now.value}"
        raise NotFound(
            "nothing_chosen",
            f"No metrics of this dataset for benchmark {choice.benchmark} {how} at this site.",
            f"Look with: medperf result ls --local; run what is missing with: {again}",
        )
    return standing


def subjects_of(site: Site, choice: Choice, now: Disclosure) -> list[Subject]:
    """What is meant, as the server has it; also an execution whose run is not of this site.

    Raises:
        NotFound, UsageError, Conflict: as `chosen_runs` and `registered`.
    """
    try:
        runs = chosen_runs(site, choice, now)
    except NotFound:
        number = whole_number(choice.run) if choice.run is not None else None
        if number is None:
            raise
        execution = site.api.executions.get(number)
        return [subject(site, execution, _attempt_in(execution, now))]
    return [registered(site, run) for run in runs]


def registered(site: Site, run: LocalRun) -> Subject:
    """A run of this site, as the server has it.

    Raises:
        Conflict: ``not_registered``, ``other_server``.
    """
    if run.instance_id != site.credential().instance_id:
        raise Conflict(
            "other_server",
            f"The run {run.uuid[:8]} was registered with another server, or with this one before it was set up anew.",
            "Its metrics are for that server only. Look at what this one knows with: medperf result ls --mine",
        )
    if run.execution is None or run.attempt is None:
        raise Conflict(
            "not_registered",
            f"The server does not know the run {run.uuid[:8]}.",
            f"Go on with it: medperf run -b {run.benchmark} -d {run.dataset_id} -m {run.model}",
        )
    return Subject(site.api.executions.get(run.execution), run.attempt, run)


def subject(site: Site, execution: ExecutionView, attempt: int) -> Subject:
    """An attempt at the server, with its run if that is of this site."""
    run = site.workspace.runs.find(site.credential().instance_id, execution.id, attempt)
    return Subject(execution, attempt, run)


def _best(runs: Iterable[LocalRun], now: Disclosure) -> LocalRun:
    """The one that stands as ``now``; else one that has metrics; of several the newest."""
    return max(runs, key=lambda run: (run.disclosure is now, run.disclosure is not None, run.attempt or 0))


def _attempt_in(execution: ExecutionView, now: Disclosure) -> int:
    """As `_best`, of what the server has."""
    attempts = execution.attempts or ()
    if not attempts:
        raise Conflict(
            "nothing_to_disclose", f"Execution {execution.id} has no attempt yet.", "Run it: medperf run --help"
        )
    return max(attempts, key=lambda one: (one.disclosure is now, one.disclosure is not None, one.number)).number
