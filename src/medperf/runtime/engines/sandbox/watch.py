# ruff: noqa: PTH116, PTH123, PTH208 - descriptors, plain path texts and folders of the sandbox
"""What the parent can see of a running sandbox from outside: its processes, their memory, how much was written."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from medperf.domain.confinement import Limits
from medperf.runtime.trees import measure

_PAGE = os.sysconf("SC_PAGE_SIZE")
#: Left to everybody else, above all to the site's database: a task that leaves less is ended.
_LEAST = (64 * 1024**2, 1024)
_LEAST_NAMES = ("bytes", "files")


def descendants(pid: int) -> list[int]:
    """``pid`` and all below it that are alive now."""
    found = [pid]
    for parent in found:
        try:
            with open(f"/proc/{parent}/task/{parent}/children") as file:
                found += [int(child) for child in file.read().split()]
            # Children of other threads are listed with the thread.
            threads = os.listdir(f"/proc/{parent}/task")
            for thread in threads if len(threads) > 1 else ():
                if thread != str(parent):
                    with open(f"/proc/{parent}/task/{thread}/children") as file:
                        found += [int(child) for child in file.read().split()]
        except OSError:
            continue
    return found


def resident_bytes(pids: list[int]) -> int:
    """Memory in use by these processes, each page counted once per process that shares it."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/statm") as file:
                total += int(file.read().split()[1]) * _PAGE
        except (OSError, IndexError):
            continue
    return total


def proportional_bytes(pids: list[int]) -> int:
    """Memory in use by these processes, shared pages split between them. Slower than `resident_bytes`."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                total += next((int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:")), 0)
        except OSError:
            total += resident_bytes([pid])
    return total


class MemoryWatch:
    """Watches a tree's total memory where no control group can."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._next = 0.0
        self.peak = 0

    def exceeded(self, pid: int) -> bool:
        """Whether the tree below ``pid`` is over the limit now. Looks as often as is cheap."""
        start = time.monotonic()
        if start < self._next:
            return False
        pids = descendants(pid)
        used = resident_bytes(pids)
        if used > self._limit and len(pids) > 1:
            used = proportional_bytes(pids)
        self.peak = max(self.peak, used)
        now = time.monotonic()
        self._next = now + max(0.015, 8 * (now - start))
        return used > self._limit


class OutputWatch:
    """Watches how much a task has written.

    The free space of the file system, which costs microseconds to ask, says when a look at the folders themselves is due;
    so a flood is noticed within some milliseconds and a long quiet task costs nothing.
    """

    def __init__(self, folders: tuple[int, ...], limits: Limits) -> None:
        """``folders`` are open descriptors: in the mount table of a `Stage` the paths lead elsewhere."""
        self._folders = folders
        # One descriptor per file system: several outputs share one.
        self._disks = {os.fstat(folder).st_dev: folder for folder in folders}
        self._limits = limits
        self._free = self._start_free = self._space()
        self._next = 0.0
        self._last = 0
        self._latest = time.monotonic()

    def exceeded(self, pid: int) -> str | None:
        """What is over its limit, as a sentence; None: nothing."""
        now = time.monotonic()
        if not self._folders or now < self._next:
            return None
        free = self._space()
        for name, least, before, left in zip(_LEAST_NAMES, _LEAST, self._start_free, free, strict=True):
            if before >= least > left:
                return f"the disk has fewer than {least:,} {name} left"
        room = self._limits.output_bytes - self._last
        used_bytes, used_files = self._free[0] - free[0], self._free[1] - free[1]
        # A quarter of what is left may go by unseen; and a look now and then catches what free space does not show.
        due = used_bytes > room // 4 or used_files > self._limits.output_files // 8 or now - self._latest > 1.0
        if not due:
            return None
        self._free, self._latest = free, now
        found = over_limit(self._folders, self._limits)
        self._last = found[1]
        unexplained = self._start_free[0] - free[0] - self._last
        if found[0] is None and unexplained > self._limits.output_bytes // 2:
            hidden, certain = _deleted_bytes(pid, set(self._disks))
            if not certain:  # others may write to the disk too, but files are hidden here, and the space is gone
                hidden = max(hidden, unexplained)
            if self._last + hidden > self._limits.output_bytes:
                return "files that were deleted while in use hold more than the outputs may"
        spent = time.monotonic() - now
        self._next = time.monotonic() + 4 * spent
        return found[0]

    def _space(self) -> tuple[int, int]:
        free = files = 0
        for folder in self._disks.values():
            info = os.statvfs(folder)
            free += info.f_bfree * info.f_frsize
            files += info.f_ffree
        return free, files


def over_limit(folders: tuple[Path | int, ...], limits: Limits) -> tuple[str | None, int]:
    """What the folders together break, as a sentence, and how many bytes they hold."""
    total = entries = 0
    for folder in folders:
        found = measure(folder, stop_bytes=limits.output_bytes - total, stop_entries=limits.output_files - entries)
        total += found.bytes
        entries += found.entries
        if total > limits.output_bytes:
            return f"the outputs hold more than {limits.output_bytes:,} bytes", total
        if entries > limits.output_files:
            return f"the outputs hold more than {limits.output_files:,} files and folders", total
        if found.too_deep:
            return "the outputs are nested too deeply", total
    return None, total


def _deleted_bytes(pid: int, devices: set[int]) -> tuple[int, bool]:
    """Size of files on ``devices`` that a process below ``pid`` holds open though they have no name any more.

    Also whether that is all: a file may be held by a mapping, or by a descriptor under way in a socket, which tell no size.
    """
    seen: dict[tuple[int, int], int] = {}
    certain = True
    for process in descendants(pid):
        try:
            threads = os.listdir(f"/proc/{process}/task")  # each may have descriptors of its own
            certain &= not _maps_deleted(process, devices)
        except FileNotFoundError:
            continue
        except OSError:
            certain = False
            continue
        for thread in threads:
            folder = f"/proc/{process}/task/{thread}"
            try:
                names = os.listdir(f"{folder}/fd")
            except PermissionError:
                certain = False
                continue
            except OSError:
                continue
            for name in names:
                try:
                    info = os.stat(f"{folder}/fd/{name}")
                    if stat.S_ISSOCK(info.st_mode):
                        certain &= not _sends_descriptors(f"{folder}/fdinfo/{name}")
                except OSError:
                    continue
                if info.st_nlink == 0 and info.st_dev in devices:
                    seen[info.st_dev, info.st_ino] = info.st_blocks * 512
    return sum(seen.values()), certain


def _maps_deleted(process: int, devices: set[int]) -> bool:
    """Whether it has a deleted file of these devices in its memory."""
    wanted = {f"{os.major(device):02x}:{os.minor(device):02x}" for device in devices}
    with open(f"/proc/{process}/maps", errors="replace") as file:
        return any(line.endswith(" (deleted)\n") and line.split(maxsplit=4)[3] in wanted for line in file)


def _sends_descriptors(path: str) -> bool:
    with open(path) as file:
        return any(line.startswith("scm_fds:") and int(line.split()[1]) > 0 for line in file)
