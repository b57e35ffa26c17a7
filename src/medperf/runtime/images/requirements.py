"""Hash-locked requirements: read strictly, so that a lock names exact files and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from medperf.domain.errors import InvalidInput

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_MAX_BYTES = 8 * 1024 * 1024
_LOCK_FIX = (
    "Lock them with hashes, e.g. uv pip compile --universal --generate-hashes requirements.in -o requirements.txt."
)


@dataclass(frozen=True)
class Locked:
    """One requirement: a name, exactly one version, and the sha256 of every file that may be it."""

    name: str  # canonical
    version: str
    hashes: frozenset[str]


def parse_requirements(
    data: bytes, *, environment: Mapping[str, str], label: str = "requirements.txt"
) -> tuple[Locked, ...]:
    """The requirements that apply to ``environment`` (PEP 508 marker variables of the target interpreter), by name.

    Raises:
        InvalidInput: options, URLs, paths, editable or unpinned requirements, a missing or other hash, two versions of one name.
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    if len(data) > _MAX_BYTES:
        raise _bad(label, f"it has more than {_MAX_BYTES:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _bad(label, "it is not UTF-8 text") from error
    found: dict[str, Locked] = {}
    for line in _logical_lines(text):
        if line.startswith("-") or line.split()[0].startswith(("./", "../", "/", "file:")):
            raise _bad(label, f"{line[:60]!r} is an option or a path; only 'name==version --hash=sha256:...' is read")
        spec, *options = re.split(r"\s+(?=--)", line)
        hashes = [_HASH.fullmatch(option.strip()) for option in options]
        if not all(hashes):
            other = next(option for option, match in zip(options, hashes, strict=True) if not match)
            raise _bad(label, f"{other[:60]!r} is not a sha256 hash")
        try:
            requirement = Requirement(spec)
        except InvalidRequirement as error:
            raise _bad(label, f"{spec[:60]!r} is not a requirement ({str(error).splitlines()[0]})") from error
        if requirement.url:
            raise _bad(label, f"{requirement.name!r} comes from a URL; only files of a package index are read")
        if requirement.marker is not None and not requirement.marker.evaluate(dict(environment)):
            continue
        pins = [
            specifier
            for specifier in requirement.specifier
            if specifier.operator in ("==", "===") and "*" not in specifier.version
        ]
        if len(pins) != 1 or len(requirement.specifier) != 1:
            raise _bad(label, f"{requirement.name!r} is not pinned to one version with '=='")
        if not hashes:
            raise _bad(label, f"{requirement.name!r} has no --hash=sha256:...")
        name = canonicalize_name(requirement.name)
        locked = Locked(name, pins[0].version, frozenset(match.group(1) for match in hashes if match))
        if name in found and found[name] != locked:
            raise _bad(label, f"{name!r} is named twice with other versions or hashes")
        found[name] = locked
    return tuple(found[name] for name in sorted(found))


def _logical_lines(text: str) -> list[str]:
    """Lines without comments, continued ones joined."""
    joined = re.sub(r"\\\r?\n", " ", text)
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]


def _bad(label: str, what: str) -> InvalidInput:
    return InvalidInput("bad_requirements", f"{label} cannot be used: {what}.", _LOCK_FIX)
