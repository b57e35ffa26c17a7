"""Environments from hash-locked requirements: wheels only, downloaded as data, unpacked without running anything.

::

    <cache>/wheels/<sha256>/<file name>.whl      what was downloaded, verified against the lock
    <cache>/locks/<key>.json                     which wheels a lock means for an interpreter
    <cache>/environments/<digest>/site-packages  the wheels unpacked, sealed by seal.json

Everything is written beside its place and renamed into it: two processes may do the same at once, and what was killed
midway is never believed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput, MedPerfError
from medperf.domain.events import Emit, StepFinished, StepStarted, ignore
from medperf.runtime.images.fetching import run_fetcher, too_large
from medperf.runtime.images.interpreters import Interpreter
from medperf.runtime.images.places import building, fingerprint, folders_stamp, make_readable, sweep
from medperf.runtime.images.requirements import MAX_BYTES, Locked, parse_requirements
from medperf.runtime.images.unpack import unpack_wheel
from medperf.runtime.trees import remove

_VERSION = 1
Compiler = Callable[[Path, Interpreter], None]
"""(site-packages, interpreter): add bytecode to a fresh environment, confined."""


@dataclass(frozen=True)
class Environment:
    """Unpacked wheels, read-only by agreement. ``digest`` names the set (wheels and what they were chosen for), not the place."""

    digest: Digest
    site: Path
    wheels: tuple[str, ...]  # file names


class Wheels:
    """Environments below one cache folder.

    Args:
        cache: made when first needed.
        wheelhouse: take wheels from this folder and ask no index.
        python: the Python with pip that downloads; by default our own.
        wheel_bytes, download_bytes: most bytes of one wheel, and of all that one lock downloads.
    """

    def __init__(
        self,
        *,
        cache: Path,
        wheelhouse: Path | None = None,
        python: str | None = None,
        wheel_bytes: int = limits.WHEEL_BYTES,
        download_bytes: int = limits.ARCHIVE_BYTES,
    ) -> None:
        self._cache = cache
        self._wheelhouse = wheelhouse
        self._python = python or sys.executable
        self._wheel_bytes = wheel_bytes
        self._download_bytes = download_bytes

    def ensure(
        self, requirements: Path, interpreter: Interpreter, *, compiler: Compiler | None = None, emit: Emit = ignore
    ) -> Environment:
        """The environment of a lock. Present: one small file is read and every folder looked at; `verify` looks at every file.

        Raises:
            InvalidInput: the lock is not one, or a wheel is damaged.
            MedPerfError: a wheel cannot be had.
        """
        try:
            with requirements.open("rb") as file:
                data = file.read(MAX_BYTES + 1)  # one more than `parse_requirements` takes
        except OSError as error:
            raise InvalidInput(
                "no_requirements",
                f"The requirements cannot be read: {requirements} ({error.strerror}).",
                "Check the 'python:' section.",
            ) from error
        key = hashlib.sha256(b"\0".join([str(_VERSION).encode(), interpreter.compatibility.encode(), data])).hexdigest()
        record = self._cache / "locks" / f"{key}.json"
        chosen = _read_json(record)
        if chosen is not None:
            environment = self._existing(chosen)
            if environment is not None:
                return environment
        wheels = self._cached(chosen) if chosen is not None else None
        if wheels is None:
            locked = parse_requirements(data, environment=_markers(interpreter), label=requirements.name)
            wheels = self._download(locked, interpreter, emit) if locked else []
            chosen = {
                "version": _VERSION,
                "interpreter": interpreter.compatibility,
                "wheels": [[path.parent.name, path.name] for path in wheels],
            }
            _write_json(record, chosen)
        return self._build(chosen or {}, wheels, interpreter, compiler, emit)

    # ------------------------------------------------------------------------------------------------ environments

    def _existing(self, chosen: dict[str, Any]) -> Environment | None:
        environment = self._named(chosen)
        seal = _read_json(environment.site.parent / "seal.json")
        if seal is None or seal.get("version") != _VERSION or not isinstance(seal.get("folders"), list):
            return None
        return environment if seal.get("folders_stamp") == folders_stamp(environment.site, seal["folders"]) else None

    def verify(self, environment: Environment) -> bool:
        """Whether every file is the one that was unpacked (size and times); what is not is dropped, to be unpacked anew."""
        seal = environment.site.parent / "seal.json"
        found = _read_json(seal)
        if found is not None and found.get("tree") == fingerprint(environment.site):
            return True
        seal.unlink(missing_ok=True)
        return False

    def _named(self, chosen: dict[str, Any]) -> Environment:
        digest = Digest.of_document(
            {"version": _VERSION, "interpreter": chosen["interpreter"], "wheels": sorted(chosen["wheels"])}
        )
        site = self._cache / "environments" / digest.hex / "site-packages"
        return Environment(digest=digest, site=site, wheels=tuple(name for _, name in chosen["wheels"]))

    def _build(
        self,
        chosen: dict[str, Any],
        wheels: list[Path],
        interpreter: Interpreter,
        compiler: Compiler | None,
        emit: Emit,
    ) -> Environment:
        environment = self._named(chosen)
        final = environment.site.parent
        begin = time.monotonic()
        text = f"Unpacking {len(wheels)} packages"
        emit(StepStarted(text))
        final.parent.mkdir(parents=True, exist_ok=True)
        sweep(final.parent)
        with building(final.parent) as folder:
            site = folder / "site-packages"
            site.mkdir()
            size = entries = 0
            for wheel in sorted(wheels, key=lambda path: path.name):
                more = unpack_wheel(wheel, site)
                size, entries = size + more[0], entries + more[1]
                if size > limits.ARCHIVE_BYTES or entries > limits.ARCHIVE_ENTRIES:
                    raise InvalidInput(
                        "too_many_packages",
                        f"The packages of the lock unpack to more than {limits.ARCHIVE_BYTES:,} bytes "
                        f"or {limits.ARCHIVE_ENTRIES:,} files.",
                        "Ask the MLCube's owner to lock fewer.",
                    )
            if compiler is not None and wheels:
                compiler(site, interpreter)
            make_readable(folder)
            folders = sorted(os.path.relpath(base, site) for base, _, _ in os.walk(site) if base != os.fspath(site))
            stamps = {"tree": fingerprint(site), "folders": folders, "folders_stamp": folders_stamp(site, folders)}
            _write_json(folder / "seal.json", {**chosen, **stamps})
            self._put(folder, final, chosen)
        emit(StepFinished(text, time.monotonic() - begin))
        return environment

    def _put(self, folder: Path, final: Path, chosen: dict[str, Any]) -> None:
        """Rename into place. Somebody else may have been faster; what is there but broken makes way."""
        for _ in range(10):
            try:
                folder.rename(final)
            except OSError:
                if self._existing(chosen) is not None:
                    return
                aside = Path(tempfile.mkdtemp(prefix=".old-", dir=final.parent))
                with contextlib.suppress(FileNotFoundError):
                    final.rename(aside / "environment")
                remove(aside)
                continue
            return
        raise MedPerfError(
            "busy_cache", f"The environment {final} cannot be put in place.", "Run the same command again."
        )

    # -------------------------------------------------------------------------------------------------------- wheels

    def _cached(self, chosen: dict[str, Any]) -> list[Path] | None:
        """The wheels of a lock from the cache, if all are there and whole."""
        paths = [self._cache / "wheels" / digest / name for digest, name in chosen["wheels"]]
        return paths if all(_has_digest(path, path.parent.name) for path in paths) else None

    def _download(self, locked: tuple[Locked, ...], interpreter: Interpreter, emit: Emit) -> list[Path]:
        begin = time.monotonic()
        text = f"Fetching {len(locked)} package{'s' if len(locked) != 1 else ''} for {interpreter.name}"
        emit(StepStarted(text))
        self._cache.mkdir(parents=True, exist_ok=True)
        sweep(self._cache)
        with building(self._cache) as folder:
            target = folder / "wheels"
            known = folder / "known"
            target.mkdir()
            self._link_known(locked, known)
            lines = [
                f"{one.name}=={one.version} {' '.join(f'--hash=sha256:{digest}' for digest in sorted(one.hashes))}\n"
                for one in locked
            ]
            requirements = folder / "requirements.txt"
            requirements.write_text("".join(lines))
            self._pip(requirements, target, known, interpreter)
            found = [self._keep(path, locked) for path in sorted(target.iterdir())]
        if len(found) != len(locked):
            raise MedPerfError(
                "wheels_missing",
                f"{len(locked)} packages were asked for and {len(found)} came.",
                "Run the same command again.",
            )
        emit(StepFinished(text, time.monotonic() - begin))
        return found

    def _pip(self, requirements: Path, target: Path, known: Path, interpreter: Interpreter) -> None:
        """Let pip fetch: its configuration, proxies and credentials are the person's. With wheels only it runs nothing of a package."""
        # -P: without it the current folder comes first, and somebody else's MLCube there may hold a file pip.py.
        command = [self._python, "-P", "-m", "pip"]
        if os.path.realpath(self._python) != interpreter.executable:
            command += ["--python", interpreter.executable]  # pip picks what fits that one
        command += [
            "download",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
            "--no-cache-dir",
            "--progress-bar",
            "off",
        ]
        command += [
            "--only-binary=:all:",
            "--no-deps",
            "--require-hashes",
            "--dest",
            str(target),
            "--requirement",
            str(requirements),
        ]
        command += ["--find-links", str(known)]
        if self._wheelhouse is not None:
            command += ["--no-index", "--find-links", str(self._wheelhouse)]
        code, output = run_fetcher(
            command, folder=target.parent, file_bytes=self._wheel_bytes, total_bytes=self._download_bytes
        )
        if code != 0:
            raise self._explain(output, interpreter)

    def _explain(self, output: str, interpreter: Interpreter) -> MedPerfError:
        lines = [line.removeprefix("ERROR: ").strip() for line in output.splitlines() if line.startswith("ERROR:")]
        reason = " ".join(lines)[:600] or output.strip()[-600:] or "pip gave no reason"
        if "No matching distribution" in output or "Could not find a version" in output:
            source = f"the wheelhouse {self._wheelhouse}" if self._wheelhouse else "the package index"
            return MedPerfError(
                "wheels_missing",
                f"{source} has no fitting wheel for {interpreter.name} on {interpreter.machine}: {reason}",
                "Only wheels are used, nothing is built. Check the index (pip config list), or put the wheel in the folder that MEDPERF_WHEELHOUSE names.",
            )
        if os.strerror(errno.EFBIG) in output:
            return too_large(f"one has more than {self._wheel_bytes:,} bytes")
        if os.strerror(errno.ENOSPC) in output:
            return MedPerfError(
                "disk_full",
                f"The disk of {self._cache} is full.",
                "Free some space, or move it to a larger disk by setting MEDPERF_HOME.",
            )
        if "HASH" in output.upper():
            return InvalidInput(
                "wheel_hash",
                f"A package differs from the lock: {reason}",
                "Do not go on: the index or the lock was changed. Lock again if you trust the index.",
            )
        return MedPerfError(
            "download_failed",
            f"The packages could not be fetched: {reason}",
            "Check the network and pip's configuration (pip config list), or set MEDPERF_WHEELHOUSE.",
        )

    def _link_known(self, locked: tuple[Locked, ...], folder: Path) -> None:
        """Offer pip the wheels that are here already and whole."""
        folder.mkdir()
        for one in locked:
            for digest in one.hashes:
                kept = self._cache / "wheels" / digest
                if kept.is_dir():
                    for path in kept.glob("*.whl"):
                        if not _has_digest(path, digest):
                            path.unlink()
                            continue
                        with contextlib.suppress(FileExistsError):
                            (folder / path.name).symlink_to(path)

    def _keep(self, path: Path, locked: tuple[Locked, ...]) -> Path:
        """Move a downloaded wheel to the cache, after checking it against the lock ourselves."""
        from packaging.utils import InvalidWheelFilename, parse_wheel_filename

        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        try:
            name = parse_wheel_filename(path.name)[0]
        except InvalidWheelFilename as error:
            raise InvalidInput(
                "bad_wheel", f"{path.name} is no wheel.", "Only wheels are used; nothing is built."
            ) from error
        if not any(one.name == name and digest in one.hashes for one in locked):
            raise InvalidInput(
                "wheel_hash",
                f"{path.name} has the sha256 {digest}, which the lock does not name.",
                "Do not go on: the index or the lock was changed.",
            )
        folder = self._cache / "wheels" / digest
        folder.mkdir(parents=True, exist_ok=True)
        path.replace(folder / path.name)
        return folder / path.name


def _markers(interpreter: Interpreter) -> dict[str, str]:
    """PEP 508 variables of the interpreter, which runs on this machine."""
    from packaging.markers import default_environment

    full = ".".join(map(str, interpreter.version))
    own = {key: str(value) for key, value in default_environment().items()}
    return {
        **own,
        "python_version": interpreter.short,
        "python_full_version": full,
        "implementation_name": interpreter.implementation,
        "implementation_version": full,
        "platform_python_implementation": "CPython",
    }


def _has_digest(path: Path, digest: str) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == digest
    except OSError:
        return False


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and "wheels" in found else None


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".", dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)
