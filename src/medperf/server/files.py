"""Small files of the data folder: each is there whole or not at all, and survives a power loss."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time for what is done in ``folder`` inside; waits for its turn."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_whole(target: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Put ``content`` in the place of what ``target`` had."""
    sweep_drafts(target)
    draft = write_draft(target, content, mode=mode)
    try:
        draft.replace(target)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    sync_folder(target.parent)


def write_draft(target: Path, content: bytes, *, mode: int = 0o600) -> Path:
    """``content`` in a file beside ``target``, on the disk. It names its process, so that `sweep_drafts` knows whether it is left over."""
    path = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(8)}")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def sweep_drafts(target: Path) -> None:
    """Remove what processes that were killed left of their drafts."""
    for draft in target.parent.glob(f".{target.name}.*"):
        process = draft.name.removeprefix(f".{target.name}.").partition(".")[0]
        if process.isdecimal() and not Path("/proc", process).exists():
            draft.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make names in ``folder`` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
