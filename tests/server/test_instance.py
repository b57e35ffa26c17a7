"""Instances: what is meant for another server is refused before anything happens, also while the server is reset under it."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from medperf.domain.errors import Conflict
from medperf.server import admin
from medperf.server.authz import Actor

from .conftest import API, CHEAP, World, only, problem


def test_wrong_instance_first(world: World) -> None:
    headers = {"Medperf-Instance": "another"}
    problem(world.client.get(f"{API}/server", headers=headers), 409, "wrong_instance")
    problem(world.client.get(f"{API}/me", headers=headers), 409, "wrong_instance")
    body = world.admin.cube_body("model")
    problem(world.admin.post("/mlcubes", body, headers=headers), 409, "wrong_instance")
    assert world.admin.get("/mlcubes").json()["items"] == []
    right = {"Medperf-Instance": world.client.get(f"{API}/server").headers["Medperf-Instance"]}
    assert world.admin.post("/mlcubes", body, headers=right).status_code == 201


def test_reset_while_the_server_runs(world: World) -> None:
    alice = world.person("alice")
    alice.make_benchmark()
    before = world.client.get(f"{API}/server").json()["instance_id"]
    report = admin.reset(world.settings.data, password_cost=CHEAP)
    after = world.client.get(f"{API}/server")
    assert after.json()["instance_id"] == report.instance_id != before
    assert after.json()["development"] is True
    problem(alice.get("/me"), 401, "bad_token")
    problem(alice.get("/me", headers={"Medperf-Instance": before}), 409, "wrong_instance")
    assert not list(world.settings.assets.rglob("*.*"))
    assert not [path for path in world.settings.assets.rglob("*") if path.is_file()]
    fresh = world.login("admin", "admin")
    assert (fresh.id, fresh.party) == (1, 1)
    assert fresh.get("/users").json()["items"][0]["username"] == "admin"
    again = World(world.client, world.settings).person("alice")
    assert [again.make_cube(kind)["id"] for kind in ("preparator", "model", "evaluator")] == [1, 2, 3]
    assert again.make_benchmark()["id"] == 1


def test_reset_between_login_lookup_and_change(world: World) -> None:
    """A change that began before the reset does not reach the new instance, although its account's id is there again."""
    instance = world.client.get(f"{API}/server").json()["instance_id"]
    from medperf.server.auth import hash_token

    actor = Actor(1, 1, True, instance, hash_token(world.admin.token))
    admin.reset(world.settings.data, password_cost=CHEAP)

    async def change() -> None:
        async with actor.change(world.database):
            raise AssertionError("the change was let in")

    with pytest.raises(Conflict) as raised:
        world.run(change)
    assert raised.value.code == "wrong_instance"


@only("sqlite", because="on PostgreSQL writers do not wait for each other")
def test_another_process_writes(world: World) -> None:
    """The server waits for a writer in another process without stopping."""
    import sqlite3
    import threading

    other = sqlite3.connect(world.settings.database_file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.3, lambda: other.execute("COMMIT"))
    timer.start()
    assert world.admin.get("/me").status_code == 200
    assert world.admin.post("/users", {"username": "alice", "password": "correct horse"}).status_code == 201
    timer.join()
    other.close()


@only("sqlite", because="on PostgreSQL writers do not wait for each other")
def test_a_database_that_stays_busy(make_world: Any) -> None:
    import sqlite3

    world = make_world(wait_seconds=0.2)
    other = sqlite3.connect(world.settings.database_file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    answer = world.admin.post("/users", {"username": "alice", "password": "correct horse"})
    problem(answer, 503, "database_busy")
    assert answer.headers["Retry-After"] == "1"
    other.close()
    assert world.admin.post("/users", {"username": "alice", "password": "correct horse"}).status_code == 201


def test_two_servers_in_one_process(make_world: Any, fresh_data: Any, tmp_path: Any) -> None:
    copy = tmp_path / "second"
    shutil.copytree(fresh_data, copy)
    admin.reset(copy, password_cost=CHEAP)
    first, second = make_world(), make_world(data=copy)
    first.person("alice")
    assert len(second.admin.get("/users").json()["items"]) == 1


@only("sqlite", because="PostgreSQL waits for its own disk")
def test_an_answer_waits_for_the_disk_and_nobody_else_does(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changes that wait at the same time share one wait; a reader is answered meanwhile."""
    import threading
    from concurrent.futures import ThreadPoolExecutor

    from medperf.server.sqlite import _Disk

    reached, go, rounds = threading.Event(), threading.Event(), []
    real = _Disk._sync

    def slow(disk: Any) -> None:
        rounds.append(1)
        reached.set()
        assert go.wait(10)
        real(disk)

    monkeypatch.setattr(_Disk, "_sync", slow)
    with ThreadPoolExecutor(3) as pool:
        asked = []
        for name in ("a", "b", "c"):
            asked.append(
                pool.submit(world.admin.post, "/mlcubes", world.admin.cube_body("model", name=name, upload=False))
            )
            if name == "a":
                assert reached.wait(10)
        names = world.admin.get("/mlcubes").json()["items"]
        while len(names) < 3:  # all three are written, and none is answered
            names = world.admin.get("/mlcubes").json()["items"]
        assert not any(done.done() for done in asked)
        go.set()
        assert [done.result().status_code for done in asked] == [201, 201, 201]
    assert len(rounds) == 2


@only("sqlite", because="PostgreSQL waits for its own disk")
def test_a_disk_that_fails_is_not_called_done(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from medperf.server.sqlite import _Disk

    def broken(_: Any) -> None:
        raise OSError(5, "Input/output error")

    body = world.admin.cube_body("model", upload=False)
    with monkeypatch.context() as patch:
        patch.setattr(_Disk, "_sync", broken)
        problem(world.admin.post("/mlcubes", body), 500, "internal_error")
    assert world.admin.get("/mlcubes").status_code == 200
