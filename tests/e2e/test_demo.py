"""The demo plays the whole tutorial, leaves nothing behind, and gives way when its port is taken or somebody presses Ctrl-C."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

import playing
import psutil
import pytest

pytestmark = [pytest.mark.xdist_group("port-8000"), pytest.mark.timeout(600)]
DEMO = [sys.executable, str(playing.ROOT / "scripts" / "demo.py")]


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir(mode=0o755)
    return folder


def environ(tmp_path: Path, temporary: Path, **extra: str) -> dict[str, str]:
    home = tmp_path / "home"
    home.mkdir(exist_ok=True)
    return playing.environment(home, TMPDIR=str(temporary), **extra)


def alive(temporary: Path) -> list[str]:
    """Processes whose command line or folder is below ``temporary``."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and (
                str(temporary) in " ".join(process.cmdline()) or process.cwd().startswith(str(temporary))
            ):
                found.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def test_the_demo_runs_green_and_leaves_nothing(tmp_path: Path, temporary: Path) -> None:
    with playing.the_port():
        answer = playing.run(DEMO, environ=environ(tmp_path, temporary), timeout=500)
    assert answer.code == 0, answer.text
    assert "https://localhost:8000" in answer.text
    assert re.search(r"benchmark 1\s+tutorial_bmk, APPROVED", answer.text)
    assert [
        re.search(rf"mlcube {number} +{name}", answer.text) is not None
        for number, name in enumerate(("my-prep-cube", "my-modelref-cube", "my-metrics-cube"), 1)
    ] == [True] * 3
    assert re.search(r"AUC\.\w+ +0\.\d+", answer.text)
    # The other two roles: a second model, a hospital, two released results and the leaderboard.
    assert re.search(r"mlcube 4 +my-linear-model", answer.text)
    assert re.search(r"released +2 \(my-modelref-cube\): AUC\.\w+ 0\.\d+", answer.text)
    assert re.search(r"released +4 \(my-linear-model\): AUC\.\w+ 0\.\d+", answer.text)
    assert re.search(r"1 +my-modelref-cube \(2\) .*\n +2 +my-linear-model \(4\)", answer.text)
    assert "[y/N]: y\n" in answer.text
    assert list(temporary.iterdir()) == []
    assert list((tmp_path / "home").glob(".medperf*")) == []
    assert alive(temporary) == []


def test_ctrl_c_cleans_up_and_a_taken_port_is_avoided(tmp_path: Path, temporary: Path) -> None:
    with playing.the_port() as port, socket.create_server(("127.0.0.1", port)):
        demo = playing.Background(DEMO, environ=environ(tmp_path, temporary))
        demo.wait_for("Port 8000 is taken by another program")
        demo.wait_for(r"\$ medperf test run", timeout=120)
        family = demo.family()
        assert family
        demo.interrupt()
        assert demo.end() == 130, demo.text
    _, left = psutil.wait_procs(family, timeout=60)
    assert left == []
    assert "Interrupted. Cleaning up." in demo.text
    assert list(temporary.iterdir()) == []
    assert alive(temporary) == []


def test_keep_keeps_the_folder_but_no_process(tmp_path: Path, temporary: Path) -> None:
    with playing.the_port():
        demo = playing.Background(DEMO, environ=environ(tmp_path, temporary, KEEP="1"))
        demo.wait_for(r"\$ medperf tutorial setup", timeout=120)
        demo.interrupt()
        assert demo.end() == 130, demo.text
    (kept,) = temporary.iterdir()
    assert (kept / "server" / "db.sqlite3").is_file()
    assert f"Kept: {kept}" in demo.text
    assert alive(temporary) == []
