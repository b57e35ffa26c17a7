"""The changes of executions and results, for the tests of audit events: what people write in them is full of a canary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .executing import Study, make_study

Request = Callable[[], Any]
WORDS = "kanarie has reasons"


def study_of(cast: Any) -> Study:
    """A study whose owners are named after the canary, with a new dataset."""
    if not hasattr(cast, "study"):
        cast.study = make_study(cast.world, *(cast.account(cast.fresh().split()[-1]) for _ in range(3)))
    study: Study = cast.study
    return study.another(cast.fresh("data"))


def create_execution(cast: Any) -> Request:
    study = study_of(cast)
    return lambda: study.data.post("/executions", study.ids())


def add_attempt(cast: Any) -> Request:
    study = study_of(cast)
    execution = study.finished()
    return lambda: study.data.post(f"/executions/{execution}/attempts", study.attempt_body(reason=WORDS))


def report_attempt(cast: Any) -> Request:
    study = study_of(cast)
    execution = study.register()
    number = study.attempt(execution)
    return lambda: study.report(execution, number, "FAILED", failure="engine")


def report_progress(cast: Any) -> Request:
    study = study_of(cast)
    execution = study.register()
    body = {"execution": execution, "attempt": study.attempt(execution), "percent": 5}
    return lambda: study.data.send("PUT", f"/executions/{execution}/attempts/1/progress", json=body)


def release_metrics(cast: Any) -> Request:
    study = study_of(cast)
    execution = study.finished()
    return lambda: study.release(execution)


def withhold_metrics(cast: Any) -> Request:
    study = study_of(cast)
    execution = study.finished()
    return lambda: study.decide(execution, "withholding", reason=WORDS)


def retract_metrics(cast: Any) -> Request:
    study = study_of(cast)
    execution, _ = study.released()
    return lambda: study.decide(execution, "retraction", reason=WORDS)


CHANGES: dict[str, Callable[[Any], Request]] = {
    "POST /executions": create_execution,
    "POST /executions/{execution_id}/attempts": add_attempt,
    "PATCH /executions/{execution_id}/attempts/{number}": report_attempt,
    "PUT /executions/{execution_id}/attempts/{number}/progress": report_progress,
    "POST /executions/{execution_id}/release": release_metrics,
    "POST /executions/{execution_id}/withholding": withhold_metrics,
    "POST /executions/{execution_id}/retraction": retract_metrics,
}
