"""Two at once, about executions and results: every order, on both databases. See `orders.Theatre`."""

from __future__ import annotations

from typing import Any

import pytest

from .executing import Study, make_study
from .orders import Outcome, Scene, Theatre


@pytest.fixture
def study(house: Theatre) -> Study:
    return make_study(house.world, house.person(), house.person(), house.person())


def either(won: str, lost: str, events: list[str]) -> dict[Outcome, list[str]]:
    """One of two gets it."""
    return {(won, lost): events, (lost, won): events}


def beat(house: Theatre, study: Study, execution: int) -> Any:
    path = f"/executions/{execution}/attempts/1/progress"
    return house.ask(study.data, "PUT", path, {"execution": execution, "attempt": 1})


def report(house: Theatre, study: Study, execution: int, state: str) -> Any:
    body = {"execution": execution, "attempt": 1, "state": state}
    return house.ask(study.data, "PATCH", f"/executions/{execution}/attempts/1", body)


def release(house: Theatre, study: Study, execution: int, number: int, metrics: Any = None) -> Any:
    return house.post(study.data, f"/executions/{execution}/release", study.release_body(execution, number, metrics))


def decide(house: Theatre, study: Study, execution: int, what: str, number: int = 1, **fields: str) -> Any:
    return house.post(
        study.data, f"/executions/{execution}/{what}", {"execution": execution, "attempt": number, **fields}
    )


def states(study: Study, execution: int) -> list[str]:
    return [one["state"] for one in study.data.get(f"/executions/{execution}").json()["attempts"]]


def in_order(house: Theatre, *actions: str) -> None:
    """The last events happened in this order: whoever forbids something waited for what was allowed before."""
    rows = house.sql(f"SELECT action FROM audit_events ORDER BY id DESC LIMIT {len(actions)}")
    assert [row[0] for row in rows][::-1] == list(actions)


def two_to_review(study: Study) -> int:
    """An execution with two attempts under review."""
    execution = study.finished()
    study.finish(execution, study.attempt(execution, reason="again"))
    return execution


def live(study: Study, execution: int) -> list[int]:
    """Attempts whose release is live, as the tables have it, and as the results have it."""
    of_attempts = study.world.sql(
        "SELECT number FROM attempts WHERE execution_id = ? AND disclosure = 'RELEASED'", execution
    )
    of_releases = study.world.sql(
        """SELECT number FROM releases JOIN attempts ON attempts.id = releases.attempt_id
        WHERE releases.execution_id = ? AND releases.state = 'RELEASED'""",
        execution,
    )
    assert [tuple(row) for row in of_attempts] == [tuple(row) for row in of_releases]
    found = [row[0] for row in of_releases]
    view = study.data.get(f"/executions/{execution}").json()
    assert not found or (view["state"], [view["attempt"]]) == ("released", found)
    return found


def test_two_register_the_same(house: Theatre, study: Study) -> None:
    def prepare() -> Scene:
        fresh = study.another(house.name("d"))

        def holds(_: Outcome) -> None:
            assert house.sql("SELECT count(*) FROM executions WHERE dataset_id = ?", fresh.dataset)[0][0] == 1

        return Scene({who: house.post(study.data, "/executions", fresh.ids()) for who in "AB"}, holds, alike=True)

    house.all_orders(prepare, either("201", "200", ["execution.created"]))


@pytest.mark.parametrize("same", [True, False], ids=["one UUID", "two UUIDs"])
def test_two_attempts(house: Theatre, study: Study, same: bool) -> None:
    def prepare() -> Scene:
        fresh = study.another(house.name("d"))
        path = f"/executions/{fresh.register()}/attempts"
        body = fresh.attempt_body()
        bodies = [body, body if same else fresh.attempt_body()]

        def holds(_: Outcome) -> None:
            assert len(study.data.get(path.removesuffix("/attempts")).json()["attempts"]) == 1

        works = {who: house.post(study.data, path, one) for who, one in zip("AB", bodies, strict=True)}
        return Scene(works, holds, alike=True)

    house.all_orders(prepare, either("201", "200" if same else "409 attempt_running", ["attempt.registered"]))


def test_an_attempt_and_a_deactivation(house: Theatre, study: Study) -> None:
    def prepare() -> Scene:
        fresh = study.another(house.name("d"))
        execution = fresh.register()
        benchmark = study.benchmark["id"]
        house.sql(f"UPDATE benchmarks SET is_active = (1 = 1), version = 1 WHERE id = {benchmark}")

        def holds(outcome: Outcome) -> None:
            assert len(states(study, execution)) == (outcome[0] == "201")
            if outcome[0] == "201":
                in_order(house, "attempt.registered", "benchmark.updated")
            house.sql(f"UPDATE benchmarks SET is_active = (1 = 1) WHERE id = {benchmark}")

        attempt = house.post(study.data, f"/executions/{execution}/attempts", fresh.attempt_body())
        edits = house.edit(study.bench, f"/benchmarks/{benchmark}", {"is_active": False})
        return Scene({"attempt": attempt, "edits": edits}, holds)

    both = ["attempt.registered", "benchmark.updated"]
    house.all_orders(prepare, {("201", "200"): both, ("409 not_active", "200"): both[1:]})


@pytest.mark.parametrize("asset", ["dataset", "model"])
def test_an_attempt_and_a_revocation(house: Theatre, study: Study, asset: str) -> None:
    def prepare() -> Scene:
        house.sql("UPDATE associations SET status = 'APPROVED'")
        fresh = study.another(house.name("d"))
        execution = fresh.register()
        column, thing = ("dataset_id", fresh.dataset) if asset == "dataset" else ("mlcube_id", study.model)
        association = house.sql(f"SELECT id FROM associations WHERE {column} = ?", thing)[0][0]

        def holds(outcome: Outcome) -> None:
            assert len(states(study, execution)) == (outcome[0] == "201")
            if outcome[0] == "201":
                in_order(house, "attempt.registered", "association.decided")

        attempt = house.post(study.data, f"/executions/{execution}/attempts", fresh.attempt_body())
        revokes = house.post(study.bench, f"/associations/{association}/decision", {"status": "REVOKED"})
        return Scene({"attempt": attempt, "revokes": revokes}, holds)

    both = ["attempt.registered", "association.decided"]
    refused = f"409 {asset}_not_associated"
    house.all_orders(prepare, {("201", "200"): both, (refused, "200"): both[1:]})


def test_a_release_and_a_revocation(house: Theatre, study: Study) -> None:
    def prepare() -> Scene:
        fresh = study.another(house.name("d"))
        execution = fresh.finished()
        association = house.sql("SELECT id FROM associations WHERE dataset_id = ?", fresh.dataset)[0][0]

        def holds(outcome: Outcome) -> None:
            assert live(study, execution) == ([1] if outcome[0] == "201" else [])
            if outcome[0] == "201":
                in_order(house, "result.released", "association.decided")

        revokes = house.post(study.bench, f"/associations/{association}/decision", {"status": "REVOKED"})
        return Scene({"releases": release(house, study, execution, 1), "revokes": revokes}, holds)

    both = ["association.decided", "result.released"]
    house.all_orders(prepare, {("201", "200"): both, ("409 dataset_not_associated", "200"): both[:1]})


def test_a_new_attempt_and_a_sign_of_life_of_the_lost_one(house: Theatre, study: Study) -> None:
    def prepare() -> Scene:
        fresh = study.another(house.name("d"))
        execution = fresh.register()
        fresh.attempt(execution)
        fresh.lose(execution)

        def holds(outcome: Outcome) -> None:
            alone = outcome[1] == "200"
            assert states(study, execution) == (["REGISTERED"] if alone else ["INTERRUPTED", "REGISTERED"])

        attempt = house.post(study.data, f"/executions/{execution}/attempts", fresh.attempt_body())
        return Scene({"attempt": attempt, "lives": beat(house, study, execution)}, holds)

    new = ["attempt.registered"]
    house.all_orders(prepare, {("201", "409 attempt_ended"): new, ("409 attempt_running", "200"): []})


def test_two_ends(house: Theatre, study: Study) -> None:
    def prepare() -> Scene:
        fresh = study.another(house.name("d"))
        execution = fresh.register()
        fresh.attempt(execution)
        fresh.report(execution, 1, "RUNNING")

        def holds(outcome: Outcome) -> None:
            assert states(study, execution) == ["COMPLETED" if outcome[0] == "200" else "CANCELLED"]

        works = {state: report(house, study, execution, state) for state in ("COMPLETED", "CANCELLED")}
        return Scene(works, holds)

    house.all_orders(prepare, either("200", "409 attempt_ended", ["attempt.reported"]))


@pytest.mark.parametrize("same", [True, False], ids=["same metrics", "other metrics"])
def test_two_releases_of_one_attempt(house: Theatre, study: Study, same: bool) -> None:
    def prepare() -> Scene:
        execution = study.another(house.name("d")).finished()
        values = (0.5, 0.5 if same else 0.6)

        def holds(outcome: Outcome) -> None:
            assert live(study, execution) == [1]
            found = study.data.get("/results", params={"sort": "-id", "limit": 1}).json()["items"][0]
            assert found["metrics"] == {"AUC.Edema": values[outcome.index("201")]}

        works = {
            who: release(house, study, execution, 1, {"AUC": {"Edema": value}})
            for who, value in zip("AB", values, strict=True)
        }
        return Scene(works, holds)

    lost = "200" if same else "409 released_otherwise"
    house.all_orders(prepare, either("201", lost, ["result.released"]))


def test_releases_of_two_attempts(house: Theatre, study: Study) -> None:
    def prepare() -> Scene:
        execution = two_to_review(study.another(house.name("d")))

        def holds(outcome: Outcome) -> None:
            assert live(study, execution) == [1 + outcome.index("201")]

        works = {who: release(house, study, execution, number) for number, who in enumerate("AB", start=1)}
        return Scene(works, holds)

    house.all_orders(prepare, either("201", "409 release_live", ["result.released"]))


def test_a_release_and_a_retraction_of_the_one_before(house: Theatre, study: Study) -> None:
    def prepare() -> Scene:
        execution = two_to_review(study.another(house.name("d")))
        assert study.release(execution, 1).status_code == 201

        def holds(outcome: Outcome) -> None:
            assert live(study, execution) == ([2] if outcome[0] == "201" else [])

        retracts = decide(house, study, execution, "retraction", reason="wrong")
        return Scene({"releases": release(house, study, execution, 2), "retracts": retracts}, holds)

    both = ["result.released", "result.retracted"]
    house.all_orders(prepare, {("201", "200"): both, ("409 release_live", "200"): both[1:]})


def test_a_release_and_a_withholding(house: Theatre, study: Study) -> None:
    def prepare() -> Scene:
        execution = study.another(house.name("d")).finished()

        def holds(outcome: Outcome) -> None:
            assert live(study, execution) == ([1] if outcome[0] == "201" else [])

        withholds = decide(house, study, execution, "withholding")
        return Scene({"releases": release(house, study, execution, 1), "withholds": withholds}, holds)

    lost = "409 wrong_disclosure"
    house.all_orders(prepare, {("201", lost): ["result.released"], (lost, "200"): ["result.withheld"]})


def test_a_release_and_a_retraction_of_it(house: Theatre, study: Study) -> None:
    """Whatever comes first, nothing is half done."""

    def prepare() -> Scene:
        execution = study.another(house.name("d")).finished()

        def holds(outcome: Outcome) -> None:
            assert live(study, execution) == ([] if outcome[1] == "200" else [1])

        retracts = decide(house, study, execution, "retraction", reason="wrong")
        return Scene({"releases": release(house, study, execution, 1), "retracts": retracts}, holds)

    both = ["result.released", "result.retracted"]
    house.all_orders(prepare, {("201", "200"): both, ("201", "409 wrong_disclosure"): both[:1]})
