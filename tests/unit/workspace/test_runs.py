from __future__ import annotations

import sqlite3
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict, InvalidInput, NotFound
from medperf.domain.executions import AttemptState, Disclosure, FailureClass
from medperf.workspace.acceptances import Acceptance
from medperf.workspace.processes import Process
from medperf.workspace.runs import LocalRun
from medperf.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "w")


def a_run(**changes: object) -> LocalRun:
    run = LocalRun(str(uuid.uuid4()), "one", benchmark=1, dataset="d" * 36, dataset_id=3, model=4, model_name="net")
    return replace(run, **changes)  # type: ignore[arg-type]


def kill_holder(workspace: Workspace, run: LocalRun) -> None:
    """As if the process that runs it had died."""
    with workspace._database.writing() as connection:
        connection.execute("UPDATE runs SET holder = '1-1-none' WHERE uuid = ?", (run.uuid,))


def test_what_is_written_is_read(workspace: Workspace) -> None:
    assert workspace.runs.ls("one") == []
    run = workspace.runs.add(a_run(steps={"infer": "sha256:1"}))
    assert run.is_running
    assert Process.parse(run.holder) == Process.current()
    changed = workspace.runs.change(
        run.uuid,
        execution=7,
        attempt=1,
        state=AttemptState.COMPLETED,
        metrics={"AUC": {"Edema": None}},
        disclosure=Disclosure.UNDER_REVIEW,
    )
    assert changed == workspace.runs.find("one", 7, 1) == workspace.runs.get(run.uuid[:8])
    assert changed.metrics == {"AUC": {"Edema": None}}
    assert changed.steps == {"infer": "sha256:1"}
    assert (changed.state, changed.failure) == (AttemptState.COMPLETED, None)
    assert not changed.is_running
    assert workspace.runs.find("two", 7, 1) is None
    failed = workspace.runs.change(run.uuid, state=AttemptState.FAILED, failure=FailureClass.EXIT, metrics=None)
    assert (failed.failure, failed.metrics) == (FailureClass.EXIT, None)


def test_newest_first_by_what_they_are_of(workspace: Workspace) -> None:
    runs = [workspace.runs.add(a_run(model=number)) for number in (4, 5)]
    runs.append(workspace.runs.add(a_run(instance_id="two")))
    assert [run.uuid for run in workspace.runs.ls("one")] == [runs[1].uuid, runs[0].uuid]
    assert [run.uuid for run in workspace.runs.ls(None)] == [run.uuid for run in runs[::-1]]
    assert [run.model for run in workspace.runs.ls("one", benchmark=1, dataset="d" * 36, model=5)] == [5]
    assert workspace.runs.ls("one", benchmark=2) == []
    for wrong in ("0" * 36, "zzzz", "abc", ""):
        with pytest.raises(NotFound):
            workspace.runs.get(wrong)
    twins = [workspace.runs.add(a_run(uuid=f"ffff{number}{str(uuid.uuid4())[5:]}", model=number)) for number in (6, 7)]
    with pytest.raises(InvalidInput, match="More than one"):
        workspace.runs.get("ffff")
    assert workspace.runs.get(twins[0].uuid.upper()) == twins[0]


def test_one_process_runs_it_at_a_time(workspace: Workspace) -> None:
    first = workspace.runs.add(a_run())
    for again in (lambda: workspace.runs.add(a_run()), lambda: workspace.runs.take(first.uuid)):
        with pytest.raises(Conflict) as error:
            again()
        assert error.value.code == "run_running"
    workspace.runs.add(a_run(benchmark=2))
    kill_holder(workspace, first)
    assert not workspace.runs.get(first.uuid).is_running
    assert workspace.runs.take(first.uuid).is_running
    workspace.runs.let_go(first.uuid)
    assert not workspace.runs.get(first.uuid).is_running
    assert workspace.runs.take(first.uuid).is_running
    workspace.runs.change(first.uuid, state=AttemptState.INTERRUPTED)
    workspace.runs.add(a_run())


def test_one_row_for_each_attempt_of_a_server(workspace: Workspace) -> None:
    first, second = workspace.runs.add(a_run()), workspace.runs.add(a_run(model=5))
    workspace.runs.change(first.uuid, execution=7, attempt=1)
    with pytest.raises(sqlite3.IntegrityError):
        workspace.runs.change(second.uuid, execution=7, attempt=1)


def test_the_newest_answer_about_a_model_counts(workspace: Workspace) -> None:
    digest = Digest.of(b"model")
    assert workspace.acceptances.find(digest, "python") is None
    answer = Acceptance(digest, "python", True, 4, "net", 3, "maker", "4 GiB", "ada")
    kept = workspace.acceptances.keep(answer)
    assert kept.at.endswith("+00:00")
    assert workspace.acceptances.find(digest, "oci") is None
    workspace.acceptances.keep(replace(answer, accepted=False))
    assert [one.accepted for one in workspace.acceptances.ls()] == [False]
