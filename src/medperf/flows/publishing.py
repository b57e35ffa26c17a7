"""What may be published: nothing of a MedPerf workspace, by whatever path it is reached.

Prepared data, predictions and downloads of others live there. Links are followed, bind mounts are seen through (by the kernel's table of
mounts), and second names of one file (hard links) are found by their inode.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medperf.domain.errors import InvalidInput

#: Both lie in every workspace, also in one of another ``MEDPERF_HOME``.
_MARKS = ("facts.db", "facts.lock")
_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))

Inode = tuple[int, int]


def refuse_file(home: Path, path: Path) -> None:
    """Refuse a file of a workspace.

    Args:
        home: MedPerf's home folder with all workspaces in it; need not exist.
        path: a file that exists.

    Raises:
        InvalidInput: ``inside_workspace``.
    """
    info = path.stat()
    if _lies_within(home, path.resolve()) or (info.st_nlink > 1 and _has_any(home, {(info.st_dev, info.st_ino)})):
        raise _inside(path)


def refuse_folder(home: Path, folder: Path) -> None:
    """Refuse to pack a folder that lies in a workspace, contains one, or has a file of one.

    Raises:
        InvalidInput: ``inside_workspace``.
    """
    real = folder.resolve()
    if _lies_within(home, real) or _lies_within(real, home.resolve()):
        raise _inside(folder)
    mounts = _mounts()
    shared: dict[Inode, Path] = {}
    for parent, _, names in os.walk(real):
        here = Path(parent)
        if _is_workspace(here) or _protected(home, here, mounts):
            raise _inside(here)
        for name in names:
            info = (here / name).lstat()
            if info.st_nlink > 1:
                shared[info.st_dev, info.st_ino] = here / name
    found = _has_any(home, shared)
    if found is not None:
        raise _inside(shared[found])


def _inside(path: Path) -> InvalidInput:
    return InvalidInput(
        "inside_workspace",
        f"{str(path)!r} lies inside a MedPerf workspace, or contains or is a part of one.",
        "Copy what you mean to publish elsewhere first.",
    )


def _lies_within(folder: Path, path: Path) -> bool:
    """Whether ``path`` (without links) is ``folder``, lies in it, or lies in any workspace."""
    if path.is_relative_to(folder.resolve()):
        return True
    try:
        wanted = _inode(folder.stat())
    except OSError:
        wanted = None
    for place in (path, *path.parents):  # capitals may differ on some disks; the inode does not
        try:
            same = wanted is not None and _inode(place.stat()) == wanted
        except OSError:
            continue
        if same or _is_workspace(place):
            return True
    return _protected(folder, path, _mounts())


def _is_workspace(folder: Path) -> bool:
    return all((folder / name).is_file() for name in _MARKS)


def _has_any(home: Path, wanted: Iterable[Inode]) -> Inode | None:
    """The first file below ``home`` that is one of ``wanted``."""
    inodes = set(wanted)
    if not inodes:
        return None
    numbers = {number for _, number in inodes}
    return next((found for found in _files(home, numbers) if found in inodes), None)


def _files(home: Path, numbers: set[int]) -> Iterator[Inode]:
    """Files below ``home`` with one of these inode numbers."""
    folders = [os.fspath(home)]
    while folders:
        try:
            entries = os.scandir(folders.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                elif entry.inode() in numbers:  # known without a look at the file itself
                    yield _inode(entry.stat(follow_symlinks=False))


def _inode(info: os.stat_result) -> Inode:
    return info.st_dev, info.st_ino


# -------------------------------------------------------------------------------------------------------------- mounts


@dataclass(frozen=True)
class _Mount:
    """``root`` of the disk ``device`` is seen at ``point``."""

    device: str
    root: Path
    point: Path


def _mounts() -> list[_Mount]:
    try:
        text = _MOUNTS.read_text(errors="surrogateescape")
    except OSError:
        return []  # no Linux
    found = []
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) > 4:
            found.append(_Mount(fields[2], Path(_unescaped(fields[3])), Path(_unescaped(fields[4]))))
    return found


def _protected(folder: Path, path: Path, mounts: list[_Mount]) -> bool:
    """Whether a path without links shows something of ``folder`` that is mounted at another place."""
    if not mounts:
        return False
    top = folder.resolve()
    places = [_on_disk(top, mounts)]
    places += [(mount.device, mount.root) for mount in mounts if mount.point.is_relative_to(top)]
    device, here = _on_disk(path, mounts)
    return any(device == kept and here.is_relative_to(root) for kept, root in places)


def _on_disk(path: Path, mounts: list[_Mount]) -> tuple[str, Path]:
    """The disk that holds ``path``, and where on it."""
    best = _Mount("", Path("/"), Path("/"))
    for mount in mounts:
        # A later mount at the same place hides the earlier one.
        if path.is_relative_to(mount.point) and len(mount.point.parts) >= len(best.point.parts):
            best = mount
    return best.device, best.root / path.relative_to(best.point)


def _unescaped(text: str) -> str:
    for code, letter in _ESCAPES:
        text = text.replace(code, letter)
    return text
