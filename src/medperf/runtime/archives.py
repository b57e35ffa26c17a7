"""Archives: packed so that the same folder always gives the same bytes, unpacked so that nothing leaves its folder."""

from __future__ import annotations

import errno
import gzip
import hashlib
import itertools
import os
import shutil
import stat
import tarfile
import tempfile
import unicodedata
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from medperf.domain import limits as domain_limits
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.domain.events import Emit, Progress, ignore
from medperf.runtime.names import MAX_DEPTH, Damaged, Names, entry_path, shown, unclean
from medperf.runtime.tarballs import Source, Tarball, Unzipped
from medperf.runtime.trees import remove

#: Never part of a package: caches, version control, what macOS leaves behind.
JUNK = frozenset({"__pycache__", ".git", ".DS_Store", "__MACOSX"})
_CHUNK = 1 << 20
_PROGRESS_BYTES = 32 * 1024**2
#: Below, nothing is called a bomb: label masks may be nearly all zeros.
_RATIO_FROM = 256 * 1024**2
#: Larger files are not begun where the disk has no room for them.
_ROOM_FROM = 16 * 1024**2


@dataclass(frozen=True)
class ArchiveLimits:
    """Bounds of one archive, counted while it is read."""

    bytes: int = domain_limits.ARCHIVE_BYTES
    entries: int = domain_limits.ARCHIVE_ENTRIES
    ratio: int = domain_limits.ARCHIVE_RATIO
    path_bytes: int = domain_limits.ARCHIVE_PATH_BYTES


def is_junk(name: str) -> bool:
    """Whether a file or folder of that name is left out of packages."""
    return name in JUNK or name.startswith("._")


def package_entries(folder: Path, *, exclude: Collection[str] = ()) -> Iterator[tuple[str, Path, os.stat_result]]:
    """What a package of ``folder`` holds, in byte order of the NFC paths: (path with ``/``, where it lies, lstat); folders too.

    Args:
        exclude: further names to leave out, wherever they are.

    Raises:
        InvalidInput: a link, socket, pipe or device, a name that is no clean UTF-8, nested too deeply, or no such folder.
    """
    if not folder.is_dir():
        raise InvalidInput("no_folder", f"There is no folder {folder}.", "Check the path.")
    found: list[tuple[bytes, str, Path, os.stat_result]] = []
    stack = [(folder, "")]
    while stack:
        base, prefix = stack.pop()
        with os.scandir(base) as entries:
            for entry in entries:
                if is_junk(entry.name) or entry.name in exclude:
                    continue
                info = entry.stat(follow_symlinks=False)
                path = prefix + unicodedata.normalize("NFC", _clean_name(entry.name, base))
                if (path[1:2] == ":" and path[0].isalpha()) or len(path.encode()) > domain_limits.ARCHIVE_PATH_BYTES:
                    raise InvalidInput(
                        "bad_name",
                        f"{entry.path[:200]} has a path that no package can hold: longer than "
                        f"{domain_limits.ARCHIVE_PATH_BYTES:,} bytes, or like a drive's.",
                        "Rename it.",
                    )
                if path.count("/") >= MAX_DEPTH:
                    raise InvalidInput(
                        "too_deep",
                        f"{entry.path} is nested deeper than {MAX_DEPTH} folders, which no package can be.",
                        "Move it further up.",
                    )
                if stat.S_ISDIR(info.st_mode):
                    stack.append((Path(entry.path), f"{path}/"))
                elif not stat.S_ISREG(info.st_mode):
                    what = "a symbolic link" if stat.S_ISLNK(info.st_mode) else "no plain file"
                    raise InvalidInput(
                        "not_plain",
                        f"{entry.path} is {what}; only plain files and folders can be packed.",
                        "Replace it by the file itself.",
                    )
                found.append((path.encode(), path, Path(entry.path), info))
    found.sort(key=lambda one: one[0])
    for (first, path, _, _), (second, _, _, _) in itertools.pairwise(found):
        if first == second:
            raise InvalidInput(
                "duplicate_path", f"Two files are called {path!r} after Unicode normalisation.", "Rename one of them."
            )
    for _, path, place, info in found:
        yield path, place, info


def pack_folder(folder: Path, dest: Path, *, exclude: Collection[str] = (), emit: Emit = ignore) -> tuple[Digest, int]:
    """Pack a folder's content as ``.tar.gz``; the same content gives the same bytes, whoever packs it and when.

    Names are sorted, times are 0, owners are 0, modes are 0644 or 0755. Written beside ``dest`` and renamed.

    Returns:
        Digest and size of the archive.

    Raises:
        InvalidInput: the folder holds what cannot be packed (see `package_entries`), or a file changed while it was read.
    """
    entries = list(package_entries(folder, exclude=exclude))
    total = sum(info.st_size for _, _, info in entries if stat.S_ISREG(info.st_mode))
    done = shown = 0
    descriptor, name = tempfile.mkstemp(prefix=".packing-", dir=dest.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as raw:
            with (
                gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as packed,
                _writer(packed) as archive,
            ):
                for path, place, info in entries:
                    member = _member(path, info)
                    if member.isdir():
                        archive.addfile(member)
                        continue
                    with os.fdopen(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                        _add_file(archive, member, file, place)
                    done += info.st_size
                    if done - shown >= _PROGRESS_BYTES:
                        shown = done
                        emit(Progress(f"Packing {folder.name}", done, total))
            raw.flush()
            os.fsync(raw.fileno())
        with temporary.open("rb") as file:
            digest = Digest(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}")
        size = temporary.stat().st_size
        temporary.replace(dest)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return digest, size


def unpack(
    archive: Path,
    dest: Path,
    *,
    digest: Digest | None = None,
    limits: ArchiveLimits = ArchiveLimits(),
    emit: Emit = ignore,
) -> None:
    """Unpack a ``.tar`` or ``.tar.gz`` (told apart by content) as the new folder ``dest``.

    It appears whole or not at all: everything is written beside it and renamed. Modes become 0644 or 0755; owners and
    times are not taken over.

    Args:
        digest: sha256 that the file had when it was checked; it is looked at again while it is read.

    Raises:
        InvalidInput: no archive, truncated, a path that leads out, links, devices, pipes, a name twice, undecodable
            names, more entries or bytes than allowed, another digest, or ``dest`` is there already.
        OSError: the disk is full.
    """
    if dest.exists() or dest.is_symlink():
        raise InvalidInput("already_there", f"{dest} exists already.", "Remove it first, or unpack somewhere else.")
    temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=dest.parent))
    try:
        with archive.open("rb", buffering=0) as raw:
            source = _Packed(raw, archive, limits, emit)
            _unpack_all(source, temporary, limits)
            source.check(digest)
        temporary.chmod(0o755)
        temporary.rename(dest)
    except Damaged as error:
        raise _bad(archive, str(error)) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise  # the archive is good
        raise _bad(archive, f"it cannot be unpacked here ({error.strerror or error})") from error
    finally:
        remove(temporary)


def _writer(file: IO[bytes] | gzip.GzipFile) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT)


def _member(path: str, info: os.stat_result) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    is_folder = stat.S_ISDIR(info.st_mode)
    member.type = tarfile.DIRTYPE if is_folder else tarfile.REGTYPE
    member.mode = 0o755 if is_folder or info.st_mode & 0o111 else 0o644
    member.size = 0 if is_folder else info.st_size
    return member


def _add_file(archive: tarfile.TarFile, member: tarfile.TarInfo, file: IO[bytes], place: Path) -> None:
    changed = InvalidInput(
        "changed", f"{place} changed while it was packed.", "Wait until nothing writes there and try again."
    )
    try:
        archive.addfile(member, file)
    except OSError as error:
        raise changed from error
    if file.read(1):
        raise changed


def _unpack_all(source: _Packed, folder: Path, limits: ArchiveLimits) -> None:
    """Members one by one: each is checked before anything of it is written."""
    names = Names(max_entries=limits.entries)
    total = 0
    parent = folder
    tarball = Tarball(source.unpacked(), watch=source.watch)
    for member in tarball.members():
        names.count()
        total += member.size
        if total > limits.bytes:
            raise Damaged(f"it holds more than {limits.bytes:,} bytes")
        source.check_ratio(total)
        path = entry_path(member.name, max_bytes=limits.path_bytes)
        if path is None or any(is_junk(part) for part in path.parts):
            continue
        if member.special is not None:
            raise Damaged(f"{shown(member.name)} is {member.special}")
        names.add(path, is_folder=member.is_folder)
        target = folder / path
        if member.is_folder:
            target.mkdir(parents=True, exist_ok=True)
            continue
        if target.parent != parent:
            parent = target.parent
            parent.mkdir(parents=True, exist_ok=True)
        if member.size > _ROOM_FROM:
            _check_room(folder, member.size)
        mode = 0o755 if member.is_program else 0o644
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            tarball.copy(file)


def _check_room(folder: Path, size: int) -> None:
    """Raises:
    OSError: the disk has no room for it, so that it is not filled first.
    """
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(folder))


class _Packed:
    """An archive being read: its digest, what comes out against what went in, and how far it is."""

    def __init__(self, raw: IO[bytes], label: Path, limits: ArchiveLimits, emit: Emit) -> None:
        self._raw, self._label, self._ratio, self._emit = raw, label, limits.ratio, emit
        self._size = os.fstat(raw.fileno()).st_size
        self._hash = hashlib.sha256()
        self._read = self._shown = 0

    def unpacked(self) -> Source:
        """The tar itself."""
        packed = self._raw.read(2) == b"\x1f\x8b"
        self._raw.seek(0)
        return Unzipped(self) if packed else self

    def read(self, count: int, /) -> bytes:
        data = self._raw.read(count)
        self._hash.update(data)
        self._read += len(data)
        if self._read > self._size:
            raise self._changed()
        return data

    def watch(self, count: int) -> None:
        """``count`` bytes have come out so far; held against what went in so far, for the archive's rest may be there for show."""
        if count > _RATIO_FROM and count > self._read * self._ratio:
            raise self._bomb()
        if count - self._shown >= _PROGRESS_BYTES:
            self._shown = count
            self._emit(Progress(f"Unpacking {self._label.name}", self._read, self._size))

    def check_ratio(self, count: int) -> None:
        """Raises:
        Damaged: the archive is too small to hold ``count`` bytes.
        """
        if count > _RATIO_FROM and count > self._size * self._ratio:
            raise self._bomb()

    def check(self, digest: Digest | None) -> None:
        """Raises:
        InvalidInput: it is not the file that had ``digest``.
        """
        if digest is not None and self._hash.hexdigest() != digest.hex:
            raise self._changed()

    def _bomb(self) -> Damaged:
        return Damaged(f"it unpacks to more than {self._ratio} times its size")

    def _changed(self) -> InvalidInput:
        return InvalidInput(
            "changed",
            f"The archive {self._label.name} changed after it was checked.",
            "Wait until nothing writes to it and try again.",
        )


def _clean_name(name: str, base: Path) -> str:
    fault = "holds a backslash" if "\\" in name else unclean(name)
    if fault is not None:
        raise InvalidInput("bad_name", f"The name of a file in {base} {fault}: {name!a}.", "Rename it.")
    return name


def _bad(archive: Path, what: str) -> InvalidInput:
    return InvalidInput(
        "bad_archive",
        f"The archive {archive.name} cannot be used: {what}.",
        "Get it again, or ask who made it to pack it anew.",
    )
