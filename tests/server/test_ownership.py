"""What organisations own: for which members, and against everybody else."""

from __future__ import annotations

import shlex

from medperf.domain import limits

from .conftest import Person, World, problem
from .organising import join, make_organisation


def test_an_organisation_owns_what_its_members_register(alice: Person, bob: Person, world: World) -> None:
    made = make_organisation(alice)
    join(alice, made, bob, ["operate"])
    cube = bob.make_cube("model", name="net", state="DEVELOPMENT", owner=made["id"])
    problem(alice.post("/mlcubes", alice.cube_body("model", name="net", owner=made["id"])), 409, "name_taken")
    assert alice.make_cube("model", name="net")["owner"]["id"] == alice.party  # each owner has names of its own
    benchmark = alice.make_benchmark(owner=made["id"])
    assert benchmark["owner"]["id"] == made["id"]
    assert bob.get(f"/benchmarks/{benchmark['id']}").status_code == 200
    carol = world.person("carol")
    problem(carol.get(f"/benchmarks/{benchmark['id']}"), 404, "no_such_benchmark")
    problem(carol.get(f"/mlcubes/{cube['id']}"), 404, "no_such_mlcube")
    by_id = bob.get("/mlcubes", params={"owner": str(made["id"])}).json()["items"]
    assert [one["id"] for one in by_id] == [cube["id"]]
    assert carol.get("/mlcubes", params={"owner": str(made["id"])}).json()["items"] == []
    join(alice, made, carol, ["release"])
    assert carol.get(f"/mlcubes/{cube['id']}").status_code == 200
    refused = problem(carol.patch(f"/mlcubes/{cube['id']}", {"name": "mine"}, 1), 403, "missing_right")
    assert refused["fix"].endswith(f"; see: medperf organisation members {shlex.quote(made['name'])}")
    assert alice.patch(f"/mlcubes/{cube['id']}", {"name": "ours"}, 1).status_code == 200


def test_no_owner_but_oneself_and_ones_own(alice: Person, bob: Person, world: World) -> None:
    """Another person's party, another organisation, none at all: one answer."""
    for owner in (bob.party, make_organisation(bob)["id"], 999, limits.ID_MAX):
        for person in (alice, world.admin):
            refused = problem(person.post("/mlcubes", person.cube_body("model", owner=owner)), 400, "unknown_owner")
            expected = f"The owner {owner} is neither you nor an organisation you belong to."
            assert refused["detail"] == expected
    assert alice.make_cube("model", owner=alice.party)["owner"]["kind"] == "person"


def test_the_flags_are_for_managers(alice: Person, bob: Person, world: World) -> None:
    made = make_organisation(alice)
    join(alice, made, bob, ["operate"])
    benchmark = bob.make_benchmark(owner=made["id"])
    path = f"/benchmarks/{benchmark['id']}"
    problem(bob.patch(path, {"is_active": False}, 1), 403, "missing_right")
    problem(bob.patch(path, {"is_valid": False, "user_metadata": {}}, 1), 403, "missing_right")
    assert bob.patch(path, {"user_metadata": {"a": 1}}, 1).status_code == 200
    assert alice.patch(path, {"is_active": False, "is_valid": False}, 2).status_code == 200
    problem(world.admin.patch(path, {"is_active": True}, 3), 403, "not_owner")
    assert world.admin.patch(path, {"is_valid": True}, 3).status_code == 200


def test_nobody_approves_for_their_own_organisation(alice: Person, world: World) -> None:
    root = world.person("root", admin=True)
    made = make_organisation(alice)
    benchmark = alice.make_benchmark(owner=made["id"])
    path = f"/benchmarks/{benchmark['id']}/decision"
    join(alice, made, root, ["release"])
    for approval in ("APPROVED", "REJECTED", "PENDING"):
        problem(root.post(path, {"approval": approval}), 403, "own_benchmark")
    assert world.admin.post(path, {"approval": "APPROVED"}).status_code == 200


def test_files_of_an_organisation_are_for_its_members(alice: Person, bob: Person, world: World) -> None:
    made = make_organisation(alice)
    cube = alice.make_cube("model", state="DEVELOPMENT", owner=made["id"])
    ref = alice.upload(b"ours", owner=made["id"])
    path = ref["urls"][0].replace("asset:", "/assets/")
    problem(bob.get(f"{path}/content"), 404, "no_such_asset")
    join(alice, made, bob, ["release"])
    assert bob.get(f"{path}/content").content == b"ours"
    assert bob.get(path).json()["owner"]["kind"] == "organisation"
    assert bob.get(f"/mlcubes/{cube['id']}").status_code == 200
    assert bob.send("DELETE", path).status_code == 403
    assert bob.announce(b"more", owner=made["id"]).status_code == 403
    assert alice.send("DELETE", path).status_code == 204
