"""Running the program that fetches packages, with bounds on what it may write and how long it may take."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import time
from pathlib import Path

from medperf.domain.errors import MedPerfError

_SECONDS = 3600.0
_LOOK_SECONDS = 0.25


def run_fetcher(command: list[str], *, folder: Path, file_bytes: int, total_bytes: int) -> tuple[int, str]:
    """Run ``command``, which downloads into ``folder`` (its temporary files go there too).

    Args:
        file_bytes: most bytes of one file; the kernel holds it, so an index that sends without end fills no disk.
        total_bytes: most bytes of all files together.

    Returns:
        exit code and everything it printed.

    Raises:
        MedPerfError: ``download_slow``, ``packages_too_large``.
    """
    temporary = folder / "tmp"
    temporary.mkdir()
    output = folder / "output"
    end = time.monotonic() + _SECONDS
    with output.open("wb") as stream:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": os.fspath(temporary)},
        )
    with process:
        try:
            # From outside, right after the start: doing it between fork and exec is not safe where threads run.
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
            while True:
                try:
                    process.wait(_LOOK_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    _check(folder, total_bytes, end)
            _check(folder, total_bytes, end)
        except BaseException:
            process.kill()
            raise
    with output.open("rb") as printed:
        return process.returncode, printed.read(1024 * 1024).decode(errors="replace")


def _check(folder: Path, total_bytes: int, end: float) -> None:
    if time.monotonic() > end:
        raise MedPerfError(
            "download_slow",
            f"Fetching packages took longer than {_SECONDS:.0f} seconds.",
            "Try again, or set MEDPERF_WHEELHOUSE.",
        )
    total = 0
    for base, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(base, name).lstat().st_size
    if total > total_bytes:
        raise too_large(f"all together more than {total_bytes:,} bytes")


def too_large(why: str) -> MedPerfError:
    """The packages are more than is downloaded."""
    return MedPerfError(
        "packages_too_large",
        f"The packages are too large: {why}.",
        "Ask the MLCube's owner to lock smaller ones, or look at what your package index sends.",
    )
