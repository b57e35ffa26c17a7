"""A command line run in this process, at a site whose flows are scripted by the test."""

from __future__ import annotations

import importlib
import io
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from medperf.cli.main import main
from medperf.wire.models import BenchmarkView, FileRef, MLCubeView, PartyRef, UserView

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
DIGEST = "sha256:" + "ab" * 32
OWNER = PartyRef(id=4, name="testbenchmarkowner")


@dataclass
class FakeSite:
    """Stands for `medperf.flows.site.Site`; flows are replaced, so nothing of it is used but what the CLI itself touches."""

    options: Any
    emit: Any
    ask: Any
    environ: Any
    cwd: Path
    cancel: threading.Event = field(default_factory=threading.Event)
    closed: bool = False

    def __enter__(self) -> FakeSite:
        return self

    def __exit__(self, *unused: object) -> None:
        self.closed = True


@dataclass
class Answer:
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)

    def error(self) -> Any:
        return json.loads(self.err)["error"]


@dataclass
class Shell:
    """Runs command lines; ``flow`` replaces a flow and keeps what it was called with."""

    monkeypatch: pytest.MonkeyPatch
    capsys: pytest.CaptureFixture[str]
    sites: list[FakeSite] = field(default_factory=list)

    def run(self, *words: str, stdin: str = "") -> Answer:
        self.monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        self.capsys.readouterr()
        code = main(words)
        said = self.capsys.readouterr()
        return Answer(code, said.out, said.err)

    def flow(self, name: str, result: Any) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
        """Make ``medperf.flows.NAME`` return ``result`` (called with its arguments if it can be, raised if it is an error)."""
        calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        module, _, function = name.rpartition(".")

        def stand_in(*arguments: Any, **named: Any) -> Any:
            calls.append((arguments, named))
            if isinstance(result, BaseException):
                raise result
            return result(*arguments, **named) if isinstance(result, Callable) else result  # type: ignore[arg-type]

        self.monkeypatch.setattr(importlib.import_module(f"medperf.flows.{module}"), function, stand_in)
        return calls


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    for name in ("MEDPERF_FORMAT", "MEDPERF_PROFILE", "MEDPERF_SERVER_DATA", "_MEDPERF_COMPLETE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MEDPERF_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    made = Shell(monkeypatch, capsys)

    def open_site(options: Any, *, environ: Any, cwd: Path, emit: Any, ask: Any) -> FakeSite:
        site = FakeSite(options, emit, ask, environ, cwd)
        made.sites.append(site)
        return site

    monkeypatch.setattr("medperf.flows.site.Site.open", open_site)
    return made


def mlcube(number: int = 1, name: str = "my-prep-cube", **changes: Any) -> MLCubeView:
    values: dict[str, Any] = {
        "id": number,
        "name": name,
        "kind": "preparator",
        "state": "OPERATION",
        "is_valid": True,
        "files": {"manifest": FileRef(digest=DIGEST, size=10, urls=("https://example.com/mlcube.yaml",))},
        "forms": {"python": {"project": DIGEST}},
        "manifest_text": "name: prep\ntasks: {}\n",
        "owner": OWNER,
        "version": 1,
        "created_at": NOW,
        "modified_at": NOW,
    }
    return MLCubeView(**{**values, **changes})


def benchmark(number: int = 1, name: str = "tutorial_bmk", **changes: Any) -> BenchmarkView:
    values: dict[str, Any] = {
        "id": number,
        "name": name,
        "description": "",
        "docs_url": "",
        "state": "OPERATION",
        "approval": "PENDING",
        "is_valid": True,
        "is_active": True,
        "demo": FileRef(digest=DIGEST, size=10),
        "prepared_identity": DIGEST,
        "preparator": 1,
        "reference_model": 2,
        "evaluator": 3,
        "owner": OWNER,
        "version": 1,
        "created_at": NOW,
        "modified_at": NOW,
    }
    return BenchmarkView(**{**values, **changes})


def user(number: int = 7, username: str = "alice") -> UserView:
    return UserView(
        id=number, username=username, email=None, is_admin=False, is_active=True, party_id=9, created_at=NOW
    )


class Builders:
    """What flows return."""

    now = NOW
    digest = DIGEST
    mlcube = staticmethod(mlcube)
    benchmark = staticmethod(benchmark)
    user = staticmethod(user)


@pytest.fixture
def make() -> Builders:
    return Builders()
