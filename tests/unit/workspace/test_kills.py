"""A process killed at any line of the workspace room leaves a workspace on which the next command works."""

from __future__ import annotations

import importlib.util
import random
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from medperf.domain.digests import Digest
from medperf.workspace.workspace import Workspace

SCRIPT = Path(__file__).with_name("killed.py")


def _scenarios() -> ModuleType:
    spec = importlib.util.spec_from_file_location("medperf_killed", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


killed = _scenarios()


def run(folder: Path, scenario: str, line: int | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), str(folder), scenario, *([] if line is None else [str(line)])]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def kill_at(folder: Path, scenario: str, line: int) -> None:
    done = run(folder, scenario, line)
    assert done.returncode == -signal.SIGKILL, done.stderr
    check(folder, scenario)


def check(folder: Path, scenario: str) -> None:
    """The same command again works, and nothing of the dead one is left."""
    with Workspace.open(folder) as workspace:
        before = workspace.steps.lookup(killed.KEY)
        if before is not None:  # whatever is found is whole
            names = {path.name for path in before.outputs.iterdir()}
            assert names == ({"output_path"} if before.facts["seconds"] == 1.5 else {"c"})
        killed.SCENARIOS[scenario](workspace)
        workspace.sweep()
        if scenario != "store":
            sealed = workspace.steps.lookup(killed.KEY)
            assert sealed is not None
            assert sealed.facts == {"seconds": 1.5 if scenario == "step" else 2.5}
            assert [path.name for path in (folder / "steps").iterdir()] == [killed.KEY.hex]
        else:
            path = workspace.store.path(Digest.of(killed.PAYLOAD))
            assert path is not None
            assert path.read_bytes() == killed.PAYLOAD
            assert list((folder / "store" / "partial").iterdir()) == []
            assert len(workspace.reports.ls()) == 1
            assert workspace.pending.ls("instance") == []
        with workspace._database.reading() as connection:
            assert connection is not None
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("SELECT * FROM leases").fetchall() == []


def lines_of(scenario: str, folder: Path) -> int:
    done = run(folder, scenario)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("scenario", ["step", "again", "store"])
def test_killed_somewhere(tmp_path: Path, scenario: str) -> None:
    total = lines_of(scenario, tmp_path / "whole" / "w")
    for number in range(7):
        # One in each seventh, so that every stretch of the work is hit.
        line = random.randint(1 + total * number // 7, max(total * (number + 1) // 7, 1))
        kill_at(tmp_path / f"at-{line}" / "w", scenario, line)


@pytest.mark.long
@pytest.mark.parametrize("scenario", ["step", "again", "store"])
def test_killed_at_many_lines(tmp_path: Path, scenario: str) -> None:
    total = lines_of(scenario, tmp_path / "whole" / "w")
    for line in random.sample(range(1, total + 1), min(200, total)):
        kill_at(tmp_path / f"at-{line}" / "w", scenario, line)


@pytest.mark.long
def test_killed_over_and_over_on_one_workspace(tmp_path: Path) -> None:
    folder = tmp_path / "w"
    total = lines_of("again", tmp_path / "whole" / "w")
    for _ in range(60):
        run(folder, "again", random.randint(1, total))
    check(folder, "again")
