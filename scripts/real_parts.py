"""Print which real parts of this machine the tests use, and which they can not.

Usage: ``python scripts/real_parts.py [--port N]``. A part that is missing shows as a failing or skipped test, not here; only with
``--port`` it exits with 1, and one sentence, when something else listens on that port of 127.0.0.1.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import platform
import re
import shutil
import socket
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


def postgres() -> str | None:
    """The PostgreSQL that tests start for themselves."""
    from medperf.testing.postgres import programs

    try:
        version = first_line(str(programs() / "postgres"), "--version")
    except (FileNotFoundError, ModuleNotFoundError):
        return None
    return (
        version
        and f"{version.replace('postgres (PostgreSQL)', 'PostgreSQL')}, one cluster per test process on a Unix socket"
    )


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
        ("database", postgres() or "MISSING: PostgreSQL's programs are not installed"),
        ("packages", "wheels of the examples, from the index this machine uses"),
        ("docker", f"daemon {docker}, not used" if docker else "no daemon, not used"),
    ]


def holder(port: int) -> str:
    """Who listens on this port, as far as /proc tells: ``process 123 (python -m http.server)``."""
    sockets = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path("/proc/net", table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:  # 0A: it listens
                    sockets.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or it is somebody else's
            if any(os.readlink(handle) in sockets for handle in (process / "fd").iterdir()):  # noqa: PTH115 - no path
                words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                line = "".join(letter for letter in words if letter.isprintable()).strip()
                return f"process {process.name} ({line[:80]})"
    return "a program that this account may not look at"


def waited_for(lock: Path) -> bool:
    """Whether other tests hold this lock now; they take turns with ours."""
    try:
        with lock.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def taken(port: int) -> str | None:
    """One sentence when the tests cannot have this port, else None."""
    if waited_for(Path(f"/tmp/medperf-tests-port-{port}-{os.getuid()}.lock")):  # noqa: S108 - tests/e2e/support/playing.py's
        return None
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            who = holder(port)
        else:
            return None
    known = re.match(r"process (\d+)", who)
    end = f"kill {known[1]}" if known else f"sudo ss -ltnp 'sport = :{port}' names it"
    return (
        f"The tests need port {port} of 127.0.0.1, which the tutorial's own commands name, but {who} listens there: "
        f"end that ({end}) and give the command again."
    )


def main() -> int:
    """Print them; 1 when the port is taken."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--port", type=int, help="must be free")
    port = parser.parse_args().port
    refusal = taken(port) if port is not None else None
    if refusal is not None:
        print(refusal, file=sys.stderr)
        return 1
    print("real parts:")
    for name, state in parts():
        print(f"  {name:<15} {state}")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
