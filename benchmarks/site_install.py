"""What a site installs: packages, bytes and seconds of ``pip install medperf`` (no server, no tests) into a fresh environment.

    python benchmarks/site_install.py

The package cache is warm: one installation goes before the one that is measured. Baseline in the same run: an empty environment.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]


def size_of(folder: Path) -> int:
    """Bytes of all plain files below ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def install(folder: Path) -> tuple[float, float, int, int]:
    """Seconds for the environment, seconds for the packages, number of packages, bytes."""
    uv = str(Path(sys.executable).with_name("uv"))
    started = time.perf_counter()
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(folder)], check=True)
    made = time.perf_counter()
    python = str(folder / "bin" / "python")
    subprocess.run([uv, "pip", "install", "-q", "--python", python, str(ROOT)], check=True)
    done = time.perf_counter()
    names = subprocess.run(
        [uv, "pip", "list", "--python", python, "--format", "freeze"], check=True, capture_output=True, text=True
    )
    subprocess.run([str(folder / "bin" / "medperf"), "--version"], check=True, stdout=subprocess.DEVNULL)
    return made - started, done - made, len(names.stdout.splitlines()), size_of(folder / "lib")


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        install(Path(temporary) / "warm")
        empty, seconds, packages, size = install(Path(temporary) / "measured")
    print(f"{'an empty environment':32}{empty:8.2f} s")
    print(f"{'medperf and what it needs':32}{seconds:8.2f} s   (aim: at most 30 s)")
    print(f"{'packages':32}{packages:8d}     (aim: at most 40)")
    print(f"{'on disk':32}{size / 1e6:8.1f} MB  (aim: at most 100 MB)")


if __name__ == "__main__":
    main()
