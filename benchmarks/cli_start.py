"""How long the command line takes to start, as a ratio to ``python -c pass`` measured in turn with it.

    python benchmarks/cli_start.py [--rounds 15] [--server URL --certificate PATH]

``mlcube ls`` is measured only where a server answers and somebody is logged in (the active profile, or what is given).
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path


def run_once(command: list[str]) -> tuple[float, float, int]:
    """Wall time in ms, peak memory in MiB and exit code of one run with its output dropped."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    started = time.perf_counter()
    process = os.posix_spawn(
        command[0],
        command,
        environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, "/dev/null", os.O_WRONLY, 0),
        ],
    )
    _, status, usage = os.wait4(process, 0)
    return (time.perf_counter() - started) * 1000, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status)


def measure(commands: dict[str, list[str]], *, rounds: int) -> dict[str, tuple[float, float, int]]:
    """Median ms, most MiB and worst exit code per command; the commands take turns, so that a busy moment meets all of them."""
    for command in commands.values():
        run_once(command)  # fills the page cache and writes the .pyc files
    seen: dict[str, list[tuple[float, float, int]]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            seen[name].append(run_once(command))
    return {
        name: (statistics.median(run[0] for run in runs), max(run[1] for run in runs), max(run[2] for run in runs))
        for name, runs in seen.items()
    }


def main() -> int:
    """Print the table; exit 1 when a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--server")
    parser.add_argument("--certificate")
    given = parser.parse_args()
    medperf = str(Path(sys.executable).with_name("medperf"))
    options = [
        word
        for name in ("server", "certificate")
        if getattr(given, name)
        for word in (f"--{name}", getattr(given, name))
    ]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "medperf --version": [medperf, "--version"],
        "medperf": [medperf],
        "medperf --help": [medperf, "--help"],
        "medperf mlcube --help": [medperf, "mlcube", "--help"],
        "medperf test run --help": [medperf, "test", "run", "--help"],
        "medperf mlcube ls": [medperf, *options, "mlcube", "ls"],
    }
    if run_once(commands["medperf mlcube ls"])[2] != 0:
        print("medperf mlcube ls is left out: no server answers, or nobody is logged in.")
        del commands["medperf mlcube ls"]
    found = measure(commands, rounds=max(given.rounds, 10))
    base = found["python -c pass"][0]
    targets = {"medperf --version": 2.0, "medperf": 8.0, "medperf --help": 8.0}
    print(f"{'command':<26}{'ms':>8}{'ratio':>8}{'target':>8}{'MiB':>8}")
    missed = []
    for name, (milliseconds, mebibytes, _) in found.items():
        target = targets.get(name)
        print(f"{name:<26}{milliseconds:>8.1f}{milliseconds / base:>8.2f}{target or '-':>8}{mebibytes:>8.1f}")
        if target is not None and (milliseconds > target * base or mebibytes > 45):
            missed.append(name)
    if missed:
        print(f"Missed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
