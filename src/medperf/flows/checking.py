"""Whether prepared data are still those that were prepared: which files were swapped, renamed, relabelled, added or removed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.flows.site import Site

if TYPE_CHECKING:
    from medperf.runtime.hashindex import DataIndex
    from medperf.workspace.datasets import LocalDataset

Reading = Literal["metadata", "full"]
_NAMED = 5


class ChangeKind(StrEnum):
    """What became of a file."""

    CHANGED = "changed"
    RELABELLED = "relabelled"  # changed, among separated labels
    SWAPPED = "swapped"  # it holds what another file held, and that one what this one did
    RENAMED = "renamed"
    ADDED = "added"
    REMOVED = "removed"


@dataclass(frozen=True)
class Change:
    """One file (or ``data``: something that has no name). Paths begin with ``data/`` or ``labels/``; ``other``: the new name of a renamed one, or what it was swapped with."""

    kind: ChangeKind
    path: str
    other: str | None = None

    def __str__(self) -> str:
        to = {ChangeKind.RENAMED: " to ", ChangeKind.SWAPPED: " with "}.get(self.kind, "")
        return f"{self.path} was {self.kind.value}{to}{self.other or ''}"


@dataclass(frozen=True)
class CheckReport:
    """What a check found.

    Attributes:
        reading: ``metadata``: files with the same device, inode, size and times were taken as they are; ``full``: every byte was read.
        hashed: files that were read.
        changes: none: the data are those that were prepared.
    """

    dataset: str
    reading: Reading
    files: int
    bytes: int
    hashed: int
    seconds: float
    changes: tuple[Change, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether the data are those that were prepared."""
        return not self.changes


@dataclass(frozen=True)
class VerifiedDataset:
    """Data that were checked, as steps take them: folder and identity. What was verified is what runs, if `recheck` agrees afterwards."""

    dataset: LocalDataset
    report: CheckReport
    data: tuple[Path, str]
    labels: tuple[Path, str]
    index: DataIndex = field(repr=False)

    def recheck(self, site: Site) -> None:
        """After a run: nothing was touched meanwhile.

        Raises:
            InvalidInput: ``data_changed``.
        """
        from medperf.runtime.hashing import data_identity

        found = data_identity(self.dataset.paths, index=self.index, emit=site.emit_or_stop)
        if found.root != self.index.root:
            raise data_changed(self.dataset, differences(self.index, found.index))


def check_dataset(site: Site, reference: str, *, full: bool = False) -> CheckReport:
    """Compare a dataset's files with what was prepared. A dataset that is unchanged is known as checked from now on.

    Args:
        reference: its name, its id at the server, or the beginning of its id here.
        full: read every byte.

    Raises:
        NotFound: this site has no such dataset.
        InvalidInput: links or special files, or something that cannot be read.
    """
    return _check(site, find_local(site, reference), full=full)[0]


def verified_dataset(site: Site, reference: str, *, full: bool | None = None) -> VerifiedDataset:
    """Check a dataset for a run, and say what a step is to read.

    Args:
        full: read every byte; None: when the policy says it is time.

    Raises:
        InvalidInput: ``data_changed``: it is not what was prepared; the first files are named.
    """
    dataset = find_local(site, reference)
    report, index = _check(site, dataset, full=due(site, dataset) if full is None else full)
    if not report.unchanged:
        raise data_changed(dataset, report.changes)
    identities = dataset.facts.identities
    data = (dataset.data, identities["data"])
    labels = (dataset.labels, identities.get("labels", identities["data"]))
    return VerifiedDataset(dataset, report, data, labels, index)


def due(site: Site, dataset: LocalDataset) -> bool:
    """Whether the policy wants every byte read again."""
    from medperf.flows.policy import site_policy

    days = site_policy(site).full_check_days
    return datetime.fromisoformat(dataset.full_checked_at) + timedelta(days=days) <= datetime.now(UTC)


def find_local(site: Site, reference: str) -> LocalDataset:
    """A dataset of this site.

    Raises:
        NotFound: there is none.
    """
    return site.workspace.datasets.get(reference, instance_id=instance_of(site))


def instance_of(site: Site) -> str | None:
    """The server's instance that this profile is logged in to; None: to none."""
    found = site.credentials.get(site.profile.name)
    return found.instance_id if found is not None and found.server == site.profile.server else None


def differences(
    before: Mapping[str, tuple[object, str]], after: Mapping[str, tuple[object, str]]
) -> tuple[Change, ...]:
    """What became of each file, by content: (stamp, sha256) by path."""
    old = {path: digest for path, (_, digest) in before.items()}
    new = {path: digest for path, (_, digest) in after.items()}
    added = {path for path in new if path not in old}
    found: list[Change] = []
    places: dict[str, list[str]] = defaultdict(list)
    for path in sorted(added):
        places[new[path]].append(path)
    for path in sorted(path for path in old if path not in new):
        if places[old[path]]:
            renamed = places[old[path]].pop(0)
            added.discard(renamed)
            found.append(Change(ChangeKind.RENAMED, path, renamed))
        else:
            found.append(Change(ChangeKind.REMOVED, path))
    changed = sorted(path for path in old if path in new and old[path] != new[path])
    holders: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in changed:
        holders[old[path], new[path]].append(path)
    done: set[str] = set()
    for path in changed:
        if path in done:
            continue
        other = next((one for one in holders[new[path], old[path]] if one not in done), None)
        if other is not None:
            done |= {path, other}
            found.append(Change(ChangeKind.SWAPPED, path, other))
        else:
            found.append(Change(ChangeKind.RELABELLED if path.startswith("labels/") else ChangeKind.CHANGED, path))
    found += [Change(ChangeKind.ADDED, path) for path in sorted(added)]
    return tuple(found)


def data_changed(dataset: LocalDataset, changes: tuple[Change, ...]) -> InvalidInput:
    """The refusal. File names stay at the site: this is for whoever sits there."""
    named = "; ".join(str(change) for change in changes[:_NAMED]) or "an empty folder was added or removed"
    more = f"; and {len(changes) - _NAMED:,} more" if len(changes) > _NAMED else ""
    return InvalidInput(
        "data_changed",
        f"The dataset {dataset.name!r} is not what was prepared: {named}{more}.",
        f"Put the files back, or create the dataset anew; see all with: medperf dataset check {dataset.uuid[:8]}",
        details={"dataset": dataset.uuid, "changes": len(changes)},
    )


def _check(site: Site, dataset: LocalDataset, *, full: bool) -> tuple[CheckReport, DataIndex]:
    from medperf.runtime.hashing import data_identity

    clock = site.clock()
    known = _known(site, dataset)
    for path in dataset.paths.values():
        if not path.exists():
            raise InvalidInput(
                "data_changed",
                f"The prepared data of {dataset.name!r} are gone: {path}.",
                "Create the dataset anew.",
                details={"dataset": dataset.uuid},
            )
    found = data_identity(dataset.paths, index=None if full else known, emit=site.emit_or_stop)
    full = full or known is None
    changes: tuple[Change, ...] = ()
    if found.root != dataset.root:
        # Without an index, or where only empty folders differ, no file can be named.
        changes = differences(known, found.index) if known is not None else ()
        changes = changes or (Change(ChangeKind.CHANGED, "data"),)
    elif full or found.hashed:
        site.workspace.datasets.checked(dataset.uuid, full=full, index=found.index.dump())
    else:
        site.workspace.datasets.checked(dataset.uuid, full=False)
    report = CheckReport(
        dataset=dataset.uuid,
        reading="full" if full else "metadata",
        files=found.files,
        bytes=found.bytes,
        hashed=found.hashed,
        seconds=site.clock() - clock,
        changes=changes,
    )
    return report, found.index


def _known(site: Site, dataset: LocalDataset) -> DataIndex | None:
    """What was kept of its files; None where that is not what makes the dataset's identity: then every byte is read."""
    from medperf.runtime.hashindex import DataIndex

    kept = site.workspace.datasets.index(dataset.uuid)
    try:
        index = DataIndex.load(kept) if kept is not None else None
    except InvalidInput:
        return None
    return index if index is not None and index.root == Digest(dataset.root) else None
