"""Three roles from nothing to a released result: how many commands are typed, and how long they take.

    python benchmarks/journey.py [ROUNDS]

The commands are the blocks of ``docs/tutorials/three_roles.md`` up to the result, played as a person types them, each in a process of its
own, on a server and a home that were empty; only the port is another one. The packages of the example MLCubes are in the cache, as on the
second day; everything else (databases, tests, runs) is made. Typing and reading are not counted: questions are answered as they come.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e" / "support"))

import playing  # noqa: E402

PAGE = ROOT / "docs" / "tutorials" / "three_roles.md"
END = "That was twelve commands. Who ranks?"
WANTED_COMMANDS, WANTED_SECONDS = 12, 20.0


def commands() -> list[tuple[playing.Block, str]]:
    """Each typed command of the page, up to the released result, with its block."""
    last = PAGE.read_text(encoding="utf-8").splitlines().index(END)
    found = []
    for block in playing.blocks(PAGE, languages=("bash",)):
        if block.line < last:
            text = block.text.replace("\\\n", " ")
            found += [(block, line) for line in text.splitlines() if line.strip()]
    return found


def used() -> float:
    """Processor seconds of all programs that ended."""
    spent = os.times()
    return spent.children_user + spent.children_system


def play(folder: Path) -> list[tuple[str, float, float]]:
    """One journey; each command with its seconds, and with the processor seconds of its own programs.

    The server's are the time until it listens; what its processor does meanwhile is counted nowhere.
    """
    port = playing.free_port()
    home = folder / "home"
    playing.share_packages(home / ".medperf")
    environ = playing.environment(home, program=Path(sys.executable).parent / "medperf")
    address = f"https://localhost:{port}"
    run = playing.run(
        ["medperf", "profile", "set", "--server", address], cwd=folder, environ=environ
    )  # stands for the port that the page has
    assert run.code == 0, run.text
    spent = []
    server = None
    try:
        for block, line in commands():
            words = ["bash", "-c", line]
            started, before = time.monotonic(), used()
            if block.terminal == "server":
                words = ["bash", "-c", f"exec {line} --port {port} --data server"]
                server = playing.Background(words, environ=environ, cwd=folder)
                server.wait_for("listening on")
            else:
                line = f"{line} --server {address} --cert server/cert.crt" if "server seed" in line else line
                words = ["bash", "-c", f"cd '{folder}' && {line}"]
                answer = (
                    playing.type_into(words, block.types, environ=environ)
                    if block.types
                    else playing.run(words, environ=environ)
                )
                assert answer.code == 0, f"{line}\n{answer.text}"
            spent.append((re.sub(r"\s+", " ", line), time.monotonic() - started, used() - before))
        answer = playing.run(["medperf", "result", "ls", "--mine"], environ=environ, cwd=folder)
        assert "released" in answer.text, answer.text
    finally:
        if server is not None:
            server.stop()
    return spent


def main() -> int:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    totals = []
    for number in range(rounds + 1):  # the first one fills the cache of packages
        folder = Path(tempfile.mkdtemp(prefix="medperf-journey-")).resolve()
        try:
            spent = play(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if number:
            totals.append(sum(seconds for _, seconds, _ in spent))
    for line, seconds, processor in spent:
        print(f"{seconds:7.2f} s  {processor:6.2f} s of processor  {line[:100]}")
    typed, middle = len(spent), statistics.median(totals)
    print(f"{typed} typed commands (wanted: at most {WANTED_COMMANDS})")
    print(
        f"{middle:.1f} s, the median of {rounds} (wanted: at most {WANTED_SECONDS:.0f}); all: {', '.join(f'{one:.1f}' for one in totals)}"
    )
    print(f"machine: {os.cpu_count()} cores")
    return 0 if typed <= WANTED_COMMANDS and middle <= WANTED_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
