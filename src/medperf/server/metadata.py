"""User metadata and other columns on their way into a table."""

from __future__ import annotations

from enum import Enum
from typing import Any

from medperf.domain import limits
from medperf.domain.errors import InvalidInput
from medperf.server.responses import dump_text


def metadata_text(value: dict[str, Any]) -> str:
    """User metadata as stored.

    Raises:
        InvalidInput: ``metadata_too_large``.
    """
    text = dump_text(value)
    if len(text.encode()) > limits.METADATA_BYTES:
        raise InvalidInput(
            "metadata_too_large", f"user_metadata has more than {limits.METADATA_BYTES:,} bytes.", "Keep it short."
        )
    return text


def column_values(changes: dict[str, Any]) -> dict[str, Any]:
    """Changes of a wire model as column values."""
    found = {name: value.value if isinstance(value, Enum) else value for name, value in changes.items()}
    if "user_metadata" in found:
        found["user_metadata"] = metadata_text(found["user_metadata"])
    return found
