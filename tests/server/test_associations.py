"""Joining benchmarks: who asks, who decides, what opens and closes with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from medperf.domain.digests import Digest
from medperf.domain.disclosure import Exit, check_exit
from medperf.wire.associations import AssociationCreate, AssociationView
from medperf.wire.models import Page

from .conftest import Person, World, problem
from .joining import (
    ask,
    asks_with_dataset,
    asks_with_model,
    decide,
    invites,
    join_dataset,
    join_model,
    make_dataset,
    model_report,
    open_benchmark,
)
from .organising import join, make_organisation


@pytest.fixture
def benchmark(world: World, bob: Person) -> dict[str, Any]:
    """One of bob's, approved."""
    return open_benchmark(world, bob)


def invite(person: Person, benchmark: dict[str, Any], **fields: Any) -> Any:
    return person.post(f"/benchmarks/{benchmark['id']}/invitations", invites(**fields))


def ids(answer: Any) -> list[int]:
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["items"]]


def asset_of(ref: dict[str, Any]) -> int:
    return int(ref["urls"][0].removeprefix("asset:"))


# ----------------------------------------------------------------------------------------------------- asking, deciding


def test_a_dataset_joins(world: World, alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    made = make_dataset(alice, benchmark["preparator"], site_label="Hospital A")
    body = asks_with_dataset(made, benchmark)
    sent = AssociationCreate.model_validate(body).model_dump(mode="json", exclude_none=True)
    check_exit(Exit.ASSOCIATION, sent)
    answer = alice.post("/associations", body)
    assert (answer.status_code, answer.headers["etag"]) == (201, '"1"')
    view = AssociationView.model_validate(answer.json())
    assert (view.kind, view.asset, view.name, view.status, view.asked_by) == (
        "dataset",
        made["id"],
        "Hospital A",
        "PENDING",
        "asset",
    )
    assert (view.benchmark_name, view.benchmark_owner.name) == ("benchmark", "bob")
    assert view.owner is not None
    assert view.owner.name == "alice"
    assert ids(bob.get("/associations", params={"waiting_for_me": "true"})) == [view.id]
    assert ids(alice.get("/associations", params={"waiting_for_me": "true"})) == []
    problem(decide(alice, answer.json(), "APPROVED"), 403, "other_side_decides")
    approved = decide(bob, answer.json(), "APPROVED", reason=" fits  well ")
    assert (approved.status_code, approved.headers["etag"]) == (200, '"2"')
    found = AssociationView.model_validate(alice.get(f"/associations/{view.id}").json())
    assert found.events is not None
    assert [(event.status, event.side, event.reason, event.version) for event in found.events] == [
        ("PENDING", "asset", None, 1),
        ("APPROVED", "benchmark", "fits well", 2),
    ]
    assert (found.status, found.is_automatic, found.decided_at is not None) == ("APPROVED", False, True)
    carol = world.person("carol")
    problem(carol.get(f"/associations/{view.id}"), 404, "no_such_association")
    assert ids(carol.get("/associations")) == []
    events = world.sql("SELECT action, data FROM audit_events WHERE target = 'association:1' ORDER BY id")
    assert [event[0] for event in events] == ["association.asked", "association.decided"]
    assert "fits" not in events[1][1]


def test_a_model_joins(world: World, alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    model = alice.make_cube("model", name="mine")
    made = ask(alice, asks_with_model(model, benchmark))
    assert (made["kind"], made["model"], made["name"], made["priority"]) == ("model", model["id"], "mine", 0)
    carol = world.person("carol")
    problem(carol.get(f"/associations/{made['id']}"), 404, "no_such_association")
    approved = decide(bob, made, "APPROVED").json()
    # which models are in a benchmark is for every account; how they came there for those it is about
    seen = AssociationView.model_validate(carol.get(f"/associations/{made['id']}").json())
    assert (seen.status, seen.report, seen.events) == ("APPROVED", None, None)
    assert ids(carol.get("/associations", params={"benchmark": benchmark["id"]})) == [made["id"]]
    own = AssociationView.model_validate(bob.get(f"/associations/{made['id']}").json())
    assert own.report is not None
    assert own.report.metrics == {"AUC": {"Edema": 0.75}}
    path = f"/associations/{made['id']}"
    problem(alice.patch(path, {"priority": 5}, 2), 403, "not_owner")
    assert bob.patch(path, {"priority": 5}, approved["version"]).json()["priority"] == 5
    problem(bob.patch(path, {"priority": 5}, 2), 412, "edited_meanwhile")
    problem(bob.patch(path, {"priority": 10**7}, 3), 400, "invalid_fields")
    assert decide(alice, made, "REVOKED", reason="found a bug").status_code == 200
    problem(carol.get(path), 404, "no_such_association")
    problem(bob.patch(path, {"priority": 6}, 4), 409, "association_ended")


def test_a_dataset_has_no_priority(alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    made = join_dataset(alice, bob, benchmark)
    problem(bob.patch(f"/associations/{made['id']}", {"priority": 1}, made["version"]), 400, "no_priority")


def test_invitations(world: World, alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    model = alice.make_cube("model")
    made = invite(bob, benchmark, model=model["id"])
    assert made.status_code == 201
    assert ids(alice.get("/associations", params={"waiting_for_me": "true"})) == [made.json()["id"]]
    problem(decide(bob, made.json(), "APPROVED"), 403, "other_side_decides")
    problem(decide(alice, made.json(), "APPROVED"), 400, "missing_report")
    report = model_report(benchmark, model)
    problem(decide(alice, made.json(), "REJECTED", report=report), 400, "report_not_needed")
    bad = report | {"metrics": {"AUC": {"Edema": 7}}}
    problem(decide(alice, made.json(), "APPROVED", report=bad), 400, "metrics_contract")
    found = decide(alice, made.json(), "APPROVED", report=report).json()
    assert (found["status"], found["report"]["model"]["mlcube"]) == ("APPROVED", model["id"])
    # or the benchmark's owner tested it
    other = alice.make_cube("model", name="other")
    made = invite(bob, benchmark, model=other["id"], report=model_report(benchmark, other))
    problem(decide(alice, made.json(), "APPROVED", report=report), 400, "report_not_needed")
    assert decide(alice, made.json(), "APPROVED").status_code == 200


def test_an_invited_dataset_tells_nothing(world: World, alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    elsewhere = alice.make_cube("preparator", upload=False)
    unfit = make_dataset(alice, elsewhere["id"], site_label="Secret", state="DEVELOPMENT", statistics=None)
    made = invite(bob, benchmark, dataset=unfit["id"]).json()
    assert (made["name"], made["owner"], made["dataset"]) == (None, None, unfit["id"])
    assert "Secret" not in bob.get("/associations").text + bob.get(f"/associations/{made['id']}").text
    problem(bob.get(f"/datasets/{unfit['id']}"), 404, "no_such_dataset")
    seen = alice.get(f"/associations/{made['id']}").json()
    assert (seen["name"], seen["owner"]["name"]) == ("Secret", "alice")
    found = decide(alice, made, "APPROVED")
    problem(found, 409, "not_in_operation")
    assert decide(alice, made, "REJECTED").json()["status"] == "REJECTED"
    problem(bob.get(f"/datasets/{unfit['id']}"), 404, "no_such_dataset")
    problem(invite(bob, benchmark, dataset=999), 400, "unknown_dataset")
    problem(invite(alice, benchmark, dataset=unfit["id"]), 403, "not_owner")
    fit = make_dataset(alice, benchmark["preparator"])
    made = invite(bob, benchmark, dataset=fit["id"]).json()
    assert decide(alice, made, "APPROVED").json()["status"] == "APPROVED"
    assert bob.get(f"/datasets/{fit['id']}").status_code == 200


def test_one_owner_of_both_sides(world: World, bob: Person, benchmark: dict[str, Any]) -> None:
    made = ask(bob, asks_with_dataset(make_dataset(bob, benchmark["preparator"]), benchmark))
    assert (made["status"], made["is_automatic"], made["events"][0]["is_automatic"]) == ("APPROVED", True, True)
    model = bob.make_cube("model", name="mine")
    problem(invite(bob, benchmark, model=model["id"]), 400, "missing_report")
    assert ask(bob, asks_with_model(model, benchmark))["status"] == "APPROVED"


def test_automatic_approval(world: World, alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    path, carol = f"/benchmarks/{benchmark['id']}", world.person("carol")
    listed = {"mode": "allow_list", "parties": [alice.party]}
    changed = bob.patch(path, {"auto_datasets": listed, "auto_models": {"mode": "always"}}, 2).json()
    assert (changed["auto_datasets"], changed["auto_models"]) == (listed, {"mode": "always", "parties": []})
    assert alice.get(path).json()["auto_datasets"] == {"mode": "allow_list", "parties": None}
    asked = [
        ask(one, asks_with_dataset(make_dataset(one, benchmark["preparator"]), benchmark)) for one in (alice, carol)
    ]
    assert [(one["status"], one["is_automatic"]) for one in asked] == [("APPROVED", True), ("PENDING", False)]
    assert ask(carol, asks_with_model(carol.make_cube("model"), benchmark))["status"] == "APPROVED"
    # it says nothing about those that are invited
    invited = make_dataset(alice, benchmark["preparator"])
    assert invite(bob, benchmark, dataset=invited["id"]).json()["status"] == "PENDING"
    for bad in ({"mode": "always", "parties": [1]}, {"mode": "allow_list", "parties": list(range(1, 300))}):
        assert bob.patch(path, {"auto_models": bad}, 3).status_code == 400


def test_ended_ones_are_asked_again(alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    made = make_dataset(alice, benchmark["preparator"])
    first = asks_with_dataset(made, benchmark)
    association = ask(alice, first)
    again = alice.post("/associations", first)
    assert (again.status_code, again.json()["version"]) == (200, 1)
    problem(alice.post("/associations", asks_with_dataset(made, benchmark)), 409, "already_asked")
    problem(invite(bob, benchmark, dataset=made["id"]), 409, "asked_by_the_other_side")
    problem(decide(bob, association, "CANCELLED"), 403, "not_owner")
    assert decide(alice, association, "CANCELLED").json()["version"] == 2
    problem(decide(bob, association, "APPROVED"), 409, "wrong_association_state")
    # an old request that comes again is no new one
    assert alice.post("/associations", first).json()["status"] == "CANCELLED"
    second = ask(alice, asks_with_dataset(made, benchmark))
    assert (second["id"], second["status"], second["version"]) == (association["id"], "PENDING", 3)
    assert decide(bob, second, "REJECTED").json()["status"] == "REJECTED"
    third = invite(bob, benchmark, dataset=made["id"]).json()
    assert (third["id"], third["asked_by"]) == (association["id"], "benchmark")
    assert decide(alice, third, "APPROVED").json()["status"] == "APPROVED"
    problem(alice.post("/associations", asks_with_dataset(made, benchmark)), 409, "already_associated")
    problem(decide(bob, third, "PENDING"), 403, "other_side_decides")
    problem(decide(alice, third, "PENDING"), 400, "bad_decision")
    assert [one["status"] for one in decide(bob, third, "REVOKED").json()["events"]] == [
        "PENDING",
        "CANCELLED",
        "PENDING",
        "REJECTED",
        "PENDING",
        "APPROVED",
        "REVOKED",
    ]


def test_a_key_decides_once(alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    association = ask(alice, asks_with_dataset(make_dataset(alice, benchmark["preparator"]), benchmark))
    path, key = f"/associations/{association['id']}/decision", {"Idempotency-Key": "decision-one"}
    first = bob.post(path, {"status": "APPROVED"}, headers=key)
    assert first.status_code == 200
    assert bob.post(path, {"status": "APPROVED"}, headers=key).json() == first.json()
    problem(bob.post(path, {"status": "APPROVED"}), 409, "wrong_association_state")
    problem(bob.post(path, {"status": "REVOKED"}, headers=key), 409, "idempotency_key_reused")


# ------------------------------------------------------------------------------------------------------------- fitness


def test_what_stands_in_the_way(world: World, alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    preparator = benchmark["preparator"]
    draft = make_dataset(alice, preparator, state="DEVELOPMENT")
    problem(alice.post("/associations", asks_with_dataset(draft, benchmark)), 409, "not_in_operation")
    elsewhere = make_dataset(alice, alice.make_cube("preparator", upload=False)["id"])
    problem(alice.post("/associations", asks_with_dataset(elsewhere, benchmark)), 409, "other_preparator")
    without = make_dataset(alice, preparator, statistics=None)
    problem(alice.post("/associations", asks_with_dataset(without, benchmark)), 409, "no_statistics")
    words = make_dataset(alice, preparator, statistics={"cases": 1, "deaths": 2})
    problem(alice.post("/associations", asks_with_dataset(words, benchmark)), 400, "statistics_contract")
    made = make_dataset(alice, preparator)
    for field in ("identity", "statistics_digest"):
        body = asks_with_dataset(made, benchmark, **{field: Digest.of(b"other")})
        problem(alice.post("/associations", body), 400, "association_mismatch")
    problem(alice.post("/associations", asks_with_dataset(made, {"id": 99})), 400, "unknown_benchmark")
    problem(alice.post("/associations", asks_with_dataset(made | {"id": 99}, benchmark)), 400, "unknown_dataset")
    problem(bob.post("/associations", asks_with_dataset(made, benchmark)), 400, "unknown_dataset")
    pending = bob.make_benchmark(name="pending")
    problem(alice.post("/associations", asks_with_dataset(made, pending)), 400, "unknown_benchmark")
    alice.patch(f"/datasets/{made['id']}", {"is_active": False}, made["version"])
    problem(alice.post("/associations", asks_with_dataset(made, benchmark)), 409, "not_active")
    assert ids(alice.get("/associations")) == []
    assert world.sql("SELECT count(*) FROM opened_datasets")[0][0] == 0


def test_what_became_unfit_is_not_approved(alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    made = make_dataset(alice, benchmark["preparator"])
    association = ask(alice, asks_with_dataset(made, benchmark))
    assert bob.patch(f"/benchmarks/{benchmark['id']}", {"is_active": False}, 2).status_code == 200
    problem(decide(bob, association, "APPROVED"), 409, "not_active")
    assert decide(bob, association, "REJECTED").status_code == 200


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda body: body.update(demo_digest=Digest.of(b"x")), "demo_mismatch"),
        (lambda body: body.update(prepared_identity=Digest.of(b"x")), "report_mismatch"),
        (lambda body: body.update(steps=body["steps"][:2]), "missing_step"),
        (lambda body: body.update(metrics={"AUC": {"Edema": 2}}), "metrics_contract"),
        (lambda body: body.update(metrics={"AUC": {"Edema": 0.5}, "patient 7": 1}), "metrics_contract"),
        (lambda body: body.update(statistics={"cases": 1, "x": 2}), "statistics_contract"),
        (lambda body: body["model"].update(mlcube=99), "report_mismatch"),
        (lambda body: body["model"]["files"].update(project=Digest.of(b"x")), "report_mismatch"),
        (lambda body: body["preparator"]["files"].update(project=Digest.of(b"x")), "report_mismatch"),
        (lambda body: body["evaluator"].update(form="oci"), "form_mismatch"),
    ],
)
def test_a_report_speaks_of_this_model_and_benchmark(
    alice: Person, benchmark: dict[str, Any], change: Any, code: str
) -> None:
    model = alice.make_cube("model")
    body = asks_with_model(model, benchmark)
    body["report"] = {name: dict(value) if isinstance(value, dict) else value for name, value in body["report"].items()}
    for part in ("preparator", "model", "evaluator"):
        body["report"][part]["files"] = dict(body["report"][part]["files"])
    change(body["report"])
    problem(alice.post("/associations", body), 400, code)


def test_only_models_join(alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    evaluator = alice.make_cube("evaluator", upload=False)
    problem(alice.post("/associations", asks_with_model(evaluator, benchmark)), 400, "wrong_kind")
    reference = bob.get(f"/mlcubes/{benchmark['reference_model']}").json()
    problem(bob.post("/associations", asks_with_model(reference, benchmark)), 400, "reference_model")
    problem(alice.post("/associations", asks_with_model(reference, benchmark)), 403, "not_owner")
    hidden = bob.make_cube("model", name="hidden", state="DEVELOPMENT")
    problem(alice.post("/associations", asks_with_model(hidden, benchmark)), 400, "unknown_mlcube")
    draft = alice.make_cube("model", state="DEVELOPMENT")
    problem(alice.post("/associations", asks_with_model(draft, benchmark)), 409, "not_in_operation")
    good = asks_with_model(alice.make_cube("model", name="good"), benchmark)
    for bad in ({"dataset": 1}, {"report": None}, {"model": None}, {"status": "APPROVED"}, {"uuid": "x"}):
        problem(alice.post("/associations", good | bad), 400, "invalid_fields")


# -------------------------------------------------------------------------------------------------------------- opening


def test_files_of_models_open_and_close(world: World, alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    """To owners of datasets in the benchmark, and to nobody else."""
    carol, dave = world.person("carol"), world.person("dave")
    model = carol.make_cube("model", name="carol's")
    file = asset_of(model["files"]["project"])

    def readers() -> set[str]:
        people = {"alice": alice, "bob": bob, "dave": dave, "admin": world.admin}
        found = set()
        for name, person in people.items():
            read = person.get(f"/assets/{file}/content").status_code == 200
            if name != "admin":
                listed = file in ids(person.get("/assets", params={"limit": 256}))
                shown = person.get(f"/assets/{file}").status_code == 200
                assert listed == shown == read, name
            found |= {name} if read else set()
        return found

    first = join_dataset(alice, bob, benchmark)
    assert readers() == set()
    joined = ask(carol, asks_with_model(model, benchmark))
    assert readers() == set()
    decide(bob, joined, "APPROVED")
    assert readers() == {"alice"}  # not the benchmark's owner, not an admin
    second = join_dataset(alice, bob, benchmark)
    decide(alice, first, "REVOKED")
    assert readers() == {"alice"}  # another dataset of hers is still in
    late = join_dataset(dave, bob, benchmark)
    assert readers() == {"alice", "dave"}
    decide(alice, second, "REVOKED")
    assert readers() == {"dave"}
    decide(carol, joined, "REVOKED")
    assert readers() == set()
    assert late["status"] == "APPROVED"
    again = ask(carol, asks_with_model(model, benchmark))
    decide(bob, again, "APPROVED")
    assert readers() == {"dave"}


def test_one_file_through_two_benchmarks(world: World, alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    """Each opens it for itself; it is listed once."""
    cubes = {
        kind: bob.get(f"/mlcubes/{benchmark[part]}").json()
        for part, kind in (("preparator", "preparator"), ("reference_model", "model"), ("evaluator", "evaluator"))
    }
    second = open_benchmark(world, bob, name="second", cubes=cubes)
    file = asset_of(cubes["model"]["files"]["project"])
    made = make_dataset(alice, benchmark["preparator"])
    joined = [ask(alice, asks_with_dataset(made, one)) for one in (benchmark, second)]
    for one in joined:
        decide(bob, one, "APPROVED")
    for query in ({"limit": 256}, {"sort": "name", "limit": 256}, {"search": "f", "limit": 256}):
        assert ids(alice.get("/assets", params=query)).count(file) == 1
    decide(bob, joined[0], "REVOKED")
    assert alice.get(f"/assets/{file}/content").status_code == 200
    decide(bob, joined[1], "REVOKED")
    problem(alice.get(f"/assets/{file}/content"), 404, "no_such_asset")


def test_what_is_read_to_run_it_is_put_into_nothing(
    world: World, alice: Person, bob: Person, benchmark: dict[str, Any]
) -> None:
    carol = world.person("carol")
    model = carol.make_cube("model", name="carol's")
    decide(bob, ask(carol, asks_with_model(model, benchmark)), "APPROVED")
    join_dataset(alice, bob, benchmark)
    ref = model["files"]["project"]
    assert alice.get(f"/assets/{asset_of(ref)}/content").status_code == 200
    body = alice.cube_body("model", name="copy", upload=False)
    body["files"]["project"], body["forms"] = ref, {"python": {"project": ref["digest"]}}
    problem(alice.post("/mlcubes", body), 400, "unknown_asset")


def test_models_that_share_a_file(world: World, alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    join_dataset(alice, bob, benchmark)
    carol = world.person("carol")
    body = carol.cube_body("model", name="one")
    models = [carol.post("/mlcubes", body | {"name": name}).json() for name in ("one", "two")]
    joined = [ask(carol, asks_with_model(model, benchmark)) for model in models]
    for one in joined:
        decide(bob, one, "APPROVED")
    file = asset_of(body["files"]["project"])
    decide(carol, joined[0], "REVOKED")
    assert alice.get(f"/assets/{file}/content").status_code == 200
    decide(carol, joined[1], "REVOKED")
    problem(alice.get(f"/assets/{file}/content"), 404, "no_such_asset")


# --------------------------------------------------------------------------------------------------- listings, limits


def test_listings(world: World, alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    carol = world.person("carol")
    data, model = join_dataset(alice, bob, benchmark), join_model(carol, bob, benchmark, name="m")
    waiting = ask(carol, asks_with_model(carol.make_cube("model", name="w"), benchmark))
    page = Page[AssociationView].model_validate(bob.get("/associations").json())
    assert [one.events for one in page.items] == [None] * 3
    every = [data["id"], model["id"], waiting["id"]]
    assert ids(bob.get("/associations")) == ids(world.admin.get("/associations")) == every
    assert ids(bob.get("/associations", params={"sort": "-id"})) == every[::-1]
    assert ids(alice.get("/associations")) == every[:2]
    assert ids(carol.get("/associations")) == every[1:]
    for query, found in (
        ({"kind": "dataset"}, every[:1]),
        ({"status": "PENDING"}, every[2:]),
        ({"benchmark": benchmark["id"], "status": "APPROVED"}, every[:2]),
        ({"dataset": data["dataset"]}, every[:1]),
        ({"model": model["model"]}, every[1:2]),
        ({"benchmark": 99}, []),
        ({"waiting_for_me": "true"}, every[2:]),
        ({"waiting_for_me": "true", "kind": "dataset"}, []),
        ({"waiting_for_me": "true", "benchmark": benchmark["id"], "sort": "-id"}, every[2:]),
        ({"waiting_for_me": "false"}, every),
    ):
        assert ids(bob.get("/associations", params=query)) == found, query
    problem(bob.get("/associations", params={"benchmark": 1, "dataset": 1}), 400, "bad_combination")
    problem(bob.get("/associations", params={"waiting_for_me": "true", "status": "PENDING"}), 400, "bad_combination")
    problem(bob.get("/associations", params={"owner": "me"}), 400, "unknown_parameter")


def test_pages_of_what_waits(world: World, alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    asked = [ask(alice, asks_with_dataset(make_dataset(alice, benchmark["preparator"]), benchmark)) for _ in range(3)]
    for sort, expected in (("id", asked), ("-id", asked[::-1])):
        found: list[int] = []
        after = None
        while True:
            query = {"waiting_for_me": "true", "limit": 1, "sort": sort} | ({} if after is None else {"after": after})
            page = bob.get("/associations", params=query).json()
            found += [one["id"] for one in page["items"]]
            after = page["next"]
            if after is None:
                break
        assert found == [one["id"] for one in expected]


def test_an_organisation_decides(world: World, alice: Person, bob: Person) -> None:
    group = make_organisation(bob)
    oper, mana = world.person("oper"), world.person("mana")
    join(bob, group, oper, ["operate"])
    join(bob, group, mana, ["manage"])
    cubes = {kind: oper.make_cube(kind, owner=group["id"]) for kind in ("preparator", "model", "evaluator")}
    benchmark = open_benchmark(world, oper, cubes=cubes, owner=group["id"])
    association = ask(alice, asks_with_dataset(make_dataset(alice, benchmark["preparator"]), benchmark))
    assert ids(oper.get("/associations", params={"waiting_for_me": "true"})) == []
    assert ids(mana.get("/associations", params={"waiting_for_me": "true"})) == [association["id"]]
    problem(decide(oper, association, "APPROVED"), 403, "missing_right")
    assert decide(mana, association, "APPROVED").status_code == 200
    problem(decide(oper, association, "REVOKED"), 403, "missing_right")
    model = alice.make_cube("model")
    problem(invite(mana, benchmark, model=model["id"]), 403, "missing_right")
    invited = invite(oper, benchmark, model=model["id"]).json()
    assert decide(mana, invited, "CANCELLED").status_code == 200
    # whom it approves by itself, and who sees its results, is decided by whoever manages: from the start
    for change in ({"auto_models": {"mode": "always"}}, {"results_visibility": "accounts"}):
        body = oper.benchmark_body(cubes=cubes, name="open", owner=group["id"], **change)
        problem(oper.post("/benchmarks", body), 403, "missing_right")
        assert mana.post("/benchmarks", body).status_code == 403  # which alone registers nothing
    path = f"/benchmarks/{benchmark['id']}"
    for change in ({"auto_models": {"mode": "always"}}, {"results_visibility": "owners"}):
        problem(oper.patch(path, change, 2), 403, "missing_right")
    assert mana.patch(path, {"auto_models": {"mode": "always"}}, 2).status_code == 200


def test_somebody_who_manages_both_sides(world: World, alice: Person, bob: Person, benchmark: dict[str, Any]) -> None:
    """Two owners, one person: each decision is still one side's."""
    group = make_organisation(bob)
    made = make_dataset(bob, benchmark["preparator"], owner=group["id"])
    association = ask(bob, asks_with_dataset(made, benchmark))
    assert association["status"] == "PENDING"
    found = decide(bob, association, "APPROVED").json()
    assert [event["side"] for event in found["events"]] == ["asset", "benchmark"]


def test_limits(make_world: Callable[..., World]) -> None:
    world = make_world(association_count=2, joined_count=1)
    alice, bob = world.person("alice"), world.person("bob")
    benchmark = open_benchmark(world, bob)
    preparator = benchmark["preparator"]
    asked = [ask(alice, asks_with_dataset(make_dataset(alice, preparator), benchmark)) for _ in range(2)]
    third = asks_with_dataset(make_dataset(alice, preparator), benchmark)
    problem(alice.post("/associations", third), 409, "too_many_rows")
    # a benchmark's owner is not kept out by those who ask to join
    assert invite(bob, benchmark, dataset=third["dataset"]).status_code == 201
    assert decide(bob, asked[0], "APPROVED").status_code == 200
    problem(decide(bob, asked[1], "APPROVED"), 409, "benchmark_full")
    decide(bob, asked[0], "REVOKED")
    assert decide(bob, asked[1], "APPROVED").status_code == 200


# ----------------------------------------------------------------------------------------------------------- benchmarks


def test_results_are_shown_to_fewer_only(world: World, bob: Person) -> None:
    made = open_benchmark(world, bob, results_visibility="accounts")
    path = f"/benchmarks/{made['id']}"
    assert made["results_visibility"] == "accounts"
    assert bob.patch(path, {"results_visibility": "participants"}, 2).json()["results_visibility"] == "participants"
    problem(bob.patch(path, {"results_visibility": "accounts"}, 3), 409, "visibility_only_narrows")
    problem(bob.patch(path, {"results_visibility": "nobody"}, 3), 400, "invalid_fields")
    assert bob.patch(path, {"results_visibility": "owners"}, 3).status_code == 200
    draft = bob.make_benchmark(name="draft", state="DEVELOPMENT")
    assert draft["results_visibility"] == "owners"
    path = f"/benchmarks/{draft['id']}"
    assert bob.patch(path, {"results_visibility": "accounts"}, 1).json()["results_visibility"] == "accounts"
