"""Unpack wheels as data: nothing of them runs, nothing lands outside the folder."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from medperf.domain import limits
from medperf.domain.errors import InvalidInput
from medperf.runtime.names import Damaged, Names, entry_path, shown

MAX_BYTES = 16 * 1024**3
MAX_ENTRIES = 400_000
#: Below, nothing is called a bomb.
_RATIO_FROM = 256 * 1024**2
_MERGED = ("purelib", "platlib")
#: A wheel's list of contents is read whole into memory; 128 bytes are a generous entry.
_LIST_BYTES = MAX_ENTRIES * 128
_ENTRY = b"PK\x01\x02"
_END, _END_SIZE, _COMMENT = b"PK\x05\x06", 22, 65535
_LOCATOR, _LOCATOR_SIZE, _END_64, _END_64_SIZE = b"PK\x06\x07", 20, b"PK\x06\x06", 56
_HEADER_SIZE = 30


def unpack_wheel(wheel: Path, site: Path) -> tuple[int, int]:
    """Put what belongs into site-packages there; scripts, headers and data files of the wheel are left out.

    Returns:
        Bytes, and files and folders, that were written at most.

    Raises:
        InvalidInput: no zip archive, encrypted, packed otherwise than stored or deflated, entries that overlap, links,
            names that lead out, are there twice or too deep, too large.
        OSError: the disk is full.
    """
    try:
        with wheel.open("rb") as file:
            _check_list(file)
            with zipfile.ZipFile(file) as archive:
                return _unpack(archive, site, packed=os.fstat(file.fileno()).st_size)
    except Damaged as error:
        raise _bad(wheel, str(error)) from error
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        struct.error,
    ) as error:
        raise _bad(wheel, f"it is no proper zip archive ({str(error)[:200]})") from error
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
            raise  # the disk is full, or not ours
        raise _bad(wheel, f"it holds a name that no file can have ({error.strerror})") from error


def _check_list(file: IO[bytes]) -> None:
    """Look at the list of contents before it is read whole: it costs memory per entry.

    Raises:
        Damaged: no zip archive, or too many entries.
    """
    size = file.seek(0, os.SEEK_END)
    start = max(size - _END_SIZE - _COMMENT, 0)
    file.seek(start)
    tail = file.read(_END_SIZE + _COMMENT)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_SIZE:
        raise Damaged("it is no zip archive")
    length = int.from_bytes(tail[at + 12 : at + 16], "little")
    end = start + at
    file.seek(max(end - _LOCATOR_SIZE - _END_64_SIZE, 0))
    before = file.read(min(end, _LOCATOR_SIZE + _END_64_SIZE))
    if len(before) == _LOCATOR_SIZE + _END_64_SIZE and before[_END_64_SIZE:].startswith(_LOCATOR):
        if not before.startswith(_END_64):
            raise Damaged("its zip64 record is not where it belongs")
        length = int.from_bytes(before[40:48], "little")
        end -= _LOCATOR_SIZE + _END_64_SIZE
    if length > min(end, _LIST_BYTES):
        raise Damaged(f"its list of contents has {length:,} bytes")
    file.seek(end - length)
    if file.read(length).count(_ENTRY) > MAX_ENTRIES:
        raise Damaged(f"it holds more than {MAX_ENTRIES:,} files")


def _unpack(archive: zipfile.ZipFile, site: Path, *, packed: int) -> tuple[int, int]:
    entries = archive.infolist()
    total = sum(entry.file_size for entry in entries)
    if total > MAX_BYTES or (total > _RATIO_FROM and total > packed * limits.ARCHIVE_RATIO):
        raise Damaged(f"it would unpack to {total:,} bytes")
    _check_overlap(entries, archive.start_dir)
    names = Names(max_entries=MAX_ENTRIES)
    targets: list[tuple[zipfile.ZipInfo, PurePosixPath]] = []
    folders: set[PurePosixPath] = set()
    for entry in entries:
        names.count()
        target = _target(entry)
        if target is not None:
            names.add(target, is_folder=False)
            targets.append((entry, target))
            folders.update(target.parents)  # also those that no entry names
    for entry, target in targets:
        _write(archive, entry, site / target)
    return total, len(targets) + len(folders)


def _check_overlap(entries: list[zipfile.ZipInfo], end: int) -> None:
    """Raises:
    Damaged: entries share bytes, which makes bombs of small archives.
    """
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    bounds = [entry.header_offset for entry in ordered] + [end]
    for entry, (start, following) in zip(ordered, itertools.pairwise(bounds), strict=True):
        if start < 0 or start + _HEADER_SIZE + entry.compress_size > following:
            raise Damaged(f"{shown(entry.filename)} overlaps with another entry")


def _target(entry: zipfile.ZipInfo) -> PurePosixPath | None:
    name = entry.orig_filename  # zipfile cuts the other one off at a NUL
    path = entry_path(name, max_bytes=limits.ARCHIVE_PATH_BYTES)
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise Damaged(f"{shown(name)} is no plain file")
    if entry.flag_bits & 0x1:
        raise Damaged(f"{shown(name)} is encrypted")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise Damaged(f"{shown(name)} is neither stored nor deflated")
    if entry.is_dir() or path is None:
        return None
    if path.parts[0].endswith(".data"):
        # Compiled and pure parts are merged into one folder, as installers do.
        return PurePosixPath(*path.parts[2:]) if len(path.parts) > 2 and path.parts[1] in _MERGED else None
    return path


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
            if file.tell() != entry.file_size:
                raise Damaged(f"{shown(entry.filename)} is shorter than it says")
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise Damaged(f"{shown(entry.filename)} is a file in one wheel and a folder in another") from error
    is_program = bool(entry.external_attr >> 16 & 0o111)
    target.chmod(0o755 if is_program else 0o644)


def _bad(wheel: Path, what: str) -> InvalidInput:
    return InvalidInput(
        "bad_wheel", f"The wheel {wheel.name} cannot be used: {what}.", "Use another version of the package."
    )
