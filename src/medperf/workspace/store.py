"""Content-addressed files: ``store/sha256/ab/<hex>``, read-only, whole or not there."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.workspace.database import Database
from medperf.workspace.files import explained, make_private, sync_folder
from medperf.workspace.partials import KEEP_SECONDS, Partials, PartialWriter


@dataclass(frozen=True)
class StoredFile:
    """One file. ``modified``: seconds since 1970, when it was downloaded."""

    digest: Digest
    size: int
    modified: float


class Store:
    """Files by digest. A file that changed since it was stored is read again, and forgotten when its digest differs."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder = folder
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

    def partial(
        self, key: Digest, *, size: int | None = None, observe: Callable[[int], None] | None = None
    ) -> PartialWriter | None:
        """A writer whose bytes outlive it, so that what was cut is continued later; see `medperf.workspace.partials`.

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

    def ls(self) -> list[StoredFile]:
        """All files, for whoever cleans up; they are not read."""
        found = []
        for path in sorted((self._folder / "sha256").glob("[0-9a-f][0-9a-f]/*")):
            with contextlib.suppress(FileNotFoundError, InvalidInput):
                info = path.lstat()
                found.append(StoredFile(Digest(f"sha256:{path.name}"), info.st_size, info.st_mtime))
        return found

    def remove(self, digest: Digest) -> None:
        """Delete a file; whoever has it open reads it to its end."""
        with self._database.writing() as connection, explained(self._folder):
            connection.execute("DELETE FROM files WHERE digest = ?", (digest,))
            self._final(digest).unlink(missing_ok=True)

    def sweep(self, *, keep_seconds: float = KEEP_SECONDS) -> int:
        """Remove downloads that nobody continued for so long. Returns how many."""
        return self._partials.sweep(keep_seconds=keep_seconds)

    def _keep(self, finished: Path, digest: Digest) -> None:
        """Give a finished file its name: synced, read-only, renamed, recorded, in this order."""
        final = self._final(digest)
        with explained(self._folder):
            make_private(final.parent)
            descriptor = os.open(finished, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fchmod(descriptor, 0o400)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            finished.rename(final)
            sync_folder(final.parent)
        self._record(digest, final.lstat())

    def _record(self, digest: Digest, info: os.stat_result) -> None:
        with self._database.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?, ?)", (digest, *_facts(info)))

    def _final(self, digest: Digest) -> Path:
        return self._folder / "sha256" / digest.hex[:2] / digest.hex


def _facts(info: os.stat_result) -> tuple[int, int, int, int]:
    return info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_ino
