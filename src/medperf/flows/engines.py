"""Which engine runs containers here, and under which limits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medperf.domain import limits
from medperf.domain.confinement import ConfinementPolicy
from medperf.domain.errors import MedPerfError

if TYPE_CHECKING:
    from medperf.client.profiles import Profile
    from medperf.flows.site import Site
    from medperf.runtime.engines.base import Engine

ENGINES = ("auto", "sandbox")


def choose_engine(site: Site) -> Engine:
    """The engine that the profile names; ``auto`` takes the embedded sandbox.

    Raises:
        MedPerfError: an unknown engine.
    """
    if site.profile.engine not in ENGINES:
        raise MedPerfError(
            "unknown_engine",
            f"The engine {site.profile.engine!r} is unknown here.",
            f"Use one of {', '.join(ENGINES)}: medperf profile set --engine auto",
        )
    from medperf.runtime.engines.sandbox.engine import SandboxEngine

    wheelhouse = site.environ.get("MEDPERF_WHEELHOUSE") or site.profile.wheelhouse
    return SandboxEngine(cache=site.cache or site.home / "cache", wheelhouse=Path(wheelhouse) if wheelhouse else None)


#: Tasks whose only output is a document that we read. What is larger than this would be refused anyway.
_DOCUMENTS = frozenset({"evaluate", "statistics"})
_DOCUMENT_OUTPUT = 16 * max(limits.METRICS_BYTES, limits.STATISTICS_BYTES)


def policy_for(profile: Profile, task: str) -> ConfinementPolicy:
    """The policy with the profile's time limit (seconds) for this task and its memory limit (bytes)."""
    changes: dict[str, float | int] = {}
    timeout = profile.timeouts.get(task)
    if timeout is not None:
        changes["wall_seconds"] = timeout
    if task in _DOCUMENTS:
        changes |= {"output_bytes": _DOCUMENT_OUTPUT, "file_bytes": _DOCUMENT_OUTPUT}
    if profile.memory_bytes is not None:
        changes["memory_bytes"] = profile.memory_bytes
    return ConfinementPolicy().with_limits(**changes) if changes else ConfinementPolicy()
