"""What this site's workspace takes on disk, and what of it can go: whatever is downloaded or computed again when it is needed.

Never touched: prepared data of datasets (``dataset withdraw --delete`` is for those), what runs need whose metrics nobody decided about, and
what was written down: runs, reports, the egress journal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from medperf.domain.errors import Conflict, Forbidden
from medperf.flows.policy import site_policy
from medperf.flows.predictions import TASK, by_predictions, needed, outlived, undecided
from medperf.flows.site import Site

if TYPE_CHECKING:
    from medperf.workspace.steps import SealedStep

_WHEELS = ("environments", "wheels", "locks")


class Part(StrEnum):
    """A part of what lies on disk."""

    DATASETS = "datasets"
    PREPARING = "preparing"
    PREDICTIONS = "predictions"
    STEPS = "steps"
    DOWNLOADS = "downloads"
    LOGS = "logs"
    WHEELS = "wheels"
    FACTS = "facts"

    @property
    def says(self) -> str:
        """What it is."""
        return _SAYS[self]


_SAYS = {
    Part.DATASETS: "prepared data; deleted with: medperf dataset withdraw --delete",
    Part.PREPARING: "preparations that did not become a dataset yet; deleted only if named",
    Part.PREDICTIONS: "what models wrote about each case of a dataset",
    Part.STEPS: "finished steps of tests and runs, unpacked MLCubes and demo data",
    Part.DOWNLOADS: "files of MLCubes and benchmarks, whole and unfinished",
    Part.LOGS: "what failed tasks said",
    Part.WHEELS: "Python packages of MLCubes, shared by all servers; deleted only if named",
    Part.FACTS: "what was written down: datasets, runs, reports, the egress journal; never deleted",
}
#: What is cleaned up unless parts are named.
USUAL = (Part.PREDICTIONS, Part.STEPS, Part.DOWNLOADS, Part.LOGS)
CLEANABLE = (*USUAL, Part.PREPARING, Part.WHEELS)


@dataclass(frozen=True)
class StoredPart:
    """One part. ``free``: bytes that a cleanup which names it would free now; ``count``: things in it."""

    part: Part
    path: Path
    count: int
    bytes: int
    free: int


@dataclass(frozen=True)
class Cleaned:
    """Of one part: how many things, and bytes."""

    part: Part
    count: int
    bytes: int


@dataclass(frozen=True)
class Cleanup:
    """``deleted`` False: it was only looked."""

    parts: tuple[Cleaned, ...]
    deleted: bool

    @property
    def bytes(self) -> int:
        """All of them."""
        return sum(part.bytes for part in self.parts)


@dataclass(frozen=True)
class _Item:
    bytes: int
    modified: datetime
    remove: Callable[[], object] = field(repr=False)
    keep: bool = False  # unless its part is named


def list_storage(site: Site) -> list[StoredPart]:
    """Every part. No server is asked, nothing is changed."""
    from medperf.workspace.files import size_of

    workspace = site.workspace
    folder = workspace.path
    items = {part: list(_ITEMS[part](site)) for part in CLEANABLE}
    steps = workspace.steps.ls()
    sizes = {step.key: size_of(step.folder) for step in steps}
    predictions = [step for step in steps if step.task == TASK]
    usage = workspace.usage()
    cache = _cache(site)
    found = {
        Part.DATASETS: (folder / "datasets", len(workspace.datasets.ls()), usage["datasets"]),
        Part.PREPARING: (folder / "preparing", len(workspace.preparing.ls()), usage["preparing"]),
        Part.PREDICTIONS: (folder / "steps", len(predictions), sum(sizes[step.key] for step in predictions)),
        Part.STEPS: (
            folder / "steps",
            len(steps) - len(predictions),
            usage["steps"] - sum(sizes[step.key] for step in predictions),
        ),
        Part.DOWNLOADS: (folder / "store", len(workspace.store.ls()), usage["store"] + usage["downloads"]),
        Part.LOGS: (folder / "logs", len(items[Part.LOGS]), usage["logs"]),
        Part.WHEELS: (cache, len(items[Part.WHEELS]), sum(size_of(cache / name) for name in _WHEELS)),
        Part.FACTS: (folder / "facts.db", len(workspace.runs.ls(None)), usage["facts"]),
    }
    return [
        StoredPart(part, path, count, size, sum(item.bytes for item in items.get(part, ())))
        for part, (path, count, size) in found.items()
    ]


def clean_up(
    site: Site,
    parts: Sequence[Part] = (),
    *,
    older_than: int | None = None,
    dry_run: bool = False,
    yes: bool = False,
) -> Cleanup:
    """Delete what can be had again, after asking.

    Args:
        parts: only these; empty: `USUAL`. Predictions that the policy keeps go only where they are named.
        older_than: days; only what was made or downloaded before that.
        dry_run: only say what would go.
        yes: do not ask. Nothing leaves the site by this, so no policy has a part in it.

    Raises:
        Conflict: ``site_busy``: a living process uses the workspace.
        Forbidden: ``not_agreed``.
    """
    wanted = tuple(dict.fromkeys(parts)) or USUAL
    before = datetime.now(UTC) - timedelta(days=older_than) if older_than is not None else None
    chosen: dict[Part, list[_Item]] = {}
    for part in wanted:
        found = (item for item in _ITEMS[part](site) if part in parts or not item.keep)
        chosen[part] = [item for item in found if before is None or item.modified <= before]
    plan = tuple(Cleaned(part, len(items), sum(item.bytes for item in items)) for part, items in chosen.items())
    if dry_run or not any(part.count for part in plan):
        return Cleanup(plan, deleted=False)
    _refuse_busy(site, wheels=Part.WHEELS in wanted)
    if not yes and not site.ask.confirm(_question(plan)):
        raise Forbidden("not_agreed", "Nothing was deleted: you did not agree.", "Run the same command again.")
    _refuse_busy(site, wheels=Part.WHEELS in wanted)  # something may have begun while the person thought
    for items in chosen.values():
        for item in items:
            site.check_cancelled()
            item.remove()
    return Cleanup(plan, deleted=True)


# ---------------------------------------------------------------------------------------------------------------- parts


def _predictions(site: Site) -> Iterator[_Item]:
    runs = site.workspace.runs.ls(None)
    users = by_predictions(runs)
    retention = site_policy(site).retention
    for step in site.workspace.steps.ls():
        if step.task != TASK:
            continue
        of = users.get(step.key, [])
        if not needed(of, runs):
            decided = any(run.disclosure is not None for run in of)
            yield _step_item(site, step, keep=decided and not outlived(of, retention))


def _steps(site: Site) -> Iterator[_Item]:
    held = {key for run in site.workspace.runs.ls(None) if undecided(run) for key in run.steps.values()}
    for step in site.workspace.steps.ls():
        if step.task != TASK and step.key not in held:
            yield _step_item(site, step)


def _downloads(site: Site) -> Iterator[_Item]:
    store = site.workspace.store
    for file in store.ls():
        at = datetime.fromtimestamp(file.modified, UTC)
        yield _Item(file.size, at, partial(store.remove, file.digest))
    for path in _entries(site.workspace.path / "store" / "partial"):
        if path.suffix:  # what the bytes of another came from
            continue
        with contextlib.suppress(FileNotFoundError):
            at = _modified(path)
            # What is older than this one goes with it; it would have gone anyway.
            age = max((datetime.now(UTC) - at).total_seconds(), 0)
            yield _Item(path.lstat().st_size, at, partial(store.sweep, keep_seconds=age))


def _logs(site: Site) -> Iterator[_Item]:
    held = {run.log for run in site.workspace.runs.ls(None) if undecided(run)}
    for path in _entries(site.workspace.path / "logs"):
        if str(path) not in held:
            with contextlib.suppress(FileNotFoundError):
                yield _Item(path.lstat().st_size, _modified(path), partial(path.unlink, missing_ok=True))


def _preparing(site: Site) -> Iterator[_Item]:
    preparing = site.workspace.preparing
    for entry in preparing.ls():
        yield _Item(
            entry.bytes,
            datetime.fromisoformat(entry.modified_at),
            partial(preparing.remove, entry.key),
        )


def _wheels(site: Site) -> Iterator[_Item]:
    from medperf.workspace.files import remove, size_of

    for name in _WHEELS:
        for path in _entries(_cache(site) / name):
            with contextlib.suppress(FileNotFoundError):
                size = size_of(path) if path.is_dir() else path.lstat().st_size
                yield _Item(size, _modified(path), partial(remove, path))


_ITEMS: dict[Part, Callable[[Site], Iterator[_Item]]] = {
    Part.PREDICTIONS: _predictions,
    Part.STEPS: _steps,
    Part.DOWNLOADS: _downloads,
    Part.LOGS: _logs,
    Part.PREPARING: _preparing,
    Part.WHEELS: _wheels,
}

# -------------------------------------------------------------------------------------------------------------- helpers


def _step_item(site: Site, step: SealedStep, *, keep: bool = False) -> _Item:
    from medperf.workspace.files import size_of

    steps = site.workspace.steps
    at = datetime.fromisoformat(step.sealed_at)
    return _Item(size_of(step.folder), at, lambda: steps.remove(step.key), keep)


def _refuse_busy(site: Site, *, wheels: bool) -> None:
    """Raises:
    Conflict: ``site_busy``.
    """
    from medperf.workspace.workspace import Workspace

    folders = {site.workspace.path}
    if wheels:
        folders |= {file.parent for file in site.home.glob("*/facts.db")}
    for folder in sorted(folders):
        with Workspace.open(folder) as workspace:
            busy = workspace.steps.running()
            busy += [(f"a run of model {run.model}", 0) for run in workspace.runs.ls(None) if run.is_running]
        if busy:
            what, pid = busy[0]
            raise Conflict(
                "site_busy",
                f"Nothing was deleted: {f'process {pid} is doing {what}' if pid else f'{what} is going on'} in {folder}.",
                "Wait until it ends, and run the same command again.",
            )


def _question(plan: Sequence[Cleaned]) -> str:
    lines = [f"  {part.part.value}: {part.count:,} ({part.bytes:,} bytes)" for part in plan if part.count]
    return "\n".join(
        ["This is deleted; what of it is needed again is downloaded or computed again:", *lines, "Delete it?"]
    )


def _cache(site: Site) -> Path:
    return site.cache or site.home / "cache"


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _modified(path: Path) -> datetime:
    return datetime.fromtimestamp(path.lstat().st_mtime, UTC)
