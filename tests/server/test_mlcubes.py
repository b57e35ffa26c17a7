"""Registering, reading and changing MLCubes."""

from __future__ import annotations

from typing import Any

import pytest

from medperf.domain.digests import Digest
from medperf.wire.models import MLCubeView, Page

from .conftest import World, manifest_of, problem, web_file
from .organising import make_organisation


def test_kinds_and_first_ids(world: World) -> None:
    alice = world.person("alice")
    made = [alice.make_cube(kind) for kind in ("preparator", "model", "evaluator")]
    assert [(cube["id"], cube["kind"]) for cube in made] == [(1, "preparator"), (2, "model"), (3, "evaluator")]
    view = MLCubeView.model_validate(made[0])
    assert (view.owner.name, view.version, view.is_valid, view.state) == ("alice", 1, True, "OPERATION")
    detail = alice.get("/mlcubes/1")
    assert detail.json() == made[0]
    assert detail.headers["etag"] == '"1"'
    page = Page[MLCubeView].model_validate(alice.get("/mlcubes").json())
    assert [item.manifest_text for item in page.items] == [None, None, None]


def test_the_answer_is_what_is_read_afterwards(world: World) -> None:
    """Byte for byte, whoever owns it."""
    alice = world.person("alice")
    hospital = make_organisation(alice)
    for changes in ({}, {"owner": hospital["id"]}):
        body = alice.cube_body("model", name="Modèle", user_metadata={"b": [1.5, None], "a": "ü"}, **changes)
        made = alice.post("/mlcubes", body)
        read = alice.get(f"/mlcubes/{made.json()['id']}")
        assert (made.content, made.headers["etag"]) == (read.content, read.headers["etag"])
    assert made.json()["owner"] == {"id": hospital["id"], "name": "Hospital A", "kind": "organisation"}


def test_names_are_unique_per_owner(world: World) -> None:
    alice, bob = world.person("alice"), world.person("bob")
    alice.make_cube("model", name="m")
    problem(alice.post("/mlcubes", alice.cube_body("model", name="m")), 409, "name_taken")
    bob.make_cube("model", name="m")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda body: body["files"].pop("manifest"), "missing_file"),
        (lambda body: body["files"].pop("project"), "missing_file"),
        (lambda body: body.update(manifest_text=body["manifest_text"] + "\n"), "manifest_mismatch"),
        (lambda body: body["files"]["manifest"].update(size=1), "manifest_mismatch"),
        (lambda body: body.update(forms={}), "no_form"),
        (lambda body: body.update(forms={"python": {"project": Digest.of(b"other")}}), "bad_form"),
        (lambda body: body.update(forms={"oci": {"image": Digest.of(b"image")}}), "bad_form"),
        (lambda body: body.update(forms={"sif": {}}), "bad_form"),
        (
            lambda body: body["files"].update(parameters={**body["files"]["project"], "size": 2**21}),
            "parameters_too_large",
        ),
        (lambda body: body["files"]["project"].update(urls=[]), "file_without_url"),
        (lambda body: body["files"]["project"].update(urls=["asset:999"]), "unknown_asset"),
        (lambda body: body["files"]["project"].update(size=1), "unknown_asset"),
        (lambda body: body["files"]["project"].update(urls=["ftp://example.org/x"]), "invalid_fields"),
        (lambda body: body["files"].update(virus=body["files"]["project"]), "invalid_fields"),
        (lambda body: body.update(kind="model"), "invalid_fields"),
        (lambda body: body.update(owner=999), "unknown_owner"),
        (lambda body: body.update(name=" "), "invalid_fields"),
        (lambda body: body.update(user_metadata={"x": "y" * 70_000}), "metadata_too_large"),
    ],
)
def test_refusals(world: World, change: Any, code: str) -> None:
    body = world.admin.cube_body("model")
    change(body)
    found = problem(world.admin.post("/mlcubes", body), 400, code)
    if code == "invalid_fields":
        assert found["errors"][0]["field"]
    assert world.admin.get("/mlcubes").json()["items"] == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("tasks: [", "bad_yaml"),
        ("name: x\n", "bad_manifest"),
        (manifest_of("model").replace("infer", "guess"), "unknown_kind"),
        (manifest_of("model").replace("data_path", "dat"), "missing_parameter"),
        (manifest_of("preparator").replace("statistics:", "stats:"), "missing_task"),
        (manifest_of("model", inputs={"parameters_file": "parameters.yaml"}), "missing_file"),
        (manifest_of("model", inputs={"weights": "additional_files/weights.onnx"}), "missing_file"),
    ],
)
def test_manifest_faults(world: World, text: str, code: str) -> None:
    problem(world.admin.post("/mlcubes", world.admin.cube_body("model", text=text)), 400, code)


def test_image_forms(world: World) -> None:
    image = web_file(b"image")
    for form, sections, digests, files in (
        ("oci", "docker: {image: 'example/model:1'}", {"image": image["digest"]}, {}),
        ("sif", "singularity: {image: 'model.sif'}", {"image": image["digest"]}, {"image": image}),
    ):
        text = manifest_of("model", sections=sections)
        body = world.admin.cube_body("model", name=form, text=text, forms={form: digests})
        del body["files"]["project"]
        body["files"] |= files
        assert world.admin.post("/mlcubes", body).status_code == 201
    body["name"], body["forms"] = "none", {"oci": {}}
    body["manifest_text"] = manifest_of("model", sections="docker: {image: 'example/model:1'}")
    body["files"]["manifest"] = world.admin.upload(body["manifest_text"].encode())
    problem(world.admin.post("/mlcubes", body), 400, "bad_form")


def test_a_strangers_asset_opens_nothing(world: World) -> None:
    """Nor can one learn whether it is there: the answer is that of an id that was never given."""
    alice, bob = world.person("alice"), world.person("bob")
    body = alice.cube_body("model")
    stolen = problem(bob.post("/mlcubes", body), 400, "unknown_asset")
    project = body["files"]["project"]
    number = project["urls"][0].removeprefix("asset:")
    body["files"]["manifest"]["urls"] = ["https://example.org/m"]
    answers = []
    for asset_id in (number, "424242"):
        project["urls"] = [f"asset:{asset_id}"]
        answers.append(problem(bob.post("/mlcubes", body), 400, "unknown_asset")["detail"].replace(asset_id, "N"))
    assert answers[0] == answers[1]
    assert "asset:" in stolen["detail"]


def test_development_is_hidden(world: World) -> None:
    alice, bob = world.person("alice"), world.person("bob")
    cube = alice.make_cube("model", state="DEVELOPMENT")
    problem(bob.get(f"/mlcubes/{cube['id']}"), 404, "no_such_mlcube")
    problem(bob.patch(f"/mlcubes/{cube['id']}", {"is_valid": False}, 1), 404, "no_such_mlcube")
    assert bob.get("/mlcubes").json()["items"] == []
    for person in (alice, world.admin):
        assert person.get(f"/mlcubes/{cube['id']}").status_code == 200
        assert len(person.get("/mlcubes").json()["items"]) == 1


def test_changes(world: World) -> None:
    alice, bob = world.person("alice"), world.person("bob")
    path = f"/mlcubes/{alice.make_cube('model', state='DEVELOPMENT')['id']}"
    problem(alice.patch(path, {"name": "new"}), 428, "if_match_required")
    changed = alice.patch(path, {"name": "new"}, 1)
    assert (changed.json()["name"], changed.json()["version"], changed.headers["etag"]) == ("new", 2, '"2"')
    problem(alice.patch(path, {"name": "newer"}, 1), 412, "edited_meanwhile")
    assert alice.patch(path, {"state": "OPERATION"}, 2).json()["state"] == "OPERATION"
    problem(alice.patch(path, {"name": "newest"}, 3), 409, "frozen_in_operation")
    problem(alice.patch(path, {"state": "DEVELOPMENT"}, 3), 409, "state_is_final")
    problem(alice.patch(path, {"files": {}}, 3), 400, "invalid_fields")
    problem(bob.patch(path, {"is_valid": False}, 3), 403, "not_owner")
    problem(world.admin.patch(path, {"user_metadata": {}}, 3), 403, "not_owner")
    assert world.admin.patch(path, {"is_valid": False}, 3).json()["is_valid"] is False
    assert alice.patch(path, {"user_metadata": {"a": [1, 2.5]}}, 4).json()["user_metadata"] == {"a": [1, 2.5]}


def test_rename_to_a_name_that_is_taken(world: World) -> None:
    world.admin.make_cube("model", name="a")
    cube = world.admin.make_cube("model", name="b", state="DEVELOPMENT")
    problem(world.admin.patch(f"/mlcubes/{cube['id']}", {"name": "a"}, 1), 409, "name_taken")


def test_filters(world: World) -> None:
    alice, bob = world.person("alice"), world.person("bob")
    alice.make_cube("model", name="m")
    bob.make_cube("evaluator", name="e")
    alice.make_cube("preparator", name="p", state="DEVELOPMENT")
    alice.patch("/mlcubes/1", {"is_valid": False}, 1)

    def ids(query: str) -> list[int]:
        return [item["id"] for item in alice.get(f"/mlcubes?{query}").json()["items"]]

    assert ids("owner=me") == [1, 3]
    assert ids(f"owner={bob.party}") == [2]
    assert ids("kind=model") == [1]
    assert ids("state=DEVELOPMENT") == [3]
    assert ids("name=e") == [2]
    assert ids("is_valid=false") == [1]
    assert ids("is_valid=true&owner=me&kind=preparator") == [3]
    for query in (
        "colour=red",
        "owner=you",
        "kind=tool",
        "limit=0",
        "limit=257",
        "limit=x",
        "after=-1",
        "limit=1&limit=2",
        "name=%ff",
        "owner=0",
    ):
        assert alice.get(f"/mlcubes?{query}").status_code == 400, query
    problem(alice.get("/mlcubes/1?expand=1"), 400, "unknown_parameter")


def test_paging(world: World) -> None:
    for number in range(7):
        world.admin.make_cube("model", name=f"m{number}", upload=False)
    found: list[int] = []
    after = ""
    while True:
        page = world.admin.get(f"/mlcubes?limit=3{after}").json()
        found += [item["id"] for item in page["items"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert found == [1, 2, 3, 4, 5, 6, 7]
    assert world.admin.get("/mlcubes?limit=7").json()["next"] is None
    assert world.admin.get("/mlcubes?after=7").json() == {"items": [], "next": None}
