"""Registering, describing and showing datasets."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from medperf.domain.digests import Digest
from medperf.domain.disclosure import Exit, check_exit
from medperf.wire.datasets import DatasetCreate, DatasetStatistics, DatasetUpdate, DatasetView, statistics_digest
from medperf.wire.models import Page

from .conftest import Person, World, problem
from .joining import (
    ask,
    asks_with_dataset,
    dataset_body,
    decide,
    join_dataset,
    make_dataset,
    open_benchmark,
)
from .organising import join, make_organisation


@pytest.fixture
def preparator(world: World) -> int:
    return int(world.admin.make_cube("preparator", upload=False)["id"])


def put(person: Person, made: dict[str, Any], statistics: Any, **fields: Any) -> Any:
    body = {"dataset": made["id"], "statistics": statistics, **fields}
    return person.send("PUT", f"/datasets/{made['id']}/statistics", json=body)


def test_from_registration_to_statistics(world: World, alice: Person, bob: Person, preparator: int) -> None:
    body = dataset_body(preparator, name="Chest", location="Boston", description="X-rays")
    made = alice.post("/datasets", body)
    assert (made.status_code, made.headers["etag"]) == (201, '"1"')
    view = DatasetView.model_validate(made.json())
    assert (view.name, view.location, view.state, view.is_valid, view.is_active) == (
        "Chest",
        "Boston",
        "OPERATION",
        True,
        True,
    )
    assert (view.owner.name, view.statistics, view.statistics_digest) == ("alice", None, None)
    statistics = {"cases": 10, "mean": {"age": 61.5, "height": None}}
    seen = DatasetView.model_validate(put(alice, made.json(), statistics).json())
    flat = {"cases": 10, "mean.age": 61.5, "mean.height": None}
    assert (seen.statistics, seen.document(), seen.version) == (flat, statistics, 2)
    assert seen.statistics_digest == statistics_digest(flat)
    page = Page[DatasetView].model_validate(alice.get("/datasets").json())
    assert [(one.id, one.statistics, one.statistics_digest) for one in page.items] == [
        (view.id, None, seen.statistics_digest)
    ]
    problem(bob.get(f"/datasets/{view.id}"), 404, "no_such_dataset")
    assert bob.get("/datasets").json()["items"] == []
    assert world.admin.get(f"/datasets/{view.id}").status_code == 200
    events = world.sql("SELECT action, data FROM audit_events WHERE target = ? ORDER BY id", f"dataset:{view.id}")
    assert [event[0] for event in events] == ["dataset.created", "dataset.statistics_set"]
    assert not any("Chest" in event[1] or "Boston" in event[1] or "61.5" in event[1] for event in events)


def test_bodies_are_what_may_leave_a_site() -> None:
    digest = Digest.of(b"x")
    create = DatasetCreate(
        uuid=uuid.uuid4(), name="x", site_label="x", preparator=1, identity=digest, raw_identity=digest, supersedes=1
    )
    check_exit(Exit.DATASET_REGISTRATION, create.model_dump(mode="json"))
    check_exit(Exit.DATASET_UPDATE, DatasetUpdate(name="x", identity=digest).model_dump(mode="json"))
    check_exit(Exit.STATISTICS, DatasetStatistics(dataset=1, statistics={"a": {"b": 1}}).model_dump(mode="json"))


def test_the_same_again(world: World, alice: Person, bob: Person, preparator: int) -> None:
    body = dataset_body(preparator)
    first = alice.post("/datasets", body).json()
    again = alice.post("/datasets", body)
    assert (again.status_code, again.json()) == (200, first)
    other = alice.post("/datasets", body | {"uuid": str(uuid.uuid4()), "name": "other"})
    assert f"dataset {first['id']}" in problem(other, 409, "dataset_exists")["detail"]
    problem(alice.post("/datasets", body | {"identity": Digest.of(b"y")}), 409, "uuid_taken")
    problem(alice.post("/datasets", dataset_body(preparator, name=body["name"])), 409, "name_taken")
    assert bob.post("/datasets", body).status_code == 201  # nobody learns what others have
    assert world.sql("SELECT count(*) FROM audit_events WHERE action = 'dataset.created'")[0][0] == 2


def test_refusals(world: World, alice: Person, bob: Person, preparator: int) -> None:
    model = bob.make_cube("model", upload=False)["id"]
    hidden = bob.make_cube("preparator", name="hidden", upload=False, state="DEVELOPMENT")["id"]
    draft = alice.make_cube("preparator", upload=False, state="DEVELOPMENT")["id"]
    bobs = make_dataset(bob, preparator, statistics=None)["id"]
    for changes, code in (
        ({"preparator": 999}, "unknown_mlcube"),
        ({"preparator": hidden}, "unknown_mlcube"),
        ({"preparator": model}, "wrong_kind"),
        ({"preparator": draft}, "not_in_operation"),
        ({"supersedes": bobs}, "unknown_dataset"),
        ({"supersedes": 999}, "unknown_dataset"),
        ({"owner": 999}, "unknown_owner"),
        ({"statistics": {"cases": 1}}, "invalid_fields"),
        ({"site_label": " "}, "invalid_fields"),
    ):
        problem(alice.post("/datasets", dataset_body(preparator) | changes), 400, code)
    assert world.admin.patch(f"/mlcubes/{preparator}", {"is_valid": False}, 1).status_code == 200
    problem(alice.post("/datasets", dataset_body(preparator)), 400, "invalid_mlcube")
    assert alice.get("/datasets").json()["items"] == []


def test_a_newer_one(alice: Person, preparator: int) -> None:
    old = make_dataset(alice, preparator)
    assert make_dataset(alice, preparator, supersedes=old["id"])["supersedes"] == old["id"]


def test_changes(world: World, alice: Person, preparator: int) -> None:
    made = make_dataset(alice, preparator, statistics=None, state="DEVELOPMENT", location="Rome")
    other = make_dataset(alice, preparator)
    path = f"/datasets/{made['id']}"
    changed = alice.patch(path, {"name": "b", "identity": Digest.of(b"b"), "location": ""}, 1).json()
    assert (changed["name"], changed["identity"], changed["location"]) == ("b", Digest.of(b"b"), "")
    problem(alice.patch(path, {"name": "c"}, 1), 412, "edited_meanwhile")
    problem(alice.patch(path, {"name": other["name"]}, 2), 409, "name_taken")
    problem(alice.patch(path, {"identity": other["identity"]}, 2), 409, "dataset_exists")
    assert alice.patch(path, {"name": "b", "identity": Digest.of(b"b")}, 2).status_code == 200
    assert alice.patch(path, {"state": "OPERATION"}, 3).json()["state"] == "OPERATION"
    for change in ({"name": "c"}, {"description": "c"}, {"identity": Digest.of(b"c")}, {"location": "c"}):
        problem(alice.patch(path, change, 4), 409, "frozen_in_operation")
    problem(alice.patch(path, {"state": "DEVELOPMENT"}, 4), 409, "state_is_final")
    assert alice.patch(path, {"site_label": "c", "is_active": False, "is_valid": False}, 4).status_code == 200


def test_statistics_are_frozen_in_operation(world: World, alice: Person, preparator: int) -> None:
    made = make_dataset(alice, preparator, state="DEVELOPMENT")
    assert put(alice, made, {"cases": 8}).json()["statistics"] == {"cases": 8}
    alice.patch(f"/datasets/{made['id']}", {"state": "OPERATION"}, 3)
    problem(put(alice, made, {"cases": 9}), 409, "frozen_in_operation")
    again = put(alice, made, {"cases": 8})
    assert (again.status_code, again.json()["version"]) == (200, 4)
    assert world.sql("SELECT count(*) FROM audit_events WHERE action = 'dataset.statistics_set'")[0][0] == 2


@pytest.mark.parametrize(
    "statistics",
    [
        {"patient_00012345": 1},
        {"cases": "text"},
        {"cases": [1, 2]},
        {"cases": True},
        {"cases": 0.1234567},
        {"a.b": 1},
        {f"case {number}": 1 for number in range(101)},
        {"a": {"b": {"c": {}}}},
    ],
    ids=["record", "text", "list", "flag", "digits", "dot", "cases", "empty"],
)
def test_statistics_without_a_benchmark_are_numbers(alice: Person, preparator: int, statistics: Any) -> None:
    made = make_dataset(alice, preparator, statistics=None)
    problem(put(alice, made, statistics), 400, "bad_statistics")
    assert alice.get(f"/datasets/{made['id']}").json()["statistics"] is None


def test_statistics_of_a_benchmark_keep_its_contract(world: World, alice: Person, bob: Person) -> None:
    benchmark = open_benchmark(world, bob)  # whose statistics are {"cases": 10}
    made = make_dataset(alice, benchmark["preparator"], statistics=None)
    problem(put(alice, made, {"cases": 1, "deaths": 2}, benchmark=benchmark["id"]), 400, "statistics_contract")
    problem(put(alice, made, {"cases": "ten"}, benchmark=benchmark["id"]), 400, "statistics_contract")
    problem(put(alice, made, {"cases": 1}, benchmark=999), 400, "unknown_benchmark")
    problem(put(alice, made, {"cases": 1}, dataset=made["id"] + 1), 400, "other_dataset")
    hidden = bob.make_benchmark(name="hidden")
    problem(put(alice, made, {"cases": 1}, benchmark=hidden["id"]), 400, "unknown_benchmark")
    other = open_benchmark(world, bob, name="other")
    problem(put(alice, made, {"cases": 1}, benchmark=other["id"]), 400, "other_preparator")
    assert put(alice, made, {"cases": 1}, benchmark=benchmark["id"]).json()["statistics"] == {"cases": 1}


def test_a_benchmark_declares_its_words(world: World, alice: Person, bob: Person) -> None:
    body = bob.benchmark_body()
    body["report"]["statistics"] = {"labels": ["Edema", "Pneumonia"], "cases": 3, "sex": "mixed"}
    benchmark = bob.post("/benchmarks", body).json()
    world.approve(benchmark)
    made = make_dataset(alice, benchmark["preparator"], statistics=None)
    problem(put(alice, made, {"sex": "patient X"}, benchmark=benchmark["id"]), 400, "statistics_contract")
    seen = put(alice, made, {"labels": ["Pneumonia"], "sex": "mixed", "cases": 5}, benchmark=benchmark["id"]).json()
    assert seen["statistics"] == {"labels": ["Pneumonia"], "cases": 5, "sex": "mixed"}
    bad = bob.benchmark_body(name="bad")
    bad["report"]["statistics"] = {"record 123456": 1}
    problem(bob.post("/benchmarks", bad), 400, "bad_statistics")


def test_long_statistics(make_world: Callable[..., World]) -> None:
    world = make_world()
    alice = world.person("alice")
    made = make_dataset(alice, world.admin.make_cube("preparator", upload=False)["id"], statistics=None)
    fits = {f"{'n' * 60}{chr(65 + a)}{chr(65 + b)}": 1 for a in range(10) for b in range(20)}
    assert put(alice, made, fits).status_code == 200
    many = {f"{'n' * 60}{chr(65 + a % 26)}{chr(65 + a // 26)}": 1 for a in range(201)}
    problem(put(alice, made, many), 400, "bad_statistics")
    problem(put(alice, made, {"x": "y" * 1024**2}), 413, "statistics_too_large")


def test_who_sees_a_dataset(world: World, alice: Person, bob: Person) -> None:
    """Owners of benchmarks that it asked to join; in the list as on its own."""
    benchmark, other = open_benchmark(world, bob), open_benchmark(world, world.person("carol"), name="other")
    made = make_dataset(alice, benchmark["preparator"])

    def seen() -> bool:
        listed = [one["id"] for one in bob.get("/datasets").json()["items"]]
        alone = bob.get(f"/datasets/{made['id']}").status_code == 200
        assert (made["id"] in listed) == alone
        assert [one["id"] for one in bob.get("/datasets", params={"state": "DEVELOPMENT"}).json()["items"]] == []
        filtered = bob.get("/datasets", params={"state": "OPERATION", "preparator": benchmark["preparator"]}).json()
        assert [one["id"] for one in filtered["items"]] == listed
        return alone

    assert not seen()
    first = ask(alice, asks_with_dataset(made, benchmark))
    assert seen()
    assert decide(alice, first, "CANCELLED").status_code == 200
    assert not seen()
    second = ask(alice, asks_with_dataset(made, benchmark))
    assert decide(bob, second, "REJECTED").status_code == 200
    assert not seen()
    third = ask(alice, asks_with_dataset(made, benchmark))
    assert decide(bob, third, "APPROVED").status_code == 200
    assert seen()
    assert decide(alice, third, "REVOKED").status_code == 200
    assert seen()  # what was released stays
    assert other["id"]
    carol = world.login("carol", "correct horse")
    assert carol.get("/datasets").json()["items"] == []
    problem(carol.get(f"/datasets/{made['id']}"), 404, "no_such_dataset")


def test_two_benchmarks_of_one_owner_show_it_once(world: World, alice: Person, bob: Person) -> None:
    benchmark = open_benchmark(world, bob)
    cubes = {"preparator": bob.get(f"/mlcubes/{benchmark['preparator']}").json()}
    cubes |= {kind: bob.make_cube(kind, name=f"second {kind}") for kind in ("model", "evaluator")}
    second = open_benchmark(world, bob, name="second", cubes=cubes)
    made = make_dataset(alice, benchmark["preparator"])
    first, _ = (ask(alice, asks_with_dataset(made, one)) for one in (benchmark, second))
    for query in ({}, {"sort": "name"}, {"search": "dataset"}, {"state": "OPERATION"}, {"limit": 1}):
        page = bob.get("/datasets", params=query).json()
        assert ([one["id"] for one in page["items"]], page["next"]) == ([made["id"]], None), query
    decide(alice, first, "CANCELLED")
    assert bob.get(f"/datasets/{made['id']}").status_code == 200  # the other one still shows it


def test_an_organisations_dataset(world: World, alice: Person, bob: Person, preparator: int) -> None:
    hospital = make_organisation(alice)
    join(alice, hospital, bob, ["operate"])
    carol = world.person("carol")
    join(alice, hospital, carol, ["manage"])
    made = make_dataset(bob, preparator, owner=hospital["id"], statistics=None)
    path = f"/datasets/{made['id']}"
    assert carol.get(path).json()["owner"]["kind"] == "organisation"
    problem(put(carol, made, {"cases": 1}), 403, "missing_right")
    assert put(bob, made, {"cases": 1}).status_code == 200
    problem(bob.patch(path, {"is_active": False}, 2), 403, "missing_right")
    assert carol.patch(path, {"is_active": False, "is_valid": False}, 2).status_code == 200
    problem(carol.patch(path, {"site_label": "x"}, 3), 403, "missing_right")


def test_as_many_as_there_is_room_for(make_world: Callable[..., World]) -> None:
    world = make_world(dataset_count=2)
    alice, bob = world.person("alice"), world.person("bob")
    preparator = alice.make_cube("preparator", upload=False)["id"]
    bodies = [dataset_body(preparator) for _ in range(3)]
    assert [alice.post("/datasets", body).status_code for body in bodies] == [201, 201, 409]
    assert "2 datasets" in problem(alice.post("/datasets", bodies[2]), 409, "too_many_rows")["detail"]
    assert alice.post("/datasets", bodies[0]).status_code == 200  # what is there is answered
    assert bob.post("/datasets", bodies[2]).status_code == 201


def test_its_owner_runs_the_models_of_the_benchmark(world: World, alice: Person, bob: Person) -> None:
    """An association opens files of models; see test_associations for the rest."""
    benchmark = open_benchmark(world, bob)
    reference = bob.get(f"/mlcubes/{benchmark['reference_model']}").json()
    asset = reference["files"]["project"]["urls"][0].removeprefix("asset:")
    problem(alice.get(f"/assets/{asset}/content"), 404, "no_such_asset")
    joined = join_dataset(alice, bob, benchmark)
    assert alice.get(f"/assets/{asset}/content").status_code == 200
    assert decide(bob, joined, "REVOKED").status_code == 200
    problem(alice.get(f"/assets/{asset}/content"), 404, "no_such_asset")
