"""Every route x actor has an expected answer. A new route without its row fails."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from medperf.server import authz
from medperf.server.app import create_app
from medperf.server.settings import Settings

from .conftest import PASSWORD, Person, World

ACTORS = ("anonymous", "stranger", "owner", "other owner", "admin", "expired", "disabled")
NOBODY = (401, 401, 401)


def row(
    stranger: int,
    owner: int,
    other_owner: int,
    admin: int,
    *,
    anonymous: int = 401,
    expired: int = 401,
    disabled: int = 401,
) -> dict[str, int]:
    return dict(zip(ACTORS, (anonymous, stranger, owner, other_owner, admin, expired, disabled), strict=True))


def everybody(status: int) -> dict[str, int]:
    return dict.fromkeys(ACTORS, status)


#: Things: MLCube 4 is the owner's in DEVELOPMENT, benchmark 1 the owner's and PENDING, asset {model} the owner's reference model's project.
EXPECTED: dict[str, dict[str, int]] = {
    "GET /api/v1/openapi.json": everybody(200),
    "HEAD /api/v1/openapi.json": everybody(200),
    "GET /api/v1/server": everybody(200),
    "POST /api/v1/tokens": everybody(201),
    "DELETE /api/v1/tokens/current": row(204, 204, 204, 204),
    "GET /api/v1/me": row(200, 200, 200, 200),
    "POST /api/v1/me/password": row(204, 204, 204, 204),
    "GET /api/v1/users": row(403, 403, 403, 200),
    "POST /api/v1/users": row(403, 403, 403, 201),
    "GET /api/v1/users/{user_id}": row(403, 403, 403, 200),
    "PATCH /api/v1/users/{user_id}": row(403, 403, 403, 200),
    "GET /api/v1/mlcubes": row(200, 200, 200, 200),
    "POST /api/v1/mlcubes": row(201, 201, 201, 201),
    "GET /api/v1/mlcubes/{mlcube_id}": row(404, 200, 404, 200),
    "PATCH /api/v1/mlcubes/{mlcube_id}": row(404, 200, 404, 403),
    "GET /api/v1/benchmarks": row(200, 200, 200, 200),
    "POST /api/v1/benchmarks": row(201, 201, 201, 201),
    "GET /api/v1/benchmarks/{benchmark_id}": row(404, 200, 404, 200),
    "PATCH /api/v1/benchmarks/{benchmark_id}": row(404, 200, 404, 403),
    "POST /api/v1/benchmarks/{benchmark_id}/decision": row(403, 403, 403, 200),
    "GET /api/v1/assets": row(200, 200, 200, 200),
    "POST /api/v1/assets": row(201, 201, 201, 201),
    "GET /api/v1/assets/{asset_id}": row(404, 200, 404, 200),
    "GET /api/v1/assets/{asset_id}/content": row(404, 200, 404, 404),
    "DELETE /api/v1/assets/{asset_id}": row(404, 409, 404, 403),
    "GET /api/v1/audit-events": row(403, 403, 403, 200),
}


def routes(settings: Settings) -> dict[str, Any]:
    found = {}
    for route in create_app(settings).routes:
        assert hasattr(route, "methods"), f"{route} is no plain route: mounts escape this table"
        for method in route.methods:
            found[f"{method} {route.path}"] = route
    return found


def test_table_is_complete(settings: Settings) -> None:
    assert set(routes(settings)) == set(EXPECTED)


def test_permission_is_in_every_signature(settings: Settings) -> None:
    guards = {authz.visitor, authz.account, authz.admin}
    for name, route in routes(settings).items():
        if name.endswith("openapi.json"):
            continue
        calls = {dependency.call for dependency in route.dependant.dependencies}
        assert len(calls & guards) == 1, f"{name} names {len(calls & guards)} actors"
        assert inspect.iscoroutinefunction(route.endpoint), f"{name} would run in a thread"
        statuses = set(EXPECTED[name].values())
        if authz.admin in calls:
            assert EXPECTED[name]["owner"] == 403
        assert (authz.visitor in calls) == (401 not in statuses)


@pytest.fixture
def cast(world: World) -> dict[str, Person]:
    """The actors; each has what the table says."""
    people = {
        name: world.person(name.replace(" ", "."))
        for name in ("stranger", "owner", "other owner", "expired", "disabled")
    }
    people["admin"] = world.person("root", admin=True)
    people["anonymous"] = Person(world.client, "anonymous", 0, 0, "")
    people["owner"].make_benchmark()
    people["owner"].make_cube("model", name="draft", state="DEVELOPMENT")
    people["other owner"].make_benchmark(name="other")
    world.sql("UPDATE tokens SET expires_at = '2020' WHERE user_id = ?", people["expired"].id)
    world.sql("UPDATE users SET is_active = 0 WHERE id = ?", people["disabled"].id)
    return people


def body_for(name: str, actor: Person, author: Person) -> dict[str, Any]:
    """A good request; ``author`` prepares what it needs where the actor cannot."""
    bodies: dict[str, Any] = {
        "POST /api/v1/tokens": lambda: {"username": "stranger", "password": PASSWORD},
        "POST /api/v1/me/password": lambda: {"current": PASSWORD, "new": PASSWORD},
        "POST /api/v1/users": lambda: {"username": "new", "password": PASSWORD},
        "PATCH /api/v1/users/{user_id}": lambda: {"is_active": False},
        "POST /api/v1/mlcubes": lambda: author.cube_body("model", name="new"),
        "PATCH /api/v1/mlcubes/{mlcube_id}": lambda: {"name": "renamed"},
        "POST /api/v1/benchmarks": lambda: author.benchmark_body(name="new"),
        "PATCH /api/v1/benchmarks/{benchmark_id}": lambda: {"is_active": False},
        "POST /api/v1/benchmarks/{benchmark_id}/decision": lambda: {"approval": "APPROVED"},
    }
    if name == "POST /api/v1/assets":
        return {"content": b"x", "params": {"name": "x"}}
    return {"json": bodies[name]()} if name in bodies else {}


@pytest.mark.parametrize("actor", ACTORS)
def test_every_cell(world: World, cast: dict[str, Person], actor: str) -> None:
    person = cast[actor]
    project = cast["owner"].get("/mlcubes/2").json()["files"]["project"]["urls"][0].removeprefix("asset:")
    ids = {"user_id": str(cast["stranger"].id), "mlcube_id": "4", "benchmark_id": "1", "asset_id": project}
    author = person if EXPECTED["POST /api/v1/mlcubes"][actor] == 201 else cast["owner"]
    # what ends the login or the stranger's account comes last
    last = ("POST /api/v1/me/password", "PATCH /api/v1/users/{user_id}", "DELETE /api/v1/tokens/current")
    for name in sorted(EXPECTED, key=lambda name: (name in last, last.index(name) if name in last else 0)):
        method, path = name.split(" ")
        path = re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], path)
        headers = {} if actor == "anonymous" else {"Authorization": f"Bearer {person.token}"}
        headers["If-Match"] = '"1"'
        if method == "HEAD":
            continue
        answer = world.client.request(method, path, headers=headers, **body_for(name, person, author))
        assert answer.status_code == EXPECTED[name][actor], f"{actor}: {name}: {answer.text}"
        assert answer.headers["Medperf-Instance"]
