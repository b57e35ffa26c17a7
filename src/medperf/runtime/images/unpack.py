# ruff: noqa: PTH101 - descriptors, plain path texts and folders of the sandbox
"""Unpack wheels as data: nothing of them runs, nothing lands outside the folder."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import struct
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from medperf.domain.errors import InvalidInput
from medperf.runtime.trees import MAX_DEPTH

MAX_BYTES = 16 * 1024**3
MAX_ENTRIES = 400_000
MAX_RATIO = 1000
_MERGED = ("purelib", "platlib")


def unpack_wheel(wheel: Path, site: Path) -> tuple[int, int]:
    """Put what belongs into site-packages there; scripts, headers and data files of the wheel are left out.

    Returns:
        Bytes, and files and folders, that were written at most.

    Raises:
        InvalidInput: no zip archive, links, names that lead out or too deep, too large.
        OSError: the disk is full.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            entries = archive.infolist()
            total = sum(entry.file_size for entry in entries)
            packed = max(wheel.stat().st_size, 1)
            if len(entries) > MAX_ENTRIES or total > MAX_BYTES or (total > 64 * 1024**2 and total / packed > MAX_RATIO):
                raise _bad(wheel, f"it would unpack to {total:,} bytes in {len(entries):,} files")
            targets = [(entry, target) for entry in entries if (target := _target(entry, wheel)) is not None]
            folders: set[PurePosixPath] = set()
            for _, target in targets:
                folders.update(target.parents)  # also those that no entry names
                if len(targets) + len(folders) > MAX_ENTRIES:
                    raise _bad(wheel, f"it would unpack to more than {MAX_ENTRIES:,} files and folders")
            for entry, target in targets:
                _write(archive, entry, site / target, wheel)
            return total, len(targets) + len(folders)
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        struct.error,
    ) as error:
        raise _bad(wheel, f"it is no proper zip archive ({error})") from error
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
            raise  # the disk is full, or not ours
        raise _bad(wheel, f"it holds a name that no file can have ({error.strerror})") from error


def _target(entry: zipfile.ZipInfo, wheel: Path) -> PurePosixPath | None:
    path = PurePosixPath(entry.filename)
    if (
        "\\" in entry.filename
        or "\0" in entry.filename
        or path.is_absolute()
        or ".." in path.parts
        or ":" in path.parts[:1]
    ):
        raise _bad(wheel, f"it holds the path {entry.filename[:80]!r}")
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _bad(wheel, f"{entry.filename[:80]!r} is no plain file")
    if len(path.parts) > MAX_DEPTH:
        raise _bad(wheel, f"{entry.filename[:80]!r} is nested deeper than {MAX_DEPTH} folders")
    if entry.is_dir() or not path.parts:
        return None
    if path.parts[0].endswith(".data"):
        # Compiled and pure parts are merged into one folder, as installers do.
        return PurePosixPath(*path.parts[2:]) if len(path.parts) > 2 and path.parts[1] in _MERGED else None
    return path


def _write(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, target: Path, wheel: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(entry) as source, target.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise _bad(wheel, f"{entry.filename[:80]!r} is a file in one wheel and a folder in another") from error
    is_program = bool(entry.external_attr >> 16 & 0o111)
    os.chmod(target, 0o755 if is_program else 0o644)


def _bad(wheel: Path, what: str) -> InvalidInput:
    return InvalidInput(
        "bad_wheel", f"The wheel {wheel.name} cannot be used: {what}.", "Use another version of the package."
    )
