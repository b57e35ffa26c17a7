"""Two at once, about registered things: every order, on both databases. See `orders.Theatre`."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Person, report_of
from .orders import Outcome, Scene, Theatre

STALE = "412 edited_meanwhile"
KEY = "3f1c7a52-0f5e-4a57-9f2e-"
Cubes = dict[str, dict[str, Any]]


def either(won: str, lost: str, event: str) -> dict[Outcome, list[str]]:
    """One of two gets it, and makes the one event."""
    return {(won, lost): [event], (lost, won): [event]}


def cubes_of(person: Person, name: str = "") -> Cubes:
    """What a benchmark is made of, on somebody's web host."""
    return {
        kind: person.make_cube(kind, name=f"{kind}{name}", upload=False)
        for kind in ("preparator", "model", "evaluator")
    }


def rows(house: Theatre, query: str, *parameters: Any) -> Any:
    """The first value that SQL finds."""
    return house.sql(query, *parameters)[0][0]


@pytest.mark.parametrize("noun", ["mlcubes", "benchmarks", "organisations", "users"])
def test_two_of_one_name(house: Theatre, noun: str) -> None:
    maker = house.world.admin if noun == "users" else house.person()
    template = maker.benchmark_body(cubes_of(maker)) if noun == "benchmarks" else {}
    tables = {"organisations": ("parties", "name"), "users": ("users", "username")}

    def prepare() -> Scene:
        name = house.name("name")
        body: dict[str, Any] = {
            "mlcubes": lambda: maker.cube_body("model", name=name, upload=False),
            "benchmarks": lambda: template | {"name": name},
            "organisations": lambda: {"name": name},
            "users": lambda: {"username": name, "password": "correct horse"},
        }[noun]()

        def holds(_: Outcome) -> None:
            table, column = tables.get(noun, (noun, "name"))
            assert rows(house, f"SELECT count(*) FROM {table} WHERE {column} = ?", name) == 1

        return Scene({who: house.post(maker, f"/{noun}", body) for who in "AB"}, holds, alike=True)

    taken = "409 username_taken" if noun == "users" else "409 name_taken"
    house.all_orders(prepare, either("201", taken, f"{noun[:-1]}.created"))


def test_a_name_is_made_and_given(house: Theatre) -> None:
    """A rename against a creation of that name; of MLCubes here, of organisations in the other file."""
    alice = house.person()

    def prepare() -> Scene:
        path = f"/mlcubes/{alice.make_cube('model', name=house.name(), upload=False, state='DEVELOPMENT')['id']}"
        body = alice.cube_body("model", name=house.name("wanted"), upload=False)

        def holds(_: Outcome) -> None:
            assert rows(house, "SELECT count(*) FROM mlcubes WHERE name = ?", body["name"]) == 1

        renames = house.edit(alice, path, {"name": body["name"]})
        return Scene({"makes": house.post(alice, "/mlcubes", body), "renames": renames}, holds)

    outcomes = {("201", "409 name_taken"): ["mlcube.created"], ("409 name_taken", "200"): ["mlcube.updated"]}
    house.all_orders(prepare, outcomes)


@pytest.mark.parametrize("same", [True, False], ids=["same body", "other body"])
def test_one_key(house: Theatre, same: bool) -> None:
    alice = house.person()

    def prepare() -> Scene:
        name = house.name()
        bodies = [alice.cube_body("model", name=name if same else f"{name} {i}", upload=False) for i in range(2)]

        def holds(_: Outcome) -> None:
            assert rows(house, "SELECT count(*) FROM mlcubes WHERE name LIKE ?", f"{name}%") == 1

        works = {
            who: house.post(alice, "/mlcubes", body, key=KEY + name) for who, body in zip("AB", bodies, strict=True)
        }
        return Scene(works, holds)

    once = ["mlcube.created"]
    reused = either("201", "409 idempotency_key_reused", *once)
    house.all_orders(prepare, {("201", "201"): once} if same else reused)


def test_one_key_whose_first_request_fails(house: Theatre) -> None:
    """The second gets its turn, not the first one's refusal."""
    alice = house.person()

    def prepare() -> Scene:
        key = KEY + house.name()
        bad = alice.cube_body("model", name=house.name(), upload=False, owner=10**6)
        good = alice.cube_body("model", name=house.name(), upload=False)
        return Scene(
            {"bad": house.post(alice, "/mlcubes", bad, key=key), "good": house.post(alice, "/mlcubes", good, key=key)}
        )

    made = ["mlcube.created"]
    outcomes = {("400 unknown_owner", "201"): made, ("409 idempotency_key_reused", "201"): made}
    house.all_orders(prepare, outcomes)


# ------------------------------------------------------------------------------------------------------------------ edits


@pytest.mark.parametrize("noun", ["mlcube", "benchmark"])
@pytest.mark.parametrize("other", ["name", "state"])
def test_two_edits_of_one_version(house: Theatre, noun: str, other: str) -> None:
    """Also where one of them freezes it."""
    alice = house.person()
    template = alice.benchmark_body(cubes_of(alice))

    def prepare() -> Scene:
        if noun == "mlcube":
            made = alice.make_cube("model", name=house.name(), upload=False, state="DEVELOPMENT")
        else:
            made = alice.post("/benchmarks", template | {"name": house.name(), "state": "DEVELOPMENT"}).json()
        path = f"/{noun}s/{made['id']}"
        change = {"name": house.name()} if other == "name" else {"state": "OPERATION"}
        name = house.name()

        def holds(outcome: Outcome) -> None:
            found = alice.get(path).json()
            assert found["version"] == 2
            assert (found["name"] == name) == (outcome[0] == "200")
            assert (found["state"] == "OPERATION") == (outcome[1] == "200" and other == "state")

        return Scene({"A": house.edit(alice, path, {"name": name}), "B": house.edit(alice, path, change)}, holds)

    house.all_orders(prepare, either("200", STALE, f"{noun}.updated"))


@pytest.mark.parametrize("other", ["APPROVED", "REJECTED"])
def test_two_decisions(house: Theatre, other: str) -> None:
    alice, second = house.person(), house.person(admin=True)
    template = alice.benchmark_body(cubes_of(alice))

    def prepare() -> Scene:
        path = f"/benchmarks/{alice.post('/benchmarks', template | {'name': house.name()}).json()['id']}"

        def holds(outcome: Outcome) -> None:
            found = alice.get(path).json()
            assert (found["version"], found["approval"]) == (2, "APPROVED" if outcome[0] == "200" else other)
            assert found["approval_reason"] == ("first" if outcome[0] == "200" else "second")

        one = house.post(house.world.admin, f"{path}/decision", {"approval": "APPROVED", "reason": "first"})
        two = house.post(second, f"{path}/decision", {"approval": other, "reason": "second"})
        return Scene({"one": one, "two": two}, holds)

    decided = "benchmark.decided"
    house.all_orders(prepare, either("200", "409 already_decided", decided), between=either("200", STALE, decided))


def test_a_decision_and_an_edit(house: Theatre) -> None:
    """Nothing is approved that was not looked at: the edit of a version that was decided about is refused."""
    alice = house.person()
    template = alice.benchmark_body(cubes_of(alice))

    def prepare() -> Scene:
        path = f"/benchmarks/{alice.post('/benchmarks', template | {'name': house.name()}).json()['id']}"

        def holds(outcome: Outcome) -> None:
            found = alice.get(path).json()
            assert found["version"] == 1 + outcome.count("200")
            assert found["is_active"] == (outcome[1] != "200")

        decides = house.post(house.world.admin, f"{path}/decision", {"approval": "APPROVED"})
        return Scene({"decides": decides, "edits": house.edit(alice, path, {"is_active": False})}, holds)

    both = ["benchmark.decided", "benchmark.updated"]
    house.all_orders(prepare, {("200", STALE): both[:1], ("200", "200"): both}, between={(STALE, "200"): both[1:]})


def test_two_benchmarks_that_share_their_files_are_approved(house: Theatre) -> None:
    alice, second = house.person(), house.person(admin=True)
    cubes = {kind: alice.make_cube(kind, name=house.name()) for kind in ("preparator", "model", "evaluator")}
    template = alice.benchmark_body(cubes, name=house.name())
    files = [ref for kind in ("preparator", "evaluator") for ref in cubes[kind]["files"].values()]
    ids = {int(ref["urls"][0].removeprefix("asset:")) for ref in [*files, template["demo"]]}

    def prepare() -> Scene:
        house.sql("UPDATE assets SET is_public = (1 = 0)")

        def holds(_: Outcome) -> None:
            assert {row[0] for row in house.sql("SELECT id FROM assets WHERE is_public")} == ids

        works = {}
        for who, admin in {"one": house.world.admin, "two": second}.items():
            made = alice.post("/benchmarks", template | {"name": house.name()}).json()
            works[who] = house.post(admin, f"/benchmarks/{made['id']}/decision", {"approval": "APPROVED"})
        return Scene(works, holds, alike=True)

    house.all_orders(prepare, {("200", "200"): ["benchmark.decided"] * 2})


@pytest.mark.parametrize("change", [{"is_valid": False}, {"name": "another"}], ids=["invalid", "renamed"])
def test_a_benchmark_and_an_edit_of_its_model(house: Theatre, change: dict[str, Any]) -> None:
    """A name changes only in DEVELOPMENT, where no benchmark can be made of it."""
    alice, bob = house.person(), house.person()
    cubes = cubes_of(bob)
    template = bob.benchmark_body(cubes)

    def prepare() -> Scene:
        state = "DEVELOPMENT" if "name" in change else "OPERATION"
        model = alice.make_cube("model", name=house.name(), upload=False, state=state)
        report = template["report"] | {"model": report_of(model)}
        body = template | {"name": house.name(), "reference_model": model["id"], "report": report}

        def holds(outcome: Outcome) -> None:
            count = rows(house, "SELECT count(*) FROM benchmarks WHERE reference_model_id = ?", model["id"])
            assert count == (outcome[0] == "201")

        edit = change | ({"name": house.name()} if "name" in change else {})
        edits = house.edit(alice, f"/mlcubes/{model['id']}", edit)
        return Scene({"registers": house.post(bob, "/benchmarks", body), "edits": edits}, holds)

    made, edited = "benchmark.created", "mlcube.updated"
    if "name" in change:
        house.all_orders(prepare, {("400 unknown_mlcube", "200"): [edited]})
        return
    house.all_orders(prepare, {("201", "200"): [made, edited], ("400 invalid_mlcube", "200"): [edited]})


def test_a_benchmark_and_its_model_going_into_operation(house: Theatre) -> None:
    alice = house.person()
    template = alice.benchmark_body(cubes_of(alice))

    def prepare() -> Scene:
        model = alice.make_cube("model", name=house.name(), upload=False, state="DEVELOPMENT")
        report = template["report"] | {"model": report_of(model)}
        body = template | {"name": house.name(), "reference_model": model["id"], "report": report}
        edits = house.edit(alice, f"/mlcubes/{model['id']}", {"state": "OPERATION"})
        return Scene({"registers": house.post(alice, "/benchmarks", body), "edits": edits})

    made, edited = "benchmark.created", "mlcube.updated"
    house.all_orders(prepare, {("201", "200"): [made, edited], ("400 not_in_operation", "200"): [edited]})
