"""A real server in this process, with people who use it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from medperf.domain.digests import Digest
from medperf.server import admin
from medperf.server.app import create_app
from medperf.server.settings import PasswordCost, Settings

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

    def upload(self, content: bytes, name: str = "file", **headers: str) -> dict[str, Any]:
        """Upload and return a FileRef document of it."""
        answer = self.send(
            "POST", "/assets", params={"name": name, "digest": Digest.of(content)}, content=content, headers=headers
        )
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

    def __init__(self, client: TestClient, settings: Settings) -> None:
        self.client = client
        self.settings = settings
        self.admin = self.login("admin", "admin")

    @property
    def database(self) -> Any:
        return self.client.app.state.context.database  # type: ignore[attr-defined]

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
        """Straight into the file, as another process would."""
        import sqlite3
        from contextlib import closing

        with closing(sqlite3.connect(self.settings.database_file, timeout=5)) as raw, raw:
            return raw.execute(statement, parameters).fetchall()


@pytest.fixture(scope="session")
def fresh_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A development server that nobody used."""
    data = tmp_path_factory.mktemp("fresh") / "server"
    admin.init(data, development=True, password_cost=CHEAP)
    return data


@pytest.fixture
def settings(fresh_data: Path, tmp_path: Path) -> Settings:
    """Settings of a copy of it."""
    data = tmp_path / "server"
    shutil.copytree(fresh_data, data)
    return Settings(data=data, password_cost=CHEAP)


@pytest.fixture
def make_world(settings: Settings) -> Iterator[Callable[..., World]]:
    """Start the server with other settings."""
    import contextlib

    with contextlib.ExitStack() as stack:

        def make(**changes: Any) -> World:
            changed = replace(settings, **changes)
            client = stack.enter_context(TestClient(create_app(changed), raise_server_exceptions=True))
            return World(client, changed)

        yield make


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """The server with default settings."""
    return make_world()
