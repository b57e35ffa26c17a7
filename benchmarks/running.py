"""How much ``medperf run`` of ten models costs over the sandbox runs it consists of, and what two side by side gain.

    python benchmarks/running.py [ROUNDS [SECONDS]]

SECONDS: that each model works (default 2); it keeps one processor busy. A real server answers on loopback, from a process of its own.

Baseline, in the same round: the same programs on the same prepared data under plain bubblewrap with the same confinement arguments, each a
fresh process, one after the other (and two at a time); nothing is registered, hashed, kept or checked. Each round has records of its own,
so nothing is done already. Medians and the medians of each round's ratios are printed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.test_run import Bare  # noqa: E402
from tests.flows.running_site import ACCEPTING, Bench, add_model, join, make_bench, write_policy  # noqa: E402

from medperf.flows.cubes import registered_cube  # noqa: E402
from medperf.flows.site import Site  # noqa: E402
from medperf.runtime.engines.sandbox.engine import SandboxEngine  # noqa: E402

MODELS = 10
MOST, LEAST_GAIN = 1.05, 1.8
MEMORY = 512 * 1024**2  # of each task, so that two fit everywhere
PROGRAM = str(Path(sys.executable).with_name("medperf"))


class BareModels(Bare):
    """Plain bubblewrap runs of models and the evaluator."""

    def __init__(self, site: Site, models: list[int], evaluator: int) -> None:
        self.engine = SandboxEngine(cache=site.home / "cache")
        views = [site.api.mlcubes.get(number) for number in (*models, evaluator)]
        self.cubes = {str(view.id): registered_cube(site, view, view.kind).cube for view in views}
        self.prepared = {name: self.engine.prepare(cube) for name, cube in self.cubes.items()}
        self.models = [str(number) for number in models]
        self.evaluator = str(evaluator)

    def all(self, data: Path, labels: Path, *, jobs: int) -> float:
        """Seconds of all of them, ``jobs`` at a time."""
        with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(jobs) as pool:

            def one(model: str) -> None:
                folder = Path(temporary) / model
                folder.mkdir()
                self._step(model, "infer", {"data_path": data}, folder / "infer")
                given = {"predictions": folder / "infer" / "output_path", "labels": labels}
                self._step(self.evaluator, "evaluate", given, folder / "evaluate")

            started = time.perf_counter()
            list(pool.map(one, self.models))
            return time.perf_counter() - started


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """A server in a process of its own."""
    words = [PROGRAM, "server", "start", "--development", "--http", "--port", "0", "--data", str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if "listening on" in line:
                    yield next(word for word in line.split() if word.startswith("http")).rstrip(".,")
                    break
            else:
                raise SystemExit("The server did not start.")
        finally:
            process.terminate()


def command_line(home: Path, url: str, dataset: str, jobs: int) -> float:
    """Seconds of one ``medperf run`` as a whole process."""
    words = [
        PROGRAM,
        "run",
        "-b",
        "1",
        "-d",
        dataset,
        "--jobs",
        str(jobs),
        "--memory-bytes",
        str(MEMORY),
        "--server",
        url,
    ]
    environ = {**os.environ, "MEDPERF_HOME": str(home)}
    started = time.perf_counter()
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return seconds


def rounds_for(seconds: float) -> int:
    """How many rounds of hashing keep a processor of this machine busy for so long."""
    sample = 200_000
    started = time.process_time()
    hashlib.pbkdf2_hmac("sha256", b"sample", b"", sample)
    return max(1, int(sample * seconds / (time.process_time() - started)))


def measure(bench: Bench, home: Path, rounds: int, seconds: float) -> list[tuple[float, float, float, float]]:
    """Of each round: bare, ours; bare two at a time, ours two at a time."""
    found = []
    with bench.site(home) as site:
        models = [number for name, number in bench.models.items() if name != "stray"]
        bench.dataset(site, "warm")  # the models can be read from now on
        command_line(home, bench.url, "warm", 1)
        bare = BareModels(site, models, evaluator=3)
        work = f"work:{rounds_for(seconds)}"
        for number in range(rounds):
            acts = dict.fromkeys(("reference", *bench.models), work)
            one, two = (bench.dataset(site, f"records {number} {jobs}", acts) for jobs in (1, 2))
            dataset = site.workspace.datasets.get(one)
            where = (dataset.data, dataset.labels)
            found.append(
                (
                    bare.all(*where, jobs=1),
                    command_line(home, bench.url, one, 1),
                    bare.all(*where, jobs=2),
                    command_line(home, bench.url, two, 2),
                )
            )
            assert len(site.workspace.runs.ls(None)) == MODELS * (2 * number + 3)
    return found


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    with tempfile.TemporaryDirectory() as temporary, server(Path(temporary) / "server") as url:
        folder = Path(temporary)
        os.environ["MEDPERF_HOME"] = str(folder / "owner")
        with contextlib.redirect_stdout(sys.stderr):
            bench = make_bench(url, folder)
        with bench.owner() as owner:
            for number in range(MODELS - len(bench.models) + 1):
                name = f"model{number}"
                bench.models[name] = add_model(owner, folder, name)
                join(owner, bench.models[name])
        home = folder / "data"
        with bench.site(home) as site:
            write_policy(site, ACCEPTING.format(owner=bench.owner_party))
        found = measure(bench, home, rounds, seconds)
    bare, ours, bare_two, ours_two = (statistics.median(column) for column in zip(*found, strict=True))
    ratio = statistics.median(one / other for other, one, _, _ in found)
    gain = statistics.median(one / two for _, one, _, two in found)
    possible = statistics.median(one / two for one, _, two, _ in found)
    print(f"{f'{MODELS} models of {seconds:g} s, {rounds} rounds':40}{'median':>10}")
    print(f"{'bare sandbox runs, one by one':40}{bare:9.2f}s")
    print(f"{'medperf run':40}{ours:9.2f}s   ratio {ratio:.3f} (aim: at most {MOST})")
    print(f"{'bare sandbox runs, two at a time':40}{bare_two:9.2f}s   gain {possible:.2f}")
    print(f"{'medperf run --jobs 2':40}{ours_two:9.2f}s   gain {gain:.2f} (aim: at least {LEAST_GAIN})")
    print(f"machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
