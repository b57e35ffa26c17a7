"""Print which real parts of this machine the tests use, and which they can not.

Usage: ``python scripts/real_parts.py``. Always exits with 0: a part that is missing shows as a failing or skipped test, not here.
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import ssl
import subprocess
import sys
from pathlib import Path


def first_line(*command: str) -> str | None:
    """The first line a program prints; None if it is not there or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = answer.stdout.strip().splitlines()
    return lines[0] if answer.returncode == 0 and lines else None


def cgroups() -> str:
    """Which version, and whether this account may make groups."""
    base = Path("/sys/fs/cgroup")
    if (base / "cgroup.controllers").exists():
        return f"v2, {'writable' if os.access(base, os.W_OK) else 'not writable by this account'}"
    if (base / "memory").is_dir():
        return f"v1, {'writable' if os.access(base / 'memory', os.W_OK) else 'not writable by this account'}"
    return "none"


def parts() -> list[tuple[str, str]]:
    """Name and state of each part."""
    docker = first_line("docker", "version", "--format", "{{.Server.Version}}")
    return [
        ("python", f"{platform.python_version()} at {sys.executable}"),
        ("kernel", f"{platform.release()} {platform.machine()}, {os.cpu_count()} processors"),
        ("account", "root" if os.geteuid() == 0 else f"uid {os.geteuid()}"),
        ("sandbox engine", first_line("bwrap", "--version") or "MISSING: bubblewrap is not installed"),
        ("cgroups", cgroups()),
        ("server", f"real processes on loopback, {ssl.OPENSSL_VERSION}"),
        ("database", f"SQLite {sqlite3.sqlite_version}, on disk"),
        ("packages", "wheels of the examples, from the index this machine uses"),
        ("docker", f"daemon {docker}, not used" if docker else "no daemon, not used"),
    ]


def main() -> None:
    """Print them."""
    print("real parts:")
    for name, state in parts():
        print(f"  {name:<15} {state}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
