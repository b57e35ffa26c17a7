"""Control groups: hard limits for memory, processes and processor time, where this account may make one (v1 and v2)."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medperf.domain.confinement import Limits

_PREFIX = "medperf-"


@dataclass(frozen=True)
class Controllers:
    """Folders below which groups can be made. v2 has one for everything; ``cpu`` None: no processor limit."""

    version: int
    memory: Path
    pids: Path
    cpu: Path | None

    @property
    def label(self) -> str:
        """For reports: ``cgroup v1``."""
        return f"cgroup v{self.version}"


@dataclass
class Group:
    """One task's group."""

    controllers: Controllers
    memory: Path
    pids: Path
    cpu: Path | None
    folders: list[Path] = field(default_factory=list)

    def add(self, pid: int) -> None:
        """Move a process in; what it starts from then on is in too."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def out_of_memory(self) -> bool:
        """Whether the kernel killed something of this group for want of memory."""
        name = "memory.events" if self.controllers.version == 2 else "memory.oom_control"
        return _keyed(self.memory / name).get("oom_kill", 0) > 0

    def peak_memory(self) -> int | None:
        """Highest use in bytes, where the kernel keeps it."""
        name = "memory.peak" if self.controllers.version == 2 else "memory.max_usage_in_bytes"
        try:
            return int((self.memory / name).read_text())
        except (OSError, ValueError):
            return None

    def remove(self) -> None:
        """Remove the folders; a process stays listed for some milliseconds after its death."""
        for folder in self.folders:
            for _ in range(200):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.002)
                    continue
                break


def find_controllers(*, process: Path = Path("/proc/self")) -> Controllers | None:
    """Where this process may make groups with memory and process limits; None: nowhere (then rlimits and watching serve)."""
    try:
        lines = [line.split(":", 2) for line in (process / "cgroup").read_text().splitlines()]
        mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    except OSError:
        return None
    own = {name: path for _, names, path in lines for name in names.split(",")}
    points: dict[str, Path] = {}
    for fields in mounts:
        kind = fields[fields.index("-") + 1 :]
        # The mount may show only a part of the hierarchy (inside a container): its root is cut off our own path.
        if kind[0] == "cgroup":
            for name in kind[2].split(","):
                if name in own:
                    points[name] = _below(Path(fields[4]), fields[3], own[name])
        elif kind[0] == "cgroup2" and "" in own:
            points[""] = _below(Path(fields[4]), fields[3], own[""])
            points["top"] = Path(fields[4])
    if "memory" in points and "pids" in points:
        found = Controllers(1, points["memory"], points["pids"], points.get("cpu"))
        return found if all(os.access(path, os.W_OK) for path in (found.memory, found.pids)) else None
    if "" in points:
        return _find_v2(points[""], points["top"])
    return None


def make_group(controllers: Controllers, limits: Limits) -> Group:
    """Make a group with these limits.

    Raises:
        OSError: it cannot be made.
    """
    # Random: an earlier process of our number may have been killed and have left its groups.
    name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(6)}"
    v2 = controllers.version == 2
    group = Group(
        controllers,
        controllers.memory / name,
        controllers.pids / name,
        controllers.cpu / name if controllers.cpu else None,
    )
    cpu = group.cpu if limits.cpus is not None else None
    group.folders = list(dict.fromkeys(folder for folder in (group.memory, group.pids, cpu) if folder is not None))
    made: list[Path] = []
    try:
        for folder in group.folders:
            folder.mkdir()
            made.append(folder)
        (group.memory / ("memory.max" if v2 else "memory.limit_in_bytes")).write_text(str(limits.memory_bytes))
        # Swap counts as memory, where the kernel keeps count of it.
        swap = group.memory / ("memory.swap.max" if v2 else "memory.memsw.limit_in_bytes")
        with contextlib.suppress(OSError):
            if swap.exists():
                swap.write_text("0" if v2 else str(limits.memory_bytes))
        # The sandbox itself needs two processes.
        (group.pids / "pids.max").write_text(str(limits.pids + 2))
        if cpu is not None and limits.cpus is not None:
            if v2:
                (cpu / "cpu.max").write_text(f"{int(limits.cpus * 100_000)} 100000")
            else:
                (cpu / "cpu.cfs_quota_us").write_text(str(int(limits.cpus * 100_000)))
    except OSError:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
    return group


def sweep(controllers: Controllers) -> None:
    """Remove empty groups of processes that are gone (they were killed before they could)."""
    for base in {controllers.memory, controllers.pids, controllers.cpu or controllers.pids}:
        with contextlib.suppress(OSError):
            for folder in base.glob(f"{_PREFIX}*"):
                pid = folder.name.removeprefix(_PREFIX).split("-")[0]
                if not Path("/proc", pid).exists():
                    with contextlib.suppress(OSError):
                        folder.rmdir()


def _find_v2(own: Path, top: Path) -> Controllers | None:
    """The nearest folder from our own upwards where groups can be made and memory and process limits are on."""
    for folder in _upwards(own, top):
        try:
            enabled = (folder / "cgroup.subtree_control").read_text().split()
        except OSError:
            continue
        # A process can be moved only where its common ancestor's list is writable too.
        if (
            os.access(folder, os.W_OK)
            and os.access(folder / "cgroup.procs", os.W_OK)
            and {"memory", "pids"} <= set(enabled)
        ):
            return Controllers(2, folder, folder, folder if "cpu" in enabled else None)
    return None


def _upwards(own: Path, top: Path) -> Iterator[Path]:
    folder = own
    while True:
        yield folder
        if folder in (top, folder.parent):
            return
        folder = folder.parent


def _below(point: Path, mounted: str, path: str) -> Path:
    inner = path.removeprefix(mounted) if mounted != "/" else path
    return point / inner.strip("/") if inner.strip("/") else point


def _keyed(path: Path) -> dict[str, int]:
    try:
        pairs = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
