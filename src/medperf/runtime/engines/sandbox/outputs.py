# ruff: noqa: PTH123 - descriptors, plain path texts and folders of the sandbox
"""The places a task writes to: made before, checked and handed back after, gone if they hold what they may not."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from medperf.domain.confinement import ConfinementPolicy
from medperf.domain.errors import InvalidInput
from medperf.runtime.engines.base import Mount, Reason
from medperf.runtime.engines.sandbox.job import Bind
from medperf.runtime.engines.sandbox.session import Ended
from medperf.runtime.engines.sandbox.watch import over_limit
from medperf.runtime.trees import clear, hand_back, measure, remove


@dataclass(frozen=True)
class _Place:
    """One output. ``folder`` is bound read-write; for an output of type file it is a scratch folder beside the file."""

    mount: Mount
    folder: Path
    fresh: bool  # made by us, or empty before


class Outputs:
    """The mounts of one run as binds; a context that leaves no scratch folder behind.

    Args:
        owner: uid and gid that the task has on the host, where they differ from the caller's.
    """

    def __init__(self, mounts: tuple[Mount, ...], *, owner: tuple[int, int] | None) -> None:
        self._mounts = mounts
        self._owner = owner
        self._places: list[_Place] = []

    @classmethod
    def of_folder(cls, folder: Path, *, owner: tuple[int, int] | None) -> Self:
        """For one folder that is there already, with what it holds."""
        return cls((Mount("output", folder, "directory", output=True),), owner=owner)

    def __enter__(self) -> Self:
        try:
            for mount in self._mounts:
                if mount.output:
                    self._places.append(self._make(mount))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for place in self._places:
            if place.mount.type == "file":
                remove(place.folder)
            elif kind is not None and place.folder.is_dir():
                hand_back(place.folder, owner=self._caller(), umask=_umask())

    def inside(self, index: int) -> str:
        """Path of the parameter at ``index`` as the task sees it."""
        return f"/mlcube_io{index}/{self._mounts[index].host.name or 'data'}"

    def binds(self) -> list[Bind]:
        """All mounts, in the order of the parameters."""
        folders = {id(place.mount): place.folder for place in self._places}
        found = []
        for index, mount in enumerate(self._mounts):
            if not mount.output:
                found.append(Bind(mount.host.resolve(), self.inside(index), mapped=True))
            elif mount.type == "file":
                found.append(Bind(folders[id(mount)], f"/mlcube_io{index}", writable=True))
            else:
                found.append(Bind(folders[id(mount)], self.inside(index), writable=True))
        return found

    def collect(self, ended: Ended, policy: ConfinementPolicy) -> Ended:
        """Check what was written, give it to the caller and put files in place; the verdict may become worse, never better."""
        folders = tuple(place.folder for place in self._places)
        over, _ = over_limit(folders, policy.limits)
        if over is None and ended.reason in ("exit", "signal") and self._hit_file_limit(policy):
            over = f"a file reached the limit of {min(policy.limits.file_bytes, policy.limits.output_bytes):,} bytes"
        if over is not None and "output-limit" not in policy.waived:
            self._drop_all()
            return (
                ended
                if ended.reason in ("cancelled", "time-limit")
                else replace(ended, reason="output-limit", message=over)
            )
        removed = [fault for folder in folders for fault in hand_back(folder, owner=self._caller(), umask=_umask())]
        if removed:
            self._drop_all()
            return _worse(ended, "bad-output", f"the outputs held what is no plain file or folder: {removed[0]}")
        missing = [place.mount.parameter for place in self._places if not self._arrived(place)]
        if missing:
            return _worse(ended, "missing-output", f"it wrote nothing to its output {missing[0]!r}")
        return ended

    def _make(self, mount: Mount) -> _Place:
        if not mount.host.parent.is_dir():
            raise InvalidInput(
                "no_output_parent",
                f"The folder for the output {mount.parameter!r} does not exist: {mount.host.parent}.",
                "Make it first.",
            )
        fresh = True
        if mount.type == "file":
            folder = Path(tempfile.mkdtemp(prefix=".medperf-output-", dir=mount.host.parent))
            if mount.host.is_file() and not mount.host.is_symlink():  # a report that is continued
                shutil.copyfile(mount.host, folder / mount.host.name)
                self._give(folder / mount.host.name)
        else:
            folder = mount.host
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                raise InvalidInput(
                    "bad_output_path",
                    f"The output {mount.parameter!r} is no folder: {folder}.",
                    "Give a path that does not exist yet.",
                )
            folder.mkdir(mode=0o700, exist_ok=True)
            fresh = not any(folder.iterdir())
            if not fresh and self._owner is not None:
                hand_back(folder, owner=self._owner, umask=0o077)
        self._give(folder)
        return _Place(mount, folder, fresh)

    def _give(self, path: Path) -> None:
        if self._owner is not None:
            os.chown(path, *self._owner, follow_symlinks=False)

    def _caller(self) -> tuple[int, int] | None:
        return (os.geteuid(), os.getegid()) if self._owner is not None else None

    def _drop_all(self) -> None:
        """Remove what this run wrote; in a folder that was filled before only what is not plain goes (`hand_back` did that)."""
        for place in self._places:
            if place.mount.type == "file" or place.fresh:
                clear(place.folder)
            hand_back(place.folder, owner=self._caller(), umask=_umask())

    def _arrived(self, place: _Place) -> bool:
        """Put a file in its place; whether the output holds anything. A file that was there before does not count for one that is gone."""
        host = place.mount.host
        if place.mount.type == "directory":
            return host.is_dir() and any(host.iterdir())
        written = place.folder / host.name
        if not written.is_file():
            return False
        written.replace(host)
        return host.stat().st_size > 0

    def _hit_file_limit(self, policy: ConfinementPolicy) -> bool:
        limits = policy.limits
        bound = min(limits.file_bytes, limits.output_bytes)
        found = (
            measure(place.folder, stop_bytes=limits.output_bytes, stop_entries=limits.output_files)
            for place in self._places
        )
        return any(one.largest >= bound for one in found)


def _worse(ended: Ended, reason: Reason, message: str) -> Ended:
    return replace(ended, reason=reason, message=message) if ended.reason == "ok" else ended


def _umask() -> int:
    """The caller's umask, read without changing it."""
    with open("/proc/self/status") as file:
        for line in file:
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    return 0o077
