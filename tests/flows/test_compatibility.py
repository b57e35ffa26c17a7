"""The compatibility test: what runs, what is not run again, and what is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medperf.testing.workflows import Workflow

from .conftest import Command, left_behind

STEPS = ["prepare", "sanity_check", "statistics", "infer", "evaluate"]


def ran(answer: Any) -> list[str]:
    return [step["task"] for step in answer.json["report"]["steps"] if not step["cached"]]


def test_all_five_steps_run_and_the_metrics_are_printed(medperf: Command, workflow: Workflow, home: Path) -> None:
    answer = medperf(*workflow.test_arguments())
    assert answer.code == 0, answer.err
    assert "mean_score" in answer.out
    assert "0.5" in answer.out
    for step in STEPS:
        assert step in answer.err
    assert left_behind(home) == []


def test_nothing_changed_starts_no_container(medperf: Command, workflow: Workflow) -> None:
    first = medperf(*workflow.test_arguments(), "--format", "json")
    assert ran(first) == STEPS
    assert first.json["containers_started"] == 5
    second = medperf(*workflow.test_arguments(), "--format", "json")
    assert ran(second) == []
    assert second.json["containers_started"] == 0
    assert second.json["metrics"] == first.json["metrics"]
    assert "no container was started" in medperf(*workflow.test_arguments()).out


def test_no_cache_runs_everything(medperf: Command, workflow: Workflow) -> None:
    medperf(*workflow.test_arguments())
    assert ran(medperf(*workflow.test_arguments(), "--no-cache", "--format", "json")) == STEPS
    assert ran(medperf(*workflow.test_arguments(), "--format", "json")) == []


def _edit(path: Path) -> None:
    path.write_text(path.read_text() + "\n# changed\n")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("model/project/mlcube.py", ["infer"]),  # its predictions are the same bytes, so evaluate has nothing new to do
        ("metrics/project/mlcube.py", ["evaluate"]),
        ("prep/project/mlcube.py", ["prepare", "sanity_check", "statistics"]),
        ("model/mlcube/workspace/parameters.yaml", ["infer"]),
        ("metrics/mlcube/workspace/parameters.yaml", ["evaluate"]),
        ("metrics/mlcube/mlcube.yaml", ["evaluate"]),
        ("prep/mlcube/workspace/parameters.yaml", ["prepare", "sanity_check", "statistics"]),
        (
            "mock/images/case0.txt",
            ["prepare", "sanity_check", "statistics", "infer"],
        ),  # the template's model reports names only
        (
            "mock/labels/labels.csv",
            ["prepare", "sanity_check", "statistics", "evaluate"],
        ),  # the model never sees separate labels
    ],
)
def test_one_changed_byte_reruns_exactly_what_depends_on_it(
    medperf: Command, workflow: Workflow, changed: str, expected: list[str]
) -> None:
    medperf(*workflow.test_arguments())
    _edit(workflow.folder / changed)
    assert ran(medperf(*workflow.test_arguments(), "--format", "json")) == expected


def test_a_renamed_record_is_noticed(medperf: Command, workflow: Workflow) -> None:
    medperf(*workflow.test_arguments())
    (workflow.data / "case0.txt").rename(workflow.data / "case9.txt")
    assert ran(medperf(*workflow.test_arguments(), "--format", "json")) == STEPS


def test_the_model_never_sees_separate_labels(medperf: Command, workflow: Workflow) -> None:
    workflow.replace_task(
        "model",
        "infer",
        """
import os
found = [name for root, _, names in os.walk("/mlcube_io0") for name in names] + os.listdir("/")
output_path.mkdir(parents=True, exist_ok=True)
(output_path / "predictions.json").write_text(json.dumps({name: 0.5 for name in found}))
""",
    )
    workflow.replace_task(
        "metrics",
        "evaluate",
        """
seen = json.loads((predictions / "predictions.json").read_text())
output_path.write_text(json.dumps({"labels_seen": sum("labels" in name for name in seen), "cases_seen": sum("case" in name for name in seen)}))
""",
    )
    answer = medperf(*workflow.test_arguments(), "--format", "json")
    assert answer.code == 0, answer.err
    assert answer.json["metrics"] == {"labels_seen": 0, "cases_seen": 3}


def test_reports_are_kept_with_all_digests(medperf: Command, workflow: Workflow) -> None:
    answer = medperf(*workflow.test_arguments(), "--format", "json")
    report_id = answer.json["report_id"]
    listed = medperf("test", "ls", "--format", "json").json["items"]
    assert [entry["id"] for entry in listed] == [report_id]
    viewed = medperf("test", "view", report_id[:20], "--format", "json")
    assert viewed.code == 0, viewed.err
    report = viewed.json["report"]
    for role in ("preparator", "model", "evaluator"):
        assert {"manifest", "parameters", "project"} <= set(report[role]["files"])
        assert report[role]["form"] == "python"
        assert report[role]["form_digests"]
    assert report["prepared_identity"].startswith("sha256:")
    assert report["statistics"] == {"cases": 3}
    assert "mean_score" in medperf("test", "view").out


def test_ids_of_registered_mlcubes_work_like_paths(registered: Command, workflow: Workflow) -> None:
    data = [f"--data_path={workflow.data}", f"--labels_path={workflow.labels}"]
    answer = registered("test", "run", "-p", "1", "-m", "2", "-e", "3", *data, "--format", "json")
    assert answer.code == 0, answer.err
    assert answer.json["report"]["model"]["mlcube"] == 2
    again = registered(*workflow.test_arguments(), "--format", "json")
    assert ran(again) == [], "the same files run from folders are the same steps"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--data_preparation"),
        (["-p", "x", "-m", "y", "-e", "z"], "No data"),
        (["-p", "x", "-m", "y", "-e", "z", "--data_path", "a"], "belong together"),
        (
            ["-p", "x", "-m", "y", "-e", "z", "--data_path", "a", "--labels_path", "b", "--demo_dataset_url", "c"],
            "Two data sources",
        ),
    ],
)
def test_options_that_do_not_fit_are_said_first(medperf: Command, home: Path, arguments: list[str], said: str) -> None:
    answer = medperf("test", "run", *arguments)
    assert answer.code == 2
    assert said in answer.err
    assert not home.exists()
