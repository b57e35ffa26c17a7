"""A real server on loopback, the real command line in this process, and a small real workflow."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from medperf.cli.main import main
from medperf.server.admin import init, reset
from medperf.server.app import create_app
from medperf.server.settings import Settings
from medperf.testing.workflows import Workflow, make_workflow

if TYPE_CHECKING:
    from .running_site import Bench


@pytest.hookimpl(tryfirst=True)  # before xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a file share a server, so one process takes them all."""
    here = Path(__file__).parent
    for item in items:
        if item.path.parent == here and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@dataclass(frozen=True)
class Answer:
    """What one command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)["error"]


class RunningServer:
    """The real app behind a real socket, in a thread."""

    def __init__(self, data: Path) -> None:
        self.data = data
        init(data, development=True)
        self.app = create_app(Settings(data=data))
        self._server = uvicorn.Server(
            uvicorn.Config(self.app, host="127.0.0.1", port=0, log_level="error", lifespan="on")
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        started = threading.Event()
        startup = self._server.startup

        async def announce(sockets: Any = None) -> None:
            await startup(sockets)
            started.set()

        self._server.startup = announce  # type: ignore[method-assign]
        self._thread.start()
        assert started.wait(20)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def reset(self) -> None:
        reset(self.data)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)


@pytest.fixture(scope="module")
def running_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    server = RunningServer(tmp_path_factory.mktemp("server") / "data")
    yield server
    server.stop()


@pytest.fixture
def server(running_server: RunningServer) -> RunningServer:
    running_server.reset()
    return running_server


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and a current folder of this test's own."""
    folder = tmp_path / "home"
    work = tmp_path / "work"
    work.mkdir()
    for name in [key for key in os.environ if key.startswith("MEDPERF_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("MEDPERF_HOME", str(folder))
    monkeypatch.chdir(work)
    return folder


Command = Callable[..., Answer]


@pytest.fixture
def medperf(home: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    """Run a command line; nothing is asked (stdin is empty)."""

    def run(*arguments: str | Path | int) -> Answer:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Answer(code, captured.out, captured.err)

    return run


@pytest.fixture
def online(medperf: Command, server: RunningServer) -> Command:
    """A command line with a profile for the test's server, which has the tutorial's accounts; logged in as the benchmark owner."""
    assert medperf("profile", "create", "here", "--server", server.url).code == 0
    assert medperf("profile", "activate", "here").code == 0
    seeded = medperf("server", "seed", "--demo", "benchmark", "--server", server.url)
    assert seeded.code == 0, seeded.err
    assert medperf("login", "-u", "testbenchmarkowner", "-p", "test").code == 0
    return medperf


@pytest.fixture
def workflow(home: Path) -> Workflow:
    return make_workflow(Path.cwd() / "flow")


@pytest.fixture
def registered(online: Command, workflow: Workflow) -> Command:
    """The workflow's three MLCubes are registered as 1, 2 and 3."""
    for name in ("prep", "model", "metrics"):
        folder = workflow.folder / name / "mlcube"
        assert online("mlcube", "package", folder).code == 0
        answer = online(
            "mlcube", "submit", "--name", name, "--mlcube-file", folder / "deploy/mlcube.yaml",
            "--parameters-file", folder / "deploy/parameters.yaml",
        )  # fmt: skip
        assert answer.code == 0, answer.err
    return online


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A server of its own, with an approved benchmark and models in it; shared by all who only add to it."""
    from .running_site import make_bench

    folder = tmp_path_factory.mktemp("bench")
    server = RunningServer(folder / "server")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDPERF_HOME", str(folder / "owner"))
        made = make_bench(server.url, folder)
    yield made
    server.stop()


def left_behind(home: Path) -> list[str]:
    """Temporary things that a finished command must not leave."""
    # An empty folder for temporary files is no leftover; anything in one is.
    kept = [path for path in home.rglob("*") if path.is_file() or any(path.iterdir())]
    return sorted(
        str(path.relative_to(home)) for path in kept if "tmp" in path.name or path.suffix in (".part", ".partial")
    )
