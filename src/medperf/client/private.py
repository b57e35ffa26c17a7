"""Small files for their owner alone, replaced whole, changed by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from medperf.domain.errors import MedPerfError


def write_private(path: Path, data: bytes) -> None:
    """Replace a file atomically; mode 0600, its folder 0700 where it has to be made.

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
    except OSError as error:
        raise _unwritable(path, error) from error


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of ``path`` (a file beside it), so that reading, changing and replacing it is one act.

    Raises:
        MedPerfError: ``home_unwritable``.
    """
    try:
        make_folder(path.parent)
        descriptor = os.open(
            path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder, and its parents, with mode 0700."""
    if not folder.is_dir():
        make_folder(folder.parent)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)


def _unwritable(path: Path, error: OSError) -> MedPerfError:
    return MedPerfError(
        "home_unwritable",
        f"{path} cannot be written: {error.strerror}.",
        "Give your account the right to write there, free some space, or set MEDPERF_HOME to another folder.",
    )
