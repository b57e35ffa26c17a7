"""The contract of an engine: what runs a container. The suite in `medperf.testing.engines` proves one."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from medperf.domain.confinement import ConfinementPolicy
from medperf.domain.digests import Digest
from medperf.domain.events import Emit, ignore
from medperf.domain.manifests import Manifest

Form = Literal["oci", "sif", "python"]
Reason = Literal[
    "ok",
    "exit",
    "signal",
    "time-limit",
    "memory-limit",
    "output-limit",
    "missing-output",
    "bad-output",
    "cancelled",
    "engine",
]


@dataclass(frozen=True)
class CubeFiles:
    """One MLCube on this machine, whole and verified.

    ``project`` is the unpacked ``python:`` project folder; ``image`` an image file; both None where the form has none.
    ``digests`` names what was verified (``manifest``, ``parameters``, ``additional``, ``project``, ``image``).
    """

    manifest: Manifest
    folder: Path  # holds mlcube.yaml
    workspace: Path  # defaults of parameters are relative to it
    project: Path | None
    image: Path | None
    digests: Mapping[str, Digest]


@dataclass(frozen=True)
class PreparedForm:
    """What an engine will run, pinned. ``digests`` enters the step key (wheel set and interpreter, or image digests)."""

    form: Form
    digests: Mapping[str, str]
    handle: Any  # the engine's own: an environment folder, an image id


@dataclass(frozen=True)
class Mount:
    """One parameter's path. An input is read-only; an output is a fresh path that the task fills.

    ``host`` of an output: a folder (type directory) or the file that will be created (type file); its parent exists.
    """

    parameter: str
    host: Path
    type: Literal["file", "directory"]
    output: bool


@dataclass(frozen=True)
class TaskRun:
    """One task to run once."""

    task: str
    mounts: tuple[Mount, ...]
    log: Path  # the container's own output goes here, capped
    policy: ConfinementPolicy = field(default_factory=ConfinementPolicy)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskOutcome:
    """How a task ended. ``seconds`` is wall time; ``peak_memory_bytes`` None where nothing measured it."""

    reason: Reason
    exit_code: int | None
    seconds: float
    log: Path
    log_truncated: bool = False
    peak_memory_bytes: int | None = None
    message: str = ""

    @property
    def ok(self) -> bool:
        """Whether the task succeeded and all its outputs are there."""
        return self.reason == "ok"


@dataclass(frozen=True)
class RuleReport:
    """Whether an engine enforces one rule here, how (``"cgroup v1"``), or why not and what mends it."""

    rule: str
    enforced: bool
    how: str
    fix: str = ""


@dataclass(frozen=True)
class EngineReport:
    """What ``medperf doctor`` shows of an engine."""

    name: str
    available: bool
    version: str
    detail: str = ""
    fix: str = ""
    rules: tuple[RuleReport, ...] = ()


class Engine(Protocol):
    """Runs tasks of one form under the confinement policy. Instances hold no global state; several may run at once."""

    name: str
    form: Form

    def probe(self) -> EngineReport:
        """Is it usable here, and what can it enforce? Never raises."""

    def prepare(self, cube: CubeFiles, *, emit: Emit = ignore) -> PreparedForm:
        """Fetch and pin what will run (idempotent, cached, safe to call from two processes).

        Raises:
            InvalidInput: the MLCube has no form this engine runs, or a digest differs.
            MedPerfError: something cannot be fetched (says what to do).
        """

    def run(
        self, cube: CubeFiles, prepared: PreparedForm, run: TaskRun, *, cancel: threading.Event, emit: Emit = ignore
    ) -> TaskOutcome:
        """Run one task to its end. Nothing of it is alive when this returns, however it ended.

        A task that fails is an outcome, not an exception. Outputs belong to the caller afterwards and hold only
        plain files and folders; anything else makes the outcome ``bad-output``.

        Raises:
            MedPerfError: the engine itself cannot enforce a rule of the policy, or cannot start anything.
        """
