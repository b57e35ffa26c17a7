"""Results over a real wire: what is listed and viewed, and the tables of a benchmark."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from medperf.cli.main import main
from medperf.domain.results import CellState
from medperf.flows.results import benchmark_results, list_results, view_result

from .conftest import Command, RunningServer
from .dataset_site import open_site
from .results_scene import Stage, Study, another_model, keep_dataset, keep_run, log_in

WITH_CASES = {
    "version": 1,
    "primary": "AUC.Edema",
    "has_cases": True,
    "rules": [
        {"key": "AUC.Edema", "minimum": 0.0, "maximum": 1.0, "direction": "higher"},
        *({"key": f"F1.finding {number}", "minimum": 0.0, "maximum": 1.0} for number in range(12)),
    ],
}


def measured(auc: float | None, evaluated: int, failed: int = 0) -> dict[str, object]:
    cases = {"evaluated": evaluated, "failed": failed, "total": evaluated + failed}
    return {"AUC": {"Edema": auc}, "F1": {f"finding {number}": 0.5 for number in range(12)}, "cases": cases}


@pytest.fixture(scope="module")
def stage(running_server: RunningServer) -> Iterator[Stage]:
    made = Stage.set(running_server)
    yield made
    made.world.client.close()


@pytest.fixture
def study(stage: Stage, medperf: Command) -> Study:
    """A study, and its data owner logged in here."""
    made = stage.study()
    log_in(stage.server, "data")
    return made


@pytest.fixture
def compared(stage: Stage, medperf: Command) -> Study:
    """Two sites and four models: released, partial, withheld, retracted, failed, and some that were never heard of."""
    made = cased(stage)
    second = made.another("second")
    twin, third = another_model(made, f"twin {stage.studies}"), another_model(made, f"third {stage.studies}")
    give(made, made.model, measured(0.9, 10))
    give(second, made.model, measured(0.5, 30, 2))
    give(made, twin, measured(0.9, 10))
    give(second, twin, measured(0.7, 30), state="PARTIAL")
    execution = give(made, third, measured(None, 10))
    assert made.decide(execution, "retraction", reason="wrong labels").status_code == 200
    withheld = second.register(model=third)
    body = third_body(second, third)
    assert second.attempt(withheld, **body) == 1
    second.finish(withheld, 1)
    assert second.decide(withheld, "withholding").status_code == 200
    log_in(stage.server, "bench")
    return made


def cased(stage: Stage) -> Study:
    made = stage.study()
    stage.world.sql(
        "UPDATE benchmarks SET metrics_contract = ? WHERE id = ?", json.dumps(WITH_CASES), made.benchmark["id"]
    )
    made.benchmark["metrics_contract"] = made.bench.get(f"/benchmarks/{made.benchmark['id']}").json()[
        "metrics_contract"
    ]
    return made


def third_body(study: Study, model: int) -> dict[str, object]:
    return {"model": model, "model_cube": study.pin(study.maker.get(f"/mlcubes/{model}").json())}


def give(study: Study, model: int, metrics: dict[str, object], *, state: str = "COMPLETED") -> int:
    """A released execution."""
    execution = study.register(model=model)
    study.finish(execution, study.attempt(execution, **third_body(study, model)), state)
    answer = study.release(execution, metrics=metrics)
    assert answer.status_code == 201, answer.text
    return execution


def test_what_ran_here_is_listed_with_what_the_server_knows(study: Study, medperf: Command) -> None:
    with open_site() as site:
        dataset = keep_dataset(site, study)
        waiting = keep_run(site, study, dataset)
        failed = keep_run(site, study, dataset, model=another_model(study, "failing"), state="FAILED", metrics=None)
        found = list_results(site, benchmark=study.benchmark["id"])
        assert {(one.run, one.state) for one in found} == {
            (waiting.uuid, CellState.UNDER_REVIEW), (failed.uuid, CellState.FAILED),
        }  # fmt: skip
        under_review = next(one for one in found if one.run == waiting.uuid)
        assert under_review.metrics == {"AUC.Edema": 0.75}  # of this site: the server has none
        assert (under_review.site, under_review.result) == ("site of data", None)
        assert study.release(int(waiting.execution or 0)).status_code == 201
        (released,) = list_results(site, dataset="chest", model=study.model)
        assert (released.state, released.run, released.metrics) == (
            CellState.RELEASED,
            waiting.uuid,
            {"AUC.Edema": 0.75},
        )
        local = list_results(site, local=True, dataset="chest")
        assert [one.run for one in local] == [failed.uuid, waiting.uuid]
        assert list_results(site, local=True, model=999) == []
        detail = view_result(site, str(released.result))
        assert detail.run is not None
        assert detail.run.uuid == waiting.uuid
        assert detail.execution is not None
        assert view_result(site, run=str(waiting.execution)).result == detail.result
        assert view_result(site, waiting.uuid[:8]).result == detail.result
    shown = medperf("result", "view", released.result)
    assert shown.code == 0
    assert "AUC.Edema" in shown.out
    assert "state: released" in shown.out
    page = medperf("result", "view", "-r", failed.uuid[:8]).out
    assert "FAILED" in page
    assert "exit" in page
    listed = medperf("result", "ls", "-b", study.benchmark["id"]).out
    assert "failed" in listed
    assert waiting.uuid[:8] in listed
    assert medperf("result", "ls", "--mine", "--format", "json").json["items"]
    unknown = medperf("result", "view", "999999")
    assert unknown.code == 1
    assert "medperf result ls" in unknown.err
    assert medperf("result", "view").code == 2


def test_the_model_owner_sees_its_own_results(stage: Stage, study: Study, medperf: Command) -> None:
    study.released()
    log_in(stage.server, "maker")
    listed = medperf("result", "ls", "-b", study.benchmark["id"], "--format", "json").json["items"]
    assert [(one["state"], one["site"], one["metrics"]) for one in listed] == [
        ("released", "site of data", {"AUC.Edema": 0.75})
    ]
    assert listed[0]["run"] is None
    assert medperf("result", "ls", "-b", study.benchmark["id"], "--mine", "--format", "json").json["items"] == []


def test_the_table_has_a_cell_for_everything(compared: Study, medperf: Command, home: Path) -> None:
    number = compared.benchmark["id"]
    with open_site() as site:
        found = benchmark_results(site, number)
    assert (found.totals.datasets, found.totals.cells) == (2, 8)
    answer = medperf("benchmark", "results", number, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    states = {(row["site"], row["model_name"].rstrip("0123456789 ")): row["state"] for row in rows}
    assert states["site of data", "third"] == "retracted"
    assert states["site of second", "third"] == "withheld"
    assert states["site of second", "twin"] == "partial"
    assert sorted(states.values()).count("missing") == 2  # the reference model never ran
    released = next(row for row in rows if row["state"] == "released" and row["site"] == "site of second")
    assert (released["AUC.Edema"], released["evaluated"], released["failed"], released["total"]) == (
        "0.5",
        "30",
        "2",
        "32",
    )
    assert all(row["AUC.Edema"] == "" for row in rows if row["state"] in ("missing", "withheld", "retracted"))
    document = medperf("benchmark", "results", number, "--format", "json").json
    assert document["totals"]["states"]["missing"] == 2
    assert len(document["items"]) == 8
    assert document["items"][0]["metrics"] is None or "F1.finding 11" in document["items"][0]["metrics"]
    written = medperf("benchmark", "results", number, "--format", "csv", "--output", "results.csv")
    assert "Wrote results.csv" in written.out
    assert Path("results.csv").read_text() == answer.out
    text = medperf("benchmark", "results", number).out
    assert "30/2/32" in text
    assert "2 datasets with 4 models" in text
    assert medperf("benchmark", "results", 999).code == 1


def test_a_terminal_gets_what_fits(
    compared: Study, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("medperf.cli.output.is_terminal", lambda stream: True)
    number = str(compared.benchmark["id"])
    for command, facts in (
        ("results", ("AUC.Edema", "withheld", "missing", "--format csv")),
        ("leaderboard", ("site of data", "site of second", "withheld", "partial", "missing", "n_weighted")),
    ):
        for width in (80, 200):
            monkeypatch.setattr("medperf.cli.output.terminal_width", lambda stream, width=width: width)
            capfd.readouterr()
            assert main(["benchmark", command, number]) == 0
            out = re.sub(r"\x1b\[[0-9;]*m", "", capfd.readouterr().out)
            said = re.compile(
                "[A-Z]|cases: |unweighted: |[0-9]+ datasets"
            )  # sentences and commands to paste: a terminal wraps them
            assert max(len(line) for line in out.splitlines() if not said.match(line)) <= width
            for fact in facts:
                assert fact in out, (command, width, fact)


def test_leaderboard(compared: Study, medperf: Command) -> None:
    number = compared.benchmark["id"]
    out = medperf("benchmark", "leaderboard", number).out
    assert "AUC.Edema, the higher the better" in out
    lines = {line.split()[1]: line for line in out.splitlines() if "(" in line and "/" in line}
    assert "UNWEIGHTED" in out
    assert "N_WEIGHTED" in out
    assert "pooled" not in out
    first = next(line for line in out.splitlines() if " model maker" in line and "0.9" in line)
    assert first.split()[0] == "1"
    assert "0.7" in first  # (0.9 + 0.5) / 2
    assert "0.6" in first  # (10 * 0.9 + 30 * 0.5) / 40
    assert "40/2/42" in first
    assert "0.9 (1)" in first
    twin = next(line for line in out.splitlines() if "twin" in line)
    assert twin.split()[0] == "-"  # partial at one site: no rank over all
    assert "0.7, partial" in twin
    assert "withheld" in next(line for line in out.splitlines() if "third" in line)
    assert lines
    document = medperf("benchmark", "leaderboard", number, "--format", "json").json
    best = document["board"]["standings"][0]
    assert best["means"] == {"unweighted": 0.7, "n_weighted": 0.6, "sites": 2}
    other = medperf("benchmark", "leaderboard", number, "--metric", "F1.finding 3").out
    assert "which does not rank" in other
    unknown = medperf("benchmark", "leaderboard", number, "--metric", "IoU")
    assert unknown.code == 1
    assert "AUC.Edema" in unknown.err


def test_cases_that_nobody_counted_are_unknown_and_what_left_is_marked(
    stage: Stage, study: Study, medperf: Command
) -> None:
    study.released()
    study.world.sql("UPDATE associations SET status = 'REVOKED' WHERE dataset_id = ?", study.dataset)
    log_in(stage.server, "bench")
    out = medperf("benchmark", "leaderboard", study.benchmark["id"]).out
    line = next(line for line in out.splitlines() if "0.75" in line)
    assert "unknown" in line
    assert "revoked" in line
    table = medperf("benchmark", "results", study.benchmark["id"]).out
    assert "released, revoked" in table
    assert "unknown" in table
