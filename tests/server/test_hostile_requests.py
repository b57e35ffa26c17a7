"""Any value at any place of any body, and requests that never end: 4xx within bounded memory and time, never 5xx."""

from __future__ import annotations

import copy
import importlib.util
import json
import random
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medperf.domain.digests import Digest
from medperf.server.app import create_app
from medperf.server.bodies import BodyBudget
from medperf.server.examples import EXAMPLES
from medperf.server.openapi import _body
from medperf.server.routing import PlainRoute
from medperf.server.settings import Settings

from .conftest import API, World, problem
from .executing import identity_of, make_study
from .joining import STATISTICS, dataset_body
from .real import serving

#: Values that somebody might send anywhere; as JSON text, since some have no other form.
HOSTILE = (
    "null", "true", "false", "0", "-1", "1.5", "1e999", "-1e999", "NaN", "1e308", "9" * 18, "9" * 5000, "1" + "0" * 400,
    '""', '" "', '"\\u0000"', '"\\ud800"', '"\\udfff\\ud800"', '"\u202e\ufeff"', '"' + "x" * 100_000 + '"', '"\\n"', '"../../etc"',
    "[]", "{}", "[null]", '{"": {}}', '{"__class__": "x"}', '{"a": 1, "a": 2}', "[" * 20 + "]" * 20, "[" * 60 + "]" * 60,
    '{"a":' * 40 + "1" + "}" * 40, "[" + "0," * 3000 + "0]", '"sha256:' + "0" * 64 + '"', '"asset:999999999999999999"', '"2026-99-99T99:99:99Z"',
)  # fmt: skip
MARK = "@hostile@"


def bodies(world: World) -> dict[str, dict[str, Any]]:
    """A good body for every route that reads one."""
    cubes = {
        kind: world.admin.make_cube(kind, name=f"{kind} of hostile") for kind in ("preparator", "model", "evaluator")
    }
    study = make_study(world, world.person("bench"), world.admin, world.admin)
    of_dataset = {"dataset": study.dataset, "preparator": cubes["preparator"]["id"], "identity": identity_of("data")}
    execution = study.register()
    attempt = {"execution": execution, "attempt": study.attempt(execution)}
    good = {name: examples[0] for name, examples in EXAMPLES.items()}
    good |= {
        "DatasetCreate": dataset_body(cubes["preparator"]["id"]),
        "DatasetUpdate": {"name": "Chest", "site_label": "A hospital", "is_active": False},
        "DatasetStatistics": {"dataset": study.dataset, "benchmark": study.benchmark["id"], "statistics": STATISTICS},
        "AssociationCreate": {
            "uuid": str(uuid.uuid4()),
            "benchmark": study.benchmark["id"],
            "statistics_digest": Digest.of(b"statistics"),
            **of_dataset,
        },
        "AssociationInvite": {"uuid": str(uuid.uuid4()), "model": cubes["model"]["id"]},
        "AssociationDecision": {"status": "REVOKED", "reason": "wrong"},
        "AssociationUpdate": {"priority": 2},
        "ExecutionCreate": study.ids(),
        "AttemptCreate": study.attempt_body(),
        "AttemptReport": {**attempt, "state": "RUNNING", "task": "infer"},
        "ProgressReport": {**attempt, "task": "infer", "percent": 5},
        "ReleaseCreate": study.release_body(execution),
        "WithholdingCreate": {**attempt, "reason": "in doubt"},
        "RetractionCreate": {**attempt, "reason": "wrong"},
        "MLCubeCreate": world.admin.cube_body("model", name="hostile"),
        "BenchmarkCreate": world.admin.benchmark_body(cubes, name="hostile"),
        "OrganisationCreate": {"name": "Hospital"},
        "OrganisationUpdate": {"name": "Hospital"},
        "MemberUpdate": {"rights": ["manage"]},
        "InvitationCreate": {"username": "alice", "rights": ["operate"]},
        "InvitationAnswer": {"accept": True},
    }
    return good


def routes(settings: Settings) -> Iterator[tuple[str, str, str]]:
    for route in create_app(settings).routes:
        model = _body(route) if isinstance(route, PlainRoute) else None
        if model is not None:
            (method,) = route.methods  # a plain route has one
            yield method, route.path.removeprefix(API), model.__name__


def places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    entries = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in entries:
        yield from places(value, (*path, key))


def with_value(document: Any, path: tuple[Any, ...], value: str) -> str:
    """The document's JSON with ``value`` in a place."""
    if not path:
        return value
    changed = copy.deepcopy(document)
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = MARK
    return json.dumps(changed).replace(f'"{MARK}"', value)


def send_hostile(world: World, *, of_each: int) -> int:
    dice, good, sent = random.Random(4), bodies(world), 0
    for method, path, name in routes(world.settings):
        target = re.sub(r"{\w+}", "1", path)
        document = good[name] | ({"colour": 1} if dice.random() < 0.1 else {})
        every = [(place, value) for place in places(document) for value in HOSTILE]
        for place, value in dice.sample(every, min(of_each, len(every))):
            body = with_value(document, place, value)
            began = time.monotonic()
            answer = world.admin.send(
                method, target, content=body.encode("utf-8", "surrogatepass"), headers={"If-Match": '"1"'}
            )
            assert answer.status_code < 500, (method, path, place, value[:80], answer.text)
            assert answer.status_code != 401 or path in ("/tokens", "/me/password"), (method, path, place, value[:80])
            assert time.monotonic() - began < 5, (method, path, place, value[:80])
            if answer.status_code >= 400:
                assert {"code", "detail", "fix"} <= set(answer.json())
            sent += 1
    return sent


def test_any_value_anywhere(make_world: Callable[..., World]) -> None:
    world = make_world(login_burst=10_000)
    assert send_hostile(world, of_each=40) > 400


@pytest.mark.long
def test_every_value_everywhere(make_world: Callable[..., World]) -> None:
    world = make_world(login_burst=1_000_000, rate_per_second=0, anonymous_rate_per_second=0)
    assert send_hostile(world, of_each=100_000) > 5000


def test_what_is_around_a_document(world: World) -> None:
    body = json.dumps({"name": "Hospital"}).encode()
    for content in (b"\xef\xbb\xbf" + body, b"\n\t " + body + b"\r\n"):
        assert (
            world.admin.send(
                "POST", "/organisations", content=content.replace(b"Hospital", b"H%d" % len(content))
            ).status_code
            == 201
        )
    for content in (
        body + b"x",
        body + body,
        body.decode().encode("utf-16"),
        b"\xef\xbb\xbf" * 2 + body,
        body[:-1],
        b"\x00" + body,
    ):
        assert world.admin.send("POST", "/organisations", content=content).status_code == 400


def test_encoded_bodies_are_refused(world: World) -> None:
    import gzip

    for encoding in ("gzip", "br", "deflate, gzip", "GZIP"):
        answer = world.admin.send(
            "POST", "/mlcubes", content=gzip.compress(bytes(10**7)), headers={"Content-Encoding": encoding}
        )
        problem(answer, 415, "wrong_encoding")
    assert (
        world.admin.send(
            "POST", "/organisations", json={"name": "A b"}, headers={"Content-Encoding": "identity"}
        ).status_code
        == 201
    )


def test_many_headers(world: World) -> None:
    headers = {f"X-{number}": "1" for number in range(200)}
    problem(world.admin.send("GET", "/me", headers=headers), 431, "too_many_headers")


def test_somebody_without_a_login_says_little(world: World) -> None:
    body = {"username": "x" * 20_000, "password": "y"}
    problem(world.client.post(f"{API}/tokens", json=body), 413, "body_too_large")


def test_what_is_held_is_bounded_and_given_back() -> None:
    budget = BodyBudget(total=100, each=60)
    budget.take("a", 60)
    with pytest.raises(Exception, match="requests are on their way"):
        budget.take("a", 1)
    budget.take("b", 40)
    with pytest.raises(Exception, match="as much as it can hold"):
        budget.take("c", 1)
    budget.give("a", 60)
    budget.take("c", 60)
    budget.give("b", 40)
    budget.give("c", 60)
    assert (budget.held, budget._held) == (0, {})


def test_nothing_is_held_after_refusals(world: World) -> None:
    for content in (b"{", b"x" * 3_000_000, b'{"name": 1}'):
        world.admin.send("POST", "/mlcubes", content=content)
        world.admin.send("POST", "/mlcubes", content=iter([content]))
    assert world.context.bodies.held == 0


def test_a_slow_body_is_ended(settings: Settings) -> None:
    with (
        serving(replace(settings, body_seconds=0.4)) as url,
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection,
    ):
        connection.settimeout(10)
        connection.sendall(b"POST /api/v1/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        began = time.monotonic()
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")
        assert time.monotonic() - began < 5


def bench() -> Any:
    path = Path(__file__).parents[2] / "benchmarks" / "hostile_bodies.py"
    spec = importlib.util.spec_from_file_location("hostile_bodies", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_memory_of_a_real_worker(tmp_path: Path) -> None:
    """What `benchmarks/hostile_bodies.py` measures, smaller: no 5xx, and the worker stays small."""
    module = bench()
    with module.server(tmp_path / "server") as (port, pid, token):
        module.ask(port)
        start, _ = module.memory(pid)
        for name, attack in module.attacks(32 * 1024**2).items():
            found = module.run(port, pid, token, attack, connections=4, rounds=1)
            assert not [status for status in found.statuses if status >= 500 and status != 503], (name, found)
            assert not [status for status in found.statuses if 200 <= status < 300], (name, found)
        assert module.memory(pid)[1] - start < 200, "the worker grew by more than 200 MiB"
