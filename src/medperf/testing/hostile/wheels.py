"""Hostile wheels: zip archives that pip would download and that must not be unpacked."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping

Maker = Callable[[], bytes]


def wheel(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive with a good module and ``entries``."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of names given twice
        archive.writestr("good.py", "x = 1\n")
        for name, content in entries:
            archive.writestr(name, content, compress_type=method)
    return file.getvalue()


def _named(*names: str) -> Maker:
    """Names as they are: `zipfile` changes some of them when it writes."""

    def make() -> bytes:
        # Not ASCII, so that the names are marked as UTF-8.
        stand_ins = [f"\u00e9{number}".ljust(len(name.encode()) - 1, "_") for number, name in enumerate(names)]
        data = wheel(*[(stand_in, b"x") for stand_in in stand_ins])
        for stand_in, name in zip(stand_ins, names, strict=True):
            data = data.replace(stand_in.encode(), name.encode())
        return data

    return make


def _mode(mode: int) -> Maker:
    info = zipfile.ZipInfo("entry")
    info.external_attr = mode << 16
    return lambda: wheel((info, b"/etc/passwd"))


def _patched(at_local: int, at_list: int, value: bytes) -> Maker:
    """Change a field of the last entry in its header and in the list of contents."""

    def make() -> bytes:
        data = bytearray(wheel(("entry.py", b"x" * 100)))
        for signature, at in ((b"PK\x03\x04", at_local), (b"PK\x01\x02", at_list)):
            start = data.rfind(signature) + at
            data[start : start + len(value)] = value
        return bytes(data)

    return make


def _overlapping() -> bytes:
    """Many entries that share one piece of packed zeros."""
    packed = wheel(("zeros.bin", bytes(1 << 20)))
    start = packed.rfind(b"PK\x01\x02")
    end = packed.rfind(b"PK\x05\x06")
    one = packed[start:end]
    more = b"".join(one.replace(b"zeros.bin", b"zeros%03d" % number) for number in range(200))
    listed = packed.find(b"PK\x01\x02")
    size = end - listed + len(more)
    return packed[:end] + more + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 202, 202, size, listed, 0)


def _listing(count: int) -> bytes:
    """A list of contents with ``count`` entries, and nothing else."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    listed = entry * count
    return listed + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, count & 0xFFFF, count & 0xFFFF, len(listed), 0, 0)


def _zip64(value: int) -> bytes:
    """A zip64 record that claims a list of ``value`` bytes."""
    data = wheel()
    end = data.rfind(b"PK\x05\x06")
    record = struct.pack("<4sQ2H2I4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, 1, 1, value, 0)
    locator = struct.pack("<4sIQI", b"PK\x06\x07", 0, end, 1)
    return (
        data[:end]
        + record
        + locator
        + struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 65535, 65535, 2**32 - 1, 2**32 - 1, 0)
    )


#: Name -> maker. All are refused with the code ``bad_wheel``.
WHEELS: Mapping[str, Maker] = {
    "climbs": _named("../evil.py"),
    "climbs in the middle": _named("a/../../evil.py"),
    "absolute": _named("/srv/evil.py"),
    "drive letter": _named("C:/evil.py"),
    "backslash": _named("..\\evil.py"),
    "NUL": _named("a.py\0.txt"),
    "newline": _named("a\nb.py"),
    "right to left": _named("\u202eyp.a"),
    "deep": _named("/".join(["a"] * 70)),
    "long part": _named("y" * 300),
    "twice": _named("a.py", "a.py"),
    "twice after normalisation": _named("e\u0301.py", "\u00e9.py"),
    "file, then folder": _named("abcd", "abcd/b.py"),
    "merged onto another": _named("a.py", "x-1.data/purelib/a.py"),
    "symbolic link": _mode(0o120777),
    "pipe": _mode(0o010644),
    "device": _mode(0o020644),
    "encrypted": _patched(6, 8, b"\x01\x00"),
    "unknown packing": _patched(8, 10, b"\x63\x00"),
    "bzip2": lambda: wheel(("a.py", b"x" * 1000), method=zipfile.ZIP_BZIP2),
    "lzma": lambda: wheel(("a.py", b"x" * 1000), method=zipfile.ZIP_LZMA),
    "wrong checksum": _patched(14, 16, b"\x01\x02\x03\x04"),
    "size too small": _patched(22, 24, b"\x10\x00\x00\x00"),
    "size too large": _patched(22, 24, b"\x00\x10\x00\x00"),
    "bomb of 4 GB": _patched(22, 24, b"\xf0\xff\xff\xff"),
    "entries that overlap": _overlapping,
    "half a million entries": lambda: _listing(500_000),
    "list of 60 MB": lambda: _listing(1_300_000),
    "zip64 beyond the file": lambda: _zip64(2**62),
    "cut off": lambda: wheel()[:-10],
    "no zip": lambda: b"hello\n" * 100,
    "empty": lambda: b"",
}
