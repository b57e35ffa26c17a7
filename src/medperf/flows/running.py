"""Run models of a benchmark on a dataset: plan, have it agreed to once, then run them side by side; one that fails stops no other."""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medperf.domain import limits
from medperf.domain.disclosure import Exit
from medperf.domain.errors import Forbidden, Interrupted, InvalidInput, MedPerfError
from medperf.domain.events import Note, Progress
from medperf.domain.executions import AttemptState, checked_reason
from medperf.flows import accepting
from medperf.flows.agreeing import agree_once
from medperf.flows.attempts import Attempts, RunOutcome, registration
from medperf.flows.egress import settle
from medperf.flows.planning import TASKS, Ground, PlannedRun, RunPlan, RunRequest, plan_run, told
from medperf.flows.pulse import Pulse
from medperf.flows.site import Site
from medperf.flows.steps import LinkedEvent

if TYPE_CHECKING:
    from medperf.flows.disclosing import Disclosed
    from medperf.wire.executions import AttemptCreate, AttemptView

__all__ = ["RunOutcome", "RunPlan", "RunReport", "RunRequest", "plan_run", "run_models", "submit_measured"]

_WAKE_SECONDS = 0.2
_MEMORY = Path("/proc/meminfo")


@dataclass(frozen=True)
class RunReport:
    """What became of a plan. ``outcomes``: of what was run or done already, in the plan's order."""

    plan: RunPlan
    outcomes: tuple[RunOutcome, ...]

    @property
    def failed(self) -> bool:
        """Whether a model that was wanted has no metrics."""
        return bool(self.plan.of("refused")) or any(not one.state.has_metrics for one in self.outcomes)

    def as_document(self) -> dict[str, Any]:
        """For programs."""
        return {"plan": self.plan, "outcomes": self.outcomes}


def run_models(site: Site, request: RunRequest, *, heartbeat_seconds: float = limits.HEARTBEAT_SECONDS) -> RunReport:
    """Run what can be run. Metrics stay here until they are released: ``medperf result submit``.

    Raises:
        UsageError: a request that makes no sense.
        MedPerfError: nothing can run: the first refusal; ``details["refusals"]`` has all of them.
        Forbidden: nobody agreed that the server learns of it; nothing was run.
        Interrupted: Ctrl-C; what is finished is kept, and the server knows what was cut.
    """
    plan = _accepted(site, request, plan_run(site, request))
    _settle(site, plan)
    _refuse(plan)
    outcomes = {run.model: _known(run) for run in plan.of("done")}
    todo = plan.of("run", "resume")
    owed = tuple(run for run in plan.of("done") if run.owed)
    for error in plan.refusals:
        site.emit(Note(f"{error.what} {error.fix}", level="warning"))
    if plan.ground is not None and (todo or owed):
        found = _run(site, request, plan, plan.ground, todo, owed, every=heartbeat_seconds)
        outcomes |= {outcome.model: outcome for outcome in found}
    if site.cancel.is_set():
        ended = sum(outcome.state is not AttemptState.INTERRUPTED for outcome in outcomes.values())
        raise Interrupted(f"Interrupted: {ended} of {len(plan.runs)} models ended. What is finished is kept.")
    return RunReport(plan, tuple(outcomes[run.model] for run in plan.runs if run.model in outcomes))


def submit_measured(site: Site, request: RunRequest, report: RunReport) -> list[Disclosed]:
    """Release what this report holds and nobody decided about yet: each shown and asked about.

    Raises:
        MedPerfError: as `medperf.flows.disclosing.submit_results`.
    """
    from medperf.domain.executions import Disclosure
    from medperf.flows.choosing import Choice
    from medperf.flows.disclosing import submit_results

    runs = site.workspace.runs
    measured = tuple(
        one.model
        for one in report.outcomes
        if one.metrics is not None and runs.get(one.run).disclosure is Disclosure.UNDER_REVIEW
    )
    if not measured:
        return []
    choice = Choice(benchmark=request.benchmark, dataset=request.dataset, models=measured)
    return submit_results(site, choice, yes=request.yes)


# ---------------------------------------------------------------------------------------------------------------- before


def _refuse(plan: RunPlan) -> None:
    """Raises:
    MedPerfError: nothing is left to be run.
    """
    if plan.of("run", "resume", "done"):
        return
    refusals = plan.refusals
    first = refusals[0]
    first.details |= {"refusals": [told(error) for error in refusals]}
    if len(refusals) > 1:
        first.what = f"{first.what} And {len(refusals) - 1} more (see them with --dry-run)."
    raise first


def _accepted(site: Site, request: RunRequest, plan: RunPlan) -> RunPlan:
    """Ask a person about each model that nobody here accepted yet; those that are not accepted are refused."""

    def one(run: PlannedRun) -> PlannedRun:
        if run.action not in ("run", "resume") or run.to_accept is None or run.view is None:
            return run
        asked = request.limits.get("infer")
        if accepting.ask_person(site, run.view, run.to_accept, asked=asked).accepted:
            return replace(run, to_accept=None)
        refusal: Forbidden = accepting.refused(run.view, accepting.acceptance(site, run.to_accept))
        return replace(run, action="refused", refusals=(*run.refusals, refusal))

    return replace(plan, runs=tuple(one(run) for run in plan.runs))


def _known(run: PlannedRun) -> RunOutcome:
    """The outcome of a model that was run before."""
    from medperf.domain.metrics import flatten_metrics

    before = run.before
    if before is None:  # decided about, of an attempt that ran elsewhere
        return RunOutcome(run.model, run.name, "", None, None, AttemptState.COMPLETED, cached=True)
    try:
        flat = flatten_metrics(before.metrics) if before.metrics is not None else None
    except InvalidInput:
        flat = None
    return RunOutcome(
        model=run.model,
        name=run.name,
        run=before.uuid,
        execution=before.execution,
        attempt=before.attempt,
        state=before.state,
        metrics=flat,
        cached=True,
    )


# ---------------------------------------------------------------------------------------------------------------- running


def _run(
    site: Site,
    request: RunRequest,
    plan: RunPlan,
    ground: Ground,
    todo: tuple[PlannedRun, ...],
    owed: tuple[PlannedRun, ...],
    *,
    every: float,
) -> list[RunOutcome]:
    bodies: dict[int, AttemptCreate] = {}
    begun: list[PlannedRun] = []
    for planned in todo:
        run, body = _to_register(site, request, ground, planned)
        begun.append(run)
        if run.action == "run" or (run.before is not None and run.before.execution is None):
            bodies[run.model] = body
    about = f"dataset {plan.dataset.name!r} in benchmark {plan.benchmark.id} ({plan.benchmark.name})"
    agreement = agree_once(
        site,
        Exit.EXECUTION,
        list(bodies.values()),
        follows=(Exit.ATTEMPT_STATE,),
        about=about,
        yes=request.yes,
    )
    stop = LinkedEvent(site.cancel)
    side_by_side = _width(site, ground, request.jobs, len(todo))
    pulse = Pulse(site, benchmark=plan.benchmark.id, dataset=ground.standing.dataset.id, about=about, every=every)
    attempts = Attempts(site, ground, agreement, pulse, stop, about)
    for run in owed:
        _tell(site, attempts, run)
    found: list[RunOutcome] = []
    with pulse, ThreadPoolExecutor(side_by_side, thread_name_prefix="medperf-run") as pool:
        futures = [pool.submit(attempts.run, run, bodies.get(run.model)) for run in begun]
        try:
            _watch(site, futures)
        except BaseException:  # a second Ctrl-C: the containers must end before this does
            stop.set()
            raise
        found = [outcome for future in futures if (outcome := future.result()) is not None]
    if attempts.faults:
        raise attempts.faults[0]
    return found


def _to_register(
    site: Site, request: RunRequest, ground: Ground, planned: PlannedRun
) -> tuple[PlannedRun, AttemptCreate]:
    """A model, and what is said of it before it runs. An attempt that was cut goes on only as what it was registered with: where
    something else would run now (e.g. another interpreter), it ends, and a new one begins.
    """
    reason = checked_reason(request.reason)
    if reason is None and planned.there is not None:
        reason = planned.there[1].reason

    def body(run: PlannedRun) -> AttemptCreate:
        return registration(ground, run, benchmark=request.benchmark, reason=reason, engine=site.engine.name)

    found = body(planned)
    if planned.there is None or planned.before is None or _as_registered(planned.there[1], found):
        return planned, found
    execution, attempt = planned.there
    ended = replace(
        planned.before, execution=execution, attempt=attempt.number, state=AttemptState.INTERRUPTED, failure=None
    )
    anew = replace(planned, action="run", before=ended, owed=True, there=None)
    return anew, body(anew)


def _as_registered(attempt: AttemptView, body: AttemptCreate) -> bool:
    """Whether what would run now is what the server has been told. How the data were looked at is no part of that."""
    pins = {"preparator", "model_cube", "evaluator", "identity", "contract", "engine", "architecture"}
    return attempt.model_dump(mode="json", include=pins) == body.model_dump(mode="json", include=pins)


def _settle(site: Site, plan: RunPlan) -> None:
    """What the server knows by now of earlier runs waits for no answer any more."""
    known = [run.before for run in plan.runs if run.before is not None and run.before.execution is not None]
    registered = {run.uuid for run in known}
    told = {
        (run.before.execution, run.before.attempt)
        for run in plan.runs
        if run.before in known and run.before is not None and not run.owed and not run.before.state.is_open
    }
    settle(site, Exit.EXECUTION, lambda body: body["uuid"] in registered or None)
    settle(site, Exit.ATTEMPT_STATE, lambda body: (body["execution"], body["attempt"]) in told or None)


def _watch(site: Site, futures: list[Future[RunOutcome | None]]) -> None:
    """Wait for all of them, and say how many ended."""
    text, total = f"Running {len(futures)} models", len(futures)
    told_of = -1
    pending = set(futures)
    while True:
        done = total - len(pending)
        if done > told_of and total > 1:
            site.emit(Progress(text, done, total, "models"))
            told_of = done
        if not pending:
            return
        # Woken now and then: a signal that comes just before this thread begins to wait is handled only when it wakes.
        pending = set(wait(pending, timeout=_WAKE_SECONDS, return_when="FIRST_COMPLETED").not_done)


def _tell(site: Site, attempts: Attempts, run: PlannedRun) -> None:
    """What the server was not told the last time."""
    assert run.before is not None
    try:
        attempts.tell(run.before)
    except Interrupted:
        raise
    except MedPerfError as error:
        site.emit(Note(f"The server was not told how {run.name} ended: {error.what}", level="warning"))


def _width(site: Site, ground: Ground, jobs: int, models: int) -> int:
    """How many run side by side: as many as were asked for and as the memory holds, each with all that it may take."""
    wanted = max(1, min(jobs, models))
    if wanted == 1:
        return 1
    each = max(ground.runner.policy(task).limits.memory_bytes for task in TASKS)
    free = _free_memory()
    fits = max(1, min(wanted, free // each)) if free is not None else wanted
    if fits < wanted:
        site.emit(
            Note(
                f"{fits} at a time instead of {wanted}: each model may take {each / 1024**3:.3g} GiB of memory, and "
                f"{(free or 0) / 1024**3:.3g} GiB are free. Let each take less with --memory-bytes.",
                level="warning",
            )
        )
    return int(fits)


def _free_memory() -> int | None:
    """Bytes that this machine could give now; None: it does not say."""
    try:
        lines = _MEMORY.read_text().splitlines()
    except OSError:
        return None
    sizes = {line.partition(":")[0]: line.split()[1] for line in lines if len(line.split()) > 1}
    found = sizes.get("MemAvailable")
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(int(found) * 1024, pages) if found is not None and found.isdecimal() else pages
