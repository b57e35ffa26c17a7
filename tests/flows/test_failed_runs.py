"""A test that did not pass is listed with its state and its reason, beside those that did."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medperf.domain.errors import Interrupted
from medperf.flows import compatibility
from medperf.flows.compatibility import TestRequest, list_tests, run_test
from medperf.flows.site import Site, SiteOptions
from medperf.testing.workflows import Workflow


def listed(medperf: Callable[..., Any]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(medperf("test", "ls", "--format", "json").out)["items"]
    return items


def test_a_failed_test_is_listed(medperf: Callable[..., Any], workflow: Workflow) -> None:
    good = workflow.program("model").read_text()
    workflow.replace_task("model", "infer", "raise SystemExit(3)")
    failed = medperf(*workflow.test_arguments())
    assert failed.code == 1
    (found,) = listed(medperf)
    assert (found["state"], found["report"], found["metrics"]) == ("failed", None, {})
    assert found["failure"]["task"] == "infer"
    assert found["failure"]["what"] in failed.err
    assert Path(found["failure"]["log"]).is_file()
    table = medperf("test", "ls").out
    assert "failed" in table
    shown = medperf("test", "view").out
    assert "state: failed" in shown
    assert "exited with 3" in shown
    assert found["failure"]["log"] in shown
    assert medperf("test", "view", found["id"].removeprefix("sha256:")[:8]).out == shown
    assert medperf("test", "view", "--format", "json").code == 0

    workflow.program("model").write_text(good)
    assert medperf(*workflow.test_arguments()).code == 0
    assert [entry["state"] for entry in listed(medperf)] == ["passed", "failed"]


def test_an_interrupted_one_is_listed(home: Path, workflow: Workflow) -> None:
    request = TestRequest(
        preparator=str(workflow.preparator),
        model=str(workflow.model),
        evaluator=str(workflow.evaluator),
        data_path=str(workflow.data),
        labels_path=str(workflow.labels),
    )
    with Site.open(SiteOptions(), environ={"MEDPERF_HOME": str(home)}, cwd=Path.cwd()) as site:
        site.cancel.set()
        try:
            run_test(site, request)
        except Interrupted:
            site.cancel.clear()
        assert not site.cancel.is_set()
        (found,) = list_tests(site)
        assert found.state == "interrupted"
        assert compatibility.view_test(site, None) == found
