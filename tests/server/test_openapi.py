"""The API's description: committed, true, and never broken unawares."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medperf.server.app import create_app
from medperf.server.examples import EXAMPLES
from medperf.server.settings import Settings

from .api_changes import breaking
from .conftest import API, World

COMMITTED = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return dict(create_app(Settings(data=tmp_path_factory.mktemp("nothing"))).openapi())


@pytest.fixture(scope="module")
def committed() -> dict[str, Any]:
    return dict(json.loads(COMMITTED.read_text(encoding="utf-8")))


def test_nothing_breaks(document: dict[str, Any], committed: dict[str, Any]) -> None:
    """Where this fails, older clients would fail: keep the old way, or make another version of the API."""
    assert breaking(committed, document) == []


def test_the_committed_description_is_that_of_the_code(document: dict[str, Any], committed: dict[str, Any]) -> None:
    assert document == committed, "docs/reference/openapi.json is stale: make docs, and look at the difference"


def test_it_is_whole(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', text)) <= set(document["components"]["schemas"])
    assert set(re.findall(r'"#/components/responses/([^"]+)"', text)) <= set(document["components"]["responses"])
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            label = f"{method} {path}"
            assert operation["description"], label
            assert {"400", "429", "500", "503"} <= set(operation["responses"]), label
            assert ("401" in operation["responses"]) == bool(operation["security"]) or path.endswith("/tokens"), label
            success = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
            assert success, label
            assert all("Medperf-Instance" in answer["headers"] for answer in success), label
            for parameter in operation["parameters"]:
                assert parameter["schema"], label
                if parameter["in"] == "query":
                    assert parameter["description"], (label, parameter["name"])
            for link in (link for answer in success for link in answer.get("links", {}).values()):
                assert link["operationId"] in names
    change = document["paths"][f"{API}/mlcubes/{{mlcube_id}}"]["patch"]
    assert {"412", "428", "413", "415", "404", "409"} <= set(change["responses"])
    assert "ETag" in change["responses"]["200"]["headers"]
    assert [entry["name"] for entry in change["parameters"] if entry["in"] == "header"] == ["If-Match"]
    create = document["paths"][f"{API}/mlcubes"]["post"]
    assert [entry["name"] for entry in create["parameters"]] == ["Idempotency-Key"]
    for status in ("TooManyRequests", "ServiceUnavailable"):
        assert document["components"]["responses"][status]["headers"]["Retry-After"]["required"]


def test_the_server_gives_the_same(world: World, committed: dict[str, Any]) -> None:
    assert world.client.get(f"{API}/openapi.json").json() == committed


def test_examples_are_taken(world: World) -> None:
    for path, name in (("/users", "UserCreate"), ("/tokens", "TokenCreate"), ("/uploads", "UploadCreate")):
        for example in EXAMPLES[name]:
            answer = world.admin.post(path, example)
            assert answer.status_code == 201, answer.text


# ------------------------------------------------------------------------------------------------ the classifier itself

Change = Callable[[dict[str, Any]], Any]
CUBES = f"{API}/mlcubes"


def _create(document: dict[str, Any]) -> dict[str, Any]:
    return dict(document["components"]["schemas"])["MLCubeCreate"]


BREAKING: dict[str, Change] = {
    "is gone": lambda d: d["paths"].pop(CUBES),
    f"POST {CUBES} is gone": lambda d: d["paths"][CUBES].pop("post"),
    "the parameter owner is gone": lambda d: d["paths"][CUBES]["get"]["parameters"].remove(
        next(entry for entry in d["paths"][CUBES]["get"]["parameters"] if entry["name"] == "owner")
    ),
    "the parameter limit became required": lambda d: d["paths"][CUBES]["get"]["parameters"][0].update(required=True),
    "the parameter limit has a narrower maximum": lambda d: d["paths"][CUBES]["get"]["parameters"][0]["schema"].update(
        maximum=100
    ),
    "needs the field colour now": lambda d: (_create(d)["properties"].update(colour={}), _create(d)["required"].append("colour")),
    "does not take the field forms any more": lambda d: _create(d)["properties"].pop("forms"),
    "field name has a narrower maxLength": lambda d: _create(d)["properties"]["name"].update(maxLength=10),
    "does not take 'DEVELOPMENT' any more": lambda d: d["components"]["schemas"]["State"]["enum"].remove("DEVELOPMENT"),
    "has the field kind no more": lambda d: d["components"]["schemas"]["MLCubeView"]["properties"].pop("kind"),
    "may lack the field id now": lambda d: d["components"]["schemas"]["MLCubeView"]["required"].remove("id"),
    "field id is string now": lambda d: d["components"]["schemas"]["MLCubeView"]["properties"]["id"].update(type="string"),
    "it needs a login now": lambda d: d["paths"][f"{API}/server"]["get"].update(security=[{"token": []}]),
    "does not answer 201 any more": lambda d: d["paths"][CUBES]["post"]["responses"].pop("201"),
    "does not read application/json any more": lambda d: d["paths"][CUBES]["post"]["requestBody"].update(content={}),
}  # fmt: skip

HARMLESS: dict[str, Change] = {
    "a new route": lambda d: d["paths"].update({"/api/v1/x": {}}),
    "a new field of an answer": lambda d: d["components"]["schemas"]["MLCubeView"]["properties"].update(colour={"type": "string"}),
    "a new optional field": lambda d: _create(d)["properties"].update(colour={"type": "string"}),
    "a wider limit": lambda d: _create(d)["properties"]["name"].update(maxLength=1000),
    "a new value": lambda d: d["components"]["schemas"]["State"]["enum"].append("RETIRED"),
    "a new refusal": lambda d: d["paths"][CUBES]["get"]["responses"].update({"418": {}}),
    "a new filter": lambda d: d["paths"][CUBES]["get"]["parameters"].append(
        {"name": "colour", "in": "query", "required": False, "schema": {}}
    ),
}  # fmt: skip


@pytest.mark.parametrize("told", BREAKING)
def test_what_breaks_is_named(document: dict[str, Any], told: str) -> None:
    changed = copy.deepcopy(document)
    BREAKING[told](changed)
    found = breaking(document, changed)
    assert found
    assert any(told in sentence for sentence in found), found


@pytest.mark.parametrize("what", HARMLESS)
def test_what_breaks_nothing_passes(document: dict[str, Any], what: str) -> None:
    changed = copy.deepcopy(document)
    HARMLESS[what](changed)
    assert breaking(document, changed) == []
