"""Small file work that every part of a workspace shares: private folders, temporary names, syncing, a full disk."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from medperf.domain.errors import MedPerfError
from medperf.workspace.processes import Process

TEMPORARY = "tmp-"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EEXIST, errno.ENXIO)
_SYNC_AT_ONCE = 16
_SYNC_EACH = 256


def make_private(folder: Path) -> None:
    """Make ``folder`` (and its parents) for its owner alone; their names survive a power loss."""
    if folder.is_dir():
        return
    make_private(folder.parent)
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    with contextlib.suppress(PermissionError):  # a folder that may be entered, not listed
        sync_folder(folder.parent)


def temporary_name() -> str:
    """A fresh name that says whose it is, so that `sweep_temporary` knows when nobody needs it any more."""
    return f"{TEMPORARY}{Process.current().token}-{secrets.token_hex(4)}"


def sweep_temporary(folder: Path) -> int:
    """Remove temporary files and folders below ``folder`` whose makers are dead. Returns how many."""
    removed = 0
    try:
        names = [name for name in os.listdir(folder) if name.startswith(TEMPORARY)]  # noqa: PTH208 - names only, no stat
    except FileNotFoundError:
        return 0
    alive: dict[str, bool] = {}
    for name in names:
        token = name.removeprefix(TEMPORARY).rpartition("-")[0]
        if token not in alive:
            maker = Process.parse(token)
            alive[token] = maker is not None and maker.alive
        if not alive[token]:
            remove(folder / name)
            removed += 1
    return removed


@contextlib.contextmanager
def scratch(parent: Path | None = None, *, prefix: str = "medperf-") -> Iterator[Path]:
    """A private folder that is gone afterwards; what killed processes left there under this prefix goes first.

    Args:
        parent: where to make it; None: the system's folder for temporary files.

    Raises:
        MedPerfError: ``parent`` cannot be written.
    """
    parent = parent or _temporary_place()
    sweep_scratch(parent, prefix=prefix)
    folder = parent / f"{prefix}{Process.current().token}-{secrets.token_hex(4)}"
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise MedPerfError(
            "folder_unwritable",
            f"Nothing can be written in {parent}: {os.strerror(error.errno or 0)}.",
            "Give your account the right to write there and free some space, or use another folder.",
        ) from error
    try:
        yield folder
    finally:
        remove(folder)


def _temporary_place() -> Path:
    """As `tempfile.gettempdir`, which finds out by writing a file: one killed just then would leave it for good.

    Raises:
        MedPerfError: there is no such folder.
    """
    named = [os.environ[name] for name in ("TMPDIR", "TEMP", "TMP") if os.environ.get(name)]
    for path in (Path(name) for name in (*named, "/tmp", "/var/tmp")):  # noqa: S108 - private folders are made in it
        if path.is_dir() and os.access(path, os.W_OK | os.X_OK):
            return path.absolute()
    raise MedPerfError(
        "folder_unwritable",
        "There is no folder for temporary files that can be written.",
        "Set TMPDIR to one, e.g.: export TMPDIR=/var/tmp",
    )


def sweep_scratch(parent: Path | None = None, *, prefix: str = "medperf-") -> None:
    """Remove what `scratch` of processes that are dead now left, of this account only: others share ``/tmp``.

    For commands that may be refused before they get as far as `scratch`.
    """
    parent = parent or _temporary_place()
    try:
        names = [name for name in os.listdir(parent) if name.startswith(prefix)]  # noqa: PTH208 - names only, no stat
    except OSError:
        return
    for name in names:
        maker = Process.parse(name.removeprefix(prefix).rpartition("-")[0])
        if maker is None or maker.alive:
            continue
        with contextlib.suppress(OSError):
            if os.lstat(parent / name).st_uid == os.geteuid():
                remove(parent / name)


def take_lock(descriptor: int, *, seconds: float) -> bool:
    """Lock an open file against other processes (until it is closed). False: another one kept it all that time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.02)
        else:
            return True


def hold(path: Path) -> int | None:
    """Open a file (made if need be) and lock it until it is closed; None while somebody else has it.

    Whoever holds it may remove or rename it: then it is looked for again, so that nobody holds what lies there no longer.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), path.lstat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file or a whole folder, whatever its modes; nothing there is fine."""
    if path.is_dir() and not path.is_symlink():

        def unlock(_: Callable[..., Any], name: str, __: Any) -> None:
            with contextlib.suppress(OSError):
                place = Path(name)
                place.parent.chmod(0o700)
                if stat.S_ISDIR(place.lstat().st_mode):
                    place.chmod(0o700)
                    shutil.rmtree(place)
                else:
                    place.unlink()

        shutil.rmtree(path, onerror=unlock)
    else:
        path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make names in ``folder`` survive a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make everything below ``folder`` survive a power loss. Many files: the whole file system at once, which is quicker."""
    files, folders = 0, [folder]
    for parent, names, others in os.walk(folder):
        folders += [path for path in (Path(parent, name) for name in names) if not path.is_symlink()]
        files += len(others)
    if files + len(folders) > _SYNC_EACH:
        os.sync()
        return
    found: list[str] = []
    for one in folders:
        with os.scandir(one) as entries:
            found += [entry.path for entry in entries if entry.is_file(follow_symlinks=False)]
    # At once: the file system writes its journal once for all that wait, not once for each.
    with ThreadPoolExecutor(_SYNC_AT_ONCE) as pool:
        list(pool.map(_sync_file, found))
        list(pool.map(sync_folder, folders))


def _sync_file(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def explained(folder: Path, *, needed: int | None = None) -> Iterator[None]:
    """Turn a full disk into a sentence.

    Args:
        folder: where was written.
        needed: bytes that the whole piece of work needs, if known.

    Raises:
        MedPerfError: ``disk_full`` or ``workspace_unwritable``.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise disk_full(folder, needed=needed) from error
        if error.errno in _REFUSED:
            raise MedPerfError(
                "workspace_unwritable",
                f"{error.filename or folder} cannot be written: {os.strerror(error.errno)}.",
                "Give your account the right to write there, or move the workspace by setting MEDPERF_HOME.",
            ) from error
        raise


def disk_full(folder: Path, *, needed: int | None = None) -> MedPerfError:
    """The error for a full disk (or an exhausted quota) below ``folder``."""
    free = free_bytes(folder)
    wanted = f"{needed:,} bytes are needed" if needed is not None else "more space is needed"
    return MedPerfError(
        "disk_full",
        f"The disk of {folder} is full: {wanted}, {free:,} bytes are free.",
        "Free some space, or move the workspace to a larger disk by setting MEDPERF_HOME.",
        details={"needed": needed, "free": free},
    )


def free_bytes(folder: Path) -> int:
    """Bytes an ordinary account may still write on the disk of ``folder`` (or of its first parent that exists)."""
    return shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free


def size_of(folder: Path) -> int:
    """Bytes of all files below ``folder``; 0 when it does not exist."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(Path(parent, name)).st_size
    return total
