"""Instances: what is meant for another server is refused before anything happens, also while the server is reset under it."""

from __future__ import annotations

import asyncio
import shutil
from typing import Any

import pytest

from medperf.domain.errors import Conflict
from medperf.server import admin
from medperf.server.authz import Actor

from .conftest import API, CHEAP, World, problem


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
        asyncio.run(change())
    assert raised.value.code == "wrong_instance"


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


def test_a_database_that_stays_busy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3

    from medperf.server import db

    monkeypatch.setattr(db, "WRITE_WAIT_SECONDS", 0.2)
    other = sqlite3.connect(world.settings.database_file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    problem(world.admin.post("/users", {"username": "alice", "password": "correct horse"}), 503, "database_busy")
    other.close()
    assert world.admin.post("/users", {"username": "alice", "password": "correct horse"}).status_code == 201


def test_two_servers_in_one_process(make_world: Any, settings: Any, tmp_path: Any) -> None:
    copy = tmp_path / "second"
    shutil.copytree(settings.data, copy)
    admin.reset(copy, password_cost=CHEAP)
    first, second = make_world(), make_world(data=copy)
    first.person("alice")
    assert len(second.admin.get("/users").json()["items"]) == 1
