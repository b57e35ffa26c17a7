"""How fast the identity of data is found: large files, small files, and data that did not change.

    python benchmarks/hashing.py [ROUNDS [FOLDER]]

FOLDER is where the data are made (default: the system's folder for temporary files; 1.1 GB). They are read once before, so that the disk plays
no part. Baselines, in the same run and in turns with what they are compared to, so that a busy machine slows both:

- large files: OpenSSL's sha256 over 1 GiB of memory, on all cores at once (nothing is read: copying what is read costs a sixth of it);
- small files: the same processes that only read and hash, told beforehand which files there are: nothing is listed, checked or
  put together; and the number of files a second, start of processes included.

Medians of the rounds, and of the ratios round by round, are printed.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from medperf.runtime.hashing import data_identity

LARGE_FILES, SMALL_FILES = 1000, 20_000
MIB = 1 << 20
READER = """
import os, sys, hashlib
for line in sys.stdin.buffer.read().split(b"\\0"):
    with open(line, "rb", buffering=0) as file:
        hashlib.sha256(file.read()).digest()
"""


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def make(folder: Path) -> tuple[Path, Path]:
    large, small = folder / "large", folder / "small"
    large.mkdir()
    block = os.urandom(MIB)
    for number in range(LARGE_FILES):
        (large / f"scan{number:04}.nii").write_bytes(
            block[:-8] + number.to_bytes(8, "little") + bytes(25_166)
        )  # 1 GiB in all
    for number in range(SMALL_FILES):
        case = small / f"case{number // 100:03}"
        case.mkdir(parents=True, exist_ok=True)
        (case / f"slice{number}.png").write_bytes(block[:4088] + number.to_bytes(8, "little"))
    return large, small


def openssl(cores: int) -> float:
    """Seconds of all cores for what the large files hold, from memory."""
    block = memoryview(bytearray(MIB))

    def share(_: int) -> None:
        hashing = hashlib.sha256()
        for _ in range(1024 // cores):
            hashing.update(block)

    with ThreadPoolExecutor(cores) as pool:
        return timed(lambda: list(pool.map(share, range(cores))))


def bare_processes(files: list[bytes], cores: int) -> float:
    def work() -> None:
        shares = [b"\0".join(files[at::cores]) for at in range(cores)]
        started = [
            subprocess.Popen([sys.executable, "-I", "-S", "-c", READER], stdin=subprocess.PIPE) for _ in range(cores)
        ]
        for process, share in zip(started, shares, strict=True):
            assert process.stdin is not None
            process.stdin.write(share)
            process.stdin.close()
        for process in started:
            assert process.wait() == 0

    return timed(work)


def show(what: str, ours: list[float], baseline: list[float], *, files: int, name: str) -> None:
    seconds = statistics.median(ours)
    ratio = statistics.median(theirs / mine for mine, theirs in zip(ours, baseline, strict=True))
    print(
        f"{what:24} {seconds:6.3f} s {files / seconds:9,.0f} files/s   {name} {statistics.median(baseline):6.3f} s   "
        f"{ratio:5.2f} of its rate"
    )


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as temporary:
        large, small = make(Path(temporary))
        names = [os.fsencode(path) for path in small.rglob("*.png")]
        known = data_identity({"data": small}).index
        data_identity({"data": large})
        found: dict[str, list[float]] = {name: [] for name in ("large", "openssl", "small", "bare", "again")}
        for _ in range(rounds):
            found["openssl"].append(openssl(cores))
            found["large"].append(timed(lambda: data_identity({"data": large})))
            found["bare"].append(bare_processes(names, cores))
            found["small"].append(timed(lambda: data_identity({"data": small})))
            found["again"].append(timed(lambda: data_identity({"data": small}, index=known)))
        print(f"{cores} cores, {rounds} rounds, page cache warm")
        show("1 GiB in 1,000 files", found["large"], found["openssl"], files=LARGE_FILES, name=f"OpenSSL x {cores}")
        show("20,000 files of 4 KB", found["small"], found["bare"], files=SMALL_FILES, name="bare reading")
        again = statistics.median(found["again"])
        print(f"{'unchanged, re-checked':24} {again:6.3f} s {SMALL_FILES / again:9,.0f} files/s")


if __name__ == "__main__":
    main()
