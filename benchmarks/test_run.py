"""How much the compatibility test costs over the sandbox runs it consists of, and how fast it is when nothing changed.

    python benchmarks/test_run.py [ROUNDS [COPIES]]

COPIES multiplies the demo data (default 1: the tutorial's 120 images, a second of work in all).

Baseline, in the same run: the same five programs under plain bubblewrap with the same confinement arguments, one after the other,
each a fresh process, on the same data; nothing is hashed, kept or checked. Rounds alternate, medians and pairwise ratios are printed.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from medperf.domain.confinement import ConfinementPolicy
from medperf.flows.tutorial import setup_tutorial
from medperf.runtime.engines.sandbox.engine import SandboxEngine, site_packages
from medperf.runtime.engines.sandbox.job import PROJECT, VENV, Bind, Job, bwrap_arguments
from medperf.runtime.manifests.files import load_cube

STEPS = (
    ("chexpert_prep", "prepare"),
    ("chexpert_prep", "sanity_check"),
    ("chexpert_prep", "statistics"),
    ("xrv_densenet", "infer"),
    ("metrics", "evaluate"),
)


def data_file(content: bytes) -> int:
    descriptor = os.memfd_create("data")
    os.write(descriptor, content)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.set_inheritable(descriptor, True)
    return descriptor


class Bare:
    """Plain bubblewrap runs of the tutorial's five steps."""

    def __init__(self, tutorial: Path, cache: Path) -> None:
        self.tutorial = tutorial
        self.engine = SandboxEngine(cache=cache)
        self.cubes = {name: load_cube(tutorial / name) for name in {name for name, _ in STEPS}}
        self.prepared = {name: self.engine.prepare(cube) for name, cube in self.cubes.items()}

    def round(self) -> float:
        """Seconds of the five runs together."""
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            data = {
                "data_path": self.tutorial / "mock_chexpert/images",
                "labels_path": self.tutorial / "mock_chexpert/labels",
            }
            done = {"data_path": folder / "prepare/output_path", "labels_path": folder / "prepare/output_labels_path"}
            inputs = {
                "prepare": data,
                "sanity_check": done,
                "statistics": done,
                "infer": {"data_path": done["data_path"]},
                "evaluate": {"predictions": folder / "infer/output_path", "labels": done["labels_path"]},
            }
            return sum(self._step(name, task, inputs[task], folder / task) for name, task in STEPS)

    def _step(self, name: str, task: str, given: dict[str, Path], out: Path) -> float:
        cube, handle = self.cubes[name], self.prepared[name].handle
        out.mkdir()
        declared = cube.manifest.tasks[task]
        binds = [Bind(cube.folder.parent / "project", PROJECT)]
        if handle.environment is not None:
            binds.append(Bind(handle.environment.site, site_packages(handle.interpreter)))
        words = [f"{VENV}/bin/python", f"{PROJECT}/mlcube.py", task]
        for parameter in declared.inputs:
            host = given.get(parameter.name) or cube.workspace / str(parameter.default)
            binds.append(Bind(host, f"/in/{parameter.name}"))
            words.append(f"--{parameter.name}=/in/{parameter.name}")
        for parameter in declared.outputs:
            if parameter.type == "directory":
                (out / parameter.name).mkdir()
            words.append(f"--{parameter.name}=/out/{parameter.name}")
        binds.append(Bind(out, "/out", writable=True))
        job = Job(tuple(words), tuple(binds), ConfinementPolicy(), handle.interpreter, folder=PROJECT)
        descriptors: list[int] = []

        def data(content: bytes) -> int:
            descriptors.append(data_file(content))
            return descriptors[-1]

        arguments = [
            "bwrap",
            *bwrap_arguments(job, place=lambda path, _mapped, _writable: str(path), data=data),
            "--",
            *words,
        ]
        started = time.perf_counter()
        subprocess.run(arguments, check=True, close_fds=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds = time.perf_counter() - started
        for descriptor in descriptors:
            os.close(descriptor)
        return seconds


def command_line(tutorial: Path, environ: dict[str, str], *extra: str) -> float:
    """Seconds of one ``medperf test run`` as a whole process."""
    words = [
        str(Path(sys.executable).with_name("medperf")), "test", "run",
        f"--data_preparation={tutorial}/chexpert_prep", f"--model={tutorial}/xrv_densenet", f"--evaluator={tutorial}/metrics",
        f"--data_path={tutorial}/mock_chexpert/images", f"--labels_path={tutorial}/mock_chexpert/labels", *extra,
    ]  # fmt: skip
    started = time.perf_counter()
    subprocess.run(words, check=True, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - started


def multiply(tutorial: Path, copies: int) -> None:
    """The same patients again under other numbers."""
    images = tutorial / "mock_chexpert" / "images"
    (table,) = (tutorial / "mock_chexpert" / "labels").glob("*.csv")
    head, *rows = table.read_text().splitlines()
    patients = sorted(images.iterdir())
    for copy in range(1, copies):
        for patient in patients:
            shutil.copytree(patient, images / f"{patient.name}{copy:03d}")
    again = [re.sub(r"(patient\d+)", rf"\g<1>{copy:03d}", row) for copy in range(1, copies) for row in rows]
    table.write_text("\n".join([head, *rows, *again]) + "\n")


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    copies = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    environ = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary) / "home"
        environ["MEDPERF_HOME"] = str(home)
        tutorial = setup_tutorial(folder=Path(temporary) / "tutorial").path
        multiply(tutorial, copies)
        command_line(tutorial, environ)
        bare = Bare(tutorial, home / "cache")
        bare.round()
        pairs = [(command_line(tutorial, environ, "--no-cache"), bare.round()) for _ in range(rounds)]
        cached = [command_line(tutorial, environ) for _ in range(rounds)]
    ours, base = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    print(f"{f'{120 * copies} images, {rounds} rounds':34}{'median':>10}")
    print(f"{'five bare sandbox runs':34}{base:9.3f}s")
    print(f"{'medperf test run --no-cache':34}{ours:9.3f}s   ratio {ratio:.2f} (aim: at most 1.1)")
    print(f"{'medperf test run, nothing changed':34}{statistics.median(cached):9.3f}s   (aim: under 0.5 s)")


if __name__ == "__main__":
    main()
