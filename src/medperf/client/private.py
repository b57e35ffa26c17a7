"""Small files for their owner alone, read with care, replaced whole, changed by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from medperf.domain.errors import MedPerfError

#: Most bytes of such a file; ours are a few thousand long.
MAX_BYTES = 1024 * 1024
LOCK_SECONDS = 30.0


def read_private(path: Path, *, follow: bool = True) -> tuple[bytes, os.stat_result] | None:
    """The content of a plain file and what the system says of it; None when it is not there.

    Args:
        follow: whether it may be a symbolic link.

    Raises:
        OSError: it cannot be read, is no plain file, or is longer than anything we write.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # a pipe would wait for a writer for ever
    try:
        descriptor = os.open(path, flags if follow else flags | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        info = os.fstat(descriptor)
        if not stat.S_ISREG(info.st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        if info.st_size > MAX_BYTES:
            raise OSError(errno.EFBIG, f"it has {info.st_size:,} bytes, far more than MedPerf writes", str(path))
        with os.fdopen(os.dup(descriptor), "rb") as stream:
            return stream.read(MAX_BYTES), info
    finally:
        os.close(descriptor)


def write_private(path: Path, data: bytes) -> None:
    """Replace a file atomically; mode 0600, its folder 0700 where it has to be made. Only while `locked`.

    Raises:
        MedPerfError: ``home_unwritable``.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(6).hex()}")
    try:
        make_folder(path.parent)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(descriptor)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)  # or a power loss brings the old one back, after we said it was replaced
    except OSError as error:
        raise _unwritable(path, error) from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of ``path`` (a file beside it), so that reading, changing and replacing it is one act.

    Raises:
        MedPerfError: ``home_unwritable``; ``home_busy``: another process kept the lock.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        make_folder(path.parent)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        if not _take(descriptor):
            raise MedPerfError(
                "home_busy",
                f"Another process has kept {path} locked for more than {LOCK_SECONDS:.0f} seconds.",
                f"End it (fuser {lock} names it), and run the same command again.",
            )
        # Only the holder of the lock writes, so what else lies there was left by one that was killed.
        for left in path.parent.glob(f".{path.name}.*"):
            if left != lock:
                with contextlib.suppress(OSError):
                    left.unlink()
        yield
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder, and its parents, with mode 0700; their names survive a power loss."""
    if not folder.is_dir():
        make_folder(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        with contextlib.suppress(PermissionError):  # a folder that may be entered, not listed
            _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    deadline = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def _unwritable(path: Path, error: OSError) -> MedPerfError:
    return MedPerfError(
        "home_unwritable",
        f"{path} cannot be written: {error.strerror}.",
        "Give your account the right to write there, free some space, or set MEDPERF_HOME to another folder.",
    )
