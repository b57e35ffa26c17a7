"""Registering, deciding about and changing benchmarks."""

from __future__ import annotations

from typing import Any

import pytest

from medperf.domain.digests import Digest
from medperf.wire.models import BenchmarkView, Page

from .conftest import World, problem, report_of


def test_from_registration_to_approval(world: World) -> None:
    alice, bob = world.person("alice"), world.person("bob")
    made = alice.make_benchmark()
    view = BenchmarkView.model_validate(made)
    assert (view.id, view.approval, view.state, view.owner.name) == (1, "PENDING", "OPERATION", "alice")
    assert view.report is not None
    assert view.metrics_contract is not None
    problem(bob.get("/benchmarks/1"), 404, "no_such_benchmark")
    assert bob.get("/benchmarks").json()["items"] == []
    world.approve(made)
    seen = BenchmarkView.model_validate(bob.get("/benchmarks/1").json())
    assert (seen.approval, seen.approval_reason, seen.version) == ("APPROVED", "looked at", 2)
    assert seen.decided_at is not None
    page = Page[BenchmarkView].model_validate(bob.get("/benchmarks").json())
    assert page.items[0].report is None
    assert page.items[0].metrics_contract is None


def drop_step(body: dict[str, Any]) -> None:
    body["report"]["steps"] = [step for step in body["report"]["steps"] if step["task"] != "infer"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda body: body.update(preparator=99), "unknown_mlcube"),
        (lambda body: body.update(reference_model=body["evaluator"]), "wrong_kind"),
        (lambda body: body["report"].update(demo_digest=Digest.of(b"other")), "demo_mismatch"),
        (lambda body: body["report"].update(demo_digest=None), "demo_mismatch"),
        (drop_step, "missing_step"),
        (lambda body: body["report"]["preparator"]["files"].update(project=Digest.of(b"other")), "report_mismatch"),
        (lambda body: body["report"]["preparator"]["files"].pop("project"), "report_mismatch"),
        (lambda body: body["report"]["model"]["files"].update(additional=Digest.of(b"x")), "report_mismatch"),
        (lambda body: body["report"]["evaluator"].update(mlcube=99), "report_mismatch"),
        (lambda body: body["report"]["model"].update(form="oci"), "form_mismatch"),
        (lambda body: body["report"]["model"]["form_digests"].update(project=Digest.of(b"x")), "form_mismatch"),
        (lambda body: body["report"].update(metrics={"AUC": {"Edema": 1.5}}), "metrics_contract"),
        (lambda body: body["report"].update(metrics={"AUC": {"Edema": 0.5}, "patient 7": 1}), "metrics_contract"),
        (lambda body: body.update(metrics_contract={}), "bad_contract"),
        (lambda body: body["report"].update(statistics={"patient_00012345": 1}), "bad_statistics"),
        (lambda body: body["report"].update(statistics={"cases": {}}), "bad_statistics"),
        (lambda body: body["demo"].update(urls=["asset:99"]), "unknown_asset"),
        (lambda body: body["demo"].update(urls=[]), "file_without_url"),
        (lambda body: body.update(approval="APPROVED"), "invalid_fields"),
        (lambda body: body["report"].update(version=2), "invalid_fields"),
    ],
)
def test_refusals(world: World, change: Any, code: str) -> None:
    body = world.admin.benchmark_body()
    change(body)
    problem(world.admin.post("/benchmarks", body), 400, code)
    assert world.admin.get("/benchmarks").json()["items"] == []


def test_cubes_must_be_in_operation_valid_and_visible(world: World) -> None:
    alice, bob = world.person("alice"), world.person("bob")
    body = alice.benchmark_body()
    hidden = bob.make_cube("model", state="DEVELOPMENT")
    problem(alice.post("/benchmarks", body | {"reference_model": hidden["id"]}), 400, "unknown_mlcube")
    draft = alice.make_cube("model", state="DEVELOPMENT")
    problem(alice.post("/benchmarks", body | {"reference_model": draft["id"]}), 400, "not_in_operation")
    alice.patch(f"/mlcubes/{body['evaluator']}", {"is_valid": False}, 1)
    problem(alice.post("/benchmarks", body), 400, "invalid_mlcube")


def test_strangers_demo_data(world: World) -> None:
    alice, bob = world.person("alice"), world.person("bob")
    body = alice.benchmark_body()
    body["demo"] = bob.upload(b"secret")
    body["report"]["demo_digest"] = body["demo"]["digest"]
    problem(alice.post("/benchmarks", body), 400, "unknown_asset")


def test_a_benchmark_of_ones_own_opens_no_strangers_files(world: World) -> None:
    alice, bob = world.person("alice"), world.person("bob")
    cubes = {kind: bob.make_cube(kind) for kind in ("model", "evaluator")} | {
        "preparator": alice.make_cube("preparator")
    }
    problem(bob.post("/benchmarks", bob.benchmark_body(cubes)), 400, "unreadable_files")
    # once they are open through an approved benchmark, others build on them
    cubes = {kind: alice.make_cube(kind, name=f"second {kind}") for kind in ("model", "evaluator")} | {
        "preparator": cubes["preparator"]
    }
    made = alice.post("/benchmarks", alice.benchmark_body(cubes)).json()
    world.approve(made)
    cubes["model"] = bob.make_cube("model", name="mine")
    assert bob.post("/benchmarks", bob.benchmark_body(cubes)).status_code == 201


def test_decision_is_for_other_admins(world: World) -> None:
    alice, root = world.person("alice"), world.person("root", admin=True)
    benchmark = alice.make_benchmark()
    path = f"/benchmarks/{benchmark['id']}/decision"
    problem(alice.post(path, {"approval": "APPROVED"}), 403, "admin_only")
    problem(root.post(path, {"approval": "PENDING"}), 400, "bad_decision")
    problem(root.post("/benchmarks/99/decision", {"approval": "APPROVED"}), 404, "no_such_benchmark")
    assert root.post(path, {"approval": "REJECTED", "reason": "too small"}).json()["approval_reason"] == "too small"
    problem(root.post(path, {"approval": "APPROVED"}), 409, "already_decided")
    own = root.make_benchmark(name="own")
    problem(root.post(f"/benchmarks/{own['id']}/decision", {"approval": "APPROVED"}), 403, "own_benchmark")
    draft = alice.make_benchmark(name="draft", state="DEVELOPMENT")
    problem(root.post(f"/benchmarks/{draft['id']}/decision", {"approval": "APPROVED"}), 409, "not_in_operation")
    events = world.admin.get(f"/audit-events?target=benchmark:{benchmark['id']}").json()["items"]
    event = next(event for event in events if event["action"] == "benchmark.decided")
    assert event["data"].keys() == {"approval", "personal"}, "free text may hold personal values"
    assert event["actor_id"] == root.id


def test_changes(world: World) -> None:
    alice, bob = world.person("alice"), world.person("bob")
    benchmark = alice.make_benchmark(state="DEVELOPMENT")
    path = f"/benchmarks/{benchmark['id']}"
    problem(alice.patch(path, {"description": "x"}), 428, "if_match_required")
    assert (
        alice.patch(path, {"description": "Better.", "docs_url": "https://example.org"}, 1).json()["description"]
        == "Better."
    )
    problem(alice.patch(path, {"description": "x"}, 1), 412, "edited_meanwhile")
    assert alice.patch(path, {"state": "OPERATION"}, 2).status_code == 200
    problem(alice.patch(path, {"description": "x"}, 3), 409, "frozen_in_operation")
    problem(alice.patch(path, {"state": "DEVELOPMENT"}, 3), 409, "state_is_final")
    problem(alice.patch(path, {"approval": "APPROVED"}, 3), 400, "invalid_fields")
    problem(alice.patch(path, {"metrics_contract": {}}, 3), 400, "invalid_fields")
    problem(bob.patch(path, {"is_active": False}, 3), 404, "no_such_benchmark")
    world.approve(benchmark)
    problem(bob.patch(path, {"is_active": False}, 4), 403, "not_owner")
    problem(world.admin.patch(path, {"is_active": False}, 4), 403, "not_owner")
    assert world.admin.patch(path, {"is_valid": False}, 4).json()["is_valid"] is False
    assert alice.patch(path, {"is_active": False}, 5).json()["version"] == 6


def test_filters(world: World) -> None:
    alice = world.person("alice")
    world.approve(alice.make_benchmark(name="a"))
    alice.make_benchmark(name="b", state="DEVELOPMENT")
    world.admin.make_benchmark(name="c")

    def ids(query: str) -> list[int]:
        return [item["id"] for item in world.admin.get(f"/benchmarks?{query}").json()["items"]]

    assert ids("") == [1, 2, 3]
    assert ids("owner=me") == [3]
    assert ids(f"owner={alice.party}&state=OPERATION") == [1]
    assert ids("approval=PENDING") == [2, 3]
    assert ids("name=b") == [2]
    assert ids("is_active=false") == []
    assert ids("is_valid=true&after=1") == [2, 3]
    assert world.admin.get("/benchmarks?kind=model").status_code == 400


def test_report_with_undefined_metrics(world: World) -> None:
    body = world.admin.benchmark_body()
    body["report"]["metrics"] = {"AUC": {"Edema": None}}
    assert world.admin.post("/benchmarks", body).status_code == 201


def test_cube_without_id_in_the_report(world: World) -> None:
    """A report that was made from folders names no ids; the digests say enough."""
    body = world.admin.benchmark_body()
    for part in ("preparator", "model", "evaluator"):
        body["report"][part]["mlcube"] = None
    assert world.admin.post("/benchmarks", body).status_code == 201
    assert report_of(world.admin.get("/mlcubes/1").json())["files"] == body["report"]["preparator"]["files"]
