"""Content-addressed files: ``store/sha256/ab/<hex>``, read-only, whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.workspace.database import Database
from medperf.workspace.files import (
    disk_full,
    explained,
    free_bytes,
    make_private,
    sweep_temporary,
    sync_folder,
    temporary_name,
)
from medperf.workspace.partials import Partials, PartialWriter, require

CHUNK = 1024 * 1024


class Store:
    """Files by digest. A file that changed since it was stored is read again, and forgotten when its digest differs."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder = folder
        self._temporary = folder / "tmp"
        self._database = database
        self._partials = Partials(folder / "partial", keep=self._keep)

    def path(self, digest: Digest) -> Path | None:
        """The stored file with this digest, None when there is none (or no intact one)."""
        final = self._final(digest)
        try:
            info = final.lstat()
        except FileNotFoundError:
            return None
        with self._database.reading() as connection:
            row = (
                connection.execute(
                    "SELECT size, mtime_ns, ctime_ns, inode FROM files WHERE digest = ?", (digest,)
                ).fetchone()
                if connection
                else None
            )
        if row == _facts(info):
            return final
        return final if self.verify(digest) else None

    def verify(self, digest: Digest) -> bool:
        """Read every byte. A file that is not what its name says is removed.

        Returns:
            whether an intact file is there.
        """
        final = self._final(digest)
        try:
            with final.open("rb") as stream:
                before = os.fstat(stream.fileno())
                intact = hashlib.file_digest(stream, "sha256").hexdigest() == digest.hex and not final.is_symlink()
        except FileNotFoundError:
            return False
        if intact:
            self._record(digest, before)
        else:
            with explained(self._folder):
                final.unlink(missing_ok=True)
            with self._database.writing() as connection:
                connection.execute("DELETE FROM files WHERE digest = ?", (digest,))
        return intact

    def writer(self, *, size: int | None = None) -> StoreWriter:
        """A context that hashes what is written; see `StoreWriter`.

        Args:
            size: bytes that will come, if known, so that a disk that is too small is found now.

        Raises:
            MedPerfError: ``disk_full``.
        """
        self._database.prepare()
        if size is not None and size > free_bytes(self._folder):
            raise disk_full(self._folder, needed=size)
        with explained(self._folder):
            make_private(self._temporary)
        return StoreWriter(self, self._temporary / temporary_name(), size=size)

    def partial(
        self, key: Digest, *, size: int | None = None, observe: Callable[[int], None] | None = None
    ) -> PartialWriter | None:
        """A writer whose bytes outlive it, for downloads that are continued later; see `medperf.workspace.partials`.

        Args:
            key: the digest that the file will have, or another name where that is not known.

        Returns:
            None while another process or thread writes this very file.

        Raises:
            MedPerfError: ``disk_full``, ``workspace_unwritable``.
        """
        self._database.prepare()
        return self._partials.take(key, size=size, observe=observe)

    def partial_bytes(self, key: Digest) -> int:
        """How far the download of ``key`` is."""
        return self._partials.bytes(key)

    def put_stream(self, chunks: Iterable[bytes], *, size: int | None = None) -> Digest:
        """Store what ``chunks`` yields."""
        with self.writer(size=size) as writer:
            for chunk in chunks:
                writer.write(chunk)
            return writer.commit()

    def put_file(self, source: Path, *, move: bool = False) -> Digest:
        """Store a copy of a file; with ``move``, the file itself, if it lies on the same disk.

        Raises:
            InvalidInput: ``source`` is no plain file.
            MedPerfError: ``disk_full``.
        """
        if source.is_symlink() or not source.is_file():
            raise InvalidInput(
                "file_missing", f"{str(source)!r} is no plain file.", "Give the path of a file that exists."
            )
        if move and self._adopt(source):
            with source.open("rb") as stream:
                digest = Digest(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")
            self._keep(source, digest)
            return digest
        with source.open("rb") as stream, self.writer(size=os.fstat(stream.fileno()).st_size) as writer:
            shutil.copyfileobj(stream, writer, CHUNK)
            digest = writer.commit()
        if move:
            source.unlink()
        return digest

    def sweep(self) -> int:
        """Remove unfinished files of dead processes, and downloads that nobody continued for long."""
        return sweep_temporary(self._temporary) + self._partials.sweep()

    def _adopt(self, source: Path) -> bool:
        """Whether ``source`` can be renamed into the store: same disk, and no second name by which it could be changed."""
        self._database.prepare()
        with explained(self._folder):
            make_private(self._temporary)
        info = source.stat()
        return info.st_dev == self._temporary.stat().st_dev and info.st_nlink == 1

    def _keep(self, temporary: Path, digest: Digest) -> Path:
        """Give a finished file its name: synced, read-only, renamed, recorded, in this order."""
        final = self._final(digest)
        with explained(self._folder):
            make_private(final.parent)
            descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fchmod(descriptor, 0o400)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            temporary.rename(final)
            sync_folder(final.parent)
        self._record(digest, final.lstat())
        return final

    def _record(self, digest: Digest, info: os.stat_result) -> None:
        with self._database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", (digest, *_facts(info)))

    def _final(self, digest: Digest) -> Path:
        return self._folder / "sha256" / digest.hex[:2] / digest.hex


class StoreWriter:
    """One file on its way into the store. Leaving the context without `commit` leaves nothing behind.

    Attributes:
        written: bytes so far.
        origin: what the bytes come from, as `note` was told.
    """

    def __init__(self, store: Store, temporary: Path, *, size: int | None) -> None:
        self.written = 0
        self.origin: dict[str, str] = {}
        self._store = store
        self._temporary = temporary
        self._size = size
        self._hash = hashlib.sha256()
        self._stream: IO[bytes] | None = None

    def __enter__(self) -> Self:
        with explained(self._temporary.parent, needed=self._size):
            self._stream = open(
                self._temporary,
                "xb",
                buffering=0,
                opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600),
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    @property
    def digest(self) -> Digest:
        """Of what was written so far."""
        return Digest(f"sha256:{self._hash.hexdigest()}")

    def expect(self, size: int) -> None:
        """So many bytes will come in all.

        Raises:
            MedPerfError: ``disk_full``: there is no room for them.
        """
        self._size = size
        if size - self.written > free_bytes(self._temporary.parent):
            raise disk_full(self._temporary.parent, needed=size)

    def note(self, origin: Mapping[str, str]) -> None:
        """Remember what the bytes come from."""
        self.origin = dict(origin)

    def write(self, chunk: bytes) -> int:
        """Append. Returns the number of bytes, as file objects do.

        Raises:
            MedPerfError: ``disk_full``.
        """
        assert self._stream is not None, "use the writer in a with statement"
        with explained(self._temporary.parent, needed=self._size):
            view = memoryview(chunk)
            while view:
                view = view[self._stream.write(view) :]
        self._hash.update(chunk)
        self.written += len(chunk)
        return len(chunk)

    def restart(self) -> None:
        """Forget what was written, to begin anew."""
        assert self._stream is not None, "use the writer in a with statement"
        self._stream.seek(0)
        self._stream.truncate()
        self._hash = hashlib.sha256()
        self.written = 0
        self.origin = {}

    def commit(self, expected: Digest | None = None) -> Digest:
        """Keep the file.

        Raises:
            InvalidInput: ``digest_mismatch``: it is not ``expected``. Nothing is kept.
        """
        assert self._stream is not None, "use the writer in a with statement"
        digest = self.digest
        if expected is not None:
            require(digest, expected)
        self._stream.close()
        self._store._keep(self._temporary, digest)  # noqa: SLF001 - the writer is the store's other half
        return digest


def _facts(info: os.stat_result) -> tuple[int, int, int, int]:
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino
