"""Real processes: development servers on ports of their own, the installed ``medperf`` command, a small real workflow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import playing
import pytest
from people import Person, Server, new_person

from medperf.testing.workflows import Workflow, make_workflow


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Somebody with an empty home."""
    return new_person(tmp_path / "home")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server, shared by the tests of a module."""
    folder = tmp_path_factory.mktemp("server")
    started = Server.start(new_person(folder / "home"), folder / "data", playing.free_port())
    yield started
    started.process.stop()


@pytest.fixture(scope="module")
def gone(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server that somebody is logged in to (`Server.person`) and that was stopped since."""
    folder = tmp_path_factory.mktemp("gone")
    stopped = Server.start(new_person(folder / "home"), folder / "data", playing.free_port())
    stopped.log_in(stopped.person)
    stopped.process.stop()
    return stopped


@pytest.fixture
def workflow(tmp_path: Path) -> Workflow:
    """Three MLCubes that need no packages, and demo data."""
    return make_workflow(tmp_path / "workflow")
