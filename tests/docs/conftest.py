"""A fresh copy of the checkout, set up by its own scripts, in a folder with a space in its name."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import playing
import pytest


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A newcomer's checkout after ``make setup`` (here at the level that the tutorial needs)."""
    folder = playing.copy_checkout(tmp_path_factory.mktemp("newcomer") / "my checkout")
    home = tmp_path_factory.mktemp("setup-home")
    answer = playing.run(["scripts/setup.sh", "server"], cwd=folder, environ=playing.environment(home), timeout=500)
    assert answer.code == 0, answer.text
    assert "ready" in answer.text
    return folder


@pytest.fixture
def port() -> Iterator[int]:
    """Port 8000, which the documents name."""
    with playing.the_port() as number:
        yield number


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home folder."""
    folder = tmp_path / "home"
    folder.mkdir()
    playing.share_packages(folder / ".medperf")
    return folder


@pytest.fixture
def terminals(checkout: Path, home: Path, tmp_path: Path) -> Iterator[dict[str, playing.Terminal]]:
    """The person's terminals, ``main`` and ``server``, in a checkout that nobody worked in yet."""
    shutil.rmtree(checkout / "medperf_tutorial", ignore_errors=True)
    for path in (checkout / "server").iterdir():
        if path.name not in ("reset_db.sh", "seed.py"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    environ = playing.environment(home, program=checkout / ".venv" / "bin" / "medperf")
    opened = {name: playing.Terminal(checkout, environ, tmp_path / f"terminal-{name}") for name in ("main", "server")}
    yield opened
    for terminal in opened.values():
        terminal.close()
