"""Where asset files are: one folder per instance, files named by their digest, arriving under another name until they are whole."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from medperf.domain.digests import Digest
from medperf.server.errors import TooLarge, storage_full

_PIECE = 1024 * 1024
_STALE_SECONDS = 24 * 3600


@dataclass(frozen=True, slots=True)
class Arrived:
    """A file that came whole and is on disk, but has no place yet."""

    path: Path
    digest: Digest
    size: int


class AssetStore:
    """The files of a server's assets. The database says what they are."""

    def __init__(self, root: Path, *, reserve: int = 0) -> None:
        """``reserve``: bytes of the disk that uploads leave to the database."""
        self._root = root
        self._reserve = reserve

    def path(self, instance_id: str, digest: str) -> Path:
        """Where a digest's bytes are."""
        name = digest.removeprefix("sha256:")
        return self._root / instance_id / name[:2] / name

    @asynccontextmanager
    async def arrive(self, stream: AsyncIterator[bytes], *, instance_id: str, limit: int) -> AsyncIterator[Arrived]:
        """Write a stream to disk while hashing it. Unless it is kept inside the block, nothing of it stays.

        Raises:
            TooLarge: more than ``limit`` bytes.
            StorageFull: no room on the disk.
        """
        folder = self._root / instance_id / "incoming"
        path = folder / secrets.token_hex(16)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with path.open("xb", buffering=0) as file:
                path.chmod(0o600)
                digest, size = await _drain(stream, file.fileno(), limit, self._reserve)
            yield Arrived(path, digest, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise storage_full() from error
            raise
        finally:
            path.unlink(missing_ok=True)

    def keep(self, arrived: Arrived, *, instance_id: str) -> None:
        """Give an arrived file its place: atomic, on disk when this returns, the same whether the bytes were there or not."""
        target = self.path(instance_id, arrived.digest)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        arrived.path.replace(target)
        for folder in (target.parent, target.parent.parent):
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def remove_instance(self, instance_id: str) -> None:
        """Remove all files of an instance that is gone."""
        shutil.rmtree(self._root / instance_id, ignore_errors=True)

    def sweep(self, instance_id: str, digests: Set[str]) -> None:
        """Remove what a power loss may have left for a day or more: half an upload, a file without its row, an instance that is gone."""
        if not self._root.is_dir():
            return
        before = time.time() - _STALE_SECONDS
        names = {digest.removeprefix("sha256:") for digest in digests}
        for instance in self._root.iterdir():
            if instance.name != instance_id:
                if instance.stat().st_mtime < before:
                    shutil.rmtree(instance, ignore_errors=True)
                continue
            for path in instance.glob("*/*"):
                with suppress(FileNotFoundError):
                    if path.name not in names and path.stat().st_mtime < before:
                        path.unlink()


async def _drain(stream: AsyncIterator[bytes], descriptor: int, limit: int, reserve: int) -> tuple[Digest, int]:
    """Hash and write in pieces, in a thread: neither may hold up other requests."""
    hasher = hashlib.sha256()
    pending: list[bytes] = []
    waiting = size = 0

    def flush(pieces: list[bytes]) -> None:
        data = b"".join(pieces)
        disk = os.fstatvfs(descriptor)
        if data and disk.f_bavail * disk.f_frsize < reserve + len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        hasher.update(data)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    async for chunk in stream:
        size += len(chunk)
        if size > limit:
            raise TooLarge(
                "asset_too_large",
                f"The file has more than {limit:,} bytes.",
                "Upload a smaller one, or host it elsewhere.",
            )
        pending.append(chunk)
        waiting += len(chunk)
        if waiting >= _PIECE:
            await asyncio.to_thread(flush, pending)
            pending, waiting = [], 0

    def finish(pieces: list[bytes]) -> None:
        flush(pieces)
        os.fsync(descriptor)

    await asyncio.to_thread(finish, pending)
    return Digest(hasher.hexdigest()), size
