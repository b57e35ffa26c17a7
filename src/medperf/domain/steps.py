"""Step keys: one digest over everything that a step's result depends on, so that "already done" is a fact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from medperf.domain.confinement import POLICY_VERSION
from medperf.domain.digests import Digest

STEP_VERSION = 1

#: The compatibility test's tasks in order; the server requires all of them in a benchmark's report.
COMPATIBILITY_TASKS = ("prepare", "sanity_check", "statistics", "infer", "evaluate")


@dataclass(frozen=True)
class StepInputs:
    """What a step depends on. Every field enters the key.

    Attributes:
        task: name of the task.
        cube: content digests of the MLCube (manifest, parameters, additional, project, image).
        form: ``oci``, ``sif`` or ``python``.
        form_digests: what the engine pinned (wheel set and interpreter, or image digests).
        inputs: parameter name -> identity root of what is mounted there.
        engine, architecture: where it runs.
        devices: accelerators given to the task.
    """

    task: str
    cube: Mapping[str, str]
    form: str
    form_digests: Mapping[str, str]
    inputs: Mapping[str, str]
    engine: str
    architecture: str
    devices: tuple[str, ...] = field(default=())

    @property
    def key(self) -> Digest:
        """The step key. Resource limits are no part of it: a step that succeeded under one limit would under a larger one."""
        return Digest.of_document(
            {
                "version": STEP_VERSION,
                "policy": POLICY_VERSION,
                "task": self.task,
                "cube": dict(self.cube),
                "form": self.form,
                "form_digests": dict(self.form_digests),
                "inputs": dict(self.inputs),
                "engine": self.engine,
                "architecture": self.architecture,
                "devices": list(self.devices),
            }
        )
