"""The confinement policy: what every engine must enforce around a container, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

POLICY_VERSION = "1"


@dataclass(frozen=True)
class Limits:
    """Resource limits of one task. Bytes and seconds."""

    wall_seconds: float = 3600.0
    grace_seconds: float = 5.0  # between SIGTERM and SIGKILL
    memory_bytes: int = 4 * 1024**3
    cpus: float | None = None  # None: as many as there are
    pids: int = 512
    output_bytes: int = 16 * 1024**3  # all outputs of one task together
    output_files: int = 1_000_000
    file_bytes: int = 16 * 1024**3
    tmp_bytes: int = 1024**3
    log_bytes: int = 4 * 1024**2


@dataclass(frozen=True)
class ConfinementPolicy:
    """The rules. All are on by default; an engine that cannot enforce one refuses to run unless ``waived`` names it."""

    limits: Limits = Limits()
    waived: frozenset[str] = frozenset()

    #: no network; inputs read-only; fresh outputs; unprivileged uid; no capabilities; no new privileges; seccomp;
    #: read-only root; limits of `Limits`.
    RULES = (
        "no-network",
        "read-only-inputs",
        "fresh-outputs",
        "unprivileged",
        "no-capabilities",
        "no-new-privileges",
        "seccomp",
        "read-only-root",
        "private-processes",
        "time-limit",
        "memory-limit",
        "process-limit",
        "output-limit",
        "log-limit",
    )

    def with_limits(self, **changes: Any) -> ConfinementPolicy:
        """A copy with other limits."""
        return replace(self, limits=replace(self.limits, **changes))

    def as_document(self) -> dict[str, Any]:
        """JSON form for reports."""
        return {"version": POLICY_VERSION, "limits": asdict(self.limits), "waived": sorted(self.waived)}
