# ruff: noqa: PTH123 - descriptors, plain path texts and folders of the sandbox
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
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from medperf.domain import limits as domain_limits
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.domain.events import Emit, Progress, ignore
from medperf.runtime.trees import MAX_DEPTH, remove

#: Never part of a package: caches, version control, what macOS leaves behind.
JUNK = frozenset({"__pycache__", ".git", ".DS_Store", "__MACOSX"})
_CHUNK = 1 << 20
_PROGRESS_BYTES = 32 * 1024**2
#: Below, nothing is called a bomb: small archives of zeros are harmless.
_RATIO_FROM = 64 * 1024**2
#: All headers of one member together. tarfile reads them into memory at once, and searches them with slow expressions.
_HEADER_BYTES = 32 * 1024


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
                    with open(os.open(place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
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


def unpack(archive: Path, dest: Path, *, limits: ArchiveLimits = ArchiveLimits(), emit: Emit = ignore) -> None:
    """Unpack a ``.tar`` or ``.tar.gz`` (told apart by content) as the new folder ``dest``.

    It appears whole or not at all: everything is written beside it and renamed.

    Raises:
        InvalidInput: no archive, truncated, a path that leads out, links, devices, pipes, a name twice, undecodable
            names, more entries or bytes than allowed, or ``dest`` is there already.
        OSError: the disk is full.
    """
    if dest.exists() or dest.is_symlink():
        raise InvalidInput("already_there", f"{dest} exists already.", "Remove it first, or unpack somewhere else.")
    size = archive.stat().st_size
    temporary = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=dest.parent))
    try:
        with archive.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            source: IO[bytes] = gzip.GzipFile(fileobj=raw) if packed else raw  # type: ignore[assignment]
            counted = _Counted(source, raw, size, limits, archive, emit)
            _unpack_all(counted, temporary, limits, archive)
        temporary.chmod(0o755)
        temporary.rename(dest)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError, ValueError, OverflowError) as error:
        raise _bad(archive, f"it is damaged or no tar archive ({str(error)[:100]})") from error
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


def _unpack_all(source: _Counted, folder: Path, limits: ArchiveLimits, label: Path) -> None:
    """Members one by one; data are copied by us, so that nothing of tarfile's own extraction is trusted."""
    names = _Names(limits, label)
    total = unread = 0
    source.expect(0)
    with tarfile.open(fileobj=source, mode="r|", encoding="utf-8", errors="strict") as archive:  # type: ignore[call-overload]
        while True:
            source.expect(unread)
            member = archive.next()
            if member is None:
                break
            archive.members.clear()  # it would keep them all
            total += max(member.size, 0)
            names.count()
            if total > limits.bytes:
                raise _bad(label, f"it holds more than {limits.bytes:,} bytes")
            source.check_ratio(total)  # the holes of a sparse file are in no stream
            unread = max(member.size, 0)
            path = _member_path(member, limits, label)
            if path is None or any(is_junk(part) for part in path.parts):
                continue
            if not (member.isreg() or member.isdir()):
                raise _bad(label, f"{str(path)[:80]!r} is a link or a special file")
            names.add(path, is_folder=member.isdir())
            target = folder / path
            if member.isdir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            source.expect(unread)
            content = archive.extractfile(member)
            descriptor = os.open(
                target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o755 if member.mode & 0o100 else 0o644
            )
            with open(descriptor, "wb") as file:
                if content is not None:
                    shutil.copyfileobj(content, file, _CHUNK)
                if file.tell() != member.size:
                    raise _bad(label, f"{str(path)[:80]!r} is cut off")
            unread = 0
    source.expect(limits.bytes)
    source.finish()


class _Names:
    """What an archive has named so far, with the folders that are only implied, as short digests: a million must fit into memory."""

    def __init__(self, limits: ArchiveLimits, label: Path) -> None:
        self._limits, self._label = limits, label
        self._seen: dict[bytes, tuple[bool, bytes]] = {}  # NFC path -> is a folder, path as it is written
        self._parent = PurePosixPath()
        self._entries = 0

    def count(self) -> None:
        """One entry more.

        Raises:
            InvalidInput: too many.
        """
        self._entries += 1
        if self._entries > self._limits.entries:
            raise _bad(self._label, f"it holds more than {self._limits.entries:,} entries")

    def add(self, path: PurePosixPath, *, is_folder: bool) -> None:
        """Take the name of a member, and of the folders above it.

        Raises:
            InvalidInput: it is there already (a folder may be named again), or leads too deep.
        """
        if len(path.parts) > MAX_DEPTH:
            raise _bad(self._label, f"{str(path)[:80]!r} is nested deeper than {MAX_DEPTH} folders")
        if path.parent != self._parent:
            for parent in reversed(path.parents[:-1]):
                if self._take(parent, is_folder=True):
                    self.count()
            self._parent = path.parent
        self._take(path, is_folder=is_folder)

    def _take(self, path: PurePosixPath, *, is_folder: bool) -> bool:
        """Whether the name is new."""
        written = str(path)
        name = unicodedata.normalize("NFC", written)
        key = _short(name)
        entry = (is_folder, key if name == written else _short(written))
        before = self._seen.setdefault(key, entry)
        if before is not entry and not (is_folder and before == entry):
            raise _bad(self._label, f"{name[:80]!r} is in it twice")
        return before is entry


def _short(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def _member_path(member: tarfile.TarInfo, limits: ArchiveLimits, label: Path) -> PurePosixPath | None:
    """The member's relative path; None for the folder itself (``./``)."""
    name = member.name
    if len(name.encode()) > limits.path_bytes or any(ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise _bad(label, f"the name {name[:60]!r} is too long or holds control characters")
    path = PurePosixPath(name)
    if (
        path.is_absolute()
        or ".." in path.parts
        or "\\" in name
        or (len(name) > 1 and name[1] == ":" and name[0].isalpha())
    ):
        raise _bad(label, f"the path {name[:80]!r} leads out of its folder")
    return path if path.parts else None


class _Counted:
    """A stream that counts what comes out of the archive against what the archive has, and tells how far it is."""

    def __init__(
        self, source: IO[bytes], raw: IO[bytes], size: int, limits: ArchiveLimits, label: Path, emit: Emit
    ) -> None:
        self._source, self._raw, self._size, self._limits, self._label, self._emit = (
            source,
            raw,
            size,
            limits,
            label,
            emit,
        )
        self._out = self._shown = self._ceiling = 0

    def expect(self, count: int) -> None:
        """What may come now: so many bytes of content, and the headers of one member."""
        self._ceiling = self._out + count + _HEADER_BYTES

    def check_ratio(self, count: int) -> None:
        """Raises:
        InvalidInput: the archive is too small to hold ``count`` bytes.
        """
        if count > _RATIO_FROM and count > self._size * self._limits.ratio:
            raise _bad(self._label, f"it unpacks to more than {self._limits.ratio} times its size")

    def read(self, count: int) -> bytes:
        data = self._source.read(count)
        self._out += len(data)
        self.check_ratio(self._out)
        if self._out > self._ceiling:
            raise _bad(self._label, f"a member has headers of more than {_HEADER_BYTES:,} bytes")
        # Headers and padding count too: at most a few blocks per entry.
        if self._out > self._limits.bytes + self._limits.entries * 4096 + 1024**2:
            raise _bad(self._label, f"it holds more than {self._limits.bytes:,} bytes")
        if self._out - self._shown >= _PROGRESS_BYTES:
            self._shown = self._out
            self._emit(Progress(f"Unpacking {self._label.name}", self._raw.tell(), self._size))
        return data

    def finish(self) -> None:
        """Read to the end, so that a checksum after the last member is verified."""
        while self.read(_CHUNK):
            pass


def _clean_name(name: str, base: Path) -> str:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            "bad_name", f"A file in {base} has a name that is not UTF-8: {name!a}.", "Rename it."
        ) from error
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in name) or "\\" in name:
        raise InvalidInput(
            "bad_name",
            f"A file in {base} has control characters or a backslash in its name: {name!a}.",
            "Rename it.",
        )
    return name


def _bad(archive: Path, what: str) -> InvalidInput:
    return InvalidInput(
        "bad_archive",
        f"The archive {archive.name} cannot be used: {what}.",
        "Get it again, or ask who made it to pack it anew.",
    )
