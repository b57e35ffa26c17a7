# ruff: noqa: PTH118, PTH123, PTH208 - descriptors, plain path texts and folders of the sandbox
"""The bench on which `medperf.testing.engines` tries an engine: small MLCubes, run as we are or as an ordinary user."""

from __future__ import annotations

# The forked helper loses the rights to read a Python below somebody's home: whatever it may need is imported before.
import contextlib
import os
import pickle
import select
import signal
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import packaging.markers
import packaging.requirements
import packaging.specifiers
import packaging.utils  # noqa: F401 - all four now: a forked child of another account may not read them

from medperf.domain.confinement import ConfinementPolicy
from medperf.domain.digests import Digest
from medperf.domain.errors import MedPerfError
from medperf.domain.manifests import parse_manifest
from medperf.runtime.engines.base import CubeFiles, Engine, Mount, TaskOutcome, TaskRun

#: An account that owns nothing and has no entry in the user table.
PLAIN_USER = 61999
_MANIFEST = b"""
name: trial
docker: {image: medperf/trial}
python: {project: ../project, entrypoint: mlcube.py}
tasks:
  go:
    parameters:
      inputs:
        data_path: {type: directory, default: data}
        parameters_file: {type: file, default: parameters.yaml}
      outputs:
        output_path: {type: directory, default: out}
        report_file: {type: file, default: report.yaml}
"""
_PRELUDE = """
import os, sys, socket, time, threading
task, *rest = sys.argv[1:]
given = dict(one.removeprefix("--").split("=", 1) for one in rest)
data, parameters, out, report = (given[name] for name in ("data_path", "parameters_file", "output_path", "report_file"))
def attempt(name, call):
    try:
        call()
        print("open:" + name, flush=True)
    except OSError as error:
        print("blocked:" + name, error, flush=True)
def finish():
    with open(os.path.join(out, "result.txt"), "w") as file:
        file.write("done")
    with open(report, "w") as file:
        file.write("done: true")
def started():
    with open(os.path.join(out, "started"), "w") as file:
        file.write("x")
"""


@dataclass(frozen=True)
class Mode:
    """How the engine is called: by us or by an ordinary user, and with what."""

    name: str
    uid: int | None = None  # None: as we are
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Trial:
    """One run and what is left of it."""

    outcome: TaskOutcome
    out: Path
    report: Path

    @property
    def log(self) -> str:
        """What the task wrote."""
        return self.outcome.log.read_text(errors="replace")


class Bench:
    """Builds a small MLCube and runs it in one mode."""

    def __init__(self, make: Callable[..., Engine], mode: Mode, folder: Path) -> None:
        self.mode = mode
        self.folder = folder
        self._make = make
        self.data = folder / "in put=é"
        self.data.mkdir(mode=0o700)
        self._private(self.data / "case.txt", "patient")
        self.parameters = folder / "parameters.yaml"
        self._private(self.parameters, "limit: 1\n")
        self.out = folder / "-out =ü" / "result"
        self.out.parent.mkdir()
        self.report = folder / "report.yaml"

    def run(
        self,
        code: str,
        *,
        policy: ConfinementPolicy | None = None,
        cancel: threading.Event | None = None,
        **limits: Any,
    ) -> Trial:
        """Run ``code`` (after the prelude) as the task ``go``; further keywords are limits."""
        outcome = self._call(self._task(code, policy, limits), cancel or threading.Event())
        return Trial(outcome, self.out, self.report)

    def start_and_kill(self, code: str) -> None:
        """Run ``code`` in a process of its own, and end that with SIGKILL once the task has called ``started()``."""
        pid = self._fork(self._task(code, None, {}), -1, -1)
        try:
            assert until(lambda: (self.out / "started").exists(), 10), "the task never started"
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def _task(
        self, code: str, policy: ConfinementPolicy | None, limits: dict[str, Any]
    ) -> Callable[[threading.Event], TaskOutcome]:
        project = self.folder / "project"
        project.mkdir(exist_ok=True)
        (project / "mlcube.py").write_text(_PRELUDE + code)
        workspace = self.folder / "mlcube" / "workspace"
        workspace.mkdir(parents=True, exist_ok=True)
        cube = CubeFiles(
            parse_manifest(_MANIFEST), workspace.parent, workspace, project, None, {"manifest": Digest.of(_MANIFEST)}
        )
        mounts = (
            Mount("data_path", self.data, "directory", output=False),
            Mount("parameters_file", self.parameters, "file", output=False),
            Mount("output_path", self.out, "directory", output=True),
            Mount("report_file", self.report, "file", output=True),
        )
        bounds: dict[str, Any] = {
            "wall_seconds": 20.0,
            "grace_seconds": 0.3,
            "memory_bytes": 256 * 1024**2,
            "pids": 64,
            "output_bytes": 64 * 1024**2,
        }
        task = TaskRun(
            "go", mounts, self.folder / "log.txt", (policy or ConfinementPolicy()).with_limits(**{**bounds, **limits})
        )
        if self.mode.uid is not None:
            give(self.folder, self.mode.uid)

        def work(cancel: threading.Event) -> TaskOutcome:
            engine = self._make(self.folder / "cache", **self.mode.options)
            return engine.run(cube, engine.prepare(cube), task, cancel=cancel)

        return work

    def _call(self, work: Callable[[threading.Event], TaskOutcome], cancel: threading.Event) -> TaskOutcome:
        if self.mode.uid is None:
            return work(cancel)
        answer, to_answer = os.pipe()
        from_cancel, to_cancel = os.pipe()
        pid = self._fork(work, to_answer, from_cancel)
        os.close(to_answer)
        os.close(from_cancel)
        with open(answer, "rb") as file, open(to_cancel, "wb", buffering=0) as ask:
            while not select.select([file], [], [], 0.01)[0]:
                if cancel.is_set():
                    ask.write(b"x")
                    select.select([file], [], [])
            content = file.read()
        os.waitpid(pid, 0)
        result = pickle.loads(content)  # noqa: S301 - from our own child
        if isinstance(result, BaseException):
            raise result
        assert isinstance(result, TaskOutcome), result
        return result

    def _fork(self, work: Callable[[threading.Event], TaskOutcome], answer: int, asks: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            if self.mode.uid is not None:
                os.setgroups([])
                os.setgid(self.mode.uid)
                os.setuid(self.mode.uid)
                os.environ["HOME"] = str(self.folder)
                os.chdir(self.folder)
            cancel = threading.Event()
            if asks >= 0:
                threading.Thread(target=_set_when_asked, args=(asks, cancel), daemon=True).start()
            content: Any
            try:
                content = work(cancel)
            except MedPerfError as error:
                content = error
                if error.fix:
                    error.args = (error.code, error.what, error.fix)
            if answer >= 0:
                with open(answer, "wb") as file:
                    file.write(pickle.dumps(content))
        except BaseException:  # noqa: BLE001 - a forked child must not return into the test runner
            traceback.print_exc()
            if answer >= 0:
                with contextlib.suppress(OSError):
                    os.write(answer, pickle.dumps(traceback.format_exc()))
        finally:
            os._exit(0)

    def _private(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o600)


def _set_when_asked(descriptor: int, event: threading.Event) -> None:
    if os.read(descriptor, 1):
        event.set()


def give(folder: Path, uid: int) -> None:
    """Make everything below ``folder`` belong to that user."""
    os.chown(folder, uid, uid)
    for base, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(base, name), uid, uid, follow_symlinks=False)


def until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether it becomes true within that time."""
    end = time.monotonic() + seconds
    tick = threading.Event()
    while not condition():
        if time.monotonic() > end:
            return False
        tick.wait(0.005)
    return True


def processes_with(text: str) -> list[int]:
    """Processes of this machine, other than us, whose command line holds ``text``."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with contextlib.suppress(OSError):
                if text.encode() in Path("/proc", name, "cmdline").read_bytes():
                    found.append(int(name))
    return found


def modes(*, cgroups: bool = True) -> list[Mode]:
    """The modes that this account can try: as we are, the same without control groups, and as an ordinary user."""
    found = [Mode("caller")]
    if cgroups:
        found.append(Mode("caller-without-cgroups", options={"cgroups": False}))
    if os.geteuid() == 0:
        found.append(Mode("ordinary-user", uid=PLAIN_USER))
    return found
