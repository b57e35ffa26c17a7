"""What was read of data, kept so that unchanged files need not be read again."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.domain.identity import leaf, root_of
from medperf.runtime.hashworker import ROW

Stamp = tuple[int, int, int, int, int]
"""device, inode, size, mtime_ns, ctime_ns: a file with the same stamp has the same content."""

_MAGIC = b"medperf-data-index-1\n"
_COUNTS = struct.Struct("<QQQ")


@dataclass(frozen=True)
class DataIndex(Mapping[str, tuple[Stamp, str]]):
    """Path -> (stamp, sha256 in hex) of all files, and the identity that they make together.

    Attributes:
        rows: path -> stamp and digest packed; `medperf.runtime.hashworker.ROW`.
        empty: folders that hold nothing.
    """

    root: Digest
    rows: Mapping[str, bytes] = field(repr=False)
    empty: frozenset[str] = frozenset()

    def __getitem__(self, path: str) -> tuple[Stamp, str]:
        *told, digest = ROW.unpack(self.rows[path])
        device, inode, size, mtime, ctime = told
        return (device, inode, size, mtime, ctime), digest.hex()

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(int.from_bytes(row[16:24], "little") for row in self.rows.values())

    def digest(self, path: str) -> str | None:
        """The sha256 of a file in hex; None where there is none of this path."""
        row = self.rows.get(path)
        return None if row is None else row[40:].hex()

    def part(self, role: str, *, named: str = "output") -> Digest:
        """The identity of one of the folders by itself, under another name: what `data_identity` of ``{named: folder}`` finds."""
        top = f"{role}/"
        leaves = [
            leaf(named + path[len(role) :], int.from_bytes(row[16:24], "little"), row[40:].hex())
            for path, row in self.rows.items()
            if path.startswith(top)
        ]
        leaves += [
            leaf(named + path[len(role) :], None, None) for path in self.empty if path == role or path.startswith(top)
        ]
        return root_of(leaves)

    def dump(self) -> Any:
        """As bytes, for `load`: some 100 for each file."""
        names = b"\0".join(os.fsencode(path) for path in (*self.rows, *sorted(self.empty)))
        counts = _COUNTS.pack(len(self.rows), len(self.empty), len(names))
        return b"".join((_MAGIC, self.root.encode(), counts, names, *self.rows.values()))

    @classmethod
    def load(cls, data: Any) -> DataIndex:
        """What `dump` wrote.

        Raises:
            InvalidInput: ``bad_index``: it is something else.
        """
        try:
            if not data.startswith(_MAGIC):
                raise ValueError
            at = len(_MAGIC) + 71
            root = Digest(data[len(_MAGIC) : at].decode())
            files, folders, length = _COUNTS.unpack_from(data, at)
            at += _COUNTS.size
            names = [os.fsdecode(name) for name in data[at : at + length].split(b"\0")] if length else []
            at += length
            if len(names) != files + folders or len(data) != at + files * ROW.size:
                raise ValueError
        except (ValueError, struct.error, InvalidInput) as error:
            raise InvalidInput(
                "bad_index", "A kept index of data is damaged.", "Read the data in full: medperf dataset check --full"
            ) from error
        size = ROW.size
        rows = {name: data[at + size * place : at + size * (place + 1)] for place, name in enumerate(names[:files])}
        return cls(root, rows, frozenset(names[files:]))
