"""Changes of members and invitations that are under way together."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from medperf.server.location import located

from .conftest import Person, World, only, problem
from .organising import invite, join, make_organisation, member_path, members


def at_once(*calls: Any) -> list[Any]:
    """The answers of requests that are under way together."""
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def held(world: World, statement: str, waiting: int, *calls: Any) -> list[Any]:
    """The answers of requests that wait together for a lock which another program holds until all of them do."""

    async def blocked(connection: Any) -> int:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        return int(await connection.fetchval(query))

    url = located(world.settings)
    assert world.cluster is not None
    assert url is not None
    with ThreadPoolExecutor(len(calls)) as pool:

        async def work(connection: Any) -> list[Any]:
            async with connection.transaction():
                await connection.execute(statement)
                futures = [pool.submit(call) for call in calls]
                async with asyncio.timeout(20):
                    while await blocked(connection) < waiting:
                        pass  # each look is a round trip
            return futures

        futures = world.cluster.with_connection(url.name, work)
        return [future.result() for future in futures]


def test_two_managers_leave_at_once(alice: Person, bob: Person, world: World) -> None:
    for number in range(3):
        made = make_organisation(alice, f"Hospital {chr(97 + number)}")
        join(alice, made, bob, ["manage"])
        answers = at_once(*(functools.partial(p.send, "DELETE", member_path(made, p)) for p in (alice, bob)))
        assert sorted(one.status_code for one in answers) == [204, 409]
        assert len(members(world.admin, made)) == 1


LOCK = "SELECT 1 FROM organisations FOR UPDATE"


@only("postgresql", because="SQLite's writers wait for each other from their first statement on")
@pytest.mark.parametrize("ways", ["leave leave", "leave demote", "demote remove", "leave disable", "disable leave"])
def test_a_manager_remains_whoever_is_first(alice: Person, bob: Person, world: World, ways: str) -> None:
    made = make_organisation(alice)
    join(alice, made, bob, ["manage"])

    def act(way: str, subject: Person, other: Person) -> Any:
        return {
            "leave": lambda: subject.send("DELETE", member_path(made, subject)),
            "remove": lambda: other.send("DELETE", member_path(made, subject)),
            "demote": lambda: subject.patch(member_path(made, subject), {"rights": ["operate"]}),
            "disable": lambda: world.admin.patch(f"/users/{subject.id}", {"is_active": False}),
        }[way]

    first, second = ways.split()
    answers = held(world, LOCK, 2, act(first, alice, bob), act(second, bob, alice))
    assert sorted(one.status_code >= 400 for one in answers) == [False, True], [one.text for one in answers]
    query = """SELECT count(*) FROM memberships JOIN users ON users.id = user_id
               WHERE memberships.party_id = ? AND can_manage AND is_active"""
    assert world.sql(query, made["id"])[0][0] == 1


@only("postgresql", because="SQLite's writers wait for each other from their first statement on")
def test_accepted_twice_is_accepted_once(alice: Person, bob: Person, world: World) -> None:
    made = make_organisation(alice)
    sent = invite(alice, made, "bob", ["operate"]).json()
    accept = functools.partial(bob.post, f"/invitations/{sent['id']}/answer", {"accept": True})
    answers = held(world, LOCK, 2, accept, accept)
    assert sorted(one.status_code for one in answers) == [200, 404]
    assert members(alice, made)["bob"] == ["operate"]


@only("postgresql", because="SQLite's writers wait for each other from their first statement on")
def test_cancelled_or_accepted_not_both(alice: Person, bob: Person, world: World) -> None:
    made = make_organisation(alice)
    sent = invite(alice, made, "bob", ["operate"]).json()
    answers = held(
        world,
        LOCK,
        2,
        lambda: bob.post(f"/invitations/{sent['id']}/answer", {"accept": True}),
        lambda: alice.send("DELETE", f"/organisations/{made['id']}/invitations/{sent['id']}"),
    )
    assert [one.status_code for one in answers] in ([200, 404], [404, 204])
    assert ("bob" in members(alice, made)) == (answers[0].status_code == 200)


@only("postgresql", because="SQLite's writers wait for each other from their first statement on")
def test_registering_waits_for_the_removal(alice: Person, bob: Person, world: World) -> None:
    """Rights that were read stay until the thing is made, or the thing is not made."""
    made = make_organisation(alice)
    join(alice, made, bob, ["operate"])
    body = bob.cube_body("model", owner=made["id"])
    lock = f"SELECT 1 FROM memberships WHERE user_id = {bob.id} AND party_id = {made['id']} FOR UPDATE"
    answers = held(
        world,
        lock,
        2,
        lambda: bob.post("/mlcubes", body),
        lambda: alice.send("DELETE", member_path(made, bob)),
    )
    assert answers[1].status_code == 204
    if answers[0].status_code != 201:
        problem(answers[0], 400, "unknown_owner")


@only("postgresql", because="SQLite's writers wait for each other from their first statement on")
def test_an_admin_does_not_decide_while_joining(alice: Person, world: World) -> None:
    root = world.person("root", admin=True)
    made = make_organisation(alice)
    benchmark = alice.make_benchmark(owner=made["id"])
    sent = invite(alice, made, "root", ["operate"]).json()
    answers = held(
        world,
        LOCK,
        2,
        lambda: root.post(f"/invitations/{sent['id']}/answer", {"accept": True}),
        lambda: root.post(f"/benchmarks/{benchmark['id']}/decision", {"approval": "APPROVED"}),
    )
    assert answers[0].status_code == 200
    if answers[1].status_code != 200:  # the invitation was first
        problem(answers[1], 403, "own_benchmark")


@only("postgresql", because="SQLite's writers wait for each other from their first statement on")
def test_two_admins_disable_each_other(world: World) -> None:
    root = world.person("root", admin=True)
    answers = held(
        world,
        "SELECT 1 FROM users FOR UPDATE",
        2,
        lambda: world.admin.patch(f"/users/{root.id}", {"is_active": False}),
        lambda: root.patch(f"/users/{world.admin.id}", {"is_active": False}),
    )
    # The one that waited finds its login ended, or itself the last one.
    assert sorted(one.status_code for one in answers) in ([200, 401], [200, 409]), [one.text for one in answers]


def test_two_of_one_name_at_once(alice: Person, bob: Person, world: World) -> None:
    answers = at_once(*(lambda p=p: p.post("/organisations", {"name": "Same"}) for p in (alice, bob)))
    assert sorted(one.status_code for one in answers) == [201, 409]
    assert len(world.admin.get("/organisations").json()["items"]) == 1
