# ruff: noqa: PTH101, PTH118, S103 - descriptors, plain path texts and folders of the sandbox
"""Folders that are built aside and renamed into place, and the marks by which a change of them is noticed."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from medperf.runtime.trees import remove


def fingerprint(site: Path) -> str:
    """Digest of name, size, mtime and ctime of everything below: changes whenever anything does, without reading a file."""
    found: list[str | int] = []
    stack = [os.fspath(site)]
    cut = len(stack[0])
    try:
        while stack:
            folder = stack.pop()
            with os.scandir(folder) as entries:
                for entry in sorted(entries, key=lambda one: one.name):
                    info = entry.stat(follow_symlinks=False)
                    found += (entry.path[cut:], info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
    except OSError:
        return "missing"
    return hashlib.sha256(repr(found).encode()).hexdigest()


def folders_stamp(site: Path, folders: list[str]) -> str:
    """Digest of the times of these folders: changes whenever a file is added, removed or replaced."""
    try:
        found = [
            (info.st_mtime_ns, info.st_ctime_ns) for info in (os.lstat(os.path.join(site, name)) for name in folders)
        ]
        found.append((os.lstat(site).st_mtime_ns, 0))  # its own ctime changed when it was renamed into place
    except OSError:
        return "missing"
    return hashlib.sha256(repr(found).encode()).hexdigest()


@contextlib.contextmanager
def building(parent: Path) -> Iterator[Path]:
    """A folder to build in, locked while we live so that nobody sweeps it, gone afterwards unless it was renamed."""
    folder = Path(tempfile.mkdtemp(prefix=".building-", dir=parent))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        remove(folder)
        os.close(descriptor)


def sweep(parent: Path) -> None:
    """Remove what killed processes left behind."""
    for folder in [*parent.glob(".building-*"), *parent.glob(".old-*")]:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Between making a folder and locking it there is an instant; a folder that young is left alone.
                if time.time() - os.fstat(descriptor).st_mtime > 60:
                    remove(folder)
            finally:
                os.close(descriptor)


def make_readable(folder: Path) -> None:
    """The user a root caller's tasks run as must be able to read it."""
    os.chmod(folder, 0o755)
    for base, folders, files in os.walk(folder):
        for name in folders:
            os.chmod(os.path.join(base, name), 0o755)
        for name in files:
            path = os.path.join(base, name)
            os.chmod(path, 0o755 if os.lstat(path).st_mode & 0o100 else 0o644)
