"""The same request twice."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from medperf.server import idempotency
from medperf.server.app import create_app

from .conftest import API, PASSWORD, World, only, problem

KEY = {"Idempotency-Key": "3f1c7a52-0f5e-4a57-9f2e-0d8a6f1c2b3d"}


@pytest.mark.parametrize("noun", ["mlcubes", "benchmarks", "users"])
def test_twice_is_once(world: World, noun: str) -> None:
    body = {
        "mlcubes": lambda: world.admin.cube_body("model"),
        "benchmarks": world.admin.benchmark_body,
        "users": lambda: {"username": "alice", "password": PASSWORD},
    }[noun]()
    before = len(world.admin.get(f"/{noun}").json()["items"])
    first, second = (world.admin.post(f"/{noun}", body, headers=KEY) for _ in range(2))
    assert first.status_code == second.status_code == 201
    assert first.content == second.content
    assert first.headers.get("etag") == second.headers.get("etag")
    assert len(world.admin.get(f"/{noun}").json()["items"]) == before + 1
    other = dict(body) | ({"username": "bob"} if noun == "users" else {"name": "other"})
    problem(world.admin.post(f"/{noun}", other, headers=KEY), 409, "idempotency_key_reused")


def test_decision_twice(world: World) -> None:
    """Whoever did not get the answer asks again, and is not told that it is decided already."""
    world.person("alice").make_benchmark()
    path, body = "/benchmarks/1/decision", {"approval": "APPROVED"}
    first, second = (world.admin.post(path, body, headers=KEY) for _ in range(2))
    assert (first.status_code, first.content) == (second.status_code, second.content)
    assert first.json()["version"] == 2
    problem(world.admin.post(path, body), 409, "already_decided")


def test_upload_twice(world: World) -> None:
    key = KEY["Idempotency-Key"]
    first, second = (world.admin.announce(b"x", key=key).json() for _ in range(2))
    assert first == second
    problem(world.admin.announce(b"y", key=key), 409, "idempotency_key_reused")
    assert len(world.admin.get("/uploads").json()["items"]) == 1


def test_keys_are_per_person_and_route(world: World) -> None:
    alice = world.person("alice")
    for person in (world.admin, alice):
        assert person.post("/mlcubes", person.cube_body("model"), headers=KEY).json()["owner"]["name"] == person.name
    assert world.admin.post("/users", {"username": "bob", "password": PASSWORD}, headers=KEY).status_code == 201


def test_a_refusal_is_not_kept(world: World) -> None:
    body = world.admin.cube_body("model")
    forms = body.pop("forms")
    problem(world.admin.post("/mlcubes", body, headers=KEY), 400, "invalid_fields")
    assert world.admin.post("/mlcubes", body | {"forms": forms}, headers=KEY).status_code == 201


@pytest.mark.parametrize("key", ["short", "x" * 129, "with space in it"])
def test_bad_keys(world: World, key: str) -> None:
    problem(
        world.admin.post("/mlcubes", world.admin.cube_body("model"), headers={"Idempotency-Key": key}),
        400,
        "bad_idempotency_key",
    )


def test_old_keys_go(make_world: Any) -> None:
    world = make_world(idempotency_seconds=0)
    for name in ("a", "b"):
        world.admin.post(
            "/mlcubes", world.admin.cube_body("model", name=name), headers={"Idempotency-Key": f"key-of-{name}"}
        )
    world.run(lambda: idempotency.sweep(world.client.app.state.context))
    assert world.sql("SELECT count(*) FROM idempotency_keys") == [(0,)]


def test_an_old_key_is_a_new_one(make_world: Any) -> None:
    world = make_world(idempotency_seconds=0)
    for name in ("a", "b"):
        made = world.admin.post("/mlcubes", world.admin.cube_body("model", name=name), headers=KEY)
        assert (made.status_code, made.json()["name"]) == (201, name)


def test_an_old_key_does_not_answer_for_what_is_refused(make_world: Any) -> None:
    world = make_world(idempotency_seconds=0)
    body = world.admin.cube_body("model")
    assert world.admin.post("/mlcubes", body, headers=KEY).status_code == 201
    problem(world.admin.post("/mlcubes", body, headers=KEY), 409, "name_taken")


def test_what_is_refused_for_another_reason_stays_refused(world: World) -> None:
    """A key that is not known changes nothing about a refusal, and stays free."""
    body = world.admin.cube_body("model")
    assert world.admin.post("/mlcubes", body).status_code == 201
    for _ in range(2):
        problem(world.admin.post("/mlcubes", body, headers=KEY), 409, "name_taken")
    assert world.admin.post("/mlcubes", body | {"name": "other"}, headers=KEY).status_code == 201


@pytest.mark.parametrize("noun", ["mlcubes", "uploads"])
def test_the_second_leaves_nothing(world: World, noun: str) -> None:
    """Whether the change itself would be refused (a name that is taken) or would be made once more (an upload)."""

    def ask() -> Any:
        if noun == "uploads":
            return world.admin.announce(b"x", key=KEY["Idempotency-Key"])
        return world.admin.post("/mlcubes", body, headers=KEY)

    body = world.admin.cube_body("model")
    first = ask()
    left = [world.sql(f"SELECT count(*) FROM {table}") for table in ("audit_events", "uploads", "mlcubes")]
    assert ask().content == first.content
    assert [world.sql(f"SELECT count(*) FROM {table}") for table in ("audit_events", "uploads", "mlcubes")] == left


@only("sqlite", because="PostgreSQL shows nothing that is not on the disk")
def test_an_answer_given_again_is_on_the_disk(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk failed under the first request, the second sees what it wrote, and must not call it done."""
    from medperf.server.sqlite import _Disk

    def broken(_: Any) -> None:
        raise OSError(5, "Input/output error")

    body = world.admin.cube_body("model", upload=False)
    monkeypatch.setattr(_Disk, "_sync", broken)
    for _ in range(2):
        problem(world.admin.post("/mlcubes", body, headers=KEY), 500, "internal_error")


def test_password_cannot_be_guessed_from_what_is_stored(world: World) -> None:
    world.admin.post("/users", {"username": "alice", "password": PASSWORD}, headers=KEY)
    rows = world.sql("SELECT * FROM idempotency_keys")
    assert KEY["Idempotency-Key"] not in repr(rows)
    assert PASSWORD not in repr(rows)


@pytest.mark.parametrize("servers", [1, 2])
def test_many_at_once(world: World, servers: int) -> None:
    """Of eight at once, at one server or at two on one database, one makes it and all get its answer."""
    body = world.admin.cube_body("model")
    headers = {"Authorization": f"Bearer {world.admin.token}"} | KEY

    async def run() -> list[Any]:
        apps = [create_app(world.settings) for _ in range(servers)]
        async with asyncio.TaskGroup() as group, _started(apps):
            clients = [
                httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://server") for app in apps
            ]
            tasks = [
                group.create_task(clients[i % servers].post(f"{API}/mlcubes", json=body, headers=headers))
                for i in range(8)
            ]
            return [await task for task in tasks]

    answers = asyncio.run(run())
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert world.sql("SELECT count(*) FROM mlcubes") == [(1,)]


class _started:  # noqa: N801 - used like a function
    def __init__(self, apps: list[Any]) -> None:
        self._lifespans = [app.router.lifespan_context(app) for app in apps]

    async def __aenter__(self) -> None:
        for lifespan in self._lifespans:
            await lifespan.__aenter__()

    async def __aexit__(self, *_: object) -> None:
        for lifespan in self._lifespans:
            await lifespan.__aexit__(None, None, None)
