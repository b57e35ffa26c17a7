"""Check what the files of this checkout say: no package registry, no machine's own paths, shell scripts that parse.

Usage: ``python scripts/check_files.py``. Prints each finding as ``file:line: what`` and exits with 1 if there is one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Put together here, so that this file does not hold what it looks for.
REGISTRIES = (
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("registry.npmjs", "org"),
    ("npmjs", "com"),
    ("crates", "io"),
    ("proxy.golang", "org"),
    ("conda.anaconda", "org"),
    ("repo.anaconda", "com"),
)
MACHINE_PATHS = (
    ("", "work", "main"),
    ("", "work", "shared"),
    ("", "opt", "pypi"),
    ("", "opt", "wheels"),
    ("", "root", ".pyenv"),
)
FORBIDDEN = re.compile(
    "|".join(
        re.escape(text)
        for text in (*(".".join(parts) for parts in REGISTRIES), *("/".join(parts) for parts in MACHINE_PATHS))
    )
)
LEFT_OUT = {".git", ".venv", "node_modules", "__pycache__", "medperf_tutorial", "site"}


def committed_files() -> list[Path]:
    """What is committed or would be; without git, everything that is not built."""
    if shutil.which("git") and (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        return [ROOT / name for name in listed.decode().split("\0") if name and (ROOT / name).is_file()]
    return [path for path in ROOT.rglob("*") if path.is_file() and not LEFT_OUT & set(path.relative_to(ROOT).parts)]


def forbidden_text(file: Path) -> Iterator[str]:
    """Lines that name a registry or a path of the machine they were written on."""
    data = file.read_bytes()
    if b"\0" in data[:8192]:
        return
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        found = FORBIDDEN.search(line)
        if found:
            yield f"{file.relative_to(ROOT)}:{number}: says {found.group()!r}"


def shell_faults(file: Path) -> Iterator[str]:
    """What the shell says about a script that does not parse."""
    with file.open("rb") as stream:
        first = stream.readline(100)
    if file.suffix != ".sh" and not re.match(rb"#!.*\b(ba)?sh\b", first):
        return
    shell = "sh" if re.match(rb"#!\S*/sh\b", first) else "bash"
    answer = subprocess.run([shell, "-n", str(file)], capture_output=True, text=True, check=False)
    if answer.returncode:
        yield f"{file.relative_to(ROOT)}: {answer.stderr.strip()}"


def main() -> int:
    """Print the findings; 1 if there are any."""
    files = committed_files()
    findings = [finding for file in files for check in (forbidden_text, shell_faults) for finding in check(file)]
    for finding in findings:
        print(finding)
    print(f"{len(files)} files: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
