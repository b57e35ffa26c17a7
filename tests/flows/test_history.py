"""What earlier attempts make of a new one: the site's memory against the server's."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest

from medperf.domain.executions import AttemptState, Disclosure, FailureClass, ShownState
from medperf.flows.history import past_of
from medperf.wire.executions import AttemptView, PinnedView
from medperf.workspace.processes import Process
from medperf.workspace.runs import LocalRun

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PIN = PinnedView(digest="sha256:0", form="python", form_digest="sha256:0")
HERE = str(uuid.UUID(int=1))


def there(state: str, *, here: bool = False, number: int = 1, disclosure: str | None = None) -> AttemptView:
    return AttemptView(
        number=number,
        uuid=uuid.UUID(HERE) if here else uuid.UUID(int=number + 1),
        state=ShownState(state),
        failure=FailureClass.EXIT if state == "FAILED" else None,
        disclosure=Disclosure(disclosure) if disclosure else None,
        preparator=PIN,
        model_cube=PIN,
        evaluator=PIN,
        identity="sha256:0",
        contract="sha256:0",
        data_check="metadata",
        engine="sandbox",
        architecture="x86_64",
        created_at=NOW,
        heartbeat_at=NOW,
    )


def here(state: str, *, alive: bool = False, execution: int | None = 1, metrics: Any = None) -> LocalRun:
    return LocalRun(
        uuid=HERE,
        instance_id="one",
        benchmark=1,
        dataset="d",
        dataset_id=1,
        model=4,
        model_name="net",
        execution=execution,
        attempt=None if execution is None else 1,
        state=AttemptState(state),
        failure=FailureClass.EXIT if state == "FAILED" else None,
        metrics={"AUC": 0.5} if state in ("COMPLETED", "PARTIAL") and metrics is None else metrics,
        holder=Process.current().token if alive else "",
    )


REVIEW, RELEASED = "UNDER_REVIEW", "RELEASED"
CASES = {
    "nothing": ([], [], "run", False, []),
    "cut before the server answered": ([here("REGISTERED", execution=None)], [], "resume", False, []),
    "cut, and the server has it": (
        [here("REGISTERED", execution=None)], [there("REGISTERED", here=True)], "resume", False, [],
    ),
    "killed": ([here("RUNNING")], [there("RUNNING", here=True)], "resume", False, []),
    "killed long ago": ([here("RUNNING")], [there("LOST", here=True)], "resume", False, []),
    "killed, and ended there": ([here("RUNNING")], [there("INTERRUPTED", here=True)], "run", False, []),
    "it runs": ([here("RUNNING", alive=True)], [there("RUNNING", here=True)], "run", False, ["run_running"]),
    "Ctrl-C": ([here("INTERRUPTED")], [there("INTERRUPTED", here=True)], "run", False, []),
    "it failed": ([here("FAILED")], [there("FAILED", here=True)], "run", False, []),
    "it failed, which nobody told": ([here("FAILED")], [there("RUNNING", here=True)], "run", True, []),
    "done": ([here("COMPLETED")], [there("COMPLETED", here=True, disclosure=REVIEW)], "done", False, []),
    "done, which nobody told": ([here("COMPLETED")], [there("LOST", here=True)], "done", True, []),
    "done, but it ended there before that": ([here("COMPLETED")], [there("INTERRUPTED", here=True)], "run", False, []),
    "partly done": ([here("PARTIAL")], [there("PARTIAL", here=True, disclosure=REVIEW)], "done", False, []),
    "done elsewhere, and released": ([], [there("COMPLETED", disclosure=RELEASED)], "done", False, []),
    "done elsewhere": ([], [there("COMPLETED", disclosure=REVIEW)], "run", False, ["reason_needed"]),
    "done, then failed": (
        [here("FAILED")],
        [there("COMPLETED", number=1, disclosure=REVIEW), there("FAILED", here=True, number=2)],
        "run", False, ["reason_needed"],
    ),
    "it runs elsewhere": ([], [there("RUNNING")], "run", False, ["attempt_running"]),
    "lost elsewhere": ([], [there("LOST")], "run", False, []),
    "refused before it was registered": ([here("FAILED", execution=None)], [], "run", False, []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_was_before(case: tuple[list[LocalRun], list[AttemptView], str, bool, list[str]]) -> None:
    runs, attempts, action, owed, refusals = case
    past = past_of(runs, attempts, again=False, reason=None)
    assert (past.action, past.owed, [error.code for error in past.refusals]) == (action, owed, refusals)


def test_once_more_needs_a_reason() -> None:
    runs, attempts = [here("COMPLETED")], [there("COMPLETED", here=True, disclosure=REVIEW)]
    assert [error.what[:14] for error in past_of(runs, attempts, again=True, reason=None).refusals] == [
        "This execution"
    ]
    assert past_of(runs, attempts, again=True, reason="Why not").refusals == ()
    owed = past_of(runs, [there("RUNNING", here=True)], again=True, reason=None)
    assert (owed.action, owed.owed, len(owed.refusals)) == ("run", True, 1)
