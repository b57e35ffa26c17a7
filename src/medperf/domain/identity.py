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


def identity_root(entries: Iterable[DataEntry]) -> Digest:
    """Merkle root of ``entries`` in byte order of their NFC paths (RFC 6962 tree shape and domain separation).

    Raises:
        InvalidInput: two entries have one path after NFC normalisation.
    """
    leaves: list[tuple[bytes, bytes]] = []
    for entry in entries:
        path = unicodedata.normalize("NFC", entry.path).encode("utf-8", "surrogateescape")
        kind = b"d" if entry.digest is None else b"f"
        body = b"\0".join([kind, path, str(entry.size or 0).encode(), (entry.digest or "").encode()])
        leaves.append((path, hashlib.sha256(b"\0" + body).digest()))
    leaves.sort()
    for (first, _), (second, _) in itertools.pairwise(leaves):
        if first == second:
            name = first.decode(errors="replace")
            raise InvalidInput(
                "duplicate_path",
                f"Two files have the same name {name!r} after Unicode normalisation.",
                "Rename one of them.",
            )
    return Digest.of(IDENTITY_VERSION.encode() + b"\0" + _tree([leaf for _, leaf in leaves]))


def _tree(level: list[bytes]) -> bytes:
    """RFC 6962 tree hash, bottom-up: an odd last node is carried up, which equals the recursive definition."""
    if not level:
        return hashlib.sha256(b"").digest()
    while len(level) > 1:
        paired = [hashlib.sha256(b"\1" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
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
