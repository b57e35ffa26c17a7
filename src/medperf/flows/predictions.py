"""Predictions are patient-level: they stay no longer than the site's policy says, once it is decided what becomes of the metrics.

The predictions of a run are the outputs of its sealed step ``infer``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from medperf.domain.digests import Digest
from medperf.domain.executions import Disclosure
from medperf.flows.policy import site_policy
from medperf.flows.site import Site

if TYPE_CHECKING:
    from medperf.domain.sitepolicy import Retention
    from medperf.workspace.runs import LocalRun

TASK = "infer"


@dataclass(frozen=True)
class Dropped:
    """What was deleted."""

    count: int
    bytes: int


def drop_predictions(site: Site) -> Dropped:
    """Delete the predictions that the policy keeps no longer: those of runs whose metrics were released, withheld or retracted.

    What another run still needs stays: one that is open or whose metrics nobody decided about. So does what failed: it can be continued.

    Raises:
        InvalidInput: ``bad_policy``.
    """
    from medperf.workspace.files import size_of

    runs = site.workspace.runs.ls(None)
    retention = site_policy(site).retention
    dropped = Dropped(0, 0)
    for key, users in by_predictions(runs).items():
        if not site.workspace.steps.holds(key) or needed(users, runs) or not outlived(users, retention):
            continue
        size = size_of(site.workspace.steps.folder(key))
        site.workspace.steps.remove(key)
        dropped = Dropped(dropped.count + 1, dropped.bytes + size)
    if runs:
        site.workspace.steps.sweep()  # of one that was killed in the middle of this
    return dropped


def by_predictions(runs: Sequence[LocalRun]) -> Mapping[Digest, list[LocalRun]]:
    """Runs by the key of their predictions; several may share one."""
    found: dict[Digest, list[LocalRun]] = {}
    for run in runs:
        if TASK in run.steps:
            found.setdefault(Digest(run.steps[TASK]), []).append(run)
    return found


def undecided(run: LocalRun) -> bool:
    """Whether somebody may still go on with it, or has to decide about its metrics."""
    return run.state.is_open or run.disclosure is Disclosure.UNDER_REVIEW


def needed(users: Sequence[LocalRun], runs: Sequence[LocalRun]) -> bool:
    """Whether a run that is not decided has these predictions, or is about to find that it has."""
    of = {(run.dataset, run.model) for run in users}
    return any(undecided(run) for run in users) or any(
        run.state.is_open and (run.dataset, run.model) in of for run in runs
    )


def outlived(users: Sequence[LocalRun], retention: Retention, *, now: datetime | None = None) -> bool:
    """Whether the policy wants them no more: somebody decided about a run of them, and that long enough ago."""
    decided = [run for run in users if run.disclosure not in (None, Disclosure.UNDER_REVIEW)]
    if not decided:
        return False
    if retention.predictions == "delete":
        return True
    if retention.days is None:
        return False
    newest = max(datetime.fromisoformat(run.modified_at) for run in decided)
    return newest + timedelta(days=retention.days) <= (now or datetime.now(UTC))
