# ruff: noqa: PTH123 - descriptors, plain path texts and folders of the sandbox
"""Identity of data on disk: every byte read on all cores, or a re-check against what was read before."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.domain.events import Emit, Progress, ignore
from medperf.domain.identity import Leaf, leaf, root_of
from medperf.runtime.hashindex import DataIndex, Stamp
from medperf.runtime.hashpool import Helpers
from medperf.runtime.hashworker import CHANGED, LARGE, NOT_PLAIN, ROW, STAMP, Trouble, batch, stamp

__all__ = ["DataIdentity", "DataIndex", "Stamp", "data_identity", "file_digest", "stamp"]

#: From so many files on their reading is shared with further processes; below, starting those takes longer.
_MANY = 1500
_BATCH = 128
_BLOCK = 256 * 1024  # stays in a core's own cache between reading and hashing
_SHOW_SECONDS = 0.2
_MOST = 16

#: Prefix of the paths in a folder, the folder, names of files there.
Batch = tuple[str, str, list[str]]


@dataclass(frozen=True)
class DataIdentity:
    """What `data_identity` found. ``index``: for the next, quicker check; it maps each path to (stamp, sha256)."""

    root: Digest
    index: DataIndex = field(repr=False)
    hashed: int = 0  # files whose bytes were read this time

    @property
    def files(self) -> int:
        """How many there are."""
        return len(self.index)

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return self.index.bytes


def data_identity(paths: Mapping[str, Path], *, index: DataIndex | None = None, emit: Emit = ignore) -> DataIdentity:
    """The identity of several folders or files together, e.g. ``{"data": ..., "labels": ...}``.

    Args:
        paths: role name -> folder or file; the role is the first part of every path that enters.
        index: from an earlier call; files whose device, inode, size and times are the same are not read again.

    Raises:
        InvalidInput: a symbolic link or special file, something missing, unreadable or changing while it is read.
    """
    todo: list[Batch] = []
    empty: list[str] = []
    rows: dict[str, bytes] = {}
    hashed = 0
    with Helpers() as helpers:
        for role in sorted(paths):
            for prefix, folder, names in _scan(role, paths[role]):
                if not names:
                    empty.append(prefix)
                elif changed := names if index is None else _changed(index, rows, prefix, folder, names):
                    todo.append((prefix, folder, changed))
                    hashed += len(changed)
                    if hashed >= _MANY and _cores() > 1:
                        helpers.start(_cores())
        if index is not None and not todo and len(rows) == len(index) and index.empty == frozenset(empty):
            return DataIdentity(index.root, index)
        leaves = [leaf(path, None, None) for path in empty] + _leaves(rows)
        for found in _hash_all(todo, hashed, helpers, emit):
            rows.update(found)
            leaves += _leaves(found)
    known = DataIndex(root_of(leaves), rows, frozenset(empty))
    return DataIdentity(known.root, known, hashed)


def file_digest(path: Path) -> Digest:
    """Digest of one file, not following a link at its end.

    Raises:
        InvalidInput: it cannot be read.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            return Digest(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
    except OSError as error:
        raise _unreadable(path, error.errno) from error


def _leaves(rows: Mapping[str, bytes]) -> list[Leaf]:
    whole = int.from_bytes
    return [leaf(path, whole(row[16:24], "little"), row[40:].hex()) for path, row in rows.items()]


def _cores() -> int:
    return min(len(os.sched_getaffinity(0)), _MOST)


# ------------------------------------------------------------------------------------------------------------- listing


def _scan(role: str, top: Path) -> Iterator[Batch]:
    """The plain files of each folder below ``top``, or ``top`` itself where it is a file. Without names: an empty folder."""
    try:
        info = top.lstat()
    except OSError as error:
        raise _unreadable(top, error.errno) from error
    if stat.S_ISREG(info.st_mode):
        yield role, os.fspath(top.parent), [top.name]
        return
    if not stat.S_ISDIR(info.st_mode):
        raise _not_plain(top)
    stack = [(os.fspath(top), role)]
    while stack:
        folder, prefix = stack.pop()
        names = []
        inner = len(stack)
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_file(follow_symlinks=False):
                        names.append(entry.name)
                    elif entry.is_dir(follow_symlinks=False):
                        stack.append((entry.path, f"{prefix}/{entry.name}"))
                    else:
                        raise _not_plain(Path(entry.path))
        except OSError as error:
            raise _unreadable(Path(folder), error.errno) from error
        if names or len(stack) == inner:
            yield prefix, folder, names


def _changed(index: DataIndex, rows: dict[str, bytes], prefix: str, folder: str, names: list[str]) -> list[str]:
    """Those of ``names`` that must be read again; the rows of the others are taken over."""
    changed = []
    known, pack, look = index.rows.get, STAMP.pack, os.stat
    try:
        within = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name in names:
                path = f"{prefix}/{name}"
                row = known(path)
                info = look(name, dir_fd=within, follow_symlinks=False)
                if row is not None and row[: STAMP.size] == pack(
                    info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns
                ):
                    rows[path] = row
                else:
                    changed.append(name)
        finally:
            os.close(within)
    except OSError as error:
        raise _unreadable(Path(folder), error.errno) from error
    return changed


# ------------------------------------------------------------------------------------------------------------- reading


def _hash_all(todo: list[Batch], count: int, helpers: Helpers, emit: Emit) -> Iterator[dict[str, bytes]]:
    """Rows of all files. Small files go to the helpers, if there are any, large ones to threads: reading and hashing blocks
    releases the interpreter."""
    work = (
        ((prefix, folder, some), batch(folder, some))
        for prefix, folder, names in todo
        for at in range(0, len(names), _BATCH)
        for some in (names[at : at + _BATCH],)
    )
    reading = _Reading(emit)
    with ThreadPoolExecutor(_cores(), thread_name_prefix="medperf-hash") as pool:
        try:
            large: list[tuple[str, bytes, Future[bytes]]] = []
            seen = 0
            for (prefix, folder, names), answer in helpers.share(work):
                if isinstance(answer, Trouble):
                    raise _explained(Path(folder, names[answer.position]), answer)
                found = {
                    f"{prefix}/{name}": answer[at : at + ROW.size]
                    for name, at in zip(names, range(0, len(answer), ROW.size), strict=True)
                }
                for path, row in [one for one in found.items() if one[1][STAMP.size :] == LARGE]:
                    place = Path(folder, path.rpartition("/")[2])
                    reading.total += int.from_bytes(row[16:24], "little")
                    large.append((path, row, pool.submit(_hash_large, place, row, reading)))
                    del found[path]
                yield found
                seen += len(names)
                if count >= _MANY:
                    emit(Progress("Reading data", seen, count, unit="files"))
            for path, row, future in large:
                yield {path: row[: STAMP.size] + reading.wait(future)}
        except BaseException:
            reading.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Reading:
    """Large files being read: how far, and whether to stop."""

    def __init__(self, emit: Emit) -> None:
        self.stop = threading.Event()
        self.total = 0
        self._done = 0
        self._lock = threading.Lock()
        self._emit = emit

    def count(self, size: int) -> None:
        with self._lock:
            self._done += size

    def wait(self, future: Future[bytes]) -> bytes:
        """Its digest. Meanwhile, and after it, tells how far the reading is, where whoever is told may stop it."""
        while True:
            try:
                digest = future.result(timeout=_SHOW_SECONDS)
            except TimeoutError:
                if future.done():
                    raise
                self._emit(Progress("Reading data", self._done, self.total))
            else:
                if self._done == self.total:
                    self._emit(Progress("Reading data", self._done, self.total))
                return digest


_local = threading.local()


def _hash_large(path: Path, row: bytes, reading: _Reading) -> bytes:
    """Hash one file that must be, before and after, the one of ``row``."""
    if not hasattr(_local, "block"):
        _local.block = bytearray(_BLOCK)
    buffer = _local.block
    view = memoryview(buffer)
    hashing = hashlib.sha256()
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            before = STAMP.pack(*stamp(os.fstat(descriptor)))
            while (size := os.readv(descriptor, [buffer])) and not reading.stop.is_set():
                hashing.update(view[:size])
                reading.count(size)
            after = STAMP.pack(*stamp(os.fstat(descriptor)))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unreadable(path, error.errno) from error
    if not row[: STAMP.size] == before == after:
        raise _changed_meanwhile(path)
    return hashing.digest()


# -------------------------------------------------------------------------------------------------------------- errors


def _explained(path: Path, trouble: Trouble) -> InvalidInput:
    if trouble.kind == NOT_PLAIN:
        return _not_plain(path)
    return _changed_meanwhile(path) if trouble.kind == CHANGED else _unreadable(path, trouble.error)


def _changed_meanwhile(path: Path) -> InvalidInput:
    return InvalidInput(
        "data_changed", f"{path} changed while it was read.", "Wait until nothing writes there and try again."
    )


def _not_plain(path: Path) -> InvalidInput:
    return InvalidInput(
        "not_plain",
        f"{path} is a symbolic link or a special file; data are plain files.",
        "Replace it by the file itself.",
    )


def _unreadable(path: Path, error: int | None) -> InvalidInput:
    return InvalidInput(
        "unreadable",
        f"{path} cannot be read: {os.strerror(error or 0)}.",
        "Check that it exists and that you may read it.",
    )
