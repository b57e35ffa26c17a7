"""Identity of data: a versioned Merkle digest over (path, size, sha256), and the salted form that may leave a site."""

from __future__ import annotations

import hashlib
import itertools
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput

IDENTITY_VERSION = "medperf-identity-1"


class DataEntry(NamedTuple):
    """One file, or one empty directory (``size`` and ``digest`` are then None).

    ``path`` is relative with ``/`` between its parts.
    """

    path: str
    size: int | None
    digest: str | None


Leaf = tuple[bytes, bytes]
"""The NFC path of an entry in UTF-8, and the hash of the entry."""


def identity_root(entries: Iterable[DataEntry]) -> Digest:
    """Merkle root of ``entries`` in byte order of their NFC paths (RFC 6962 tree shape and domain separation).

    Raises:
        InvalidInput: two entries have one path after NFC normalisation.
    """
    return root_of(leaf(*entry) for entry in entries)


def leaf(path: str, size: int | None, digest: str | None) -> Leaf:
    """One entry of the tree; see `DataEntry`."""
    name = (path if path.isascii() else unicodedata.normalize("NFC", path)).encode("utf-8", "surrogateescape")
    if digest is None:
        return name, hashlib.sha256(b"\0d\0%b\x000\0" % name).digest()
    return name, hashlib.sha256(b"\0f\0%b\0%d\0%b" % (name, size or 0, digest.encode())).digest()


def root_of(leaves: Iterable[Leaf]) -> Digest:
    """Merkle root of leaves in any order.

    Raises:
        InvalidInput: as `identity_root`.
    """
    ordered = sorted(leaves)
    if len(dict(ordered)) != len(ordered):
        twice = next(one for (one, _), (other, _) in itertools.pairwise(ordered) if one == other)
        raise InvalidInput(
            "duplicate_path",
            f"Two files have the same name {twice.decode(errors='replace')!r} after Unicode normalisation.",
            "Rename one of them.",
        )
    return Digest.of(IDENTITY_VERSION.encode() + b"\0" + _tree([value for _, value in ordered]))


def _tree(level: list[bytes]) -> bytes:
    """RFC 6962 tree hash, bottom-up: an odd last node is carried up, which equals the recursive definition."""
    if not level:
        return hashlib.sha256(b"").digest()
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        paired = [hashlib.sha256(b"\1%b%b" % pair).digest() for pair in pairs]
        if len(level) % 2:
            paired.append(level[-1])
        level = paired
    return level[0]


def commitment(salt: bytes, root: Digest) -> Digest:
    """SHA-256(salt || root): what the server gets, so that nobody can test a guess about the data.

    Args:
        salt: 32 random bytes that stay at the site.
        root: the value of `identity_root`, which stays at the site too.
    """
    if len(salt) != 32:
        raise ValueError("salt must be 32 bytes")
    return Digest.of(salt + root.encode())
