"""Every route x actor x state has an expected answer. A new route without its cells fails."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest

from medperf.domain.permissions import RULES, WITHOUT_ROUTE, Action, Who
from medperf.server import authz
from medperf.server.app import create_app
from medperf.server.settings import Settings

from .conftest import API, World, only, problem
from .permission_table import ACTORS, ASSOCIATIONS, BENCHMARKS, DATASETS, HEADING, MLCUBES, ROWS, Row
from .stage import Stage


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """The server, which does not mind being asked often."""
    return make_world(rate_per_second=0, anonymous_rate_per_second=0)


def routes(settings: Settings) -> dict[str, Any]:
    found = {}
    for route in create_app(settings).routes:
        assert hasattr(route, "methods"), f"{route} is no plain route: mounts escape this table"
        for method in route.methods:
            found[f"{method} {route.path.removeprefix(API)}"] = route
    return found


def actions_of(route: Any) -> tuple[Action, ...]:
    """What a route's signature says is attempted."""
    calls = [dependency.call for dependency in route.dependant.dependencies]
    guards = [call for call in calls if call is authz.visitor or hasattr(call, "actions")]
    assert len(guards) == 1, f"{route.path} names {len(guards)} actors"
    return getattr(guards[0], "actions", ())


def test_table_is_complete(settings: Settings) -> None:
    assert HEADING.split() == list(ACTORS)
    assert set(routes(settings)) == {row.route for row in ROWS}
    assert len({(row.route, row.fields, row.what) for row in ROWS}) == len(ROWS)
    for noun, states in (
        ("/mlcubes/{mlcube_id}", MLCUBES),
        ("/benchmarks/{benchmark_id}", BENCHMARKS),
        ("/datasets/{dataset_id}", DATASETS),
    ):
        assert {row.what for row in ROWS if row.route == f"GET {noun}"} == states
        assert {row.what for row in ROWS if row.route == f"PATCH {noun}"} == states
    assert {row.what for row in ROWS if row.route == "GET /associations/{association_id}"} == ASSOCIATIONS


def test_what_is_attempted_is_in_every_signature(settings: Settings) -> None:
    attempted: set[Action] = set()
    for name, route in routes(settings).items():
        if name.endswith("openapi.json"):
            continue
        actions = actions_of(route)
        attempted.update(actions)
        assert inspect.iscoroutinefunction(route.endpoint), f"{name} would run in a thread"
        cells = [row.cells for row in ROWS if row.route == name]
        assert (actions == ()) == all(row["anon"] != 401 for row in cells)
        if actions and all(RULES[action].may == (Who.ADMIN,) for action in actions):
            assert all(row[actor] == 403 for row in cells for actor in ACTORS[1:9]), name
        if actions:
            assert all(row[actor] == 401 for row in cells for actor in ("anon", "expi", "disa")), name
    open_to_all = {action for action, rule in RULES.items() if rule.may == (Who.ANYONE,)}
    assert attempted | open_to_all | WITHOUT_ROUTE == set(Action)
    assert not attempted & WITHOUT_ROUTE


NOBODYS = "999999"
ABSENT = {"upload_id": "00000000-0000-4000-8000-000000000000"}


def test_every_cell(world: World) -> None:
    """About 1,500 requests. What is hidden answers, but for its id, byte for byte as what is not there."""
    stage = Stage(world)
    wrong = []
    for row, actor in itertools.product(ROWS, ACTORS):
        answer = stage.ask(row, actor)
        if answer.status_code != row.cells[actor]:
            wrong.append(f"{actor}: {row.route} {row.fields} of {row.what}: {answer.status_code} {answer.text[:200]}")
        elif row.cells[actor] == 404 and "{" in row.path and '"no_such_member"' not in answer.text:
            wrong += [f"{actor}: {row.route} of {row.what}: {fault}" for fault in _tells(stage, row, actor, answer)]
    assert not wrong, "\n".join(wrong)


def _tells(stage: Stage, row: Row, actor: str, answer: Any) -> list[str]:
    """How the answer differs from that about a thing that is not there."""
    name = re.findall(r"\{(\w+)\}", row.path)[0]
    absent = ABSENT.get(name, NOBODYS)
    other = stage.ask(row, actor, **{name: absent})
    number = answer.request.url.path.split("/")[
        [part.strip("{}") for part in f"{API}{row.path}".split("/")].index(name)
    ]

    def told(response: Any, of: str) -> tuple[Any, ...]:
        said = {key: value for key, value in response.headers.items() if key not in ("date", "content-length")}
        return response.status_code, said, re.sub(rf"\b{of}\b", "ID", response.text)

    return [] if told(answer, number) == told(other, absent) else [f"{answer.text} is not {other.text}"]


def test_lists_hold_what_may_be_read(world: World) -> None:
    """One condition for lists and for checks."""
    stage = Stage(world)
    for noun, names in (("mlcubes", MLCUBES), ("benchmarks", BENCHMARKS), ("datasets", DATASETS)):
        for actor in ACTORS[1:10]:
            listed = {one["id"] for one in stage.people[actor].get(f"/{noun}", params={"limit": 256}).json()["items"]}
            read = {
                row.what
                for row in ROWS
                if row.path.startswith(f"/{noun}/") and row.method == "GET" and row.cells[actor] == 200
            }
            assert {name for name in names if stage.ids[name] in listed} == read, (noun, actor)


def test_what_is_told_in_which_order(world: World) -> None:
    """Hidden before forbidden, forbidden before stale or frozen."""
    alice, bob = world.person("alice"), world.person("bob")
    draft, public = alice.make_cube("model", state="DEVELOPMENT"), alice.make_cube("model", name="public")
    for body in ({"name": "x"}, {"user_metadata": {}}, {"state": "DEVELOPMENT"}):
        problem(bob.patch(f"/mlcubes/{draft['id']}", body, 77), 404, "no_such_mlcube")
        problem(bob.patch(f"/mlcubes/{public['id']}", body, 77), 403, "not_owner")
        problem(alice.patch(f"/mlcubes/{public['id']}", body, 77), 412, "edited_meanwhile")
    problem(alice.patch(f"/mlcubes/{public['id']}", {"name": "x"}, 1), 409, "frozen_in_operation")
    made = alice.post("/organisations", {"name": "Hospital"}).json()
    problem(bob.patch(f"/organisations/{made['id']}", {"name": "X"}, 77), 404, "no_such_organisation")
    problem(world.admin.patch(f"/organisations/{made['id']}", {"name": "X"}, 77), 403, "not_owner")


# ------------------------------------------------------------------------------------------------------ mass assignment

#: What the server decides, and what tables call it.
OURS = frozenset(
    {
        "owner_id",
        "owner_name",
        "user_id",
        "created_by",
        "invited_by",
        "revoked_at",
        "role",
        "scopes",
        "password_hash",
        "hash",
    }
    | {"username_key", "name_key", "can_manage", "can_operate", "can_release", "asset_id", "is_superuser"}
)


#: Who may send each body.
SENDERS = {
    "POST /tokens": "strn",
    "POST /me/password": "strn",
    "POST /users": "admn",
    "PATCH /users/{user_id}": "admn",
    "POST /mlcubes": "modl",
    "PATCH /mlcubes/{mlcube_id}": "modl",
    "POST /benchmarks": "bnch",
    "PATCH /benchmarks/{benchmark_id}": "bnch",
    "POST /benchmarks/{benchmark_id}/decision": "admn",
    "POST /uploads": "data",
    "POST /organisations": "strn",
    "PATCH /organisations/{organisation_id}": "mana",
    "PATCH /organisations/{organisation_id}/members/{user_id}": "mana",
    "POST /organisations/{organisation_id}/invitations": "mana",
    "POST /invitations/{invitation_id}/answer": "strn",
    "POST /datasets": "data",
    "PATCH /datasets/{dataset_id}": "data",
    "PUT /datasets/{dataset_id}/statistics": "data",
    "POST /associations": "data",
    "POST /benchmarks/{benchmark_id}/invitations": "bnch",
    "PATCH /associations/{association_id}": "bnch",
    "POST /associations/{association_id}/decision": "bnch",
    "POST /executions": "data",
    "POST /executions/{execution_id}/attempts": "data",
    "PATCH /executions/{execution_id}/attempts/{number}": "data",
    "PUT /executions/{execution_id}/attempts/{number}/progress": "data",
    "POST /executions/{execution_id}/release": "data",
    "POST /executions/{execution_id}/withholding": "data",
    "POST /executions/{execution_id}/retraction": "data",
}


def field_names() -> set[str]:
    """Every name a client could have read in an answer, and ours."""
    from pydantic import BaseModel

    from medperf.wire import assets, associations, audit, datasets, executions, inbox, models, organisations

    found: set[str] = set(OURS)
    for module in (assets, associations, audit, datasets, executions, inbox, models, organisations):
        for thing in vars(module).values():
            if inspect.isclass(thing) and issubclass(thing, BaseModel):
                found |= set(thing.model_fields)
    return found


@only("sqlite", because="bodies are refused before any database is asked")
def test_nothing_can_be_set_but_what_a_body_has(world: World, settings: Settings) -> None:
    stage = Stage(world)
    reading = {name: getattr(route, "openapi_extra", None) or {} for name, route in routes(settings).items()}
    assert {name for name, extra in reading.items() if "x-body" in extra} == set(SENDERS)
    values = itertools.cycle((1, True, "x", None, {}))
    for name, actor in SENDERS.items():
        row = next(row for row in ROWS if row.route == name and 200 <= row.cells[actor] < 300)
        request = stage.prepared(row, actor)
        unknown = sorted(field_names() - _fields_of(world, name))
        assert {"id", "owner_id", "is_superuser"} <= set(unknown)
        before = contents(world)
        for field in unknown:
            value = next(values)
            answer = request.send(stage.people[actor], {field: value})
            assert answer.status_code == 400, f"{name} took {field}={value!r}: {answer.text}"
        assert contents(world) == before, name
        assert request.send(stage.people[actor], {}).status_code == row.cells[actor], name  # without it, it is taken


def _fields_of(world: World, name: str) -> set[str]:
    """The fields that the published description gives a body."""
    described = world.client.get(f"{API}/openapi.json").json()
    method, path = name.split()
    schema = described["paths"][f"{API}{path}"][method.lower()]["requestBody"]["content"]["application/json"]["schema"]
    return set(described["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"])


def contents(world: World) -> dict[str, Any]:
    """Every row of every table that requests change."""
    from medperf.server.tables import metadata

    return {
        table.name: sorted(world.sql(f'SELECT * FROM "{table.name}"'), key=repr)
        for table in metadata.sorted_tables
        if table.name not in ("tokens", "audit_checkpoints")  # a login; what seals the trail meanwhile
    }
