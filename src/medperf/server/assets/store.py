"""Where asset files are: one folder per instance, in it files named by their digest, and ``incoming/`` for those that are not whole yet.

An incoming file is locked (``flock``) by whoever writes or verifies it, so several processes can serve one folder. Its size is how
much has come: a killed server leaves exactly what it wrote. What is whole gets its place by a link, so that the incoming file is
there until the database says that it is not needed any more.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

from medperf.domain.digests import Digest
from medperf.domain.errors import ServerUnavailable
from medperf.server.errors import TooLarge, storage_full
from medperf.server.files import sync_folder

P = ParamSpec("P")
T = TypeVar("T")

_PIECE = 1024 * 1024
#: What one upload holds in memory before it is written: there may be as many as there are connections.
_PENDING = 128 * 1024
_HASH_AT_ONCE = 64 * _PIECE
_LOCK_SECONDS = 10.0
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Incoming:
    """The file of one upload, locked."""

    def __init__(self, descriptor: int, *, reserve: int) -> None:
        self._descriptor = descriptor
        self._reserve = reserve

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return os.fstat(self._descriptor).st_size

    async def append(self, stream: AsyncIterator[bytes], *, limit: int) -> None:
        """Write a stream behind what is there, and have it on disk when this returns or raises: whatever came stays.

        Args:
            limit: size of the file when it is whole.

        Raises:
            TooLarge: the stream goes beyond ``limit``; the file is as it was before.
            StorageFull: no room on the disk; what had room stays.
        """
        before = size = self.size
        pending: list[bytes] = []
        waiting = 0
        try:
            async for chunk in stream:
                size += len(chunk)
                if size > limit:
                    pending.clear()
                    os.ftruncate(self._descriptor, before)
                    raise TooLarge(
                        "upload_too_large",
                        f"More than the {limit:,} bytes came that were announced; this piece was dropped.",
                        "Send the file that was announced, or announce another upload.",
                    )
                pending.append(chunk)
                waiting += len(chunk)
                if waiting >= _PENDING:
                    pieces, pending, waiting = pending, [], 0
                    await in_thread(self._write, pieces)
        except OSError as error:
            pending.clear()  # nothing may follow a gap
            raise _explained(error) from error
        finally:
            try:
                await in_thread(self._finish, pending, before)
            except OSError as error:
                raise _explained(error) from error

    async def digest(self) -> Digest:
        """Of what is on disk. In pieces, so that a server that ends need not wait for a large file."""
        hasher = hashlib.sha256()
        offset = 0

        def read() -> int:
            done = 0
            while done < _HASH_AT_ONCE and (data := os.pread(self._descriptor, _PIECE, offset + done)):
                hasher.update(data)
                done += len(data)
            return done

        while done := await in_thread(read):
            offset += done
        return Digest(hasher.hexdigest())

    def _write(self, pieces: list[bytes]) -> None:
        disk = os.fstatvfs(self._descriptor)
        data = b"".join(pieces)
        if data and disk.f_bavail * disk.f_frsize < self._reserve + len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def _finish(self, pieces: list[bytes], before: int) -> None:
        try:
            self._write(pieces)
        finally:
            try:
                os.fsync(self._descriptor)
            except OSError:
                # What was not written may look as if it were, and the next fsync would succeed: that piece is sent again.
                os.ftruncate(self._descriptor, before)
                raise


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

    # -- files on their way ------------------------------------------------------------------------------------------

    def check_room(self, size: int) -> None:
        """Find a disk that is too small before anything is sent.

        Raises:
            StorageFull: no room for ``size`` bytes.
        """
        if shutil.disk_usage(next(path for path in (self._root, *self._root.parents) if path.exists())).free < (
            size + self._reserve
        ):
            raise storage_full()

    def received(self, instance_id: str, upload_id: str) -> int:
        """How many bytes of an upload are here."""
        try:
            return self._incoming(instance_id, upload_id).stat().st_size
        except FileNotFoundError:
            return 0

    @contextmanager
    def incoming(self, instance_id: str, upload_id: str) -> Iterator[Incoming]:
        """An upload's file, made if need be, for one user at a time.

        Raises:
            ServerUnavailable: ``upload_busy``: another request writes or verifies it.
            StorageFull: no room on the disk.
        """
        path = self._incoming(instance_id, upload_id)
        try:
            descriptor = _open_private(path)
        except OSError as error:
            raise _explained(error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise busy() from None
            yield Incoming(descriptor, reserve=self._reserve)
        finally:
            os.close(descriptor)

    def drop_incoming(self, instance_id: str, upload_id: str) -> None:
        """Forget an upload's file."""
        self._incoming(instance_id, upload_id).unlink(missing_ok=True)

    def incoming_ids(self, instance_id: str) -> list[str]:
        """The uploads that have a file."""
        with suppress(FileNotFoundError):
            return [path.name for path in (self._root / instance_id / "incoming").iterdir()]
        return []

    def _incoming(self, instance_id: str, upload_id: str) -> Path:
        return self._root / instance_id / "incoming" / upload_id

    # -- files that are whole ----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def locked(self, instance_id: str, digest: str, *, exclusive: bool) -> AsyncIterator[None]:
        """Between giving a digest's file its place and saying so in the database nobody may remove it: shared for those who place,
        exclusive for those who remove.

        Raises:
            ServerUnavailable: it stays locked.
        """
        folder = self.path(instance_id, digest).parent
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LOCK_SECONDS
        try:
            while True:
                try:
                    fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if loop.time() > deadline:
                        raise busy() from None
                await asyncio.sleep(0.01)
            yield
        finally:
            os.close(descriptor)

    @asynccontextmanager
    async def place(self, instance_id: str, upload_id: str, digest: str) -> AsyncIterator[None]:
        """Give a whole file its place: atomic, on disk, and the same whether the bytes were there or not. Inside the block the
        database is told.
        """
        target = self.path(instance_id, digest)
        source = self._incoming(instance_id, upload_id)
        async with self.locked(instance_id, digest, exclusive=False):
            replaced: list[int] = []
            try:
                await in_thread(_link, source, target, replaced)
                yield
            finally:
                # What was there before is freed now, not while it is replaced: that takes the longer the larger it is.
                for descriptor in replaced:
                    await in_thread(os.close, descriptor)

    def digests(self, instance_id: str) -> Iterator[list[Path]]:
        """Every file that has a place, or had begun to get one: folder by folder."""
        with suppress(FileNotFoundError):
            for folder in sorted((self._root / instance_id).iterdir()):
                if folder.name != "incoming":
                    yield sorted(folder.iterdir())

    # -- instances ---------------------------------------------------------------------------------------------------

    def instances(self) -> list[str]:
        """Every instance that has files."""
        with suppress(FileNotFoundError):
            return [path.name for path in self._root.iterdir()]
        return []

    def remove_instance(self, instance_id: str) -> None:
        """Remove all files of an instance that is gone."""
        shutil.rmtree(self._root / instance_id, ignore_errors=True)


def busy() -> ServerUnavailable:
    """Somebody else is at it."""
    return ServerUnavailable(
        "upload_busy",
        "Another request is at work on this upload.",
        "Try again in a moment.",
        details={"retry_after": 1},
    )


async def in_thread(function: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """Run something that waits for the disk in a thread. Where we are cancelled meanwhile the thread ends first: it works on a
    descriptor that would be closed, and given to another file, under it.
    """
    task = asyncio.ensure_future(asyncio.to_thread(function, *arguments, **named))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise


def _open_private(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    with suppress(FileNotFoundError):
        return os.open(path, flags)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, flags | os.O_CREAT, 0o600)
    try:
        for folder in path.parents[:4]:
            sync_folder(folder)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _link(source: Path, target: Path, replaced: list[int]) -> None:
    temporary = target.with_name(f"{source.name}.tmp")
    temporary.unlink(missing_ok=True)
    _sync_file(source)  # a server that was killed may have written the last of it
    os.link(source, temporary)
    with suppress(FileNotFoundError):
        replaced.append(os.open(target, os.O_RDONLY | os.O_CLOEXEC))
    temporary.replace(target)
    temporary.unlink(missing_ok=True)  # two names of one file: the rename has done nothing
    for folder in target.parents[:4]:  # up to the data folder, which may have been made by one that was killed
        sync_folder(folder)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explained(error: OSError) -> Exception:
    return storage_full() if error.errno in _FULL else error
