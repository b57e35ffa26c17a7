"""Hostile ``.tar`` and ``.tar.gz`` files, made header by header: no library would write them."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping

Maker = Callable[[], bytes]
_END = bytes(1024)
FILE, HARD, SYM, CHAR, BLOCK_DEVICE, FOLDER, FIFO, SPARSE = b"0", b"1", b"2", b"3", b"4", b"5", b"6", b"S"
GIB = 1024**3


def header(
    name: str | bytes,
    size: int | bytes = 0,
    kind: bytes = FILE,
    *,
    link: str = "",
    mode: int = 0o644,
    mtime: int | bytes = 0,
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    checksum: int | None = None,
) -> bytes:
    """One block. ``size`` as bytes is taken as the field itself."""
    raw = bytearray(512)
    named = name.encode() if isinstance(name, str) else name
    raw[0 : len(named)] = named
    raw[100:108], raw[108:116], raw[116:124] = b"%07o\0" % mode, b"0000000\0", b"0000000\0"
    raw[124:136] = (b"%011o\0" % size) if isinstance(size, int) else size.ljust(12, b"\0")
    raw[136:148] = (b"%011o\0" % mtime) if isinstance(mtime, int) else mtime.ljust(12, b"\0")
    raw[148:156] = b" " * 8
    raw[156:157] = kind
    raw[157 : 157 + len(link)] = link.encode()
    raw[257:265] = magic
    raw[345 : 345 + len(prefix)] = prefix
    raw[148:156] = b"%06o\0 " % (sum(raw) if checksum is None else checksum)
    return bytes(raw)


def member(name: str | bytes, content: bytes = b"x", **fields: object) -> bytes:
    """A file with its header and padding."""
    return header(name, len(content), **fields) + _padded(content)  # type: ignore[arg-type] # passed on as they are


def pax(kind: bytes = b"x", **records: str | bytes) -> bytes:
    """A pax header; ``GNU__sparse__major`` stands for ``GNU.sparse.major``."""
    data = b""
    for key, value in records.items():
        rest = (
            b" "
            + key.replace("__", ".").encode()
            + b"="
            + (value.encode() if isinstance(value, str) else value)
            + b"\n"
        )
        length = len(rest) + 1
        while len(str(length)) + len(rest) != length:
            length = len(str(length)) + len(rest)
        data += str(length).encode() + rest
    return header("pax", len(data), kind) + _padded(data)


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    """GNU's header for a name that fits into no field."""
    return header("././@LongLink", len(name) + 1, kind, magic=b"ustar  \0") + _padded(name + b"\0")


def repeated(head: bytes, block: bytes, count: int, tail: bytes = b"") -> bytes:
    """gzip of ``head + block * count + tail`` without packing the block more than once. Its checksum is wrong."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    middle = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    last = packer.compress(tail) + packer.flush()
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + first + middle * count + last + struct.pack("<II", 0, 0)


def bomb(size: int = 10 * GIB, *, files: int = 1) -> bytes:
    """A small archive of ``files`` files that together hold ``size`` bytes of zeros (whole MiB each)."""
    if files == 1:
        return repeated(header("zeros", _size(size)), bytes(1 << 20), size >> 20, _END)
    each = size // files >> 20 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    body = b""
    for number in range(files):
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        body += packer.compress(header(f"zeros{number}", each)) + packer.flush(zlib.Z_FULL_FLUSH) + zeros * (each >> 20)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + body


def _size(size: int) -> int | bytes:
    return size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def _tar(*blocks: bytes) -> Maker:
    """A plain tar, good but for the last block."""
    return lambda: member("good.txt") + b"".join(blocks) + _END


def _gz(make: Maker) -> Maker:
    return lambda: gzip.compress(make(), mtime=0)


def _raw(data: bytes) -> Maker:
    return lambda: data


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("paths.yaml", "data_path: a\nlabels_path: b\n")
    return file.getvalue()


def _xz() -> bytes:
    import lzma

    return lzma.compress(_tar()())


def _bz2() -> bytes:
    import bz2

    return bz2.compress(_tar()())


def _sparse_old() -> bytes:
    raw = bytearray(header("big", 0, SPARSE, magic=b"ustar  \0"))
    raw[386:398] = raw[483:495] = b"%011o\0" % (8 * GIB - 1)
    raw[148:156] = b" " * 8
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw) + _END


def _random(count: int) -> bytes:
    import random

    return random.Random(7).randbytes(count)  # noqa: S311 - bytes that do not compress


#: Name -> maker. All are refused with the code ``bad_archive``, and nothing of them is left.
ARCHIVES: Mapping[str, Maker] = {
    # names
    "climbs": _tar(member("../evil")),
    "climbs in the middle": _tar(member("a/../../evil")),
    "climbs by prefix": _tar(member("evil", prefix=b"a/../..")),
    "absolute": _tar(member("/etc/evil")),
    "double slash": _tar(member("//etc/evil")),
    "drive letter": _tar(member("C:/evil")),
    "drive relative": _tar(member("c:evil")),
    "backslash": _tar(member("..\\evil")),
    "UNC": _tar(member("\\\\host\\share")),
    "newline": _tar(member("a\nb")),
    "escape sequence": _tar(member("a\x1b[2Jb")),
    "delete": _tar(member("a\x7f")),
    "C1 control": _tar(member("a\u0085b")),
    "right to left": _tar(member("gpj.\u202eexe")),
    "line separator": _tar(member("a\u2028b")),
    "undecodable": _tar(member(b"\xff\xfe\xff")),
    "overlong UTF-8": _tar(member(b"\xc0\xae\xc0\xae/evil")),
    "surrogate": _tar(member(b"\xed\xa0\x80")),
    "long name": _tar(pax(path="x" * 5000) + member("x")),
    "long part": _tar(pax(path="y" * 300) + member("x")),
    "deep": _tar(pax(path="/".join(["a"] * 70)) + member("x")),
    # links and special files
    "symbolic link": _tar(header("link", kind=SYM, link="/etc/passwd")),
    "symbolic link inside": _tar(header("link", kind=SYM, link="good.txt")),
    "hard link outside": _tar(header("link", kind=HARD, link="/etc/passwd")),
    "hard link inside": _tar(header("link", kind=HARD, link="good.txt")),
    "hard link to what comes later": _tar(header("link", kind=HARD, link="later"), member("later")),
    "link, then a file through it": _tar(header("link", kind=SYM, link="/srv/out"), member("link")),
    "linked folder, then a file below": _tar(header("dir", kind=SYM, link="/srv"), member("dir/evil")),
    "chain of linked folders": _tar(
        header("a", kind=SYM, link="."), header("a/b", kind=SYM, link=".."), member("a/b/evil")
    ),
    "link with content": _tar(header("link", 512, kind=SYM, link="/etc") + b"y".ljust(512, b"\0")),
    "character device": _tar(header("null", kind=CHAR)),
    "block device": _tar(header("disk", kind=BLOCK_DEVICE)),
    "pipe": _tar(header("pipe", kind=FIFO)),
    "unknown kind": _tar(header("what", kind=b"Z")),
    "volume label": _tar(header("label", kind=b"V")),
    # twice
    "twice": _tar(member("a"), member("a")),
    "twice by dots": _tar(member("a"), member("./a")),
    "twice by slashes": _tar(member("d/a"), member("d//a")),
    "twice after normalisation": _tar(member("e\u0301"), member("\u00e9")),
    "two spellings of a folder": _tar(member("e\u0301/a"), member("\u00e9/b")),
    "file, then folder": _tar(member("a"), member("a/b")),
    "folder, then file": _tar(header("a", kind=FOLDER, mode=0o755), member("a")),
    # sizes and headers
    "negative size": _tar(header("a", b"\xff" * 12)),
    "size that is no number": _tar(header("a", b"12x45")),
    "size beyond the file": _tar(header("a", 10**9) + b"x" * 512),
    "huge binary size": _tar(header("a", b"\x80" + b"\x7f" * 11)),
    "folder with content": _tar(header("d", 512, kind=FOLDER) + bytes(512)),
    "pax size": _tar(pax(size=str(64 * GIB)) + header("a")),
    "pax size that is negative": _tar(pax(size="-1") + header("a")),
    "pax path that climbs": _tar(pax(path="../../evil") + member("x")),
    "pax path with NUL": _tar(pax(path=b"a\0b") + member("x")),
    "pax path twice": _tar(pax(path="a") + pax(path="b") + member("x")),
    "pax without end": _tar(header("pax", 20, b"x") + _padded(b"999 path=x\n")),
    "pax with a length of 0": _tar(header("pax", 20, b"x") + _padded(b"0 path=x\n")),
    "pax of 40 MiB": lambda: repeated(header("pax", 40 << 20, b"x"), b"1" * (1 << 20), 40),
    "global pax with a path": _tar(pax(b"g", path="a") + member("x")),
    "header for nothing": _tar(pax(path="a")),
    "sparse, old": _sparse_old,
    "sparse, pax": _tar(
        pax(GNU__sparse__major="1", GNU__sparse__minor="0", GNU__sparse__realsize=str(8 * GIB)) + member("x")
    ),
    "long names in a chain": _tar(*[long_name(b"a" * 600)] * 100, member("x")),
    "long name that climbs": _tar(long_name(b"../evil"), member("x")),
    "long name of 10 MiB": lambda: repeated(header("x", 10 << 20, b"L"), b"a" * (1 << 20), 10),
    "wrong checksum": _tar(header("a", checksum=1)),
    "wrong checksum at the beginning": lambda: header("a", checksum=1) + _END,
    # the file as a whole
    "empty": _raw(b""),
    "empty gzip": _gz(_raw(b"")),
    "text": _raw(b"<html>not found</html>\n" * 100),
    "short text": _gz(_raw(b"hello")),
    "cut in a header": lambda: _tar(member("a"))()[:1300],
    "cut in the content": lambda: member("good.txt") + header("a", 5000) + b"x" * 2000,
    "cut between members": lambda: member("good.txt") + member("a"),
    "gzip cut off": lambda: gzip.compress(member("a", _random(5000)) + _END)[:-100],
    "gzip without its checksum": lambda: gzip.compress(_tar()())[:-8],
    "gzip with a wrong checksum": lambda: gzip.compress(_tar()())[:-8] + bytes(4) + gzip.compress(_tar()())[-4:],
    "gzip with a wrong length": lambda: gzip.compress(_tar()())[:-4] + bytes(4),
    "gzip with a changed byte": lambda: _changed(gzip.compress(member("a", _random(5000)) + _END, mtime=0)),
    "gzip, then text": lambda: gzip.compress(_tar()()) + b"#!/bin/sh\n",
    "gzip, then zeros, then text": lambda: gzip.compress(_tar()()) + bytes(100_000) + b"x",
    "tar, then text": lambda: _tar()() + b"#!/bin/sh\n".ljust(512, b"\0"),
    "tar, then another": lambda: _tar()() + member("hidden") + _END,
    "tar, then another, in pieces": lambda: gzip.compress(_tar()()) + gzip.compress(member("hidden") + _END),
    "gzip of gzip": _gz(_gz(_tar())),
    "gzip of gzip of gzip": _gz(_gz(_gz(_tar()))),
    "zip": _zip,
    "xz": _xz,
    "bzip2": _bz2,
    # bombs
    "bomb of 10 GB": bomb,
    "bomb of 10 GB in many files": lambda: bomb(files=512),
    "bomb after the end": lambda: repeated(member("a") + _END, bytes(1 << 20), 10_000),
    "bomb in a folder of junk": lambda: repeated(
        header("__pycache__/zeros", 8 * GIB - (1 << 20)), bytes(1 << 20), 8191
    ),
    "gzip in very many pieces": lambda: gzip.compress(b"", mtime=0) * 1_000_100,
}


def _changed(data: bytes) -> bytes:
    return data[:2000] + bytes([data[2000] ^ 1]) + data[2001:]


#: Name -> (maker, the files that it unpacks to). Odd, but whole: these must be taken.
GOOD_ARCHIVES: Mapping[str, tuple[Maker, frozenset[str]]] = {
    name: (make, frozenset({"good.txt", *files}))
    for name, (make, files) in {
        "plain tar": (_tar(), ()),
        "in two pieces": (lambda: gzip.compress(_tar()()[:700]) + gzip.compress(_tar()()[700:]), ()),
        "gzip, then zeros": (lambda: gzip.compress(_tar()()) + bytes(100_000), ()),
        "one block at its end": (lambda: member("good.txt") + bytes(512), ()),
        "set-user-id and sticky": (_tar(member("run", mode=0o7755)), ("run",)),
        "no rights": (_tar(member("secret", mode=0)), ("secret",)),
        "times far out": (
            _tar(member("late", mtime=b"\x80" + b"\x7f" * 11), member("early", mtime=b"\xff" * 12)),
            ("late", "early"),
        ),
        "dots": (_tar(header("./", kind=FOLDER, mode=0o755), member("./a"), member("b/./c")), ("a", "b/c")),
        "begins with a dash": (_tar(member("-rf"), member("--help")), ("-rf", "--help")),
        "reserved elsewhere": (
            _tar(member("CON"), member("aux.txt"), member("trailing. ")),
            ("CON", "aux.txt", "trailing. "),
        ),
        "differ in case": (_tar(member("README"), member("readme")), ("README", "readme")),
        "shell in a name": (_tar(member("$(reboot);`id`&|*?'\"")), ("$(reboot);`id`&|*?'\"",)),
        "other scripts": (
            _tar(member("\u05d7\u05d5\u05dc\u05d4/\u60a3\u8005.txt")),
            ("\u05d7\u05d5\u05dc\u05d4/\u60a3\u8005.txt",),
        ),
        "long GNU name": (_tar(long_name(b"d/" * 50 + b"n" * 200), member("x")), ("d/" * 50 + "n" * 200,)),
        "long pax name": (_tar(pax(path="d/" * 50 + "n" * 200) + member("x")), ("d/" * 50 + "n" * 200,)),
        "prefix": (_tar(member("name", prefix=b"a/b")), ("a/b/name",)),
        "pax size": (_tar(pax(size="3") + header("x") + _padded(b"abc")), ("x",)),
        "binary size": (_tar(header("x", b"\x80" + (3).to_bytes(11, "big")) + _padded(b"abc")), ("x",)),
        "global comment": (lambda: pax(b"g", comment="0123abc") + _tar()(), ()),
        "attributes": (_tar(pax(SCHILY__xattr__user="v", mtime="1.5", uname="x") + member("x")), ("x",)),
        "folder as a file with a slash": (_tar(header("d/", kind=b"\0"), member("d/x")), ("d/x",)),
        "old header": (_tar(member("v7", magic=bytes(8))), ("v7",)),
    }.items()
}
