"""Fields of a manifest, read one by one within bounds; every fault says what to write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from medperf.domain import limits
from medperf.domain.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_NAMES_SHOWN = 20
_IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,255}")


def relative_path(text: str, where: str) -> str:
    """A clean relative path.

    Raises:
        InvalidInput: absolute, with ``..``, a drive letter, a backslash, a control character or empty.
    """
    path = PurePosixPath(text)
    if (
        not text
        or "\\" in text
        or ":" in text
        or any(ord(letter) < 32 for letter in text)
        or len(text) > limits.ARCHIVE_PATH_BYTES
    ):
        raise bad_manifest(
            f"{where}: {text[:100]!r} is not a plain relative path.",
            "Use a path inside the workspace folder, such as data/images.",
            code="bad_path",
        )
    if path.is_absolute() or ".." in path.parts or str(path) == ".":
        raise bad_manifest(
            f"{where}: {text[:100]!r} leads out of its folder.", "Use a relative path without '..'.", code="bad_path"
        )
    return str(path)


def mapping_of(document: Mapping[str, Any], key: str, label: str, *, required: bool = False) -> dict[str, Any]:
    """A mapping below ``key``; an empty one where there is none.

    Raises:
        InvalidInput: something else; with ``required`` also none, or one without entries.
    """
    value = document.get(key)
    if value is None and not required:
        return {}
    if not isinstance(value, dict) or (required and not value):
        raise bad_manifest(
            f"{label}: {key!r} is {'missing' if value is None else 'not a mapping with entries'}.",
            f"Write '{key}:' with indented entries below it.",
        )
    return value


def text_of(document: Mapping[str, Any], key: str, label: str, *, default: str | None = None) -> str:
    """A text below ``key``.

    Raises:
        InvalidInput: something else, nothing, or longer than a URL may be.
    """
    value = document.get(key, default)
    if not isinstance(value, str) or not value or len(value) > limits.URL_LENGTH:
        raise bad_manifest(
            f"{label}: {key!r} must be a non-empty text.",
            f"Write '{key}: ...' with text of at most {limits.URL_LENGTH:,} characters.",
        )
    return value


def image_of(section: Mapping[str, Any], label: str) -> str:
    """The name of an image.

    Raises:
        InvalidInput: ``bad_image``: it is none.
    """
    image = section.get("image")
    if not isinstance(image, str) or not _IMAGE.fullmatch(image) or ".." in image:
        raise bad_manifest(
            f"{label}: image {shown(image)} is not an image name.",
            "Use e.g. 'organisation/name:1.0'.",
            code="bad_image",
        )
    return image


def check_name(name: str, where: str) -> None:
    """Raises:
    InvalidInput: no identifier.
    """
    if not _NAME.fullmatch(name):
        raise bad_manifest(
            f"{where} name {name[:80]!r} is not an identifier.", "Use letters, digits and underscores, up to 64."
        )


def names_of(names: Any) -> str:
    """Names for a sentence, parted by commas; the first few of many."""
    found = [str(getattr(name, "value", name)) for name in names]
    return ", ".join(found[:_NAMES_SHOWN]) + (
        f" and {len(found) - _NAMES_SHOWN} more" if len(found) > _NAMES_SHOWN else ""
    )


def shown(value: Any) -> str:
    """A value for a sentence: short, whatever it is."""
    return (
        repr(value[:60])
        if isinstance(value, str)
        else f"a {type(value).__name__}"
        if isinstance(value, dict | list)
        else repr(value)
    )


def bad_manifest(what: str, fix: str, *, code: str = "bad_manifest") -> InvalidInput:
    """The error for a manifest that breaks a rule."""
    return InvalidInput(code, what, fix)
