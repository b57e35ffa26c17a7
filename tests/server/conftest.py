"""A real server in this process, with people who use it."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from starlette.testclient import TestClient

from medperf.domain.digests import Digest
from medperf.server import admin
from medperf.server.app import create_app
from medperf.server.location import PostgresURL, located, remember
from medperf.server.settings import PasswordCost, Settings
from medperf.server.tables import metadata
from medperf.testing.postgres import Cluster

T = TypeVar("T")
API = "/api/v1"
CHEAP = PasswordCost(time=1, memory_kib=8, lanes=1)
PASSWORD = "correct horse"
IN, OUT = "inputs", "outputs"

TASKS: dict[str, dict[str, dict[str, dict[str, str]]]] = {
    "preparator": {
        "prepare": {IN: {"data_path": "data", "labels_path": "labels"}, OUT: {"output_path": "prepared"}},
        "sanity_check": {IN: {"data_path": "prepared"}, OUT: {}},
        "statistics": {IN: {"data_path": "prepared"}, OUT: {"output_path": "statistics.yaml"}},
    },
    "model": {"infer": {IN: {"data_path": "data"}, OUT: {"output_path": "predictions"}}},
    "evaluator": {
        "evaluate": {IN: {"predictions": "predictions", "labels": "labels"}, OUT: {"output_path": "results.yaml"}}
    },
}


def manifest_of(
    kind: str, *, sections: str = "python: {project: ../project}", inputs: dict[str, str] | None = None
) -> str:
    """An mlcube.yaml of that kind; ``inputs`` adds inputs to its first task."""
    lines = [f"name: {kind}", sections, "tasks:"]
    for number, (task, parameters) in enumerate(TASKS[kind].items()):
        declared = dict(parameters[IN]) | (inputs or {} if number == 0 else {})
        lines.append(f"  {task}:\n    parameters:\n      inputs: {declared!r}\n      outputs: {parameters[OUT]!r}")
    return "\n".join(lines) + "\n"


@dataclass
class Person:
    """Somebody with an account and a login."""

    client: TestClient
    name: str
    id: int
    party: int
    token: str

    def send(self, method: str, path: str, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"} | options.pop("headers", {})
        return self.client.request(method, f"{API}{path}", headers=headers, **options)

    def get(self, path: str, **options: Any) -> Any:
        return self.send("GET", path, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> Any:
        return self.send("POST", path, json=body, **options)

    def patch(self, path: str, body: Any, version: int | None = None) -> Any:
        headers = {} if version is None else {"If-Match": f'"{version}"'}
        return self.send("PATCH", path, json=body, headers=headers)

    def announce(self, content: bytes, name: str = "file", *, key: str | None = None, **fields: Any) -> Any:
        """POST /uploads for these bytes."""
        body = {"name": name, "size": len(content), "digest": Digest.of(content)} | fields
        return self.post("/uploads", body, headers={} if key is None else {"Idempotency-Key": key})

    def send_piece(self, upload_id: str, offset: int, content: Any) -> Any:
        """PATCH /uploads/{id}."""
        headers = {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
        return self.send("PATCH", f"/uploads/{upload_id}", content=content, headers=headers)

    def upload(self, content: bytes, name: str = "file", **fields: Any) -> dict[str, Any]:
        """Upload and return a FileRef document of it."""
        started = self.announce(content, name, **fields)
        assert started.status_code == 201, started.text
        upload_id = started.json()["id"]
        if content:
            assert self.send_piece(upload_id, 0, content).status_code == 204
        answer = self.post(f"/uploads/{upload_id}/completion")
        assert answer.status_code == 201, answer.text
        view = answer.json()
        return {"digest": view["digest"], "size": view["size"], "urls": [f"asset:{view['id']}"]}

    def cube_body(
        self, kind: str, *, name: str | None = None, text: str | None = None, upload: bool = True, **changes: Any
    ) -> dict[str, Any]:
        """A valid body of POST /mlcubes in the form python."""
        text = manifest_of(kind) if text is None else text
        put = self.upload if upload else web_file
        files = {"manifest": put(text.encode()), "project": put(f"project of {kind} {name}".encode())}
        forms = {"python": {"project": files["project"]["digest"]}}
        return {"name": name or kind, "manifest_text": text, "files": files, "forms": forms, **changes}

    def make_cube(self, kind: str, **changes: Any) -> dict[str, Any]:
        """A registered MLCube."""
        answer = self.post("/mlcubes", self.cube_body(kind, **changes))
        assert answer.status_code == 201, answer.text
        return answer.json()

    def benchmark_body(
        self, cubes: dict[str, dict[str, Any]] | None = None, *, name: str = "benchmark", **changes: Any
    ) -> dict[str, Any]:
        """A valid body of POST /benchmarks; makes the three MLCubes unless they are given."""
        cubes = cubes or {kind: self.make_cube(kind, name=f"{kind} of {name}") for kind in TASKS}
        demo = self.upload(f"demo of {name}".encode())
        digest = Digest.of(b"prepared")
        steps = [
            {"task": task, "key": digest, "seconds": 0.5, "cached": False}
            for task in ("prepare", "sanity_check", "statistics", "infer", "evaluate")
        ]
        report = {
            "client_version": "0.1.0",
            "engine": "sandbox",
            "architecture": "x86_64",
            "policy": {},
            "demo_digest": demo["digest"],
            "prepared_identity": digest,
            **{kind: report_of(cube) for kind, cube in cubes.items()},
            "steps": steps,
            "statistics": {"cases": 10},
            "metrics": {"AUC": {"Edema": 0.75}},
            "started_at": "2026-01-01T00:00:00Z",
            "finished_at": "2026-01-01T00:01:00Z",
        }
        contract = {
            "version": 1,
            "primary": "AUC.Edema",
            "has_cases": False,
            "rules": [{"key": "AUC.Edema", "minimum": 0.0, "maximum": 1.0, "direction": "higher"}],
        }
        return {
            "name": name,
            "description": "Compares.",
            "demo": demo,
            "preparator": cubes["preparator"]["id"],
            "reference_model": cubes["model"]["id"],
            "evaluator": cubes["evaluator"]["id"],
            "report": report,
            "metrics_contract": contract,
            **changes,
        }

    def make_benchmark(self, **changes: Any) -> dict[str, Any]:
        """A registered benchmark, PENDING."""
        answer = self.post("/benchmarks", self.benchmark_body(**changes))
        assert answer.status_code == 201, answer.text
        return answer.json()


def report_of(cube: dict[str, Any]) -> dict[str, Any]:
    """What a report says of a registered MLCube that ran."""
    files = {name: ref["digest"] for name, ref in cube["files"].items()}
    return {
        "mlcube": cube["id"],
        "files": files,
        "form": "python",
        "form_digests": {**cube["forms"]["python"], "interpreter": "3.11.7"},
    }


def web_file(content: bytes) -> dict[str, Any]:
    """A FileRef document of a file that is on somebody's web host."""
    return {"digest": Digest.of(content), "size": len(content), "urls": ["https://example.org/file"]}


def problem(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Check the one error shape, and return it."""
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    body = answer.json()
    assert set(body) == {"type", "title", "status", "code", "detail", "fix", "errors"}
    assert (body["status"], body["code"]) == (status, code), body
    assert body["detail"]
    return dict(body)


class World:
    """A running server and its people."""

    def __init__(self, client: TestClient, settings: Settings, cluster: Cluster | None = None) -> None:
        self.client = client
        self.settings = settings
        self.cluster = cluster
        self.admin = self.login("admin", "admin")

    @property
    def context(self) -> Any:
        """The server's `ServerContext`."""
        return self.client.app.state.context

    @property
    def database(self) -> Any:
        return self.context.database

    def login(self, name: str, password: str) -> Person:
        answer = self.client.post(f"{API}/tokens", json={"username": name, "password": password})
        assert answer.status_code == 201, answer.text
        found = answer.json()
        return Person(self.client, name, found["user"]["id"], found["user"]["party_id"], found["token"])

    def person(self, name: str, *, admin: bool = False) -> Person:
        made = self.admin.post("/users", {"username": name, "password": PASSWORD, "is_admin": admin})
        assert made.status_code == 201, made.text
        return self.login(name, PASSWORD)

    def approve(self, benchmark: dict[str, Any], approval: str = "APPROVED") -> None:
        answer = self.admin.post(
            f"/benchmarks/{benchmark['id']}/decision", {"approval": approval, "reason": "looked at"}
        )
        assert answer.status_code == 200, answer.text

    def statements(self, call: Callable[[], Any]) -> int:
        """How many statements a call needs."""
        before = self.database.statements
        assert call().status_code < 400
        return int(self.database.statements - before)

    def sql(self, statement: str, *parameters: Any) -> list[Any]:
        """Straight into the database, as another process would; parameters are question marks on both kinds."""
        url = located(self.settings)
        if url is not None:
            assert self.cluster is not None
            numbers = itertools.count(1)
            numbered = re.sub(r"\?", lambda _: f"${next(numbers)}", statement)
            return self.cluster.fetch(numbered, *parameters, database=url.name)
        with closing(sqlite3.connect(self.settings.database_file, timeout=5)) as raw, raw:
            return raw.execute(statement, parameters).fetchall()

    def stored(self) -> bytes:
        """All that the database holds."""
        if self.cluster is None:
            file = self.settings.database_file
            return file.read_bytes() + file.with_name(f"{file.name}-wal").read_bytes()
        return "".join(repr(self.sql(f'SELECT * FROM "{name}"')) for name in metadata.tables).encode()

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run ``await work()`` in the server's own event loop, where its database can be used."""
        assert self.client.portal is not None
        return self.client.portal.call(work)


DATABASES = ("sqlite", "postgresql")


def only(kind: str, *, because: str) -> Any:
    """A test for one kind of database; ``because`` says what the other one has not."""
    assert kind in DATABASES
    assert because
    return pytest.mark.parametrize("database", [kind], indirect=True)


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest) -> str:
    """The kind of database that a test runs on: every test runs on both, unless it is marked with `only`."""
    return str(request.param)


@pytest.fixture(scope="session")
def fresh_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A development server that nobody used, on SQLite."""
    data = tmp_path_factory.mktemp("fresh") / "server"
    admin.init(data, development=True, password_cost=CHEAP)
    return data


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server."""
    found = Cluster()
    found.start()
    yield found
    found.stop()


@pytest.fixture(scope="session")
def fresh_postgres(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> Path:
    """A development server that nobody used, on PostgreSQL; its database is ``fresh``."""
    data = tmp_path_factory.mktemp("fresh_postgres") / "server"
    cluster.execute("CREATE DATABASE fresh")
    admin.init(data, development=True, database=cluster.url("fresh"), password_cost=CHEAP)
    return data


_numbers = itertools.count(1)


@pytest.fixture
def settings(request: pytest.FixtureRequest, database: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings of a copy of it."""
    data = tmp_path / "server"
    copy = Settings(data=data, password_cost=CHEAP)
    if database == "sqlite":
        shutil.copytree(request.getfixturevalue("fresh_data"), data)
        yield copy
        return
    shutil.copytree(request.getfixturevalue("fresh_postgres"), data)
    cluster: Cluster = request.getfixturevalue("cluster")
    name = f"test{next(_numbers)}"
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE fresh STRATEGY FILE_COPY")
    remember(copy, PostgresURL.parse(cluster.url(name)))
    yield copy
    cluster.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def make_world(request: pytest.FixtureRequest, database: str, settings: Settings) -> Iterator[Callable[..., World]]:
    """Start the server with other settings."""
    with contextlib.ExitStack() as stack:

        def make(**changes: Any) -> World:
            changed = replace(settings, **changes)
            client = stack.enter_context(TestClient(create_app(changed), raise_server_exceptions=True))
            return World(client, changed, request.getfixturevalue("cluster") if database == "postgresql" else None)

        yield make
    for line in settings.log_file.read_text().splitlines() if settings.log_file.exists() else ():
        if '"fault"' in line:  # shown with a test that failed
            print(json.loads(line)["exception"])


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """The server with default settings."""
    return make_world()


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.long)], ids=["some", "all"])
def house(request: pytest.FixtureRequest, database: str, settings: Settings) -> Iterator[Any]:
    """A server whose requests go on when told: an `orders.Theatre`."""
    from .orders import theatre

    cluster = request.getfixturevalue("cluster") if database == "postgresql" else None
    with theatre(settings, cluster, thorough=request.param) as found:
        yield found


@pytest.fixture
def alice(world: World) -> Person:
    return world.person("alice")


@pytest.fixture
def bob(world: World) -> Person:
    return world.person("bob")
