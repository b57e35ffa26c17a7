"""``medperf run``, ``benchmark run`` and ``model``: what they print, and how they end."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from medperf.flows.site import Site

from .conftest import Answer, Command
from .running_site import Bench, Watching, site_at

Run = Callable[..., Answer]


@pytest.fixture
def watching() -> Watching:
    return Watching()


@pytest.fixture
def data(bench: Bench, home: Path, medperf: Command, monkeypatch: pytest.MonkeyPatch) -> str:
    """The data owner's command line has a dataset ``chest`` in benchmark 1; beta fails on it. Returns the dataset's id."""
    with bench.site(home) as site:
        name = re.sub(r"\W", "", home.parent.name)[:60]
        uuid = bench.dataset(site, name, {"beta": "exit"})
        number = site.workspace.datasets.get(uuid).registered[site.credential().instance_id]
    monkeypatch.setenv("MEDPERF_SERVER", bench.url)
    return str(number)


@pytest.fixture
def run(bench: Bench, data: str, medperf: Command) -> Run:
    def run(*words: str | int) -> Answer:
        return medperf("--server", bench.url, *words)

    return run


def test_a_plan_then_a_run_then_nothing_to_do(bench: Bench, run: Run, data: str) -> None:
    alpha, beta, stray = (str(bench.models[name]) for name in ("alpha", "beta", "stray"))
    there = ("-b", "1", "-d", data)
    plan = run("run", *there, "-m", alpha, "-m", stray, "--dry-run")
    assert plan.code == 1
    assert re.search(rf"^ *{alpha} +alpha +\d+ +run", plan.out, re.MULTILINE)
    assert re.search(rf"^ *{stray} +stray +\d+ +refused", plan.out, re.MULTILINE)
    assert "In the way: The model is not in this benchmark, and nobody asked." in plan.out
    assert f"medperf run -b 1 -d {data} -m {alpha} -m {stray} --server {bench.url}" in plan.out
    plan = run("run", *there, "--dry-run", "--format", "json")
    assert plan.code == 0
    assert {one["action"] for one in plan.json["runs"]} == {"run"}
    first = run("benchmark", "run", *there, "--jobs", "2", "--yes")
    assert first.code == 1
    assert re.search(rf"^ *{alpha} +alpha +COMPLETED +mean_score 0.5", first.out, re.MULTILINE)
    assert re.search(rf"^ *{beta} +beta +FAILED \(exit\) ", first.out, re.MULTILINE)
    assert f"Model {beta} (beta): The task infer of beta exited with 3." in first.out
    log = Path(re.findall(r"^Log: (.*)$", first.out, re.MULTILINE)[0])
    assert log.read_text() == "case0.txt cannot be read\n"
    assert f"medperf result submit -b 1 -d {data}" in first.out
    again = run("run", *there, "-m", alpha, "--format", "json")
    assert again.code == 0
    (outcome,) = again.json["outcomes"]
    assert (outcome["state"], outcome["cached"], outcome["metrics"]["mean_score"]) == ("COMPLETED", True, 0.5)
    assert "no container was started" in run("run", *there, "-m", alpha).out
    refused = run("run", *there, "-m", alpha, "--no-cache")
    assert refused.code == 1
    assert "--reason" in refused.err


def test_models_of_a_file(run: Run, bench: Bench, data: str, tmp_path: Path) -> None:
    file = tmp_path / "models.txt"
    file.write_text(f"{bench.models['gamma']},\n {bench.models['alpha']}\n")
    plan = run("run", "-b", "1", "-d", data, "-f", str(file), "--dry-run", "--format", "json")
    assert {one["name"] for one in plan.json["runs"]} == {"gamma", "alpha"}
    file.write_text("4, five")
    assert "'five'" in run("run", "-b", "1", "-d", data, "-f", str(file)).err
    assert run("run", "-b", "1", "-d", data, "-f", str(file), "-m", "4").code == 2
    file.write_text("")
    assert "is empty" in run("run", "-b", "1", "-d", data, "-f", str(file)).err


def test_wrong_words(run: Run, data: str) -> None:
    there = ("run", "-b", "1", "-d", data)
    for words in (
        ("--timeout", "infer"),
        ("--timeout", "infer=-1"),
        ("--timeout", "prepare=9"),
        ("--dry-run", "--submit"),
    ):
        answer = run(*there, *words)
        assert answer.code == 2, words
    unknown = run("run", "-b", "1", "-d", "nothing-of-the-kind")
    assert (unknown.code, "medperf dataset ls" in unknown.err) == (1, True)


def test_a_person_accepts_a_model(run: Run, bench: Bench, data: str, home: Path) -> None:
    alpha = str(bench.models["alpha"])
    by_policy = run("model", "accept", alpha)
    assert "policy.toml accepts it" in by_policy.out
    assert "No model was accepted here yet." in run("model", "ls").out
    with site_at(home, bench.url, "testdataowner") as site:
        (site.workspace.path / "policy.toml").write_text("")
    nobody = run("model", "accept", alpha)  # stdin is empty
    assert (nobody.code, nobody.json if nobody.out else "") == (1, "")
    assert "It gets" in nobody.err or "it gets" in nobody.err
    assert run("model", "accept", alpha, "--yes").code == 1
    answered(run, home, bench, alpha)
    listed = run("model", "ls", "--format", "json").json["items"]
    assert [(one["model"], one["accepted"], one["who"]) for one in listed] == [(int(alpha), True, "testdataowner")]
    assert re.search(rf"^ *{alpha} +alpha +accepted +testbenchmarkowner", run("model", "ls").out, re.MULTILINE)


def answered(run: Run, home: Path, bench: Bench, model: str) -> None:
    """Somebody sits at the terminal and says yes."""
    import io
    import sys

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO("y\n"))
        answer = run("model", "accept", model)
    assert answer.code == 0, answer.err
    assert "accepted by testdataowner" in answer.out


def test_metrics_go_at_once_where_that_was_asked_for(run: Run, bench: Bench, data: str, home: Path) -> None:
    import io
    import sys

    alpha = str(bench.models["alpha"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO("y\n"))
        answer = run("run", "-b", "1", "-d", data, "-m", alpha, "--submit")
    assert answer.code == 0, answer.err
    assert "mean_score: 0.5" in answer.err  # shown before it went
    assert "The metrics of model" in answer.out
    with site_at(home, bench.url, "testdataowner") as site:
        assert released(site) == {"alpha": 0.5}
    again = run("run", "-b", "1", "-d", data, "-m", alpha, "--submit")
    assert (again.code, "No metrics were sent." in again.out) == (0, True)


def released(site: Site) -> dict[str, object]:
    mine = [one.dataset_id for one in site.workspace.runs.ls(None)]
    found = site.api.results.list(dataset=mine[0])
    return {one.model_name: one.metrics["mean_score"] for one in found if one.metrics is not None}
