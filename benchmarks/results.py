"""How long ``medperf benchmark results`` takes with 10,000 results of 20 metrics each.

    python benchmarks/results.py [ROUNDS]

A hundred datasets with a hundred models. A real server answers on loopback, from a process of its own; the command is a fresh process and
writes the table, the CSV or the JSON to a pipe. Baseline, in the same round: ``medperf benchmark view`` of the same benchmark, which is
start-up, the connection and one small answer. Medians are printed.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import httpx2  # noqa: E402
from benchmarks.running import PROGRAM, server  # noqa: E402
from tests.server.conftest import PASSWORD, World  # noqa: E402
from tests.server.executing import make_study  # noqa: E402
from tests.server.test_results_many import SIDE, fill  # noqa: E402

from medperf.server.settings import Settings  # noqa: E402

WANTED = 1.0  # seconds
WAYS = {
    "benchmark view (baseline)": ("benchmark", "view", "1"),
    "benchmark results": ("benchmark", "results", "1"),
    "benchmark results --format csv": ("benchmark", "results", "1", "--format", "csv"),
    "benchmark results --format json": ("benchmark", "results", "1", "--format", "json"),
    "benchmark leaderboard": ("benchmark", "leaderboard", "1"),
}


def seconds_of(words: tuple[str, ...], environ: dict[str, str]) -> float:
    """Wall time of a command, with reading what it writes."""
    began = time.perf_counter()
    done = subprocess.run([PROGRAM, *words], env=environ, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return time.perf_counter() - began


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as temporary, server(Path(temporary) / "server") as url:
        settings = Settings(data=Path(temporary) / "server")
        world = World(httpx2.Client(base_url=url, timeout=30), settings)  # type: ignore[arg-type]
        study = make_study(world, world.person("bench"), world.person("data"), world.person("maker"))
        study.released()
        fill(study)
        environ = os.environ | {"MEDPERF_HOME": f"{temporary}/home"}
        seconds_of(("login", "-u", "bench", "-p", PASSWORD, "--server", url), environ)
        for words in (("profile", "create", "there", "--server", url), ("profile", "activate", "there")):
            seconds_of(words, environ)
        seconds_of(("login", "-u", "bench", "-p", PASSWORD), environ)
        found = [[seconds_of(words, environ) for words in WAYS.values()] for _ in range(rounds)]
    print(f"{SIDE * SIDE:,} results, {rounds} rounds, medians")
    for name, column in zip(WAYS, zip(*found, strict=True), strict=True):
        print(f"{name:35}{statistics.median(column):8.2f} s   (aim: below {WANTED:g})")
    print(f"machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
