"""Digests: ``sha256:<64 hex>`` everywhere, parsed once at the edge."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Self

from medperf.domain.errors import InvalidInput

_PATTERN = re.compile(r"sha256:[0-9a-f]{64}")


class Digest(str):
    """A ``sha256:`` digest that cannot be malformed.

    >>> Digest.of(b"").short
    'e3b0c44298fc'
    """

    __slots__ = ()

    def __new__(cls, value: str) -> Self:
        """Parse ``value``; a bare 64-digit hex string is accepted too.

        Raises:
            InvalidInput: ``value`` is not a sha256 digest.
        """
        text = value.strip().lower()
        if len(text) == 64 and ":" not in text:
            text = f"sha256:{text}"
        if not _PATTERN.fullmatch(text):
            raise InvalidInput(
                "bad_digest",
                f"{value[:100]!r} is not a sha256 digest.",
                "Give 64 hexadecimal digits, with or without the prefix 'sha256:' (sha256sum FILE prints them).",
            )
        return super().__new__(cls, text)

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Digest of bytes in memory."""
        return cls(f"sha256:{hashlib.sha256(data).hexdigest()}")

    @classmethod
    def of_document(cls, value: Any) -> Self:
        """Digest of the canonical JSON form of ``value`` (see `canonical_json`)."""
        return cls.of(canonical_json(value))

    @property
    def hex(self) -> str:
        """The 64 hexadecimal digits."""
        return self[7:]

    @property
    def short(self) -> str:
        """The first 12 digits, for people."""
        return self[7:19]


def canonical_json(value: Any) -> bytes:
    """JSON with sorted keys, no spaces, UTF-8, shortest floats; NaN and infinities refused.

    Raises:
        ValueError: ``value`` holds NaN, an infinity or something JSON has no form for.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
