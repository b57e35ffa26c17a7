"""Executions and attempts: registered before anything runs, append-only, and refused for every reason at once."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from medperf.domain.digests import Digest
from medperf.domain.disclosure import RULES, Exit
from medperf.domain.limits import ATTEMPTS_PER_EXECUTION
from medperf.wire import executions as wire
from medperf.wire.models import Body

from .conftest import Person, World, problem
from .executing import Study, make_study


@pytest.fixture
def study(world: World) -> Study:
    return make_study(world, world.person("bench"), world.person("data"), world.person("maker"))


def codes(answer: Any) -> list[str]:
    """All refusals."""
    return [entry["field"] for entry in answer.json()["errors"]]


def names_of(model: type[Body], above: str = "") -> set[str]:
    found = set()
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Body):
            found |= names_of(kind, f"{above}{name}.")
        else:
            found.add(above + name)
    return found


@pytest.mark.parametrize(
    ("kind", "model", "without"),
    [
        (Exit.EXECUTION, wire.AttemptCreate, set()),
        (Exit.ATTEMPT_STATE, wire.AttemptReport, set()),
        (Exit.PROGRESS, wire.ProgressReport, {"dataset"}),
        (Exit.METRICS, wire.ReleaseCreate, set()),
        (Exit.WITHHOLDING, wire.WithholdingCreate, set()),
        (Exit.RETRACTION, wire.RetractionCreate, set()),
    ],
)
def test_bodies_are_the_closed_list(kind: Exit, model: type[Body], without: set[str]) -> None:
    assert names_of(model) == set(RULES[kind].names) - without
    assert names_of(wire.ExecutionCreate) < set(RULES[Exit.EXECUTION].names)


def test_one_execution_is_registered_once(study: Study) -> None:
    first = study.data.post("/executions", study.ids())
    again = study.data.post("/executions", study.ids())
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    view = first.json()
    assert (view["state"], view["attempt_count"], view["attempts"]) == ("missing", 0, [])
    assert (view["site"], view["model_name"]) == ("site of data", "model maker")
    events = study.world.sql("SELECT data FROM audit_events WHERE action = 'execution.created'")
    assert len(events) == 1


def test_attempts_are_appended(study: Study) -> None:
    execution = study.register()
    path = f"/executions/{execution}/attempts"
    body = study.attempt_body()
    made, again = study.data.post(path, body), study.data.post(path, body)
    assert (made.status_code, again.status_code) == (201, 200)
    assert len(again.json()["attempts"]) == 1
    attempt = again.json()["attempts"][0]
    assert {name: attempt[name] for name in body if name in attempt} == {
        name: value for name, value in body.items() if name in attempt
    }
    problem(study.data.post(path, study.attempt_body()), 409, "attempt_running")
    study.finish(execution, 1, "FAILED", failure="exit", task="infer")
    assert study.attempt(execution) == 2
    study.finish(execution, 2)
    problem(study.data.post(path, study.attempt_body()), 409, "reason_needed")
    assert study.attempt(execution, reason="  new   driver ") == 3
    view = study.data.get(f"/executions/{execution}").json()
    assert [one["state"] for one in view["attempts"]] == ["FAILED", "COMPLETED", "REGISTERED"]
    assert [one["disclosure"] for one in view["attempts"]] == [None, "UNDER_REVIEW", None]
    assert view["attempts"][2]["reason"] == "new driver"
    assert (view["state"], view["attempt"], view["attempt_count"]) == ("under review", 2, 3)


def test_a_uuid_stands_for_what_was_registered(study: Study) -> None:
    """An attempt pins what runs: the same UUID with other pins is no repetition. How the data were looked at is no pin."""
    execution = study.register()
    path, body = f"/executions/{execution}/attempts", study.attempt_body()
    assert study.data.post(path, body).status_code == 201
    assert study.data.post(path, body | {"data_check": "full"}).status_code == 200
    upgraded = body | {"model_cube": body["model_cube"] | {"form_digest": f"sha256:{'a' * 64}"}}
    for other in (upgraded, body | {"engine": "docker"}):
        problem(study.data.post(path, other), 409, "uuid_taken")


def test_an_old_answer_is_given_again_for_its_key(study: Study) -> None:
    execution = study.register()
    body, headers = study.attempt_body(), {"Idempotency-Key": str(uuid.uuid4())}
    path = f"/executions/{execution}/attempts"
    first = study.data.post(path, body, headers=headers)
    again = study.data.post(path, body, headers=headers)
    assert (again.status_code, again.content) == (201, first.content)
    problem(study.data.post(path, study.attempt_body(), headers=headers), 409, "idempotency_key_reused")


def test_every_refusal_at_once(study: Study) -> None:
    execution = study.register()
    sql, body = study.world.sql, study.attempt_body()
    sql("UPDATE benchmarks SET is_active = (1 = 0)")
    sql("UPDATE datasets SET is_valid = (1 = 0)")
    sql("UPDATE mlcubes SET is_valid = (1 = 0) WHERE id = ?", study.cubes["evaluator"]["id"])
    study.revoke("dataset")
    study.revoke("model")
    wrong = body | {"identity": Digest.of(b"x"), "contract": Digest.of(b"x")}
    wrong["evaluator"] = wrong["evaluator"] | {"digest": Digest.of(b"x")}
    wrong["model_cube"] = wrong["model_cube"] | {"form": "oci"}
    found = study.data.post(f"/executions/{execution}/attempts", wrong)
    problem(found, 409, "not_active")
    assert codes(found) == [
        "not_active",
        "not_valid",
        "not_valid",
        "dataset_not_associated",
        "model_not_associated",
        "other_identity",
        "other_contract",
        "other_cube",
        "other_cube",
    ]
    assert study.data.get(f"/executions/{execution}").json()["attempts"] == []
    refused = study.data.post("/executions", study.ids(model=study.benchmark["reference_model"]))
    assert codes(refused) == ["not_active", "not_valid", "not_valid", "dataset_not_associated"]


@pytest.mark.parametrize("table", ["benchmarks", "datasets"])
@pytest.mark.parametrize("column", ["is_valid", "is_active"])
def test_nothing_runs_of_what_is_invalid_or_inactive(study: Study, table: str, column: str) -> None:
    execution = study.register()
    study.world.sql(f"UPDATE {table} SET {column} = (1 = 0)")
    answer = study.data.post(f"/executions/{execution}/attempts", study.attempt_body())
    problem(answer, 409, column.replace("is_", "not_"))
    assert study.register() == execution  # what is registered is still found


def test_the_reference_model_needs_no_association(study: Study) -> None:
    study.revoke("model")
    answer = study.data.post("/executions", study.ids())
    problem(answer, 409, "model_not_associated")
    assert study.register(model=study.benchmark["reference_model"])


def test_who_may_register(study: Study, world: World) -> None:
    for person in (study.bench, study.maker, world.person("stranger"), world.admin):
        seen = person in (study.bench, world.admin)
        problem(
            person.post("/executions", study.ids()),
            403 if seen else 400,
            "not_owner" if seen else "unknown_dataset",
        )
    problem(study.data.post("/executions", study.ids(benchmark=99)), 400, "unknown_benchmark")
    problem(study.data.post("/executions", study.ids(model=99)), 400, "unknown_mlcube")
    evaluator = study.cubes["evaluator"]["id"]
    problem(study.data.post("/executions", study.ids(model=evaluator)), 400, "wrong_kind")


def test_a_body_for_another_address(study: Study) -> None:
    execution = study.register()
    path = f"/executions/{execution}"
    problem(study.data.post(f"{path}/attempts", study.attempt_body(model=99)), 400, "other_execution")
    number = study.attempt(execution)
    body = {"execution": execution + 1, "attempt": number, "state": "RUNNING"}
    problem(study.data.patch(f"{path}/attempts/{number}", body), 400, "other_execution")
    problem(
        study.data.send("PUT", f"{path}/attempts/2/progress", json={"execution": execution, "attempt": 1}),
        400,
        "other_execution",
    )
    study.finish(execution, number)
    release = study.release_body(execution) | {"execution": execution + 1}
    problem(study.data.post(f"{path}/release", release), 400, "other_execution")
    problem(study.data.post(f"{path}/withholding", {"execution": 99, "attempt": 1}), 400, "other_execution")


# -------------------------------------------------------------------------------------------------------------- reports


def beat(study: Study, execution: int, number: int = 1, **fields: Any) -> Any:
    body = {"execution": execution, "attempt": number, **fields}
    return study.data.send("PUT", f"/executions/{execution}/attempts/{number}/progress", json=body)


def test_reports_may_come_twice(study: Study) -> None:
    execution = study.register()
    study.attempt(execution)
    for _ in range(2):
        view = study.report(execution, 1, "RUNNING", task="infer").json()
        assert (view["state"], view["task"], view["finished_at"]) == ("RUNNING", "infer", None)
        assert view["started_at"]
    for _ in range(2):
        view = study.report(execution, 1, "FAILED", failure="memory_limit").json()
        assert (view["state"], view["failure"], view["disclosure"]) == ("FAILED", "memory_limit", None)
    problem(study.report(execution, 1, "COMPLETED"), 409, "attempt_ended")
    problem(study.report(execution, 2, "RUNNING"), 404, "no_such_attempt")
    events = study.world.sql("SELECT data FROM audit_events WHERE action = 'attempt.reported' ORDER BY id")
    assert len(events) == 2
    problem(study.report(execution, 1, "FAILED"), 400, "bad_failure")
    problem(study.report(execution, 1, "LOST"), 400, "invalid_fields")


def test_signs_of_life(study: Study) -> None:
    execution = study.register()
    study.attempt(execution)
    study.report(execution, 1, "RUNNING")
    before = study.world.sql("SELECT count(*) FROM audit_events")
    view = beat(study, execution, task="infer", percent=40).json()
    assert (view["task"], view["percent"]) == ("infer", 40)
    view = beat(study, execution).json()
    assert (view["task"], view["percent"]) == ("infer", None)
    assert study.world.sql("SELECT count(*) FROM audit_events") == before
    for bad in ({"percent": 101}, {"task": "stage patient 7"}, {"text": "x"}):
        problem(beat(study, execution, **bad), 400, "invalid_fields")
    study.report(execution, 1, "CANCELLED")
    problem(beat(study, execution), 409, "attempt_ended")
    problem(beat(study, execution, 2), 404, "no_such_attempt")


def test_lost_and_found(study: Study) -> None:
    execution = study.register()
    study.attempt(execution)
    study.report(execution, 1, "RUNNING")
    study.lose(execution)
    view = study.data.get(f"/executions/{execution}").json()
    assert (view["state"], view["attempts"][0]["state"]) == ("lost", "LOST")
    assert beat(study, execution).json()["state"] == "RUNNING"
    study.lose(execution)
    assert study.attempt(execution) == 2  # which replaces it
    states = [one["state"] for one in study.data.get(f"/executions/{execution}").json()["attempts"]]
    assert states == ["INTERRUPTED", "REGISTERED"]
    problem(beat(study, execution), 409, "attempt_ended")
    assert (
        '"replaces":[1]'
        in study.world.sql("SELECT data FROM audit_events WHERE action = 'attempt.registered' ORDER BY id")[-1][0]
    )


def test_too_many_attempts(study: Study) -> None:
    execution = study.register()
    study.attempt(execution)
    study.report(execution, 1, "CANCELLED")
    for number in range(2, ATTEMPTS_PER_EXECUTION + 1):
        study.world.sql(
            """INSERT INTO attempts (execution_id, owner_id, number, uuid, state, heartbeat_at, created_at, pins)
            SELECT execution_id, owner_id, ?, 'x' || ?, state, heartbeat_at, created_at, pins FROM attempts WHERE number = 1""",
            number,
            str(number),
        )
    answer = study.data.post(f"/executions/{execution}/attempts", study.attempt_body())
    problem(answer, 409, "too_many_attempts")


def test_an_owner_has_so_many_executions(make_world: Any) -> None:
    world = make_world(execution_count=1)
    study = make_study(world, world.person("bench"), world.person("data"), world.person("maker"))
    study.register()
    answer = study.data.post("/executions", study.ids(model=study.benchmark["reference_model"]))
    problem(answer, 409, "too_many_rows")


# --------------------------------------------------------------------------------------------------------------- reading


def test_who_sees_an_execution(study: Study, world: World) -> None:
    execution = study.register()
    study.attempt(execution)
    for person in (study.data, study.bench, study.maker, world.admin):
        view = person.get(f"/executions/{execution}").json()
        assert (view["site"], len(view["attempts"])) == ("site of data", 1)
        assert [one["id"] for one in person.get("/executions").json()["items"]] == [execution]
    stranger = world.person("stranger")
    problem(stranger.get(f"/executions/{execution}"), 404, "no_such_execution")
    assert stranger.get("/executions").json()["items"] == []
    for person in (study.bench, study.maker, world.admin):
        problem(study.report(execution, 1, "RUNNING", person=person), 403, "not_owner")
        problem(person.post(f"/executions/{execution}/attempts", study.attempt_body()), 403, "not_owner")
    problem(study.report(execution, 1, "RUNNING", person=stranger), 404, "no_such_execution")


def test_listing(study: Study, world: World) -> None:
    reference = study.benchmark["reference_model"]
    made = [study.register(), study.register(model=reference)]
    model_of = dict(zip(made, (study.model, reference), strict=True))

    def ids(person: Person, **params: Any) -> list[int]:
        found, after = [], None
        while True:
            page = person.get("/executions", params=params | {"limit": 1} | ({"after": after} if after else {})).json()
            found += [one["id"] for one in page["items"]]
            after = page["next"]
            if after is None:
                return found

    assert ids(study.data) == ids(study.bench) == ids(world.admin) == made
    assert ids(study.data, sort="-id") == ids(world.admin, sort="-id") == made[::-1]
    assert ids(study.maker) == made[:1]
    for person in (study.data, study.bench, world.admin):
        assert ids(person, dataset=study.dataset, benchmark=study.benchmark["id"], sort="-id") == made[::-1]
        assert ids(person, model=model_of[made[1]]) == made[1:]
        assert ids(person, benchmark=99) == []
    assert ids(study.maker, benchmark=study.benchmark["id"]) == made[:1]
    assert ids(study.data, owner="me") == ids(study.data, owner="me", dataset=study.dataset) == made
    assert ids(study.bench, owner="me") == ids(study.bench, owner="me", dataset=study.dataset) == []
    problem(study.data.get("/executions", params={"owner": "3"}), 400, "invalid_fields")


def test_a_member_sees_and_does_what_their_rights_are(world: World) -> None:
    from .organising import join, make_organisation

    head, runner, releaser = world.person("head"), world.person("runner"), world.person("releaser")
    made = make_organisation(head)
    join(head, made, runner, ["operate"])
    join(head, made, releaser, ["release"])
    study = make_study(world, world.person("bench"), runner, world.person("maker"), owner=made["id"])
    problem(releaser.post("/executions", study.ids()), 403, "missing_right")
    execution = study.register()
    problem(releaser.post(f"/executions/{execution}/attempts", study.attempt_body()), 403, "missing_right")
    study.finish(execution, study.attempt(execution))
    assert [one["id"] for one in releaser.get("/executions").json()["items"]] == [execution]
    assert releaser.get("/executions", params={"owner": "me"}).json()["items"] == []
    problem(study.release(execution), 403, "missing_right")
    problem(study.decide(execution, "withholding"), 403, "missing_right")
    assert study.release(execution, person=releaser).status_code == 201
    problem(study.decide(execution, "retraction", reason="wrong"), 403, "missing_right")
    assert study.decide(execution, "retraction", reason="wrong", person=releaser).status_code == 200
