"""From a run to a released result on the command line, with models that really run."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from medperf.flows.site import Site

from .conftest import Answer, Command
from .running_site import Bench

Run = Callable[..., Answer]


@pytest.fixture
def data(bench: Bench, home: Path, medperf: Command) -> str:
    """The data owner's dataset in benchmark 1, on which beta fails and gamma loses a case. Returns its id."""
    with bench.site(home) as site:
        name = re.sub(r"\W", "", home.parent.name)[:60]
        uuid = bench.dataset(site, name, {"beta": "exit", "gamma": "partial"})
        return str(site.workspace.datasets.get(uuid).registered[site.credential().instance_id])


@pytest.fixture
def run(bench: Bench, data: str, medperf: Command, monkeypatch: pytest.MonkeyPatch) -> Run:
    def run(*words: str | int, answers: str = "") -> Answer:
        monkeypatch.setattr("sys.stdin", io.StringIO(answers))
        return medperf("--server", bench.url, *words)

    return run


def predictions(site: Site) -> list[str]:
    return [path.name for path in site.workspace.path.rglob("predictions.json")]


def test_create_look_submit(bench: Bench, run: Run, data: str, home: Path) -> None:
    there = ("-b", "1", "-d", data)
    gamma, beta = bench.models["gamma"], bench.models["beta"]
    made = run("result", "create", *there, "-m", gamma, "--yes")
    assert made.code == 0, made.err
    assert f"medperf result submit -b 1 -d {data} -m {gamma}" in made.out
    failed = run("result", "create", *there, "-m", beta, "--yes")
    assert failed.code == 1
    listed = run("result", "ls", *there, "--format", "json").json["items"]
    states = {one["model"]: one for one in listed}
    assert (states[gamma]["state"], states[beta]["state"]) == ("under review", "failed")
    assert states[gamma]["metrics"]["mean_score"] == 0.5
    execution = states[gamma]["execution"]
    page = run("result", "view", "-r", execution).out
    assert "nothing of it has left this site" in page
    assert f"medperf result submit -r {execution}" in page
    assert "exited with" in run("result", "view", "-r", states[beta]["execution"]).out
    table = run("benchmark", "results", 1, "--format", "csv").out
    assert ",under review,no,,," in table
    nothing = run("result", "submit", *there, "-m", beta, answers="y\n")
    assert nothing.code == 1
    assert "no metrics" in nothing.err
    with bench.site(home) as site:
        before = predictions(site)
    declined = run("result", "submit", *there, answers="n\n")
    assert declined.code == 1
    assert "you did not agree" in declined.err
    submitted = run("result", "submit", *there, answers="y\n")
    assert submitted.code == 0, submitted.err
    assert "metrics.mean_score: 0.5" in submitted.err
    assert "metrics.cases.failed: 1" in submitted.err
    assert "Deleted the predictions" in submitted.out
    with bench.site(home) as site:
        assert len(predictions(site)) == len(before) - 1
    again = run("result", "submit", *there)
    assert again.code == 1
    assert "medperf run -b 1" in again.err
    row = next(
        line for line in run("benchmark", "results", 1, "--format", "csv").out.splitlines() if ",partial," in line
    )
    assert row.endswith(",0.5")
    assert run("benchmark", "leaderboard", 1).code == 0
