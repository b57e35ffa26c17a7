"""Hostile requests are answered with 4xx and never with 5xx; our own faults say nothing of themselves; secrets stay out of the log."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from medperf.server.tables import metadata

from .conftest import API, PASSWORD, World, only, problem

DEEP = "[" * 100_000 + "]" * 100_000
POSTS = ("/tokens", "/users", "/me/password", "/mlcubes", "/benchmarks", "/benchmarks/1/decision")

HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "no json": b"{",
    "list": b"[]",
    "string": b'"x"',
    "null": b"null",
    "number": b"1",
    "deep lists": DEEP.encode(),
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "moderately deep": b'{"name":' + b"[" * 40 + b"]" * 40 + b"}",
    "nan": b'{"name": NaN}',
    "infinity": b'{"name": -Infinity}',
    "huge float": b'{"name": 1e999}',
    "huge int": b'{"name": ' + b"9" * 5000 + b"}",
    "int of 30 digits": b'{"preparator": ' + b"9" * 30 + b"}",
    "nul": b'{"name": "a\\u0000b"}',
    "lone surrogate": b'{"name": "\\ud800"}',
    "lone surrogate key": b'{"\\udfff": 1}',
    "bad utf-8": b'{"name": "\xff\xfe"}',
    "utf-16": '{"name": "x"}'.encode("utf-16"),
    "duplicate key": b'{"name": "a", "name": "b"}',
    "wrong types": b'{"name": {}, "username": [], "password": 1, "files": [], "forms": "x", "report": 3, "demo": null, "approval": []}',
    "bytes of nothing": b"\x00" * 1000,
    "many nodes": b"[" + b"0," * 200_000 + b"0]",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_bodies(world: World, what: str) -> None:
    for path in POSTS:
        answer = world.admin.send("POST", path, content=HOSTILE[what])
        assert 400 <= answer.status_code < 500, (path, answer.status_code)
        assert set(answer.json()) >= {"code", "detail", "fix"}
    for path in ("/users/1", "/mlcubes/1", "/benchmarks/1"):
        answer = world.admin.send("PATCH", path, content=HOSTILE[what], headers={"If-Match": '"1"'})
        assert 400 <= answer.status_code < 500, (path, answer.status_code)


def test_hostile_values_in_good_shapes(world: World) -> None:
    body = world.admin.cube_body("model")
    for change in (
        {"user_metadata": {"a": float("1e308"), "b": -(10**18) + 1, "c": [None, True, {"d": ""}]}},
        {"name": "\u202egnp.exe \U0001f9e0"},
    ):
        assert world.admin.post("/mlcubes", body | {"name": "x"} | change).status_code == 201
    for change in (
        {"name": "a\nb"},
        {"name": "\x7f"},
        {"user_metadata": {"a": 10**18}},
        {"manifest_text": "x" * 70_000},
        {"state": "DONE"},
    ):
        assert world.admin.post("/mlcubes", body | change).status_code == 400


def test_hostile_addresses(world: World) -> None:
    for path in (
        "/mlcubes/0",
        "/mlcubes/-1",
        "/mlcubes/99999999999999999999999",
        "/mlcubes/%00",
        "/mlcubes/" + "0" * 19 + "1" + "9" * 50,
        "/mlcubes/1%2F..%2F2",
        "/mlcubes/%ff",
        "/mlcubes?name=%00",
        "/mlcubes?name=%ed%a0%80",
        "/mlcubes?" + "&".join(f"a{i}=1" for i in range(100)),
        "/audit-events?target=%27%20OR%201=1",
        "/users?after=99999999999999999999",
        "/assets?digest=x",
        "/nothing",
        "/mlcubes/",
    ):
        answer = world.admin.get(path)
        assert answer.status_code in (200, 400, 404), (path, answer.text)
        assert "Medperf-Instance" in answer.headers
    problem(world.admin.send("PUT", "/mlcubes"), 405, "method_not_allowed")
    problem(world.admin.get("/nothing"), 404, "no_such_route")


def test_host_header_is_not_believed(world: World) -> None:
    answer = world.admin.get("/mlcubes/", headers={"Host": "evil.example"})
    assert answer.status_code == 404
    assert "evil" not in str(answer.headers) + answer.text


def test_body_limit(make_world: Any) -> None:
    world = make_world(body_bytes=2000)
    big = json.dumps({"name": "x" * 3000}).encode()
    problem(world.admin.send("POST", "/mlcubes", content=big), 413, "body_too_large")
    problem(world.admin.send("POST", "/mlcubes", content=iter([big])), 413, "body_too_large")  # chunked: no length told
    problem(
        world.admin.send("POST", "/mlcubes", content=b"{}", headers={"Content-Length": "9" * 40}), 413, "body_too_large"
    )


def test_media_type(world: World) -> None:
    problem(
        world.admin.send("POST", "/mlcubes", content=b"a=b", headers={"Content-Type": "text/plain"}),
        415,
        "wrong_media_type",
    )


@pytest.mark.parametrize("value", ["1", '"', '"1" "2"', "W/1", '"1",'])
def test_if_match_that_is_no_etag(world: World, value: str) -> None:
    world.admin.make_cube("model")
    answer = world.admin.send("PATCH", "/mlcubes/1", json={"is_valid": False}, headers={"If-Match": value})
    problem(answer, 400, "bad_if_match")


@pytest.mark.parametrize("value", ['W/"1"', "*", '"x"', '"1", "2"', '""'])
def test_odd_if_match(world: World, value: str) -> None:
    world.admin.make_cube("model")
    answer = world.admin.send("PATCH", "/mlcubes/1", json={"is_valid": False}, headers={"If-Match": value})
    problem(answer, 412, "edited_meanwhile")


def test_our_own_faults(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from medperf.server.users import repository

    def broken(_row: Any) -> Any:
        raise ZeroDivisionError("the inside of the server")

    monkeypatch.setattr(repository, "view", broken)
    answer = world.admin.get("/me")
    found = problem(answer, 500, "internal_error")
    assert "inside" not in json.dumps(found)
    fault = next(json.loads(line) for line in world.settings.log_file.read_text().splitlines() if '"fault"' in line)
    assert "ZeroDivisionError" in fault["exception"]
    assert fault["route"] == f"{API}/me"


def test_a_failed_change_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The audit event is written in the transaction of the change: without it, no change."""
    from medperf.server.mlcubes import service

    async def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(service, "record", broken)
    assert world.admin.post("/mlcubes", world.admin.cube_body("model")).status_code == 500
    assert world.admin.get("/mlcubes").json()["items"] == []


def test_nothing_secret_in_the_log(world: World) -> None:
    person = world.person("alice")
    key = "secret-key-0123456789"
    person.post("/me/password", {"current": PASSWORD, "new": "battery staple"})
    world.client.post(f"{API}/tokens", json={"username": "alice", "password": "wr0ng-guess"})
    person.get("/mlcubes?name=patient-name")
    person.get("/nowhere/secret-path")
    person.post("/mlcubes", person.cube_body("model", name="hidden-name"), headers={"Idempotency-Key": key})
    world.admin.post("/users", {"username": "carol", "password": "carols-own", "email": "carol@example.org"})
    log = world.settings.log_file.read_text()
    assert log.count('"request"') >= 8
    for secret in (
        PASSWORD,
        "battery",
        "wr0ng",
        person.token,
        world.admin.token,
        "patient-name",
        "secret-path",
        "hidden-name",
        key,
        "carol",
        "alice",
    ):
        assert secret not in log, secret
    assert world.settings.log_file.stat().st_mode & 0o777 == 0o600
    stored = world.stored()
    for secret in (person.token, PASSWORD, "battery staple", key):
        assert secret.encode() not in stored


def test_audit_names_nobody(world: World) -> None:
    person = world.person("alice")
    person.make_benchmark()
    person.patch("/mlcubes/1", {"is_valid": False}, 1)
    world.admin.patch(f"/users/{person.id}", {"is_active": False})
    events = world.admin.get("/audit-events?limit=256").json()["items"]
    actions = {event["action"] for event in events}
    assert actions >= {
        "user.created",
        "user.disabled",
        "token.created",
        "asset.created",
        "mlcube.created",
        "mlcube.updated",
        "benchmark.created",
    }
    assert "alice" not in json.dumps([event["data"] for event in events])
    updated = next(event for event in events if event["action"] == "mlcube.updated")
    assert (updated["actor_id"], updated["target"], updated["data"]) == (
        person.id,
        "mlcube:1",
        {"fields": ["is_valid"]},
    )
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)


def test_statements_do_not_grow(world: World) -> None:
    alice = world.person("alice")
    alice.make_benchmark()
    counts = []
    for rows in (10, 300):
        for table in ("mlcubes", "benchmarks", "assets"):
            names = ", ".join(
                column.name for column in metadata.tables[table].columns if column.name not in ("id", "name")
            )
            numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
            world.sql(
                f"{numbers} INSERT INTO {table} (name, {names}) SELECT name || '-{rows}-' || i, {names} FROM {table}, n WHERE id = 1"
            )
        paths = (
            "/mlcubes",
            "/benchmarks",
            "/assets",
            "/audit-events",
            "/users",
            "/mlcubes?owner=me&limit=256",
            "/mlcubes/1",
            "/benchmarks/1",
            "/assets/1",
            "/me",
            "/server",
        )
        counts.append({path: world.statements(lambda path=path: world.admin.get(path)) for path in paths})
    assert counts[0] == counts[1]
    assert counts[0].pop("/server") == 1
    assert counts[0].pop("/mlcubes?owner=me&limit=256") == 3  # which parties are mine
    assert set(counts[0].values()) == {2}
    assert world.statements(lambda: alice.get("/benchmarks")) == 3


@only("sqlite", because="a limit on one PostgreSQL database's size cannot be set")
def test_a_full_disk_is_said_and_stops_nobody_from_reading(world: World) -> None:
    raw = world.database.backend.take()
    raw.execute(f"PRAGMA max_page_count={raw.execute('PRAGMA page_count').fetchone()[0]}")
    world.database.backend.give(raw)
    body = world.admin.cube_body("model", upload=False) | {"user_metadata": {"note": "x" * 50_000}}
    problem(world.admin.post("/mlcubes", body), 507, "storage_full")
    assert world.admin.get("/mlcubes").json()["items"] == []


def test_a_log_that_cannot_be_written_costs_only_its_lines(world: World) -> None:
    log = world.context.log
    with open("/dev/full", "wb", buffering=0) as full:  # noqa: PTH123 - a device
        os.dup2(full.fileno(), log._file.fileno())
    assert world.admin.get("/me").status_code == 200
