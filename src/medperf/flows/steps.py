"""Run one task, or find that it was done already: the step key decides, never a file's date or name."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medperf.domain.digests import Digest
from medperf.domain.errors import Interrupted, TaskFailed
from medperf.domain.events import StepFinished, StepStarted
from medperf.domain.steps import StepInputs
from medperf.flows.cubes import ReadyCube
from medperf.flows.site import Site
from medperf.runtime.engines.base import PreparedForm, TaskOutcome, TaskRun
from medperf.runtime.logs import last_lines
from medperf.wire.models import TestedStep


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
    """Runs tasks of cubes with one engine, through the workspace's sealed steps."""

    def __init__(self, site: Site, *, use_cache: bool) -> None:
        self.site = site
        self.use_cache = use_cache
        self.containers_started = 0
        self._prepared: dict[Path, PreparedForm] = {}
        self._lock = threading.Lock()

    def prepared(self, ready: ReadyCube) -> PreparedForm:
        """What the engine will run for this cube, fetched and pinned once."""
        folder = ready.cube.folder
        if folder not in self._prepared:
            self._prepared[folder] = self.site.engine.prepare(ready.cube, emit=self.site.emit)
        return self._prepared[folder]

    def side_by_side(self, *steps: tuple[ReadyCube, str, Mapping[str, tuple[Path, str]]]) -> list[DoneStep]:
        """Tasks that do not depend on each other, at once where the machine has the processors. Results in the order given.

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
                wait(futures)
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
    ) -> DoneStep:
        """One task with ``inputs`` (parameter -> path and its identity root), cached or now.

        Raises:
            TaskFailed: the task did not succeed; nothing is kept but its log.
            Interrupted: Ctrl-C; the container was stopped.
        """
        cancel = cancel or self.site.cancel
        if cancel.is_set():
            raise Interrupted
        prepared = self.prepared(ready)
        key = self._key(ready, prepared, task, inputs)
        if self.use_cache:
            sealed = self.site.workspace.steps.lookup(key)
            if sealed is not None:
                self.site.emit(StepFinished(task, float(sealed.facts["seconds"]), cached=True))
                return DoneStep(
                    task,
                    key,
                    sealed.outputs,
                    dict(sealed.facts["identities"]),
                    float(sealed.facts["seconds"]),
                    cached=True,
                )
        return self._run_now(ready, prepared, task, key, inputs, cancel)

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
    ) -> DoneStep:
        from medperf.runtime.manifests.files import task_mounts

        site = self.site
        site.emit(StepStarted(task))
        with site.workspace.steps.begin(key, task=task) as step:
            declared = ready.cube.manifest.tasks[task]
            given = {name: path for name, (path, _) in inputs.items()}
            given |= {parameter.name: step.outputs / parameter.name for parameter in declared.outputs}
            mounts = task_mounts(ready.cube, task, given)
            run = TaskRun(task=task, mounts=mounts, log=step.log, policy=site.policy(task))
            with self._lock:
                self.containers_started += 1
            outcome = site.engine.run(ready.cube, prepared, run, cancel=cancel, emit=site.emit)
            if not outcome.ok:
                raise self._failure(ready, task, outcome)
            identities = output_identities(step.outputs)
            facts: dict[str, Any] = {
                "task": task,
                "seconds": outcome.seconds,
                "identities": identities,
                "peak_memory_bytes": outcome.peak_memory_bytes,
            }
            sealed = step.seal(facts)
        site.emit(StepFinished(task, outcome.seconds))
        return DoneStep(task, key, sealed.outputs, identities, outcome.seconds, cached=False)

    def _failure(self, ready: ReadyCube, task: str, outcome: TaskOutcome) -> Exception:
        if outcome.reason == "cancelled":
            return Interrupted(f"Interrupted during {task}; its container was stopped.")
        kept = self._keep_log(task, outcome.log)
        said = {
            "exit": f"exited with {outcome.exit_code}",
            "signal": "was killed by a signal",
            "time-limit": "took longer than its time limit and was stopped",
            "memory-limit": "needed more memory than its limit and was stopped",
            "output-limit": "wrote more than its output limit and was stopped",
            "missing-output": "ended without writing an output that it declares",
            "bad-output": "wrote something that is no plain file or folder",
        }.get(outcome.reason, "could not be run")
        fix = {
            "time-limit": f"Allow more time with: medperf profile set --timeout {task}=SECONDS",
            "memory-limit": "Allow more memory with: medperf profile set --memory-bytes 8589934592",
        }.get(outcome.reason, "Mend the MLCube; its own last lines are below and its whole output is in the log.")
        what = f"The task {task} of {ready.label} {said}."
        if outcome.message:
            what += f" {outcome.message}"
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


def output_identities(outputs: Path) -> dict[str, str]:
    """Identity root of each output of a task."""
    from medperf.runtime.hashing import data_identity

    return {path.name: str(data_identity({"output": path}).root) for path in sorted(outputs.iterdir())}
