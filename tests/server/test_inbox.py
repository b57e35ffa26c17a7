"""What waits for whom."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Person, World
from .executing import Study, associate, make_study
from .organising import join, make_organisation


@pytest.fixture
def study(world: World) -> Study:
    return make_study(world, world.person("bench"), world.person("data"), world.person("maker"))


def inbox(person: Person) -> list[tuple[Any, ...]]:
    """What waits: its kind, and what it is."""
    document = person.get("/inbox").json()
    assert document["more"] is False
    assert all(item["since"] for item in document["items"])
    return [(item["kind"], item["id"]) for item in document["items"]]


def test_nothing_waits(study: Study) -> None:
    for person in (study.data, study.bench, study.maker, study.world.admin):
        assert inbox(person) == []


def test_invitations(study: Study, world: World) -> None:
    made = make_organisation(study.bench)
    sent = study.bench.post(f"/organisations/{made['id']}/invitations", {"username": "data", "rights": ["release"]})
    items = study.data.get("/inbox").json()["items"]
    assert [(item["kind"], item["id"], item["name"]) for item in items] == [
        ("invitation", sent.json()["id"], made["name"])
    ]
    assert inbox(study.bench) == []
    study.data.post(f"/invitations/{sent.json()['id']}/answer", {"accept": False})
    assert inbox(study.data) == []


def test_benchmarks_wait_for_admins_who_may_decide(study: Study, world: World) -> None:
    made = study.bench.make_benchmark(name="next", cubes=dict(study.cubes))
    study.bench.make_benchmark(name="draft", cubes=dict(study.cubes), state="DEVELOPMENT")
    owner = world.person("second", admin=True)
    theirs = owner.make_benchmark(
        name="of an admin",
        cubes={**study.cubes, **{kind: owner.make_cube(kind, name=kind) for kind in ("preparator", "evaluator")}},
    )
    assert inbox(world.admin) == [("benchmark", made["id"]), ("benchmark", theirs["id"])]
    assert inbox(owner) == [("benchmark", made["id"])]
    assert inbox(study.bench) == []
    world.approve(made)
    assert inbox(owner) == []


def test_requests_wait_for_the_side_that_was_asked(study: Study, world: World) -> None:
    world.sql("DELETE FROM opened_datasets")
    world.sql("DELETE FROM associations")
    asked = associate(world, study.benchmark, dataset=study.dataset, status="PENDING")
    invited = associate(world, study.benchmark, model=study.model, status="PENDING", asked_by="benchmark")
    assert inbox(study.bench) == [("association", asked)]
    assert inbox(study.maker) == [("association", invited)]
    assert inbox(study.data) == []
    item = study.maker.get("/inbox").json()["items"][0]
    assert (item["benchmark"], item["dataset"], item["model"]) == (study.benchmark["id"], None, study.model)
    world.sql("UPDATE associations SET status = 'REJECTED'")
    assert inbox(study.bench) == inbox(study.maker) == []


def test_attempts_wait_for_who_may_act(world: World) -> None:
    head, runner, releaser = world.person("head"), world.person("runner"), world.person("releaser")
    made = make_organisation(head)
    join(head, made, runner, ["operate"])
    join(head, made, releaser, ["release"])
    study = make_study(world, world.person("bench"), runner, world.person("maker"), owner=made["id"])
    execution = study.register()
    study.attempt(execution)
    assert inbox(runner) == []
    study.lose(execution)
    assert inbox(runner) == inbox(head) == [("lost", execution)]
    assert inbox(releaser) == inbox(study.bench) == []
    assert study.attempt(execution) == 2
    study.finish(execution, 2)
    assert inbox(releaser) == inbox(head) == [("review", execution)]
    assert (inbox(runner), inbox(study.bench), inbox(world.admin)) == ([], [], [])
    item = head.get("/inbox").json()["items"][0]
    assert (item["attempt"], item["dataset"], item["name"]) == (2, study.dataset, study.benchmark["name"])
    study.attempt(execution, reason="again")
    study.finish(execution, 3, "FAILED", failure="exit")
    assert inbox(releaser) == []  # the newest attempt speaks, and failed
    study.finish(execution, study.attempt(execution, reason="again"))
    assert study.release(execution, 4, person=releaser).status_code == 201
    assert inbox(head) == []


def test_no_more_than_a_hundred_of_a_kind(study: Study, world: World) -> None:
    values = ", ".join(
        f"({study.owner}, 'b{number}', 'b{number}', '', '', 'OPERATION', 'PENDING', '', (1 = 1), (1 = 1), '{{}}', 'x', "
        f"{study.model}, {study.model}, {study.model}, '{{}}', 1, '2026', '2026', '{{}}', '{{}}')"
        for number in range(101)
    )
    world.sql(
        "INSERT INTO benchmarks (owner_id, name, name_key, description, docs_url, state, approval, approval_reason, is_valid,"
        " is_active, demo, prepared_identity, preparator_id, reference_model_id, evaluator_id, user_metadata, version,"
        f" created_at, modified_at, report, metrics_contract) VALUES {values}"
    )
    document = world.admin.get("/inbox").json()
    assert (len(document["items"]), document["more"]) == (100, True)
