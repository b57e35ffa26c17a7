"""What becomes of metrics: released within the contract, withheld, retracted; and who sees them."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
import pytest

from medperf.domain.leaderboard import leaderboard
from medperf.domain.metrics import contract_from_document
from medperf.domain.results import CellState, table
from medperf.wire.executions import ResultsTable, cells_of

from .conftest import Person, World, problem
from .executing import Study, associate, make_study

CASES_CONTRACT = {
    "version": 1,
    "primary": "AUC",
    "has_cases": True,
    "rules": [
        {"key": "AUC", "minimum": 0.0, "maximum": 1.0, "decimals": 4, "direction": "higher"},
        {"key": "grade", "type": "enum", "values": ["good", "bad"]},
        {"key": "count", "type": "integer", "minimum": 0},
    ],
}
CASES = {"evaluated": 9, "failed": 1, "total": 10}
GOOD = {"AUC": 0.75, "grade": "good", "count": 3, "cases": CASES}


@pytest.fixture
def study(world: World) -> Study:
    return make_study(world, world.person("bench"), world.person("data"), world.person("maker"))


@pytest.fixture
def strict(world: World) -> Study:
    """With cases, a word and a count in its contract."""
    bench = world.person("bench")
    study = make_study(world, bench, world.person("data"), world.person("maker"))
    text = orjson.dumps(CASES_CONTRACT).decode()
    world.sql("UPDATE benchmarks SET metrics_contract = ? WHERE id = ?", text, study.benchmark["id"])
    study.benchmark = bench.get(f"/benchmarks/{study.benchmark['id']}").json()
    return study


def events(world: World, prefix: str = "result.") -> list[str]:
    rows = world.sql("SELECT action FROM audit_events WHERE action LIKE ? ORDER BY id", f"{prefix}%")
    return [row[0] for row in rows]


# --------------------------------------------------------------------------------------------------------------- release


def test_a_release_and_its_retraction(study: Study) -> None:
    execution = study.finished()
    body = study.release_body(execution)
    first = study.data.post(f"/executions/{execution}/release", body)
    again = study.data.post(f"/executions/{execution}/release", body)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    view = first.json()
    assert (view["state"], view["partial"], view["revoked"], view["metrics"]) == (
        "RELEASED",
        False,
        False,
        {"AUC.Edema": 0.75},
    )
    other = study.release_body(execution, metrics={"AUC": {"Edema": 0.8}})
    problem(study.data.post(f"/executions/{execution}/release", other), 409, "released_otherwise")
    problem(study.decide(execution, "withholding"), 409, "wrong_disclosure")
    problem(study.decide(execution, "retraction"), 400, "invalid_fields")
    problem(study.decide(execution, "retraction", reason="..."), 400, "invalid_fields")
    gone = study.decide(execution, "retraction", reason="wrong labels")
    assert gone.json() == study.decide(execution, "retraction", reason="wrong labels").json()
    assert (gone.json()["state"], gone.json()["metrics"], gone.json()["reason"]) == (
        "RETRACTED",
        None,
        "wrong labels",
    )
    problem(study.release(execution), 409, "wrong_disclosure")
    assert events(study.world) == ["result.released", "result.retracted"]
    assert study.data.get(f"/executions/{execution}").json()["state"] == "retracted"
    # a new attempt needs a reason, and may be released in turn
    assert study.attempt(execution, reason="labels were mended") == 2
    study.finish(execution, 2, "PARTIAL")
    second = study.release(execution, 2).json()
    assert (second["partial"], second["id"] > view["id"]) == (True, True)


def test_withheld_for_good(study: Study) -> None:
    execution = study.finished()
    for reason in ("too few cases", None):
        found = study.decide(execution, "withholding", reason=reason)
        assert (found.status_code, found.json()["state"]) == (200, "withheld")
        assert found.json()["attempts"][0]["disclosure_reason"] == "too few cases"
    problem(study.release(execution), 409, "wrong_disclosure")
    assert events(study.world) == ["result.withheld"]
    assert study.data.get("/results").json()["items"] == []


def test_nothing_to_disclose(study: Study) -> None:
    execution = study.register()
    problem(study.release(execution), 404, "no_such_attempt")
    study.attempt(execution)
    problem(study.release(execution), 409, "nothing_to_disclose")
    study.finish(execution, 1, "FAILED", failure="exit")
    problem(study.release(execution), 409, "nothing_to_disclose")
    problem(study.decide(execution, "withholding"), 409, "nothing_to_disclose")


def test_one_live_release(study: Study) -> None:
    execution, _ = study.released()
    study.finish(execution, study.attempt(execution, reason="a second opinion"))
    problem(study.release(execution, 2), 409, "release_live")
    assert study.decide(execution, "retraction", reason="superseded").status_code == 200
    assert study.release(execution, 2).status_code == 201


def test_releasing_needs_the_associations_and_the_rest_does_not(study: Study) -> None:
    execution = study.finished()
    study.revoke("model")
    problem(study.release(execution), 409, "model_not_associated")
    study.revoke("dataset")
    problem(study.release(execution), 409, "dataset_not_associated")
    study.world.sql("UPDATE associations SET status = 'APPROVED'")
    body = study.release_body(execution)
    result = study.data.post(f"/executions/{execution}/release", body).json()["id"]
    study.revoke("model")
    for person in (study.data, study.bench, study.maker):
        assert person.get(f"/results/{result}").json()["revoked"] is True  # it stays, and is marked
    assert study.data.post(f"/executions/{execution}/release", body).status_code == 200  # an outbox repeats itself
    assert study.decide(execution, "retraction", reason="no more").status_code == 200


HOSTILE: dict[str, Any] = {
    "another key": GOOD | {"patient 7": 1},
    "records as keys": GOOD | {f"patient {number} age {number}": 1 for number in range(50)},
    "a missing key": {"AUC": 0.75, "grade": "good", "cases": CASES},
    "a string": GOOD | {"AUC": "0.75; Jane Doe"},
    "another word": GOOD | {"grade": "Jane Doe"},
    "nested": GOOD | {"AUC": {"of": {"patient": 7}}},
    "deep": GOOD | {"AUC": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}},
    "a list": GOOD | {"AUC": [0.75]},
    "records as digits": GOOD | {"AUC": 0.7512345678},
    "a huge number": GOOD | {"count": 10**18},
    "no whole number": GOOD | {"count": 1.5},
    "out of range": GOOD | {"AUC": 1.5},
    "true": GOOD | {"AUC": True},
    "no cases": {name: value for name, value in GOOD.items() if name != "cases"},
    "cases that do not add up": GOOD | {"cases": CASES | {"failed": 2}},
    "cases with more": GOOD | {"cases": CASES | {"names": 1}},
    "nothing": {},
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_metrics_outside_the_contract_do_not_come_in(strict: Study, name: str) -> None:
    execution = strict.finished()
    answer = strict.release(execution, metrics=HOSTILE[name])
    assert answer.status_code == 400, answer.text
    assert answer.json()["code"] in ("metrics_contract", "bad_metrics", "invalid_fields", "number_too_large")
    assert strict.world.sql("SELECT count(*) FROM releases")[0][0] == 0
    assert strict.data.get(f"/executions/{execution}").json()["state"] == "under review"
    assert b"Jane Doe" not in strict.world.stored()


def test_documents_outside_of_bounds(strict: Study) -> None:
    """NaN is no JSON; what is too long, too deep or too much is refused unread."""
    execution = strict.finished()
    body = strict.release_body(execution, metrics=GOOD)
    text = orjson.dumps(body).decode()
    bad = {
        "NaN": (text.replace("0.75", "NaN"), 400),
        "infinity": (text.replace("0.75", "1e999"), 400),
        "twice": (text.replace('"AUC":0.75', '"AUC":0.75,"AUC":0.8'), 400),
        "deep": (text.replace("0.75", '{"a":' * 5000 + "1" + "}" * 5000), 400),
        "many": (text.replace('"AUC":0.75', ",".join(f'"k{number}":1' for number in range(50_000))), 400),
        "long": (text.replace('"good"', '"' + "x" * 1_500_000 + '"'), 413),
        "longer": (text.replace('"good"', '"' + "x" * 3_000_000 + '"'), 413),
    }
    for name, (content, status) in bad.items():
        headers = {"Content-Type": "application/json"}
        answer = strict.data.send("POST", f"/executions/{execution}/release", content=content, headers=headers)
        assert answer.status_code == status, (name, answer.text[:300])
    assert strict.world.sql("SELECT count(*) FROM releases")[0][0] == 0


def test_undefined_is_released_as_such(strict: Study) -> None:
    execution = strict.finished()
    result = strict.release(execution, metrics=GOOD | {"AUC": None, "count": None}).json()
    assert list(result["metrics"]) == [
        "AUC",
        "grade",
        "count",
        "cases.evaluated",
        "cases.failed",
        "cases.total",
    ]
    assert (result["metrics"]["AUC"], result["metrics"]["grade"]) == (None, "good")


# ------------------------------------------------------------------------------------------------------------ visibility


def seen(person: Person, result: int, benchmark: int) -> tuple[bool, bool, int]:
    """Whether it is read, is listed, and how many rows the table has."""
    read = person.get(f"/results/{result}")
    assert read.status_code in (200, 404)
    listed = [one["id"] for one in person.get("/results").json()["items"]]
    filtered = [one["id"] for one in person.get("/results", params={"benchmark": benchmark}).json()["items"]]
    assert listed == filtered
    rows = person.get(f"/benchmarks/{benchmark}/results").json()["rows"]
    return read.status_code == 200, result in listed, len(rows)


def test_who_sees_results(study: Study, world: World) -> None:
    execution, result = study.released()
    benchmark = study.benchmark["id"]
    other, stranger, admin = world.person("other"), world.person("stranger"), world.admin
    shows, hides = (True, True, 1), (False, False, 0)
    for person in (study.data, study.bench, study.maker):
        assert seen(person, result, benchmark) == shows
    for person in (other, stranger, admin):
        assert seen(person, result, benchmark) == hides
    theirs = other.make_cube("model", name="theirs")
    associate(world, study.benchmark, model=theirs["id"])
    assert seen(other, result, benchmark) == hides
    study.show_to("participants")
    assert seen(other, result, benchmark) == shows
    for person in (stranger, admin):
        assert seen(person, result, benchmark) == hides
    world.sql("UPDATE associations SET status = 'REVOKED' WHERE mlcube_id = ?", theirs["id"])
    assert seen(other, result, benchmark) == hides
    study.show_to("accounts")
    for person in (other, stranger, admin):
        assert seen(person, result, benchmark) == shows
    # a retraction is seen by whoever saw the result; the metrics are not
    study.decide(execution, "retraction", reason="wrong labels")
    for person in (study.data, study.bench, study.maker, stranger):
        view = person.get(f"/results/{result}").json()
        assert (view["state"], view["metrics"], view["reason"]) == ("RETRACTED", None, "wrong labels")
        row = person.get(f"/benchmarks/{benchmark}/results").json()["rows"][0]
        assert row == [study.dataset, study.model, "retracted", False, result, None]


def test_what_was_not_released_is_not_in_the_tables_of_others(study: Study, world: World) -> None:
    """States of executions are for whom they concern; metrics that nobody released are nowhere."""
    study.show_to("accounts")
    execution = study.finished()
    path = f"/benchmarks/{study.benchmark['id']}/results"
    for person in (study.data, study.bench, study.maker):
        assert person.get(path).json()["rows"] == [[study.dataset, study.model, "under review", False, None, None]]
    for person in (world.person("stranger"), world.admin):
        found = person.get(path).json()
        assert (found["rows"], found["sites"]) == ([], [])
    study.decide(execution, "withholding", reason="too few")
    assert study.bench.get(path).json()["rows"][0][2] == "withheld"
    assert world.login("stranger", "correct horse").get(path).json()["rows"] == []


def test_others_learn_nothing_of_an_attempt_that_was_lost(study: Study, world: World) -> None:
    study.show_to("accounts")
    execution, result = study.released()
    study.decide(execution, "retraction", reason="wrong")
    study.attempt(execution, reason="again")
    study.lose(execution)
    path = f"/benchmarks/{study.benchmark['id']}/results"
    assert study.bench.get(path).json()["rows"][0][2:] == ["lost", False, None, None]
    for person in (world.person("stranger"), world.admin):
        assert person.get(path).json()["rows"][0][2:] == ["retracted", False, result, None]


def test_nothing_of_the_data_but_its_label(study: Study) -> None:
    study.show_to("accounts")
    _, result = study.released()
    reader = study.world.person("reader")
    for path in (f"/results/{result}", "/results", f"/benchmarks/{study.benchmark['id']}/results"):
        text = reader.get(path).text
        assert "site of data" in text
        assert study.data.name + '"' not in text.replace('"site of data"', "")


# ------------------------------------------------------------------------------------------------------------- the table


def test_the_table_of_a_benchmark(strict: Study, world: World) -> None:
    reference = strict.benchmark["reference_model"]
    associate(world, strict.benchmark, model=world.person("late").make_cube("model", name="late")["id"])
    strict.finish(*attempt_of(strict, reference), "FAILED", failure="exit")
    execution = strict.finished()
    strict.release(execution, metrics=GOOD)
    path = f"/benchmarks/{strict.benchmark['id']}/results"
    document = strict.bench.get(path).json()
    found = ResultsTable.model_validate(document)
    assert found.metrics == ("AUC", "grade", "count", "cases.evaluated", "cases.failed", "cases.total")
    assert [model.name for model in found.models] == ["model bench", "model maker", "late"]
    assert [site.label for site in found.sites] == ["site of data"]
    assert {row[2]: row[5] for row in found.rows} == {
        CellState.FAILED: None,
        CellState.RELEASED: (0.75, "good", 3, 9, 1, 10),
    }
    cells = cells_of([found])
    contract = contract_from_document(strict.benchmark["metrics_contract"])
    _, rows = table(contract, cells)
    assert [row[4] for row in rows] == ["failed", "released", "missing"]
    assert leaderboard(contract, cells).standings[0].means.n_weighted == 0.75
    # pages
    first = strict.bench.get(path, params={"limit": 1}).json()
    second = strict.bench.get(path, params={"limit": 1, "after": first["next"]}).json()
    assert (len(first["rows"]), second["next"], second["rows"]) == (1, None, document["rows"][1:])
    pages = [ResultsTable.model_validate(first), ResultsTable.model_validate(second)]
    assert sorted(cells_of(pages), key=lambda cell: cell.model) == sorted(cells, key=lambda cell: cell.model)
    problem(strict.bench.get(path, params={"limit": 10_001}), 400, "invalid_fields")
    problem(world.admin.get("/benchmarks/99/results"), 404, "no_such_benchmark")


def attempt_of(study: Study, model: int) -> tuple[int, int]:
    """An execution of another model, and its attempt."""
    execution = study.register(model=model)
    cube = study.bench.get(f"/mlcubes/{model}").json()
    return execution, study.attempt(execution, model=model, model_cube=study.pin(cube))


def test_a_live_release_speaks_while_something_runs(study: Study) -> None:
    execution, result = study.released()
    study.report(execution, study.attempt(execution, reason="again"), "RUNNING")
    path = f"/benchmarks/{study.benchmark['id']}/results"
    for lost in (False, True):
        row = study.bench.get(path).json()["rows"][0]
        assert (row[2], row[4], row[5]) == ("released", result, [0.75])
        if not lost:
            study.lose(execution)
    study.decide(execution, "retraction", reason="wrong")
    assert study.bench.get(path).json()["rows"][0][2:] == ["lost", False, None, None]


def test_a_key_stands_for_one_release(study: Study) -> None:
    execution = study.finished()
    body, headers = study.release_body(execution), {"Idempotency-Key": str(uuid.uuid4())}
    path = f"/executions/{execution}/release"
    first, again = (study.data.post(path, body, headers=headers) for _ in range(2))
    assert (first.status_code, first.content) == (again.status_code, again.content)
    problem(study.data.post(path, study.release_body(execution), headers=headers), 409, "idempotency_key_reused")
