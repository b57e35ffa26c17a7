"""The README's tour: its commands run, and they answer what the page shows."""

from __future__ import annotations

import re
from pathlib import Path

import playing
import pytest

PAGE = playing.ROOT / "README.md"
pytestmark = [pytest.mark.xdist_group("port-8000"), pytest.mark.timeout(1200)]


def steps(block: playing.Block) -> list[tuple[str, list[str]]]:
    """Each command after a ``$``, and the lines that the page shows below it."""
    found: list[tuple[str, list[str]]] = []
    continued = False
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif continued:
            found[-1] = (f"{found[-1][0]}\n{line}", [])
        else:
            found[-1][1].append(line)
        continued = line.endswith("\\")
    return found


def comparable(line: str) -> str:
    """A line without what differs from day to day and from machine to machine: numbers, digests, width."""
    line = re.sub(r"\b[0-9a-f]{7,64}\b", "#", line)
    return re.sub(r"\s+", " ", re.sub(r"\d+([.:]\d+)*", "#", line)).strip()


def test_the_tour(checkout: Path, port: int, terminals: dict[str, playing.Terminal]) -> None:
    shown, jobs = 0, []
    for block in playing.blocks(PAGE, languages=("console",)):
        for command, expected in steps(block):
            where = f"{PAGE.name}:{block.line}: {command}"
            if command.endswith("&"):
                jobs.append(terminals["server"].leave_running(command.removesuffix("&"), until="listening on"))
                continue
            if job := re.fullmatch(r"kill %(\d+)", command):
                jobs[int(job[1]) - 1].terminate()
                continue
            answer = terminals["main"].run(command)
            assert answer.code == 0, f"{where}\n---\n{answer.text}"
            given = {comparable(line) for line in answer.text.splitlines()}
            for line in expected:
                if line.strip() in ("", "..."):
                    continue
                assert comparable(line) in given, f"{where}\nshows {line!r}, but the answer is\n{answer.text}"
                shown += 1
    assert shown >= 8
    # The page stops what it started.
    assert jobs
    for started in jobs:
        started.end()
    assert playing.port_is_free(port)


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    named = set(re.findall(r"\bmake ([a-z-]+)", PAGE.read_text(encoding="utf-8")))
    targets = set(
        re.findall(r"^([a-z-]+):", (playing.ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    assert {"demo", "test"} <= named <= targets
