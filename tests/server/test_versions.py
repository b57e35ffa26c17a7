"""Versions that do not fit are said plainly, by the server; what the client makes of it is in tests/unit/client/test_http.py."""

from __future__ import annotations

import pytest

from medperf import __version__

from .conftest import API, World, problem


@pytest.mark.parametrize("path", ["/api/v2/mlcubes", "/api/v0/server", "/api/v2", "/api/v10/openapi.json"])
def test_another_version_of_the_api(world: World, path: str) -> None:
    for method in ("GET", "POST"):
        found = problem(world.client.request(method, path), 404, "unsupported_api_version")
        assert "speaks API v1" in found["detail"]
        assert __version__ in found["detail"]
        assert found["fix"]


def test_every_answer_says_who_speaks(world: World) -> None:
    for path in (f"{API}/server", f"{API}/nothing", "/api/v2/x", "/"):
        answer = world.client.get(path)
        assert (answer.headers["Medperf-Version"], answer.headers["Medperf-API"]) == (__version__, "v1")


def test_an_address_that_is_not_there(world: World) -> None:
    found = problem(world.client.get(f"{API}/trainings"), 404, "no_such_route")
    assert "older" in found["fix"]
    answer = world.client.put(f"{API}/mlcubes")
    found = problem(answer, 405, "method_not_allowed")
    assert answer.headers["Allow"] == "GET, POST"
