# ruff: noqa: PTH123 - descriptors, plain path texts and folders of the sandbox
"""Identity of data on disk: every byte read on all cores, or a re-check against what was read before."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.domain.events import Emit, Progress, ignore
from medperf.domain.identity import DataEntry, identity_root

_SMALL = 256 * 1024  # below, threads only fight over the interpreter
_CHUNK = 1 << 20
_PROGRESS_BYTES = 64 * 1024**2

Stamp = tuple[int, int, int, int, int]
"""device, inode, size, mtime_ns, ctime_ns: a file with the same stamp has the same content."""


@dataclass(frozen=True)
class DataIdentity:
    """What `data_identity` found. ``index`` maps each path to (stamp, sha256) for the next, quicker check."""

    root: Digest
    files: int
    bytes: int
    index: Mapping[str, tuple[Stamp, str]] = field(repr=False)
    hashed: int = 0  # files whose bytes were read this time


def data_identity(
    paths: Mapping[str, Path], *, index: Mapping[str, tuple[Stamp, str]] | None = None, emit: Emit = ignore
) -> DataIdentity:
    """The identity of several folders or files together, e.g. ``{"data": ..., "labels": ...}``.

    Args:
        paths: role name -> folder or file; the role is the first part of every path that enters.
        index: from an earlier call; files whose device, inode, size and times are the same are not read again.

    Raises:
        InvalidInput: a symbolic link or special file, something missing, unreadable or changing while it is read.
    """
    found: list[tuple[str, Path, os.stat_result]] = []
    entries: list[DataEntry] = []
    for role in sorted(paths):
        for path, place, info in _scan(role, paths[role]):
            if stat.S_ISDIR(info.st_mode):
                entries.append(DataEntry(path, None, None))
            else:
                found.append((path, place, info))
    known = index or {}
    digests: dict[str, str] = {}
    todo = []
    for path, place, info in found:
        previous = known.get(path)
        if previous is not None and tuple(previous[0]) == stamp(info):
            digests[path] = previous[1]
        else:
            todo.append((path, place, info))
    digests.update(_hash_all(todo, emit))
    entries += [DataEntry(path, info.st_size, digests[path]) for path, _, info in found]
    return DataIdentity(
        root=identity_root(entries),
        files=len(found),
        bytes=sum(info.st_size for _, _, info in found),
        index={path: (stamp(info), digests[path]) for path, _, info in found},
        hashed=len(todo),
    )


def file_digest(path: Path) -> Digest:
    """Digest of one file, not following a link at its end.

    Raises:
        InvalidInput: it cannot be read.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
            return Digest(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
    except OSError as error:
        raise _unreadable(path, error) from error


def stamp(info: os.stat_result) -> Stamp:
    """What must be the same for a file to count as unchanged."""
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def _scan(role: str, top: Path) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Files and empty folders below ``top``, or ``top`` itself where it is a file."""
    try:
        info = top.lstat()
    except OSError as error:
        raise _unreadable(top, error) from error
    if stat.S_ISREG(info.st_mode):
        yield f"{role}/{top.name}", top, info
        return
    if not stat.S_ISDIR(info.st_mode):
        raise _not_plain(top)
    stack = [(os.fspath(top), role, info)]
    while stack:
        folder, prefix, own = stack.pop()
        empty = True
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    empty = False
                    inner = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(inner.st_mode):
                        stack.append((entry.path, f"{prefix}/{entry.name}", inner))
                    elif stat.S_ISREG(inner.st_mode):
                        yield f"{prefix}/{entry.name}", Path(entry.path), inner
                    else:
                        raise _not_plain(Path(entry.path))
        except OSError as error:
            raise _unreadable(Path(folder), error) from error
        if empty:
            yield prefix, Path(folder), own


def _hash_all(todo: list[tuple[str, Path, os.stat_result]], emit: Emit) -> Iterable[tuple[str, str]]:
    total = sum(info.st_size for _, _, info in todo)
    large = [one for one in todo if one[2].st_size >= _SMALL]
    small = [one for one in todo if one[2].st_size < _SMALL]
    done = shown = 0
    results: list[tuple[str, str]] = []
    # Reading and hashing large blocks releases the interpreter, so threads fill all cores; small files go one after the other.
    with ThreadPoolExecutor(
        max_workers=min(len(os.sched_getaffinity(0)), 16), thread_name_prefix="medperf-hash"
    ) as pool:
        try:
            hashed = pool.map(lambda one: _hash_one(*one[1:]), large)
            results += ((path, _hash_one(place, info)) for path, place, info in small)
            done += sum(info.st_size for _, _, info in small)
            for (path, _, info), digest in zip(large, hashed, strict=True):
                results.append((path, digest))
                done += info.st_size
                if done - shown >= _PROGRESS_BYTES:
                    shown = done
                    emit(Progress("Reading data", done, total))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results


def _hash_one(path: Path, info: os.stat_result) -> str:
    """Hash one file that must be, before and after, the one that was listed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if info.st_size < _CHUNK:
                digest = hashlib.sha256(os.read(descriptor, info.st_size + 1)).hexdigest()
            else:
                with open(descriptor, "rb", closefd=False) as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = os.fstat(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _unreadable(path, error) from error
    if stamp(after) != stamp(info):
        raise InvalidInput(
            "data_changed", f"{path} changed while it was read.", "Wait until nothing writes there and try again."
        )
    return digest


def _not_plain(path: Path) -> InvalidInput:
    return InvalidInput(
        "not_plain",
        f"{path} is a symbolic link or a special file; data are plain files.",
        "Replace it by the file itself.",
    )


def _unreadable(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(
        "unreadable",
        f"{path} cannot be read: {error.strerror or error}.",
        "Check that it exists and that you may read it.",
    )
