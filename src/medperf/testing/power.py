"""What a power cut would leave: which bytes and which names were on the disk for sure.

While it watches, every ``fsync`` and ``fdatasync`` of this process is done and noted. What SQLite writes is its own matter: it calls the
system by itself.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_File = tuple[int, int]


class Disk:
    """What is on it for sure."""

    def __init__(self) -> None:
        #: inode -> size and time of change when it was synced
        self._files: dict[_File, tuple[int, int]] = {}
        #: inode -> the inodes of its names when it was synced
        self._folders: dict[_File, dict[str, int]] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note what is synced inside the block."""
        before = os.fsync, os.fdatasync

        def noting(sync: Callable[[int], None]) -> Callable[[int], None]:
            def synced(descriptor: int) -> None:
                self._note(descriptor)  # first: what is written meanwhile may be too late
                sync(descriptor)

            return synced

        os.fsync, os.fdatasync = (noting(sync) for sync in before)  # type: ignore[assignment] # as the originals are called here
        try:
            yield
        finally:
            os.fsync, os.fdatasync = before

    def misses(self, path: Path, *, below: Path, content: bool = True) -> str | None:
        """Why ``path`` might not be there after a power cut, None where it is.

        Args:
            below: a folder above it that has been there for long.
            content: look at the file's bytes, too.
        """
        info = path.lstat()
        if content and stat.S_ISREG(info.st_mode) and self._files.get(_key(info)) != (info.st_size, info.st_mtime_ns):
            return f"the bytes of {path}"
        while path != below:
            names = self._folders.get(_key(path.parent.lstat()), {})
            if names.get(path.name) != path.lstat().st_ino:
                return f"the name {path.name} in {path.parent}"
            path = path.parent
        return None

    def _note(self, descriptor: int) -> None:
        info = os.fstat(descriptor)
        if stat.S_ISDIR(info.st_mode):
            with os.scandir(descriptor) as entries:
                self._folders[_key(info)] = {entry.name: entry.inode() for entry in entries}
        else:
            self._files[_key(info)] = info.st_size, info.st_mtime_ns


def _key(info: os.stat_result) -> _File:
    return info.st_dev, info.st_ino
