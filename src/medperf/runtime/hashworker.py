"""Reads small files and says what they are. Imported, or run as a program of its own: hashing tens of thousands of small files is work for
the interpreter, which one process does one file at a time.

As a program it takes batches on stdin and answers each on stdout until stdin ends; it needs nothing but the standard library, so it starts
in some 15 ms. Numbers are little-endian. A batch: its length, then the folder and the names in it, with zero bytes between. An answer:
``OK``, its length, one row per name; or what was wrong, and with which name.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from struct import Struct

#: device, inode, size, mtime_ns, ctime_ns, then the sha256; `LARGE` for a file that was not read.
ROW = Struct("<QQQqq32s")
STAMP = Struct("<QQQqq")
LARGE = bytes(32)
#: Files of this size and more are left to the caller, whose threads read them side by side.
SMALL_BYTES = 256 * 1024
HEADER = Struct("<iII")
OK, NOT_PLAIN, CHANGED, UNREADABLE = range(4)
LENGTH = Struct("<I")
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Trouble(Exception):
    """A file that cannot be hashed. ``position``: of its name; ``error``: the errno of an `UNREADABLE` one."""

    def __init__(self, kind: int, position: int, error: int = 0) -> None:
        super().__init__(kind, position, error)
        self.kind, self.position, self.error = kind, position, error


def hash_names(folder: bytes, names: list[bytes], buffer: bytearray) -> bytes:
    """One `ROW` for each of the plain files ``names`` in ``folder``; links are not followed.

    Args:
        buffer: of `SMALL_BYTES`, used again and again.

    Raises:
        Trouble: the first that is no plain file, changed while it was read, or cannot be read.
    """
    rows = []
    view = memoryview(buffer)
    opened, told, read, close = os.open, os.fstat, os.readv, os.close
    sha256, pack = hashlib.sha256, ROW.pack
    position = 0
    try:
        within = opened(folder, _FOLDER)
        try:
            for position, name in enumerate(names):
                descriptor = opened(name, _FLAGS, dir_fd=within)
                try:
                    before = told(descriptor)
                    size = before.st_size
                    if not stat.S_ISREG(before.st_mode):
                        raise Trouble(NOT_PLAIN, position)
                    if size >= SMALL_BYTES:
                        digest = LARGE
                    else:
                        count = read(descriptor, [buffer])
                        digest = sha256(view[:count]).digest()
                        after = told(descriptor)
                        if (count, after.st_size, after.st_mtime_ns, after.st_ctime_ns) != (
                            size,
                            size,
                            before.st_mtime_ns,
                            before.st_ctime_ns,
                        ):
                            raise Trouble(CHANGED, position)
                finally:
                    close(descriptor)
                rows.append(pack(before.st_dev, before.st_ino, size, before.st_mtime_ns, before.st_ctime_ns, digest))
        finally:
            close(within)
    except OSError as error:
        raise Trouble(UNREADABLE, position, error.errno or 0) from error
    return b"".join(rows)


def stamp(info: os.stat_result) -> tuple[int, int, int, int, int]:
    """What must be the same for a file to count as unchanged."""
    return (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)


def batch(folder: str, names: list[str]) -> bytes:
    """What the program reads."""
    body = os.fsencode("\0".join((folder, *names)))
    return LENGTH.pack(len(body)) + body


def unpacked(body: bytes) -> tuple[bytes, list[bytes]]:
    """Folder and names of a batch, without its length."""
    folder, *names = body.split(b"\0")
    return folder, names


def main() -> None:
    """Answer batches until there are no more."""
    buffer = bytearray(SMALL_BYTES)
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while len(length := source.read(LENGTH.size)) == LENGTH.size:
        try:
            rows = hash_names(*unpacked(source.read(LENGTH.unpack(length)[0])), buffer)
        except Trouble as trouble:
            sink.write(HEADER.pack(trouble.kind, trouble.position, trouble.error))
        else:
            sink.write(HEADER.pack(OK, len(rows), 0))
            sink.write(rows)
        sink.flush()


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        os._exit(1)
