# ruff: noqa: PTH112, PTH116, S108 - descriptors, plain path texts and folders of the sandbox
"""Root's own preparation: show files that only root can reach to the unprivileged user the sandbox runs as.

A thread leaves the machine's mount table for one of its own and gathers everything the sandbox needs there: inputs are
mounted with their owner mapped to the sandbox's user (so files of mode 0600 below a folder of mode 0700 can be read,
nothing on disk changes), the rest as it is. Only the thread and what it starts see these mounts, and they end with it.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import subprocess
import threading
import time
import weakref
from pathlib import Path

from medperf.domain.errors import MedPerfError

_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE, _MS_NOSUID, _MS_NODEV = 0x4000, 1 << 18, 0x2, 0x4
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on all machines
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC, _AT_RECURSIVE, _AT_EMPTY_PATH, _AT_FDCWD = 0x1, os.O_CLOEXEC, 0x8000, 0x1000, -100
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV, _ATTR_IDMAP = 0x1, 0x2, 0x4, 0x00100000
_POINT = "/tmp"


class Stage:
    """The gathered mounts of one run. Make it on the thread that will start the sandbox, and use it there only."""

    def __init__(self, owners: OwnerMaps) -> None:
        """Leave the machine's mount table.

        Raises:
            OSError: this account may not.
        """
        self._owners = owners
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._trees: list[tuple[int, str, bool]] = []
        self._check(self._libc.unshare(_CLONE_NEWNS))
        self._check(self._libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))

    def add(self, path: Path, *, mapped: bool = False, read_only: bool = True) -> str:
        """Take in a file or folder; returns where the sandbox's user finds it once `open` was called.

        ``mapped``: the path's owner appears as the sandbox's user. Where the file system has no such mounts, the plain
        mount is used if other users may read it.

        Raises:
            MedPerfError: others may not read it and the file system cannot map owners.
            OSError: it is not there.
        """
        tree = self._syscall(
            _OPEN_TREE, _AT_FDCWD, os.fsencode(path), _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE
        )
        info = os.stat(path)
        flags = _ATTR_NOSUID | _ATTR_NODEV | (_ATTR_RDONLY if read_only else 0)
        if mapped and not self._set(tree, flags | _ATTR_IDMAP, (info.st_uid, info.st_gid)):
            mapped = False
            if not info.st_mode & 0o004:
                os.close(tree)
                raise MedPerfError(
                    "unreadable_input",
                    f"{path} is readable by its owner only, and its file system cannot show it to an unprivileged user.",
                    f"Run as the user who owns it, or allow others to read it: chmod -R o+rX '{path}'.",
                )
        if not mapped:
            self._set(tree, flags, None)
        self._trees.append((tree, f"{len(self._trees)}", os.path.isdir(path)))
        return f"{_POINT}/{len(self._trees) - 1}"

    def open(self) -> None:
        """Put everything that was added in its place."""
        self._check(self._libc.mount(b"tmpfs", _POINT.encode(), b"tmpfs", _MS_NOSUID | _MS_NODEV, b"mode=755,size=1m"))
        for tree, name, is_folder in self._trees:
            target = Path(_POINT, name)
            if is_folder:
                target.mkdir()
            else:
                target.touch()
            self._syscall(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
            os.close(tree)
        self._trees.clear()

    def close(self) -> None:
        """Drop what was added but never put in place; mounts end with the thread."""
        for tree, _, _ in self._trees:
            os.close(tree)
        self._trees.clear()

    def _set(self, tree: int, flags: int, owner: tuple[int, int] | None) -> bool:
        try:
            namespace = 0 if owner is None else self._owners.descriptor(owner)
            attributes = struct.pack("=QQQQ", flags if owner else flags & ~_ATTR_IDMAP, 0, 0, namespace)
            self._syscall(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, attributes, len(attributes))
        except OSError:
            if owner is None:
                raise
            return False  # no such mounts on this file system or kernel
        return True

    def _syscall(self, number: int, *arguments: object) -> int:
        return self._check(self._libc.syscall(number, *arguments))

    @staticmethod
    def _check(result: int) -> int:
        if result < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        return result


class OwnerMaps:
    """User namespaces in which a file's owner and the sandbox's user have changed places, made once per owner."""

    def __init__(self, uid: int, gid: int) -> None:
        self.uid, self.gid = uid, gid
        self._found: dict[tuple[int, int], int] = {}
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._found)

    def descriptor(self, owner: tuple[int, int]) -> int:
        """Descriptor of the namespace for files of ``owner`` (uid and gid).

        Raises:
            OSError: none can be made here.
        """
        with self._lock:
            if owner not in self._found:
                self._found[owner] = self._make(owner)
            return self._found[owner]

    def _make(self, owner: tuple[int, int]) -> int:
        holder = subprocess.Popen(
            ["/usr/bin/unshare", "--user", "/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        try:
            ours = os.stat("/proc/self/ns/user").st_ino
            deadline = time.monotonic() + 5
            while os.stat(f"/proc/{holder.pid}/ns/user").st_ino == ours:
                if holder.poll() is not None or time.monotonic() > deadline:
                    raise OSError(errno.EPERM, "no user namespace could be made")
                time.sleep(0.0002)
            for name, one, other in (("uid_map", owner[0], self.uid), ("gid_map", owner[1], self.gid)):
                Path(f"/proc/{holder.pid}/{name}").write_text(_swap(one, other))
            return os.open(f"/proc/{holder.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            holder.kill()
            holder.communicate()


def _close_all(descriptors: dict[tuple[int, int], int]) -> None:
    for descriptor in descriptors.values():
        os.close(descriptor)


def _swap(one: int, other: int) -> str:
    """A map in which two ids have changed places and every other is itself."""
    low, high = sorted((one, other))
    if low == high:
        return "0 0 4294967295\n"
    parts = [
        (0, 0, low),
        (low, high, 1),
        (low + 1, low + 1, high - low - 1),
        (high, low, 1),
        (high + 1, high + 1, 4294967295 - high - 1),
    ]
    return "".join(f"{inside} {outside} {count}\n" for inside, outside, count in parts if count > 0)
