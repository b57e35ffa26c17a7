# ruff: noqa: PTH208 - descriptors, plain path texts and folders of the sandbox
"""Folders that somebody else wrote: measured, checked and removed without following a link or trusting a name.

Everything works on directory descriptors, never on joined paths, holds few of them open and does not recurse, so that
neither links swapped in meanwhile nor endless nesting lead anywhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medperf.runtime.names import MAX_DEPTH, unclean

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 512


@dataclass
class Measure:
    """What a tree holds. ``bytes`` counts each file as the larger of its length and its blocks, and 4096 per folder."""

    bytes: int = 0
    entries: int = 0
    largest: int = 0
    too_deep: bool = False


def measure(folder: Path | int, *, stop_bytes: int, stop_entries: int) -> Measure:
    """Size of everything below ``folder`` (a path or an open descriptor), stopping early once past either bound.

    Safe while somebody writes there.
    """
    found = Measure()
    for level, _, entry, info in _walk(folder):
        found.entries += 1
        found.too_deep |= level > MAX_DEPTH
        if stat.S_ISDIR(info.st_mode):
            found.bytes += 4096
        else:
            size = max(info.st_size, info.st_blocks * _BLOCK) if stat.S_ISREG(info.st_mode) else len(entry)
            found.bytes += size
            found.largest = max(found.largest, size)
        if found.bytes > stop_bytes or found.entries > stop_entries or found.too_deep:
            break
    return found


def hand_back(folder: Path, *, owner: tuple[int, int] | None, umask: int) -> tuple[str, ...]:
    """Make everything below ``folder``, and itself, plain and the caller's: owner, modes 0666 or 0777 less ``umask``, no access lists.

    Entries that are neither plain files nor folders, files with further links, and names that are no clean UTF-8 are removed.

    Args:
        folder: written by a task that is dead by now.
        owner: uid and gid to give everything to; None: it is the caller's already.

    Returns:
        What was removed, as sentences for the person; empty when all was plain.
    """
    removed: list[str] = []
    _own(folder, None, owner, 0o777 & ~umask | 0o700)
    for level, parent, name, info in _walk(folder, unlock=True):
        fault = _fault(name, info, level)
        if fault:
            removed.append(fault)
            _remove_entry(parent, name, info)
        else:
            mode = (0o777 & ~umask | 0o700) if stat.S_ISDIR(info.st_mode) else (0o666 & ~umask | 0o600)
            _own(name, parent, owner, mode)
    return tuple(removed)


def special_entry(folder: Path) -> str | None:
    """Name of the first socket, pipe or device below ``folder``: an input with one would open a way to its listener."""
    stack = [os.fspath(folder)]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(entry.path)
                elif not entry.is_file(follow_symlinks=False) and not entry.is_symlink():
                    return entry.path
    return None


def remove(path: Path) -> None:
    """Remove a file or a whole tree, whatever it holds. A missing one is fine."""
    try:
        info = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(info.st_mode):
        path.unlink()
        return
    clear(path)
    path.rmdir()


def clear(folder: Path) -> None:
    """Remove everything below ``folder``."""
    top = os.open(folder, _DIRECTORY)
    try:
        _clear(top)
    finally:
        os.close(top)


def _clear(top: int) -> None:
    """Empty a folder: sub-folders are lifted to the top before they are removed, so depth does not matter."""
    counter = 0
    os.fchmod(top, 0o700)
    while names := os.listdir(top):
        for name in names:
            info = os.stat(name, dir_fd=top, follow_symlinks=False)
            if not stat.S_ISDIR(info.st_mode):
                os.unlink(name, dir_fd=top)
                continue
            _chmod(name, top, 0o700)
            inner = os.open(name, _DIRECTORY, dir_fd=top)
            try:
                for child in os.listdir(inner):
                    if stat.S_ISDIR(os.stat(child, dir_fd=inner, follow_symlinks=False).st_mode):
                        _chmod(child, inner, 0o700)
                        counter += 1
                        _lift(child, inner, top, counter)
                    else:
                        os.unlink(child, dir_fd=inner)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=top)


def _lift(child: str, inner: int, top: int, counter: int) -> None:
    while True:
        try:
            os.rename(child, f".removed-{counter}", src_dir_fd=inner, dst_dir_fd=top)
        except OSError:  # that name is there already, not empty
            counter += 1_000_003
            continue
        return


def _walk(folder: Path | int, *, unlock: bool = False) -> Iterator[tuple[int, int, str, os.stat_result]]:
    """Every entry below ``folder`` as (depth, descriptor of its folder, name, lstat), a folder before what it holds.

    What vanishes meanwhile is left out. Nothing deeper than `MAX_DEPTH` is entered. ``unlock`` makes folders readable
    to their owner first (only where nobody else writes any more).
    """
    try:
        stack = [
            _Level(os.open(".", _DIRECTORY, dir_fd=folder) if isinstance(folder, int) else os.open(folder, _DIRECTORY))
        ]
    except OSError:
        return
    try:
        while stack:
            level = stack[-1]
            if not level.names:
                os.close(stack.pop().descriptor)
                continue
            name = level.names.pop()
            try:
                info = os.stat(name, dir_fd=level.descriptor, follow_symlinks=False)
            except OSError:
                continue
            is_folder = stat.S_ISDIR(info.st_mode)
            if is_folder and unlock:
                _chmod(name, level.descriptor, 0o700)
            yield len(stack), level.descriptor, name, info
            if is_folder and len(stack) <= MAX_DEPTH:
                with contextlib.suppress(OSError):
                    stack.append(_Level(os.open(name, _DIRECTORY, dir_fd=level.descriptor)))
    finally:
        for level in stack:
            os.close(level.descriptor)


class _Level:
    """One folder being walked: its descriptor and the names still to come."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        try:
            self.names = sorted(os.listdir(descriptor), reverse=True)
        except OSError:
            self.names = []


def _fault(name: str, info: os.stat_result, level: int) -> str | None:
    shown = ascii(name)[1:-1][:80]
    fault = unclean(name)
    if fault is not None:
        return f"the name {shown!r} {fault}"
    kind = stat.S_IFMT(info.st_mode)
    if kind not in (stat.S_IFREG, stat.S_IFDIR):
        words = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        return f"{shown!r} is {words.get(kind, 'a device')}"
    if kind == stat.S_IFREG and info.st_nlink > 1:
        return f"{shown!r} has several links"
    if level > MAX_DEPTH:
        return f"{shown!r} is nested deeper than {MAX_DEPTH} folders"
    return None


def _remove_entry(parent: int, name: str, info: os.stat_result) -> None:
    if stat.S_ISDIR(info.st_mode):
        _chmod(name, parent, 0o700)
        inner = os.open(name, _DIRECTORY, dir_fd=parent)
        try:
            _clear(inner)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)


def _own(name: str | Path, parent: int | None, owner: tuple[int, int] | None, mode: int) -> None:
    """Owner first: changing it drops set-user-id bits; then the mode, which has none."""
    if owner is not None:
        os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
    _chmod(name, parent, mode, strip=True)


def _chmod(name: str | Path, parent: int | None, mode: int, *, strip: bool = False) -> None:
    """Change a mode (``strip``: and drop access lists, which would outlive it, and other attributes), never through a link: Linux's own call follows them, and a hostile one may lead anywhere.

    Raises:
        OSError: it is a link, or not there.
    """
    descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        if stat.S_ISLNK(os.fstat(descriptor).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.fspath(name))
        path = Path(f"/proc/self/fd/{descriptor}")
        if strip:
            _strip(path)
        path.chmod(mode)
    finally:
        os.close(descriptor)


def _strip(path: Path) -> None:
    with contextlib.suppress(OSError):  # a file system without attributes
        for name in os.listxattr(path):
            if name.startswith(("user.", "system.posix_acl")):
                os.removexattr(path, name)
