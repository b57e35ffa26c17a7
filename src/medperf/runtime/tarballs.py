"""Read ``.tar`` and ``.tar.gz`` as a stream, strictly: what two programs could read differently is refused.

Plain files and folders only, in the formats that tar programs write today (ustar, GNU, pax). Nothing is read ahead of
need, so an archive costs what its bytes cost: headers are bounded before they are read, and every block of the file is
either understood or the reason to refuse it.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Protocol

from medperf.runtime.names import Damaged, shown

BLOCK = 512
#: All headers of one member together: pax records and long names.
HEADER_BYTES = 32 * 1024
#: Zeros after the last member. tar programs fill up to a record, which is 10 KiB if nobody asks for another size.
PADDING_BYTES = 4 * 1024**2
_READ = 64 * 1024
_BUFFER = 256 * 1024
_CHUNK = 1 << 20
#: Pieces that a gzip file may be put together from. Parallel programs write one per 64 KiB or more.
_PIECES = 1_000_000
_ZEROS = bytes(BLOCK)
_DIGITS = re.compile(rb" *([0-7]*)[ \0]*(?:\0.*)?", re.DOTALL)
_RECORD = re.compile(rb"([1-9][0-9]{0,5}) ([^=\n]+)=", re.DOTALL)
_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL, _PAX_SOLARIS = b"L", b"K", b"x", b"g", b"X"
_EXTRA = frozenset({_LONG_NAME, _LONG_LINK, _PAX, _PAX_GLOBAL, _PAX_SOLARIS})
_SPECIAL = {
    b"1": "a hard link",
    b"2": "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a pipe",
    b"S": "a sparse file",
}
#: Beginnings of other formats, for the person who took the wrong file.
_OTHERS = {
    b"PK\x03\x04": "a zip archive",
    b"PK\x05\x06": "a zip archive",
    b"\xfd7zXZ\x00": "packed with xz",
    b"BZh": "packed with bzip2",
    b"\x28\xb5\x2f\xfd": "packed with zstd",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"\x1f\x8b": "packed with gzip twice",
}


class Source(Protocol):
    """Where bytes come from; ``b""`` at the end."""

    def read(self, count: int, /) -> bytes:
        """At most ``count`` bytes."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file or folder. ``special``: what else it is (a link, a pipe, ...); then it has no content. ``size`` in bytes."""

    name: str
    is_folder: bool
    is_program: bool
    size: int
    special: str | None = None


class Unzipped:
    """What a gzip file holds, all its pieces one after the other; checksums and lengths are verified on the way.

    Raises (on reading):
        Damaged: cut off, no gzip, a wrong checksum, something after its end.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._held = b""
        self._inner = zlib.decompressobj(wbits=31)
        self._pieces = 1

    def read(self, count: int, /) -> bytes:
        """Raises:
        Damaged: see the class.
        """
        while True:
            if self._inner.eof and not self._next_piece():
                return b""
            if not self._held:
                self._held = self._source.read(_READ)
            at_end = not self._held
            try:
                data = self._inner.decompress(self._held, count)
            except zlib.error as error:
                raise Damaged(f"it is damaged ({str(error)[:80]})") from error
            self._held = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
            if data:
                return data
            if at_end and not self._inner.eof:
                raise Damaged("it is cut off")

    def _next_piece(self) -> bool:
        """Begin what follows a piece that is complete; False at the end of the file. Zeros may fill it up, as on tapes."""
        while not self._held.lstrip(b"\0"):
            filled = bool(self._held)
            self._held = self._source.read(_READ)
            if not self._held:
                return False
            if filled and self._held.lstrip(b"\0"):
                raise Damaged("something follows after its end")
        if not self._held.startswith(b"\x1f"):
            raise Damaged("something follows after its end")
        self._pieces += 1
        if self._pieces > _PIECES:
            raise Damaged(f"it is put together from more than {_PIECES:,} pieces")
        self._inner = zlib.decompressobj(wbits=31)
        return True


class Tarball:
    """Members of a tar stream, one by one; take a member's content with `copy` before the next is asked for.

    Args:
        source: the tar itself, unpacked.
        watch: called with the bytes read so far, every now and then; may raise.
    """

    def __init__(self, source: Source, *, watch: Callable[[int], None]) -> None:
        self._file = io.BufferedReader(_Raw(source, watch), _BUFFER)
        self._left = self._padding = 0  # of the member being read

    def members(self) -> Iterator[Member]:
        """Raises:
        Damaged: see the module.
        """
        first = True
        while True:
            self._skip()
            member = self._next(first=first)
            if member is None:
                self._finish()
                return
            first = False
            self._left = member.size
            self._padding = -member.size % BLOCK
            yield member

    def copy(self, file: IO[bytes]) -> None:
        """Write the content of the member at hand.

        Raises:
            Damaged: it is cut off.
            OSError: it cannot be written.
        """
        while self._left:
            data = self._file.read(min(self._left, _CHUNK))
            if not data:
                raise Damaged("it is cut off")
            file.write(data)
            self._left -= len(data)

    def _skip(self) -> None:
        """To the next header."""
        left = self._left + self._padding
        while left:
            data = self._file.read(min(left, _CHUNK))
            if not data:
                raise Damaged("it is cut off")
            left -= len(data)
        self._left = self._padding = 0

    def _next(self, *, first: bool) -> Member | None:
        """The next member, with what the headers before it say; None at the end mark."""
        extra = _Extra()
        while True:
            block = self._file.read(BLOCK)
            first = first and not extra.bytes
            if len(block) < BLOCK:
                raise Damaged("it is cut off" if not first else _other(block) if block else "it is empty")
            if block == _ZEROS:
                if extra.kinds:
                    raise Damaged("a header belongs to nothing")
                return None
            kind, size = _check(block, first=first)
            if kind not in _EXTRA:
                return _member(block, kind, size, extra)
            extra.expect(kind, size)
            data = self._file.read(size + -size % BLOCK)
            if len(data) < size:
                raise Damaged("it is cut off")
            extra.take(kind, data[:size])

    def _finish(self) -> None:
        """Read to the end, so that the checksum after it is verified too."""
        found = 0
        while data := self._file.read(_READ):
            found += len(data)
            if data.count(0) != len(data):
                raise Damaged("something follows after its end")
            if found > PADDING_BYTES:
                raise Damaged(f"more than {PADDING_BYTES:,} zeros follow after its end")


class _Extra:
    """What the headers before a member say about it."""

    def __init__(self) -> None:
        self.name: str | None = None
        self.pax: dict[str, bytes] = {}
        self.bytes = 0
        self.kinds: set[bytes] = set()

    def expect(self, kind: bytes, size: int) -> None:
        """A header of so many bytes comes.

        Raises:
            Damaged: they are too many, or there was one of this kind.
        """
        self.bytes += BLOCK + size
        if self.bytes > HEADER_BYTES:
            raise Damaged(f"a member has headers of more than {HEADER_BYTES:,} bytes")
        if kind == _PAX_GLOBAL:
            return
        if kind in self.kinds:
            raise Damaged("a member has the same header twice")
        self.kinds.add(kind)

    def take(self, kind: bytes, data: bytes) -> None:
        """Raises:
        Damaged: it is no header of its kind, or one that would name or size every member.
        """
        if kind == _LONG_NAME:
            self.name = _text(data.removesuffix(b"\0"))
        elif kind == _PAX_GLOBAL:
            if _records(data).keys() & {"path", "size"}:
                raise Damaged("a header gives all members one name or size")
        elif kind != _LONG_LINK:
            self.pax |= _records(data)


class _Raw(io.RawIOBase):
    """A source as a raw stream, for the buffer above it."""

    def __init__(self, source: Source, watch: Callable[[int], None]) -> None:
        self._source, self._watch = source, watch
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # typeshed wants any buffer; BufferedReader gives this one
        data = self._source.read(len(buffer))
        buffer[: len(data)] = data
        self._read += len(data)
        self._watch(self._read)
        return len(data)


def _check(block: bytes, *, first: bool) -> tuple[bytes, int]:
    """Type and size of a header whose checksum is right."""
    try:
        if _number(block[148:156]) != sum(block) - sum(block[148:156]) + 256:
            raise Damaged("a header has a wrong checksum")
        return block[156:157], _number(block[124:136])
    except Damaged as error:
        raise Damaged(_other(block)) if first else error from None


def _number(field: bytes) -> int:
    if field[0] == 0x80:  # GNU: binary, for what is too large for digits
        return int.from_bytes(field[1:], "big")
    found = _DIGITS.fullmatch(field)
    if found is None:
        raise Damaged("a header holds what is no number")
    return int(found[1] or b"0", 8)


def _member(block: bytes, kind: bytes, size: int, extra: _Extra) -> Member:
    name, pax = extra.name, extra.pax
    if "path" in pax:
        name = _text(pax["path"])
    if name is None:
        name = _text(_field(block, 0, 100))
        if block[257:263] == b"ustar\0" and block[345]:
            name = f"{_text(_field(block, 345, 500))}/{name}"
    if "size" in pax:
        if not pax["size"].isdigit() or len(pax["size"]) > 19:
            raise Damaged(f"{shown(name)} has a size that is no number")
        size = int(pax["size"])
    is_file = kind in (b"0", b"\0", b"7")
    special = None if is_file or kind == b"5" else _SPECIAL.get(kind, "of a kind that only some programs know")
    if any(key.startswith("GNU.sparse.") for key in pax):
        special = _SPECIAL[b"S"]
    is_folder = special is None and (not is_file or name.endswith("/"))
    if size and (is_folder or (special and not is_file)):
        raise Damaged(f"{shown(name)} is {special or 'a folder'} with content")
    return Member(name, is_folder, bool(_number(block[100:108]) & 0o100), size, special)


def _field(block: bytes, start: int, end: int) -> bytes:
    return block[start:end].partition(b"\0")[0]


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Damaged(f"the name {raw[:40]!r} is not UTF-8") from error


def _records(data: bytes) -> dict[str, bytes]:
    """pax records: ``<length> <key>=<value>\\n``."""
    found: dict[str, bytes] = {}
    at = 0
    while at < len(data):
        head = _RECORD.match(data, at)
        end = at + int(head[1]) if head is not None else 0
        if head is None or not head.end() < end <= len(data) or data[end - 1 : end] != b"\n":
            if not data[at:].strip(b"\0"):
                break  # padded with zeros
            raise Damaged("a header is no list of records")
        key = _text(head[2])
        if key in ("path", "size") and key in found:
            raise Damaged(f"a header gives {key} twice")
        found[key] = data[head.end() : end - 1]
        at = end
    return found


def _other(block: bytes) -> str:
    """What a file is that is no tar."""
    for beginning, what in _OTHERS.items():
        if block.startswith(beginning):
            return f"it is {what}, not a .tar.gz"
    return "it is no tar archive"
