"""The arithmetic of the audit trail: leaves, Merkle roots, checkpoints that name the one before them. Pure.

Every encoding names its version, so that what is written today can be read for ever: a change of the encoding is a new version.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

VERSION = 1
#: What the first checkpoint names as the one before it.
GENESIS = "sha256:" + "0" * 64

_EVENT = b"\x00medperf audit event v1\n"
_NODE = b"\x01"
_CHECKPOINT = b"medperf audit checkpoint v1\n"
_UNREADABLE = bytes(32)
_ID_BYTES, _LEAF_BYTES = 8, 32
ENTRY_BYTES = _ID_BYTES + _LEAF_BYTES


def leaf(event: tuple[Any, ...]) -> bytes:
    """SHA-256 of ``(id, at, actor_id, action, target, data)`` as a JSON array; ``data`` is its text as stored, to the byte.

    What our own code cannot have written (a BLOB in a text column of SQLite) gives a hash that equals none.
    """
    try:
        return hashlib.sha256(_EVENT + orjson.dumps(event)).digest()
    except TypeError:
        return _UNREADABLE


def merkle_root(leaves: Sequence[bytes]) -> str:
    """The root of RFC 6962's tree over leaf hashes, as ``sha256:...``.

    Raises:
        ValueError: no leaves.
    """
    if not leaves:
        raise ValueError("a tree has leaves")
    level = list(leaves)
    sha256 = hashlib.sha256
    while len(level) > 1:
        odd = level[-1:] if len(level) % 2 else []
        level = [
            sha256(_NODE + left + right).digest() for left, right in zip(level[::2], level[1::2], strict=False)
        ] + odd
    return f"sha256:{level[0].hex()}"


def pack(entries: Iterable[tuple[int, bytes]]) -> bytes:
    """(event id, leaf) pairs as one value of 40 bytes each: they let a fault be named, not only noticed."""
    return b"".join(event_id.to_bytes(_ID_BYTES, "big", signed=True) + hashed for event_id, hashed in entries)


def unpack(packed: bytes) -> list[tuple[int, bytes]]:
    """What `pack` was given.

    Raises:
        ValueError: cut.
    """
    if len(packed) % ENTRY_BYTES:
        raise ValueError("cut")
    return [
        (int.from_bytes(packed[at : at + _ID_BYTES], "big", signed=True), packed[at + _ID_BYTES : at + ENTRY_BYTES])
        for at in range(0, len(packed), ENTRY_BYTES)
    ]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A seal over the events after the last checkpoint's, up to ``last_event``.

    Attributes:
        id: 1, 2, 3, ... without gaps.
        version: of the encodings.
        instance_id: the server's; a reset begins a new trail.
        first_event, last_event, events: which events, and how many; ids may have gaps where a change was undone.
        root: `merkle_root` of their leaves.
        previous: the hash of the checkpoint before.
        sealed_at: time as stored.
        key: public key of the signature, hexadecimal.
    """

    id: int
    version: int
    instance_id: str
    first_event: int
    last_event: int
    events: int
    root: str
    previous: str
    sealed_at: str
    key: str

    def hash(self) -> str:
        """``sha256:...`` over all of it. Whoever keeps this keeps everything before it."""
        fields = (
            self.id,
            self.version,
            self.instance_id,
            self.first_event,
            self.last_event,
            self.events,
            self.root,
            self.previous,
            self.sealed_at,
            self.key,
        )
        return f"sha256:{hashlib.sha256(_CHECKPOINT + orjson.dumps(fields)).hexdigest()}"


def commitment(salt: bytes, value: str) -> str:
    """What an event says of a personal value. Without the salt nobody can test a guess."""
    return f"sha256:{hashlib.sha256(salt + value.encode()).hexdigest()}"
