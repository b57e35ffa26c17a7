"""Sealing and resets against what goes on meanwhile: every order, on both databases. See `orders.Theatre`."""

from __future__ import annotations

from typing import Any

import pytest

from medperf.server import admin
from medperf.server.audit.sealer import Sealer
from medperf.server.audit.verifier import Verifier

from .conftest import CHEAP, PASSWORD
from .orders import Outcome, Scene, Theatre, thread
from .test_concurrency import rows
from .test_concurrency_people import cube, disable, login


def seals(house: Theatre) -> Any:
    """What a server does now and then."""

    async def work() -> str:
        done = await Sealer(house.world.database, house.world.settings.data).seal()
        return "elsewhere" if done is None else "sealed"

    return work


def check_trail(house: Theatre) -> None:
    """Everything can be sealed, and is as it was written."""
    data = house.world.settings.data
    house.world.run(lambda: Sealer(house.world.database, data).seal(wait_seconds=5))
    found = house.world.run(lambda: Verifier(house.world.database, data).run())
    assert found.ok, found.fault
    assert (found.unsealed, found.events) == (0, rows(house, "SELECT count(*) FROM audit_events"))


@pytest.mark.parametrize("what", ["registers", "logs in", "disables"])
def test_an_event_is_written_and_sealed(house: Theatre, what: str) -> None:
    """No event gets a number below the seal once it is made."""
    alice = house.person()

    def prepare() -> Scene:
        works = {
            "registers": lambda: cube(house, alice),
            "logs in": lambda: login(house, alice.name, PASSWORD),
            "disables": lambda: disable(house, house.world.admin, house.person()),
        }
        return Scene({"works": works[what](), "seals": seals(house)}, lambda _: check_trail(house))

    events = {"registers": "mlcube.created", "logs in": "token.created", "disables": "user.disabled"}
    house.all_orders(prepare, {("200" if what == "disables" else "201", "sealed"): [events[what]]})


def test_two_events_and_a_seal(house: Theatre) -> None:
    """Also where the one with the higher number is written first."""
    alice, bob = house.person(), house.person()

    def prepare() -> Scene:
        works = {"one": cube(house, alice), "two": cube(house, bob), "seals": seals(house)}
        return Scene(works, lambda _: check_trail(house))

    house.all_orders(prepare, {("201", "201", "sealed"): ["mlcube.created"] * 2})


def test_two_seals(house: Theatre) -> None:
    alice = house.person()

    def prepare() -> Scene:
        alice.make_cube("model", name=house.name(), upload=False)
        return Scene({"one": seals(house), "two": seals(house)}, lambda _: check_trail(house), alike=True)

    house.all_orders(prepare, {("sealed", "elsewhere"): [], ("sealed", "sealed"): []})


@pytest.mark.parametrize(
    "what", ["registers", "disables", "makes an account", "logs in", "changes its password", "seals"]
)
def test_the_server_is_reset_and(house: Theatre, what: str) -> None:
    """Nothing comes from before into the new instance, nothing is locked for good, and who asked is told."""
    house.stage.patience = 0.02 if what == "seals" else None  # a reset waits for the trail's own lock

    def prepare() -> Scene:
        house.world.admin = boss = house.world.login("admin", "admin")
        person = house.person()
        works = {
            "registers": lambda: cube(house, person),
            "disables": lambda: disable(house, boss, person),
            "makes an account": lambda: house.post(
                boss, "/users", {"username": house.name("new"), "password": PASSWORD}
            ),
            "logs in": lambda: login(house, person.name, PASSWORD),
            "changes its password": lambda: house.post(
                person, "/me/password", {"current": PASSWORD, "new": "another long password"}
            ),
            "seals": lambda: seals(house),
        }

        def reset() -> None:
            admin.reset(house.world.settings.data, password_cost=CHEAP)

        def holds(_: Outcome) -> None:
            assert house.sql("SELECT action FROM audit_events") == [("server.reset",)]
            assert rows(house, "SELECT count(*) FROM users") == 1
            assert rows(house, "SELECT count(*) FROM mlcubes") + rows(house, "SELECT count(*) FROM tokens") == 0
            check_trail(house)

        return Scene({"works": works[what](), "resets": thread(reset, "reset")}, holds, programs=("resets",))

    done = {"seals": "sealed", "disables": "200", "changes its password": "204"}.get(what, "201")
    refused = {"logs in": "401 bad_login", "seals": "sealed"}.get(what, "401 bad_token")
    between = [("409 wrong_instance", "reset"), ("401 bad_login", "reset"), ("401 bad_token", "reset")]
    expect: dict[Outcome, list[str]] = {(done, "reset"): [], (refused, "reset"): []}
    house.all_orders(prepare, expect, between={outcome: [] for outcome in between})
