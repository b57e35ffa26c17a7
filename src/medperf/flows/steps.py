"""Run one task, or find that it was done already: the step key decides, never a file's date or name."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medperf.domain.confinement import ConfinementPolicy, Limits
from medperf.domain.digests import Digest
from medperf.domain.errors import Interrupted, TaskFailed
from medperf.domain.events import StepFinished, StepStarted
from medperf.domain.steps import StepInputs
from medperf.flows.cubes import ReadyCube
from medperf.flows.site import Site
from medperf.flows.waiting import held
from medperf.runtime.engines.base import PreparedForm, TaskOutcome, TaskRun
from medperf.runtime.logs import last_lines
from medperf.wire.models import TestedStep
from medperf.workspace.files import make_private

_WAKE_SECONDS = 0.2


@dataclass(frozen=True)
class DoneStep:
    """A sealed task: where its outputs lie, what they are, and whether it ran now. ``identities``: output name -> identity root."""

    task: str
    key: Digest
    outputs: Path
    identities: dict[str, str]
    seconds: float
    cached: bool

    def as_tested(self) -> TestedStep:
        """For the report."""
        return TestedStep(task=self.task, key=self.key, seconds=round(self.seconds, 3), cached=self.cached)


class LinkedEvent(threading.Event):
    """Set when it is set itself, or when its parent is."""

    def __init__(self, parent: threading.Event) -> None:
        super().__init__()
        self._parent = parent

    def is_set(self) -> bool:
        """See `threading.Event.is_set`."""
        return super().is_set() or self._parent.is_set()


class StepRunner:
    """Runs tasks of cubes with one engine, through the workspace's sealed steps. Several threads may share one.

    Args:
        policy: what confines a task of that name; None: as the profile says.
    """

    def __init__(
        self, site: Site, *, use_cache: bool, policy: Callable[[str], ConfinementPolicy] | None = None
    ) -> None:
        self.site = site
        self.use_cache = use_cache
        self.policy = policy or site.policy
        self.containers_started = 0
        self._prepared: dict[Path, PreparedForm] = {}
        self._lock = threading.Lock()

    def prepared(self, ready: ReadyCube) -> PreparedForm:
        """What the engine will run for this cube, fetched and pinned once."""
        folder = ready.cube.folder
        if folder not in self._prepared:
            # The engine's cache may be the first thing written there, and engines know nothing of homes.
            make_private(self.site.cache or self.site.home)
            self._prepared[folder] = self.site.engine.prepare(ready.cube, emit=self.site.emit)
        return self._prepared[folder]

    def side_by_side(self, *steps: tuple[ReadyCube, str, Mapping[str, tuple[Path, str]]]) -> list[DoneStep]:
        """Tasks that do not depend on each other, one more at once than there are processors. Begun, and their
        results returned, in the order given: put the longest first.

        The first that fails stops the others; its error is the one that is raised.
        """
        for ready, _, _ in steps:
            self.prepared(ready)
        stop = LinkedEvent(self.site.cancel)
        failed: list[BaseException] = []

        def one(step: tuple[ReadyCube, str, Mapping[str, tuple[Path, str]]]) -> DoneStep:
            try:
                return self.run(*step, cancel=stop)
            except BaseException as error:
                failed.append(error)
                stop.set()
                raise

        with ThreadPoolExecutor(min(len(steps), len(os.sched_getaffinity(0)) + 1)) as pool:
            futures = [pool.submit(one, step) for step in steps]
            try:
                # Woken now and then: a signal that comes just before this thread begins to wait is handled only when it wakes.
                while wait(futures, timeout=_WAKE_SECONDS).not_done:
                    pass
            except BaseException:  # Ctrl-C here: the containers must end before this does
                stop.set()
                raise
        if failed:
            raise failed[0]
        return [future.result() for future in futures]

    def run(
        self,
        ready: ReadyCube,
        task: str,
        inputs: Mapping[str, tuple[Path, str]],
        *,
        cancel: threading.Event | None = None,
        title: str | None = None,
        check: Callable[[], None] | None = None,
    ) -> DoneStep:
        """One task with ``inputs`` (parameter -> path and its identity root), cached or now.

        Args:
            title: what events call it; None: the task's name.
            check: called after the task and before its outputs are kept; what it raises keeps nothing.

        Raises:
            TaskFailed: the task did not succeed; nothing is kept but its log.
            Interrupted: Ctrl-C; the task was stopped.
        """
        cancel = cancel or self.site.cancel
        if cancel.is_set():
            raise Interrupted
        prepared = self.prepared(ready)
        key = self._key(ready, prepared, task, inputs)
        title = title or task
        return self._done(task, key, title) or self._run_now(ready, prepared, task, key, inputs, cancel, title, check)

    def _done(self, task: str, key: Digest, title: str) -> DoneStep | None:
        """The step if it was sealed before and may be used."""
        sealed = self.site.workspace.steps.lookup(key) if self.use_cache else None
        if sealed is None:
            return None
        seconds, identities = float(sealed.facts["seconds"]), dict(sealed.facts["identities"])
        self.site.emit(StepFinished(title, seconds, cached=True))
        return DoneStep(task, key, sealed.outputs, identities, seconds, cached=True)

    def _key(
        self, ready: ReadyCube, prepared: PreparedForm, task: str, inputs: Mapping[str, tuple[Path, str]]
    ) -> Digest:
        from platform import machine

        return StepInputs(
            task=task,
            cube={name: str(digest) for name, digest in ready.cube.digests.items()},
            form=prepared.form,
            form_digests={name: str(digest) for name, digest in prepared.digests.items()},
            inputs={name: identity for name, (_, identity) in inputs.items()},
            engine=self.site.engine.name,
            architecture=machine(),
        ).key

    def _run_now(
        self,
        ready: ReadyCube,
        prepared: PreparedForm,
        task: str,
        key: Digest,
        inputs: Mapping[str, tuple[Path, str]],
        cancel: threading.Event,
        title: str,
        check: Callable[[], None] | None,
    ) -> DoneStep:
        site = self.site
        with held(site, key, task=task, what=f"{task} of {ready.label}", cancel=cancel) as step:
            done = self._done(task, key, title)
            if done is not None:
                return done
            site.emit(StepStarted(title))
            outcome = self._fill(ready, prepared, task, inputs, step.outputs, step.log, cancel)
            if check is not None:
                check()
            identities = output_identities(step.outputs)
            facts: dict[str, Any] = {
                "task": task,
                "seconds": outcome.seconds,
                "identities": identities,
                "peak_memory_bytes": outcome.peak_memory_bytes,
            }
            sealed = step.seal(facts)
        site.emit(StepFinished(title, outcome.seconds))
        return DoneStep(task, key, sealed.outputs, identities, outcome.seconds, cached=False)

    def key(self, ready: ReadyCube, task: str, inputs: Mapping[str, tuple[Path, str]]) -> Digest:
        """The step key of a task with these inputs."""
        return self._key(ready, self.prepared(ready), task, inputs)

    def fill(
        self, ready: ReadyCube, task: str, inputs: Mapping[str, tuple[Path, str]], *, outputs: Path, log: Path
    ) -> TaskOutcome:
        """Run a task now into a folder of the caller's, with what lies there already. Nothing is sealed, and nothing is removed.

        Raises:
            TaskFailed, Interrupted: as `run`.
        """
        if self.site.cancel.is_set():
            raise Interrupted
        self.site.emit(StepStarted(task))
        outcome = self._fill(ready, self.prepared(ready), task, inputs, outputs, log, self.site.cancel)
        self.site.emit(StepFinished(task, outcome.seconds))
        return outcome

    def _fill(
        self,
        ready: ReadyCube,
        prepared: PreparedForm,
        task: str,
        inputs: Mapping[str, tuple[Path, str]],
        outputs: Path,
        log: Path,
        cancel: threading.Event,
    ) -> TaskOutcome:
        from medperf.runtime.manifests.files import task_mounts

        declared = ready.cube.manifest.tasks[task]
        given = {name: path for name, (path, _) in inputs.items()}
        given |= {parameter.name: outputs / parameter.name for parameter in declared.outputs}
        mounts = task_mounts(ready.cube, task, given)
        run = TaskRun(task=task, mounts=mounts, log=log, policy=self.policy(task))
        with self._lock:
            self.containers_started += 1
        outcome = self.site.engine.run(ready.cube, prepared, run, cancel=cancel, emit=self.site.emit)
        if not outcome.ok:
            raise self._failure(ready, task, outcome)
        return outcome

    def _failure(self, ready: ReadyCube, task: str, outcome: TaskOutcome) -> Exception:
        """One sentence about how it ended; what the task itself said is in the details."""
        if outcome.reason == "cancelled":
            return Interrupted(f"Interrupted during {task}, which was stopped.")
        kept = self._keep_log(task, outcome.log)
        limits = self.policy(task).limits
        fix = {
            "time-limit": f"Allow more time with: medperf profile set --timeout {task}=SECONDS",
            "memory-limit": f"Allow more memory with: medperf profile set --memory-bytes {2 * limits.memory_bytes}",
        }.get(outcome.reason, "Mend the MLCube, or what it was given; its whole output is in the log.")
        what = f"The task {task} of {ready.label} {_how_it_ended(outcome, limits)}."
        return TaskFailed(
            f"task_{outcome.reason.replace('-', '_')}",
            what,
            fix,
            details={
                "task": task,
                "reason": outcome.reason,
                "exit_code": outcome.exit_code,
                "log": str(kept),
                "last_lines": last_lines(kept),
            },
        )

    def _keep_log(self, task: str, log: Path) -> Path:
        """Step folders of failed tasks are removed; the log outlives them."""
        folder = self.site.workspace.path / "logs"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        kept = folder / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{task}-{secrets.token_hex(3)}.log"
        if log.exists():
            shutil.copyfile(log, kept)
        else:
            kept.touch()
        return kept


def _how_it_ended(outcome: TaskOutcome, limits: Limits) -> str:
    """What follows the task's name. The engine's own words only where they add a fact."""
    code, message = outcome.exit_code, outcome.message
    if outcome.reason == "exit":
        return f"exited with {code}"
    if outcome.reason == "signal":
        return f"was killed by signal {code - 128}" if code is not None and code > 128 else "was killed by a signal"
    if outcome.reason == "time-limit":
        return f"took longer than its time limit of {limits.wall_seconds:g} s and was stopped"
    if outcome.reason == "memory-limit":
        return f"needed more memory than its limit of {_size(limits.memory_bytes)}"
    known, fallback = {
        "output-limit": ("broke its output limit: ", "wrote more than its output limit"),
        "missing-output": ("ended, but ", "ended without writing an output that it declares"),
        "bad-output": ("failed: ", "wrote something that is no plain file or folder"),
    }.get(outcome.reason, ("could not be run: ", "could not be run"))
    for count in (limits.output_bytes, limits.file_bytes):
        message = message.replace(f"{count:,} bytes", _size(count))
    return known + message if message else fallback


def _size(count: int) -> str:
    """``4294967296`` as ``4 GiB``: limits are set in powers of two."""
    for unit, size in (("GiB", 1024**3), ("MiB", 1024**2)):
        if count >= size:
            return f"{round(count / size, 1):g} {unit}"
    return f"{count:,} bytes"


def output_identities(outputs: Path) -> dict[str, str]:
    """Identity root of each output of a task."""
    from medperf.runtime.hashing import data_identity

    return {path.name: str(data_identity({"output": path}).root) for path in sorted(outputs.iterdir())}
