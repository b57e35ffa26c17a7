"""Runs that were cut and go on, while something else happens at the site: another process, a cleanup, another interpreter."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medperf.domain.digests import Digest
from medperf.domain.executions import AttemptState, Disclosure, ShownState
from medperf.flows.running import RunRequest, run_models
from medperf.flows.site import Site

from .dataset_site import Person
from .running_site import Bench, Watching, policy_text, write_policy
from .test_running import die, on


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of this test's dataset."""
    return str(request.node.name)[-50:]


@pytest.fixture
def watching() -> Watching:
    return Watching()


@pytest.fixture
def site(bench: Bench, tmp_path: Path, watching: Watching) -> Iterator[Site]:
    with bench.site(tmp_path / "home", watching=watching) as site:
        yield site


def cut(bench: Bench, site: Site, watching: Watching, name: str) -> RunRequest:
    """A run of ``alpha`` that was killed in ``infer``; returns what goes on with it."""
    request = RunRequest(1, bench.dataset(site, name), models=(bench.models["alpha"],))
    on(watching, "infer", die)
    with pytest.raises(SystemExit):
        run_models(site, request)
    watching.then = None
    return request


def test_what_another_process_finished_meanwhile_stays(
    bench: Bench, site: Site, watching: Watching, tmp_path: Path, name: str
) -> None:
    """Both want to go on with it; while a person here still reads the question, the other process does."""
    request = cut(bench, site, watching, name)

    class Slow(Person):
        def confirm(self, question: str, *, default: bool = False) -> bool:
            with bench.site(tmp_path / "home") as other:
                assert not run_models(other, request).failed
            return True

    write_policy(site, policy_text(site).replace('state = "automatic"', 'state = "ask"'))
    with bench.site(tmp_path / "home", Slow()) as late:
        (outcome,) = run_models(late, request).outcomes
    assert "Another process" in outcome.message
    (run,) = site.workspace.runs.ls(None)
    assert (run.state, run.disclosure) == (AttemptState.COMPLETED, Disclosure.UNDER_REVIEW)
    assert run.metrics is not None
    assert set(run.steps) == {"infer", "evaluate"}


def test_an_attempt_goes_on_only_as_what_it_was_registered_with(
    bench: Bench, site: Site, watching: Watching, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = cut(bench, site, watching, name)
    prepare = site.engine.prepare

    def upgraded(*given: Any, **more: Any) -> Any:
        found = prepare(*given, **more)
        return replace(found, digests={**found.digests, "interpreter": Digest.of(b"another one")})

    monkeypatch.setattr(site.engine, "prepare", upgraded)
    (outcome,) = run_models(site, request).outcomes
    assert (outcome.attempt, outcome.state) == (2, AttemptState.COMPLETED)
    first, second = site.api.executions.get(outcome.execution or 0).attempts or ()
    assert (first.state, second.state) == (ShownState.INTERRUPTED, ShownState.COMPLETED)
    assert first.model_cube.form_digest != second.model_cube.form_digest
    assert [run.state for run in site.workspace.runs.ls(None)] == [AttemptState.COMPLETED, AttemptState.INTERRUPTED]


@pytest.mark.parametrize("how", ["touched", "deleted"])
def test_predictions_that_go_while_they_are_evaluated_measure_nothing(
    bench: Bench, site: Site, watching: Watching, name: str, how: str
) -> None:
    request = RunRequest(1, bench.dataset(site, name), models=(bench.models["alpha"],))

    def they_go() -> None:
        for step in site.workspace.steps.ls():
            path = step.outputs / "output_path" / "predictions.json"
            if path.exists() and json.loads(path.read_text())["by"] == "alpha":
                fewer = json.loads(path.read_text()) | {"names": ["one"]}
                if how == "touched":
                    path.write_text(json.dumps(fewer))
                else:
                    site.workspace.steps.remove(step.key)

    on(watching, "evaluate", they_go)
    (outcome,) = run_models(site, request).outcomes
    assert (outcome.state, outcome.metrics) == (AttemptState.FAILED, None)
    watching.then = None
    (again,) = run_models(site, request).outcomes
    assert (again.state, again.cached) == (AttemptState.COMPLETED, False)
    assert (again.metrics or {})["cases.total"] == 2
