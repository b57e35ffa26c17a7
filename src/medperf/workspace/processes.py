"""Which process made something, and whether it still lives: pid, start time and boot id, as one short text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Process(NamedTuple):
    """``started`` in clock ticks since boot: a pid that was given to another process later has another one."""

    pid: int
    started: int
    boot: str

    @classmethod
    def current(cls) -> Process:
        """This process (asked anew each time, for it may have been forked)."""
        pid = os.getpid()
        return cls(pid, _started(pid) or 0, _boot())

    @classmethod
    def parse(cls, token: str) -> Process | None:
        """Read what `token` wrote; None when it is something else."""
        parts = token.split("-")
        if len(parts) != 3 or not (parts[0].isdecimal() and parts[1].isdecimal()):
            return None
        return cls(int(parts[0]), int(parts[1]), parts[2])

    @property
    def token(self) -> str:
        """Text form for file names and rows, e.g. ``4711-883920-1f0c9a2b``."""
        return f"{self.pid}-{self.started}-{self.boot}"

    @property
    def alive(self) -> bool:
        """Whether the very same process runs now (zombies are dead)."""
        return self.boot == _boot() and _started(self.pid) == self.started


def _boot() -> str:
    try:
        return _BOOT_ID.read_text().replace("-", "")[:8]
    except OSError:
        return "none"


def _started(pid: int) -> int | None:
    """Start time of a process, None when there is none or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name in parentheses may hold anything, spaces and parentheses too.
    state, *rest = text.rpartition(")")[2].split()
    return None if state in "ZX" else int(rest[18])
