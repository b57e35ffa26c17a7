"""Hash-locked requirements: read strictly, so that a lock names exact files and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medperf.domain.errors import InvalidInput

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
MAX_BYTES = 8 * 1024 * 1024
_MAX_LINES = 10_000
_MAX_SPEC = 1000  # characters of a requirement with its marker, without its hashes
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
    from packaging.utils import canonicalize_name

    if len(data) > MAX_BYTES:
        raise _bad(label, f"it has more than {MAX_BYTES:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _bad(label, "it is not UTF-8 text") from error
    found: dict[str, Locked] = {}
    lines = _logical_lines(text)
    if len(lines) > _MAX_LINES:
        raise _bad(label, f"it has more than {_MAX_LINES:,} requirements")
    for line in lines:
        if line.startswith("-") or line.split()[0].startswith(("./", "../", "/", "file:")):
            raise _bad(label, f"{line[:60]!r} is an option or a path; only 'name==version --hash=sha256:...' is read")
        spec, *options = line.split(" --")
        hashes = [_HASH.fullmatch(f"--{option}") for option in options]
        if not all(hashes):
            other = next(option for option, match in zip(options, hashes, strict=True) if not match)
            raise _bad(label, f"{'--' + other[:60]!r} is not a sha256 hash")
        requirement, applies = _requirement(spec, environment, label)
        if requirement.url:
            raise _bad(label, f"{requirement.name!r} comes from a URL; only files of a package index are read")
        if not applies:
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


def _requirement(spec: str, environment: Mapping[str, str], label: str) -> tuple[Requirement, bool]:
    """A requirement, and whether it applies to the environment."""
    from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
    from packaging.requirements import InvalidRequirement, Requirement

    if len(spec) > _MAX_SPEC:
        raise _bad(label, f"{spec[:60]!r} goes on for more than {_MAX_SPEC:,} characters")
    try:
        requirement = Requirement(spec)
        return requirement, requirement.marker is None or requirement.marker.evaluate(dict(environment))
    except (InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName, ValueError, RecursionError) as error:
        reason = (str(error).splitlines() or [""])[0][:200]
        raise _bad(label, f"{spec[:60]!r} is not a requirement ({reason})") from error


def _logical_lines(text: str) -> list[str]:
    """Lines without comments, continued ones joined, one space between words."""
    joined = re.sub(r"\\\r?\n", " ", text)
    lines = (" ".join(re.sub(r"(^|\s)#.*$", "", line).split()) for line in joined.splitlines())
    return [line for line in lines if line]


def _bad(label: str, what: str) -> InvalidInput:
    return InvalidInput("bad_requirements", f"{label} cannot be used: {what}.", _LOCK_FIX)
