"""Containers and manifests that misbehave: a clear error, the right exit code, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from medperf.testing.workflows import Workflow

from .conftest import Command, left_behind

FAULTS = {
    "exits 1": ("print('the weights are corrupt'); raise SystemExit(1)", "task_exit", "exited with 1"),
    "raises": ("raise ValueError('bad image')", "task_exit", "exited with 1"),
    "writes nothing": ("pass", "task_missing_output", "wrote nothing to its output"),
    "plants a link": (
        "import os\noutput_path.mkdir(parents=True, exist_ok=True)\nos.symlink('/etc/passwd', output_path / 'x')",
        "task_bad_output",
        "no plain file",
    ),
    "hangs": ("import time\ntime.sleep(1000)", "task_time_limit", "time limit"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("task", ["prepare", "infer"])
def test_a_failing_task(medperf: Command, workflow: Workflow, home: Path, fault: str, task: str) -> None:
    body, code, said = FAULTS[fault]
    workflow.replace_task("prep" if task == "prepare" else "model", task, body)
    if fault == "hangs":
        assert medperf("profile", "set", "--timeout", f"{task}=1").code == 0
    answer = medperf(*workflow.test_arguments(), "--format", "json")
    assert answer.code == 1
    assert answer.error["code"] == code
    assert said in answer.error["what"]
    assert task in answer.error["what"]
    assert answer.error["fix"]
    log = Path(answer.error["details"]["log"])
    assert log.is_file()
    if fault == "exits 1":
        assert "the weights are corrupt" in answer.error["details"]["last_lines"]
        assert "the weights are corrupt" in medperf(*workflow.test_arguments()).err
    assert left_behind(home) == []
    listed = medperf("test", "ls", "--format", "json").json["items"]
    assert {entry["state"] for entry in listed} == {"failed"}


METRICS = {
    "no mapping": ("[1, 2]", "bad_metrics"),
    "empty": ("", "task_missing_output"),
    "text": ("AUC: patient 17", "bad_metrics"),
    "not yaml": ("a: [", "bad_yaml"),
    "alias bomb": ("a: &x [1]\nb: *x", "bad_yaml"),
    "list": ("a: [1, 2]", "bad_metrics"),
    "too large": ("a: " + "1" * 2_000_000, "document_too_large"),
    "too many": ("\n".join(f"case{number}: 0.5" for number in range(2000)), "bad_metrics"),
    "cases wrong": ("a: 0.5\ncases: {evaluated: 3, failed: 3, total: 3}", "metrics_contract"),
    "too many digits": ("a: 0.123456789", "metrics_contract"),
}


@pytest.mark.parametrize("fault", METRICS)
def test_metrics_that_cannot_be(medperf: Command, workflow: Workflow, home: Path, fault: str) -> None:
    text, code = METRICS[fault]
    workflow.replace_task("metrics", "evaluate", f"output_path.write_text({text!r})")
    answer = medperf(*workflow.test_arguments(), "--format", "json")
    assert answer.code == 1
    assert answer.error["code"] == code
    assert left_behind(home) == []


def test_undefined_metrics_are_shown_as_such(medperf: Command, workflow: Workflow) -> None:
    workflow.replace_task("metrics", "evaluate", "output_path.write_text('AUC: {A: .nan, B: 0.5, C: .inf}')")
    answer = medperf(*workflow.test_arguments())
    assert answer.code == 0, answer.err
    assert "undefined" in answer.out


MANIFESTS = {
    "not YAML": ("a: [", "bad_yaml"),
    "bomb": ("a: &a [x, x]\nb: &b [*a, *a]\n", "bad_yaml"),
    "a list": ("[1, 2]", "bad_manifest"),
    "wrong kind": (None, "wrong_kind"),
    "absolute default": ("python: {}\ntasks: {infer: {parameters: {inputs: {data_path: /etc}}}}", "bad_path"),
    "climbing default": ("python: {}\ntasks: {infer: {parameters: {inputs: {data_path: ../../etc}}}}", "bad_path"),
    "no task": ("python: {}\ntasks: {train: {}}", "unknown_kind"),
    "no parameter": ("python: {}\ntasks: {infer: {parameters: {outputs: {output_path: o/}}}}", "missing_parameter"),
}


@pytest.mark.parametrize("fault", MANIFESTS)
def test_bad_manifests(medperf: Command, workflow: Workflow, home: Path, fault: str) -> None:
    text, code = MANIFESTS[fault]
    workflow.model.write_text(workflow.evaluator.read_text() if text is None else text)
    answer = medperf(*workflow.test_arguments(), "--format", "json")
    assert answer.code == 1
    assert answer.error["code"] == code
    assert answer.error["fix"]
    assert left_behind(home) == []


def test_missing_manifest(medperf: Command, workflow: Workflow) -> None:
    workflow.model.unlink()
    answer = medperf(*workflow.test_arguments(), "--format", "json")
    assert answer.code == 1
    assert "medperf mlcube ls" in answer.error["fix"]


def test_missing_data(medperf: Command, workflow: Workflow) -> None:
    arguments = [argument for argument in workflow.test_arguments() if not argument.startswith("--labels_path")]
    answer = medperf(*arguments, "--labels_path=nowhere", "--format", "json")
    assert answer.code == 1
    assert answer.error["code"] == "path_missing"


def test_a_failing_check_stops_the_model_that_runs_beside_it(medperf: Command, workflow: Workflow, home: Path) -> None:
    workflow.replace_task("prep", "sanity_check", "raise SystemExit('the prepared data are bad')")
    workflow.replace_task("model", "infer", "import time\ntime.sleep(1000)")
    answer = medperf(*workflow.test_arguments(), "--format", "json")
    assert answer.code == 1
    assert answer.error["details"]["task"] == "sanity_check"
    assert "the prepared data are bad" in answer.error["details"]["last_lines"]
    assert left_behind(home) == []
