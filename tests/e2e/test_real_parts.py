"""``make test`` says at once, in one sentence, that its port is taken and by whom."""

from __future__ import annotations

import os
import re
import socket
import sys
from pathlib import Path

import playing
import pytest

PROGRAM = [sys.executable, str(playing.ROOT / "scripts" / "real_parts.py")]


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_stops_it(tmp_path: Path, address: str) -> None:
    with socket.create_server((address, 0)) as listener:
        port = listener.getsockname()[1]
        answer = playing.run([*PROGRAM, "--port", str(port)], environ=playing.environment(tmp_path))
    assert answer.code == 1
    assert f"port {port} of 127.0.0.1" in answer.text
    assert f"process {os.getpid()} (" in answer.text
    assert f"kill {os.getpid()}" in answer.text
    assert len(answer.text.splitlines()) == 1


def test_a_free_port_does_not(tmp_path: Path) -> None:
    answer = playing.run([*PROGRAM, "--port", str(playing.free_port())], environ=playing.environment(tmp_path))
    assert answer.code == 0, answer.text
    assert "sandbox engine" in answer.text


def test_make_test_asks_for_the_port_of_the_documents() -> None:
    recipe = (playing.ROOT / "Makefile").read_text(encoding="utf-8").partition("\ntest:")[2].partition("\n\n")[0]
    assert re.search(rf"real_parts\.py --port {playing.PORT}\n.*pytest", recipe)
