"""What earlier attempts at a run, here and elsewhere, make of a new one."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from medperf.domain.errors import Conflict, MedPerfError
from medperf.domain.executions import AttemptState, Disclosure, ShownState

if TYPE_CHECKING:
    from medperf.wire.executions import AttemptView
    from medperf.workspace.runs import LocalRun


@dataclass(frozen=True)
class Past:
    """What is to be done now.

    Attributes:
        action: ``resume``: the attempt ``run`` goes on; ``done``: there are metrics already.
        run: this site's newest run.
        owed: the server does not know yet how it ended.
        there: what the server has of the attempt that goes on; None: nothing.
        refusals: why no new attempt may begin.
    """

    action: Literal["run", "resume", "done"]
    run: LocalRun | None = None
    owed: bool = False
    there: AttemptView | None = None
    refusals: tuple[MedPerfError, ...] = ()


def past_of(runs: Sequence[LocalRun], attempts: Sequence[AttemptView], *, again: bool, reason: str | None) -> Past:
    """Compare what the site knows with what the server knows.

    Args:
        runs: of this site, newest first.
        attempts: of the execution, oldest first.
        again: what is done is wanted once more.
        reason: why.
    """
    run = next((one for one in runs if one.execution is not None or one.state.is_open), None)
    here = next((one for one in attempts if run is not None and one.uuid == uuid.UUID(run.uuid)), None)
    open_there = here is not None and _is_open(here)
    if run is not None and run.is_running:
        return Past("run", run, refusals=(_busy(run),))
    if run is not None and run.state.is_open and (here is None or open_there):
        return Past("resume", run, there=here)
    owed = run is not None and not run.state.is_open and open_there
    if not again and _is_done(run, here, attempts):
        return Past("done", run, owed)
    others = [one for one in attempts if not (owed and one is here)]
    completed = owed and run is not None and run.state is AttemptState.COMPLETED
    return Past("run", run, owed, refusals=tuple(_refusals(others, reason=reason, completed=completed)))


def _is_open(attempt: AttemptView) -> bool:
    return attempt.state in (ShownState.REGISTERED, ShownState.RUNNING, ShownState.LOST)


def _is_done(run: LocalRun | None, here: AttemptView | None, attempts: Sequence[AttemptView]) -> bool:
    """Whether there are metrics: here, or decided about already. Those of an attempt that ended otherwise at the server are none."""
    otherwise = here is not None and not _is_open(here) and here.disclosure is None
    if run is not None and run.state.has_metrics and run.metrics is not None and not otherwise:
        return True
    decided = (Disclosure.RELEASED, Disclosure.WITHHELD, Disclosure.RETRACTED)
    return bool(attempts) and attempts[-1].disclosure in decided


def _busy(run: LocalRun) -> Conflict:
    return Conflict(
        "run_running",
        f"Another process of this site runs model {run.model} on this dataset since {run.created_at}.",
        "Wait until it ends, then run the same command again.",
        details={"run": run.uuid},
    )


def _refusals(attempts: Sequence[AttemptView], *, reason: str | None, completed: bool) -> Iterator[MedPerfError]:
    """As `medperf.domain.executions.check_new_attempt` will say at the server."""
    for one in attempts:
        if _is_open(one) and one.state is not ShownState.LOST:
            yield Conflict(
                "attempt_running",
                f"Attempt {one.number} of this execution is registered or running elsewhere.",
                "Wait for it or stop it. If its machine is gone, it counts as lost after a while.",
            )
    completed = completed or any(
        one.state is ShownState.COMPLETED or one.disclosure in (Disclosure.RELEASED, Disclosure.RETRACTED)
        for one in attempts
    )
    if completed and reason is None:
        yield Conflict(
            "reason_needed",
            "This execution was already completed or released; a new attempt needs a reason. All attempts stay visible.",
            "Give it with --reason.",
        )
