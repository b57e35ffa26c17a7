"""Two at once, about datasets and associations: every order, on both databases. See `orders.Theatre`."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Person
from .joining import (
    ask,
    asks_with_dataset,
    asks_with_model,
    dataset_body,
    decide,
    invites,
    join_dataset,
    make_dataset,
    open_benchmark,
)
from .orders import Outcome, Scene, Theatre
from .test_concurrency import cubes_of, either, rows

ASKED, DECIDED = "association.asked", "association.decided"
OVER = "409 wrong_association_state"


@pytest.fixture
def people(house: Theatre) -> tuple[Person, Person, dict[str, Any]]:
    """Somebody with data, and somebody with an approved benchmark."""
    owner = house.person()
    return house.person(), owner, open_benchmark(house.world, owner, cubes=cubes_of(owner))


def status_of(house: Theatre, association: int) -> str:
    """What it is, after its one row and its history were found to agree, and what it opens with them."""
    query = "SELECT version, status, benchmark_id, dataset_id FROM associations WHERE id = ?"
    version, status, benchmark, dataset = house.sql(query, association)[0]
    last = house.sql("SELECT max(version), count(*) FROM association_events WHERE association_id = ?", association)[0]
    assert last == (version, version)
    assert (
        house.sql(
            "SELECT status FROM association_events WHERE association_id = ? AND version = ?", association, version
        )[0][0]
        == status
    )
    if dataset is not None:
        shown = rows(
            house, "SELECT count(*) FROM opened_datasets WHERE dataset_id = ? AND benchmark_id = ?", dataset, benchmark
        )
        assert shown == (status not in ("REJECTED", "CANCELLED"))
    return str(status)


def decides(house: Theatre, person: Person, association: dict[str, Any], status: str) -> Any:
    return house.post(person, f"/associations/{association['id']}/decision", {"status": status})


@pytest.mark.parametrize("other", ["APPROVED", "REJECTED"])
def test_two_decisions(house: Theatre, people: Any, other: str) -> None:
    alice, bob, benchmark = people

    def prepare() -> Scene:
        made = ask(alice, asks_with_dataset(make_dataset(alice, benchmark["preparator"]), benchmark))

        def holds(outcome: Outcome) -> None:
            assert status_of(house, made["id"]) == ("APPROVED" if outcome[0] == "200" else other)

        works = {"approves": decides(house, bob, made, "APPROVED"), "decides": decides(house, bob, made, other)}
        return Scene(works, holds, alike=other == "APPROVED")

    house.all_orders(prepare, either("200", OVER, DECIDED))


def test_an_approval_and_a_cancellation(house: Theatre, people: Any) -> None:
    alice, bob, benchmark = people

    def prepare() -> Scene:
        made = ask(alice, asks_with_dataset(make_dataset(alice, benchmark["preparator"]), benchmark))

        def holds(outcome: Outcome) -> None:
            assert status_of(house, made["id"]) == ("APPROVED" if outcome[0] == "200" else "CANCELLED")

        works = {"approves": decides(house, bob, made, "APPROVED"), "cancels": decides(house, alice, made, "CANCELLED")}
        return Scene(works, holds)

    house.all_orders(prepare, either("200", OVER, DECIDED))


def test_an_approval_and_a_revocation(house: Theatre, people: Any) -> None:
    """What was approved is revoked at once; what was not is not."""
    alice, bob, benchmark = people

    def prepare() -> Scene:
        made = ask(alice, asks_with_dataset(make_dataset(alice, benchmark["preparator"]), benchmark))

        def holds(outcome: Outcome) -> None:
            assert status_of(house, made["id"]) == ("REVOKED" if outcome[1] == "200" else "APPROVED")

        works = {"approves": decides(house, bob, made, "APPROVED"), "revokes": decides(house, alice, made, "REVOKED")}
        return Scene(works, holds)

    house.all_orders(prepare, {("200", "200"): [DECIDED, DECIDED], ("200", OVER): [DECIDED]})


def test_two_revocations(house: Theatre, people: Any) -> None:
    alice, bob, benchmark = people

    def prepare() -> Scene:
        made = join_dataset(alice, bob, benchmark)
        works = {"hers": decides(house, alice, made, "REVOKED"), "his": decides(house, bob, made, "REVOKED")}

        def holds(_: Outcome) -> None:
            assert status_of(house, made["id"]) == "REVOKED"

        return Scene(works, holds)

    house.all_orders(prepare, either("200", OVER, DECIDED))


@pytest.mark.parametrize("same", [True, False], ids=["same uuid", "other uuid"])
def test_two_requests(house: Theatre, people: Any, same: bool) -> None:
    alice, _, benchmark = people

    def prepare() -> Scene:
        made = make_dataset(alice, benchmark["preparator"])
        first = asks_with_dataset(made, benchmark)
        bodies = {"A": first, "B": first if same else asks_with_dataset(made, benchmark)}

        def holds(_: Outcome) -> None:
            assert rows(house, "SELECT count(*) FROM associations WHERE dataset_id = ?", made["id"]) == 1

        return Scene({who: house.post(alice, "/associations", body) for who, body in bodies.items()}, holds, alike=True)

    lost = "200" if same else "409 already_asked"
    house.all_orders(prepare, either("201", lost, ASKED))


def test_a_request_and_an_invitation(house: Theatre, people: Any) -> None:
    """One of them is there; the other side decides about it."""
    alice, bob, benchmark = people

    def prepare() -> Scene:
        made = make_dataset(alice, benchmark["preparator"])

        def holds(outcome: Outcome) -> None:
            asked_by = rows(house, "SELECT asked_by FROM associations WHERE dataset_id = ?", made["id"])
            assert asked_by == ("asset" if outcome[0] == "201" else "benchmark")
            shown = rows(house, "SELECT count(*) FROM opened_datasets WHERE dataset_id = ?", made["id"])
            assert shown == (asked_by == "asset")

        invitation = invites(dataset=made["id"])
        works = {
            "asks": house.post(alice, "/associations", asks_with_dataset(made, benchmark)),
            "invites": house.post(bob, f"/benchmarks/{benchmark['id']}/invitations", invitation),
        }
        return Scene(works, holds)

    house.all_orders(prepare, either("201", "409 asked_by_the_other_side", ASKED))


def test_a_request_and_the_end_of_the_benchmark(house: Theatre, people: Any) -> None:
    alice, bob, benchmark = people
    path = f"/benchmarks/{benchmark['id']}"

    def prepare() -> Scene:
        version = bob.get(path).json()["version"]
        assert bob.patch(path, {"is_active": True}, version).status_code == 200
        made = make_dataset(alice, benchmark["preparator"])
        works = {
            "asks": house.post(alice, "/associations", asks_with_dataset(made, benchmark)),
            "ends": house.edit(bob, path, {"is_active": False}, version=version + 1),
        }
        return Scene(works)

    outcomes = {("201", "200"): [ASKED, "benchmark.updated"], ("409 not_active", "200"): ["benchmark.updated"]}
    house.all_orders(prepare, outcomes)


def test_an_approval_and_the_end_of_the_dataset(house: Theatre, people: Any) -> None:
    alice, bob, benchmark = people

    def prepare() -> Scene:
        dataset = make_dataset(alice, benchmark["preparator"])
        made = ask(alice, asks_with_dataset(dataset, benchmark))

        def holds(outcome: Outcome) -> None:
            assert status_of(house, made["id"]) == ("APPROVED" if outcome[0] == "200" else "PENDING")

        works = {
            "approves": decides(house, bob, made, "APPROVED"),
            "ends": house.edit(alice, f"/datasets/{dataset['id']}", {"is_active": False}, version=dataset["version"]),
        }
        return Scene(works, holds)

    outcomes = {("200", "200"): [DECIDED, "dataset.updated"], ("409 not_active", "200"): ["dataset.updated"]}
    house.all_orders(prepare, outcomes)


def test_a_dataset_and_a_model_join(house: Theatre, people: Any) -> None:
    """Whichever is first: its owner reads the model's file afterwards."""
    _, bob, benchmark = people
    carol = house.person()

    def prepare() -> Scene:
        dave = house.person()
        data = ask(dave, asks_with_dataset(make_dataset(dave, benchmark["preparator"]), benchmark))
        made = carol.make_cube("model", name=house.name("model"))
        model = ask(carol, asks_with_model(made, benchmark))
        file = made["files"]["project"]["urls"][0].removeprefix("asset:")

        def holds(_: Outcome) -> None:
            assert dave.get(f"/assets/{file}/content").status_code == 200
            for entry, person in ((data, dave), (model, carol)):
                assert decide(person, entry, "REVOKED").status_code == 200
            assert dave.get(f"/assets/{file}/content").status_code == 404

        works = {"data": decides(house, bob, data, "APPROVED"), "model": decides(house, bob, model, "APPROVED")}
        return Scene(works, holds)

    house.all_orders(prepare, {("200", "200"): [DECIDED, DECIDED]})


def test_a_dataset_joins_and_a_model_leaves(house: Theatre, people: Any) -> None:
    """Whichever is first: nothing of the model is left open."""
    _, bob, benchmark = people
    carol = house.person()

    def prepare() -> Scene:
        dave = house.person()
        data = ask(dave, asks_with_dataset(make_dataset(dave, benchmark["preparator"]), benchmark))
        made = carol.make_cube("model", name=house.name("model"))
        model = ask(carol, asks_with_model(made, benchmark))
        assert decide(bob, model, "APPROVED").status_code == 200
        file = made["files"]["project"]["urls"][0].removeprefix("asset:")

        def holds(_: Outcome) -> None:
            assert dave.get(f"/assets/{file}/content").status_code == 404
            assert decide(dave, data, "REVOKED").status_code == 200

        works = {"joins": decides(house, bob, data, "APPROVED"), "leaves": decides(house, carol, model, "REVOKED")}
        return Scene(works, holds)

    house.all_orders(prepare, {("200", "200"): [DECIDED, DECIDED]})


@pytest.mark.parametrize("same", ["name", "identity", "uuid", "body"])
def test_two_datasets(house: Theatre, same: str) -> None:
    alice = house.person()
    preparator = alice.make_cube("preparator", upload=False)["id"]

    def prepare() -> Scene:
        first, second = dataset_body(preparator), dataset_body(preparator)
        second = first if same == "body" else second | {same: first[same]}
        return Scene({who: house.post(alice, "/datasets", body) for who, body in (("A", first), ("B", second))})

    lost = {
        "name": "409 name_taken",
        "identity": "409 dataset_exists",
        "uuid": "409 uuid_taken",
        "body": "200",
    }[same]
    house.all_orders(prepare, either("201", lost, "dataset.created"))


def test_two_statistics(house: Theatre) -> None:
    """In OPERATION they are given once."""
    alice = house.person()
    preparator = alice.make_cube("preparator", upload=False)["id"]

    def prepare() -> Scene:
        made = make_dataset(alice, preparator, statistics=None)
        path = f"/datasets/{made['id']}/statistics"
        bodies = [{"dataset": made["id"], "statistics": {"cases": number}} for number in (1, 2)]

        def holds(outcome: Outcome) -> None:
            kept = 1 if outcome[0] == "200" else 2
            assert alice.get(f"/datasets/{made['id']}").json()["statistics"] == {"cases": kept}

        return Scene({who: house.ask(alice, "PUT", path, body) for who, body in zip("AB", bodies, strict=True)}, holds)

    house.all_orders(prepare, either("200", "409 frozen_in_operation", "dataset.statistics_set"))
