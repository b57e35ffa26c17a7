"""Downloads on their way: ``store/partial/<key>``, continued by whoever comes next and never taken for a whole file.

A partial file is held by a lock on itself, so that two processes never write to one, and one that was killed holds nothing. Beside it
lies ``<key>.json``: what its bytes came from, written before the first of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput, MedPerfError
from medperf.workspace.files import disk_full, explained, free_bytes, hold, make_private

#: How long a partial file that nobody continues is kept.
KEEP_SECONDS = 7 * 24 * 3600.0
_CHUNK = 1024 * 1024
_NAME = re.compile(r"[0-9a-f]{64}(\.json)?")
#: (finished file, its digest): give it its name in the store.
Keep = Callable[[Path, Digest], None]


class Partials:
    """All partial files of a store."""

    def __init__(self, folder: Path, *, keep: Keep) -> None:
        self._folder = folder
        self._keep = keep

    def take(
        self, key: Digest, *, size: int | None = None, observe: Callable[[int], None] | None = None
    ) -> PartialWriter | None:
        """Hold the partial file of ``key`` (and make it, if there is none); None while another process or thread does.

        Args:
            size: bytes it will have in the end, if known, so that a disk that is too small is found now.
            observe: told how many bytes of an earlier download were read and found here; may raise.

        Raises:
            MedPerfError: ``disk_full``, ``workspace_unwritable``.
        """
        with explained(self._folder, needed=size):
            make_private(self._folder)
            path = self._folder / key.hex
            descriptor = _hold(path)
        if descriptor is None:
            return None
        try:
            here = os.fstat(descriptor).st_size
            if size is not None and here > size:
                here = 0
                os.ftruncate(descriptor, 0)
            if size is not None and size - here > free_bytes(self._folder):
                if not here:
                    path.unlink(missing_ok=True)
                raise disk_full(self._folder, needed=size - here)
            stream = os.fdopen(descriptor, "r+b", buffering=0)
        except BaseException:
            os.close(descriptor)
            raise
        return PartialWriter(path, stream, keep=self._keep, size=size, observe=observe)

    def bytes(self, key: Digest) -> int:
        """How far the download of ``key`` is."""
        try:
            return (self._folder / key.hex).stat().st_size
        except OSError:
            return 0

    def sweep(self, *, keep_seconds: float = KEEP_SECONDS) -> int:
        """Remove what nobody continued for so long. Returns how many."""
        removed = 0
        try:
            names = [name for name in os.listdir(self._folder) if _NAME.fullmatch(name)]  # noqa: PTH208 - names only
        except FileNotFoundError:
            return 0
        for name in names:
            path = self._folder / name
            with contextlib.suppress(OSError):
                if path.suffix:
                    if not path.with_suffix("").exists():
                        path.unlink()
                elif abs(time.time() - path.lstat().st_mtime) >= keep_seconds:  # the clock may have been set back, too
                    removed += self._drop(path)
        return removed

    def _drop(self, path: Path) -> bool:
        descriptor = _hold(path)
        if descriptor is None:
            return False
        try:
            _note_of(path).unlink(missing_ok=True)
            path.unlink()
        finally:
            os.close(descriptor)
        return True


class PartialWriter:
    """One download on its way into the store. What was written stays after the context, unless it was kept or dropped.

    Attributes:
        written: bytes so far, those of earlier downloads included.
        origin: what the bytes came from, as `note` was told; empty when nobody knows.
    """

    def __init__(
        self, path: Path, stream: IO[bytes], *, keep: Keep, size: int | None, observe: Callable[[int], None] | None
    ) -> None:
        self.written = 0
        self.origin: dict[str, str] = {}
        self._keep = keep
        self._path = path
        self._stream = stream
        self._size = size
        self._observe = observe
        self._hash = hashlib.sha256()
        self._gone = False

    def __enter__(self) -> Self:
        try:
            self._read_back()
        except BaseException:
            self._stream.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._gone and self.written == 0:
            self.drop()
        self._stream.close()  # and with it the lock, which is why it is closed last

    def expect(self, size: int) -> None:
        """So many bytes will come in all.

        Raises:
            MedPerfError: ``disk_full``: there is no room for them.
        """
        self._size = size
        if size - self.written > free_bytes(self._path.parent):
            raise disk_full(self._path.parent, needed=size)

    def note(self, origin: Mapping[str, str]) -> None:
        """Write down what the bytes come from, before the first of them is written."""
        if origin == self.origin:
            return
        with self._filling():
            descriptor = os.open(
                _note_of(self._path), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(json.dumps(dict(origin)).encode())
        self.origin = dict(origin)

    def write(self, chunk: bytes) -> int:
        """Append. Returns the number of bytes, as file objects do.

        Raises:
            MedPerfError: ``disk_full``: what was written is dropped, for the room is needed.
        """
        with self._filling():
            view = memoryview(chunk)
            while view:
                view = view[self._stream.write(view) :]
        self._hash.update(chunk)
        self.written += len(chunk)
        return len(chunk)

    def restart(self) -> None:
        """Forget what was written, to begin anew."""
        with explained(self._path.parent):
            self._stream.seek(0)
            self._stream.truncate()
        self._hash = hashlib.sha256()
        self.written = 0
        self.origin = {}

    def drop(self) -> None:
        """Leave nothing behind."""
        self._gone = True
        with contextlib.suppress(OSError):
            if not os.path.samestat(os.fstat(self._stream.fileno()), self._path.lstat()):
                return  # it has its place in the store already; what lies here is another's
            _note_of(self._path).unlink(missing_ok=True)
            self._path.unlink(missing_ok=True)

    def commit(self, expected: Digest | None = None) -> Digest:
        """Keep the file.

        Raises:
            InvalidInput: ``digest_mismatch``: it is not ``expected``.
            MedPerfError: ``disk_full``.
        """
        digest = Digest(f"sha256:{self._hash.hexdigest()}")
        if expected is not None:
            _require(digest, expected)
        with self._filling():
            _note_of(self._path).unlink(missing_ok=True)
            self._keep(self._path, digest)
        self._gone = True
        return digest

    @contextlib.contextmanager
    def _filling(self) -> Iterator[None]:
        try:
            with explained(self._path.parent, needed=self._size):
                yield
        except MedPerfError as error:
            if error.code == "disk_full":
                self.drop()
            raise

    def _read_back(self) -> None:
        """Read what an earlier download left, and know its digest so far."""
        with explained(self._path.parent):
            while chunk := self._stream.read(_CHUNK):
                self._hash.update(chunk)
                self.written += len(chunk)
                if self._observe is not None:
                    self._observe(self.written)
            if not self.written:
                return
            try:
                found = json.loads(_note_of(self._path).read_bytes()[:65536])
            except (FileNotFoundError, ValueError):
                return
        if isinstance(found, dict) and all(isinstance(value, str) for value in found.values()):
            self.origin = found


def _note_of(path: Path) -> Path:
    return path.with_suffix(".json")


def _hold(path: Path) -> int | None:
    """As `hold`; also a file whose holder was killed between making it read-only and renaming it into its place."""
    try:
        return hold(path)
    except PermissionError:
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) or mode & 0o200:
            raise
        path.chmod(0o600)
    return _hold(path)


def _require(digest: Digest, expected: Digest) -> None:
    """Raises:
    InvalidInput: ``digest_mismatch``: what came is not what was expected.
    """
    if digest != expected:
        raise InvalidInput(
            "digest_mismatch",
            f"The bytes have the digest {digest}, but {expected} was expected.",
            "The file was changed after it was registered, or damaged on its way. Tell its owner if it stays so.",
        )
