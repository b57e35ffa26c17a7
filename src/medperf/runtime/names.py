"""Names that other people gave to files: which are clean, which lead out, which are there twice. For tar and zip alike."""

from __future__ import annotations

import hashlib
import unicodedata
from pathlib import PurePosixPath

#: Folders below each other. Deeper, paths become too long for other programs.
MAX_DEPTH = 64
#: What turns the reading direction, and what ends a line: a name with it shows as another one.
_MISLEADING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u2028\u2029")


class Damaged(ValueError):
    """What an archive holds cannot be used; the text says what, as a part of a sentence."""


def unclean(name: str) -> str | None:
    """What is wrong with a name, as the rest of a sentence about it; None: nothing."""
    if name.isascii():
        return None if name.isprintable() else "holds control characters"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "is not UTF-8"
    if any(unicodedata.category(letter) == "Cc" for letter in name):
        return "holds control characters"
    return "holds characters that change how it is read" if not _MISLEADING.isdisjoint(name) else None


def entry_path(name: str, *, max_bytes: int) -> PurePosixPath | None:
    """The relative path of an archive's entry; None for the folder itself (``./``).

    Raises:
        Damaged: not clean, too long, too deep, absolute, with ``..``, a drive letter or a backslash.
    """
    fault = unclean(name)
    if fault is not None:
        raise Damaged(f"the name {shown(name)} {fault}")
    if len(name.encode()) > max_bytes:
        raise Damaged(f"the name {shown(name)} is longer than {max_bytes:,} bytes")
    path = PurePosixPath(name)
    if name.startswith("/") or ".." in path.parts or "\\" in name or (name[1:2] == ":" and name[0].isalpha()):
        raise Damaged(f"the path {shown(name)} leads out of its folder")
    if len(path.parts) > MAX_DEPTH:
        raise Damaged(f"{shown(name)} is nested deeper than {MAX_DEPTH} folders")
    return path if path.parts else None


def shown(name: str) -> str:
    """A name in quotes, for a sentence."""
    return ascii(name[:80])


class Names:
    """What an archive has named so far, with the folders that are only implied, as short digests: a million must fit into memory.

    Names are the same if they are after Unicode normalisation (NFC). Two that differ in case are two.
    """

    def __init__(self, *, max_entries: int) -> None:
        self._max = max_entries
        self._seen: dict[bytes, tuple[bool, bytes]] = {}  # NFC path -> is a folder, path as it is written
        self._parent = PurePosixPath()
        self._entries = 0

    def count(self) -> None:
        """One entry more.

        Raises:
            Damaged: too many.
        """
        self._entries += 1
        if self._entries > self._max:
            raise Damaged(f"it holds more than {self._max:,} entries")

    def add(self, path: PurePosixPath, *, is_folder: bool) -> None:
        """Take the name of an entry, and of the folders above it.

        Raises:
            Damaged: it is there already (a folder may be named again), or there are too many.
        """
        if path.parent != self._parent:
            for parent in reversed(path.parents[:-1]):
                if self._take(parent, is_folder=True):
                    self.count()
            self._parent = path.parent
        self._take(path, is_folder=is_folder)

    def _take(self, path: PurePosixPath, *, is_folder: bool) -> bool:
        """Whether the name is new."""
        written = str(path)
        name = written if written.isascii() else unicodedata.normalize("NFC", written)
        key = _short(name)
        entry = (is_folder, key if name == written else _short(written))
        before = self._seen.setdefault(key, entry)
        if before is not entry and not (is_folder and before == entry):
            raise Damaged(f"{shown(name)} is in it twice")
        return before is entry


def _short(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()
