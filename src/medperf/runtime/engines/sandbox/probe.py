"""What ``medperf doctor`` shows of the sandbox: every rule, whether it holds here, and how."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from medperf.domain.confinement import ConfinementPolicy
from medperf.domain.errors import MedPerfError
from medperf.runtime.engines.base import EngineReport, RuleReport
from medperf.runtime.engines.sandbox.job import Job
from medperf.runtime.engines.sandbox.seccomp import filter_path
from medperf.runtime.engines.sandbox.session import Host, run_job
from medperf.runtime.logs import last_lines

if TYPE_CHECKING:
    from medperf.runtime.engines.sandbox.engine import SandboxEngine

_NAMESPACES = (
    "Allow unprivileged user namespaces: sysctl -w user.max_user_namespaces=15000; on Ubuntu 23.10 or newer also "
    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 or an AppArmor profile for bwrap."
)
_PREFIX = "medperf-probe-"
_CGROUP_FIX = "Run as root or in a delegated group (systemd-run --user --scope -p Delegate=yes) for a hard limit."


def report(engine: SandboxEngine) -> EngineReport:
    """Run a program of nothing through the whole chain and say how each rule is enforced. Never raises."""
    try:
        host = engine.host()
    except MedPerfError as error:
        return EngineReport("sandbox", available=False, version="", detail=error.what, fix=error.fix)
    try:
        answer = subprocess.run([host.bwrap, "--version"], capture_output=True, text=True, timeout=10, check=False)
        version = answer.stdout.removeprefix("bubblewrap").strip()
        problem = _try(host)
    except (OSError, subprocess.SubprocessError, MedPerfError) as error:
        version, problem = "", str(error)
    if problem is not None:
        return EngineReport(
            "sandbox", available=False, version=version, detail=problem, fix=_NAMESPACES, rules=rules(host)
        )
    return EngineReport("sandbox", available=True, version=version, detail=_detail(host), rules=rules(host))


def rules(host: Host) -> tuple[RuleReport, ...]:
    """Every rule of the confinement policy, on this machine and for this account."""
    group = host.controllers.label if host.controllers else None
    machine = platform.machine()
    filtered = filter_path(machine) is not None
    who = (
        f"host user {host.drop_to[0]}, shown as 1000"
        if host.drop_to
        else "this user, shown as 1000, in a user namespace"
    )
    return (
        RuleReport("no-network", True, "own network namespace with an empty loopback"),
        RuleReport("read-only-inputs", True, "read-only bind mounts; sockets, pipes and devices refused"),
        RuleReport("fresh-outputs", True, "own writable bind mounts, checked and handed back after the run"),
        RuleReport("unprivileged", True, who),
        RuleReport("no-capabilities", True, "bubblewrap --cap-drop ALL, no further user namespaces"),
        RuleReport("no-new-privileges", True, "bubblewrap (PR_SET_NO_NEW_PRIVS), mounts nosuid"),
        RuleReport(
            "seccomp",
            filtered,
            f"compiled filter for {machine}" if filtered else "",
            "" if filtered else "Run on x86_64 or aarch64, or waive the rule.",
        ),
        RuleReport("read-only-root", True, "read-only /, /usr and /dev; /tmp and /dev/shm of limited size"),
        RuleReport("private-processes", True, "own process namespace that dies with the run and with MedPerf"),
        RuleReport("time-limit", True, "wall clock; SIGTERM, then SIGKILL to process 1 of the namespace"),
        RuleReport(
            "memory-limit",
            True,
            group or "RLIMIT_DATA per process and a watching parent for the sum",
            "" if group else _CGROUP_FIX,
        ),
        RuleReport(
            "process-limit", True, f"{group} and RLIMIT_NPROC" if group else "RLIMIT_NPROC in the user namespace"
        ),
        RuleReport(
            "output-limit",
            True,
            "RLIMIT_FSIZE per file; a watching parent for bytes and files, and a check after the run",
        ),
        RuleReport("log-limit", True, "drained by the parent, beginning and end kept"),
    )


def _place() -> Path:
    """Where the attempt is made. `tempfile.gettempdir` finds out by writing a file: one killed just then would leave it for good."""
    named = (os.environ.get("TMPDIR"), "/tmp", "/var/tmp")  # noqa: S108 - a private folder is made in it
    return next((Path(name) for name in named if name and os.access(name, os.W_OK | os.X_OK)), Path.cwd())


def _sweep(place: Path) -> None:
    """Remove what a killed ``doctor`` of this account left."""
    for folder in place.glob(f"{_PREFIX}*"):
        process = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if not process.isdecimal() or Path("/proc", process).exists() or folder.is_symlink():
            continue
        if folder.stat().st_uid == os.geteuid():
            shutil.rmtree(folder, ignore_errors=True)


def _try(host: Host) -> str | None:
    place = _place()
    _sweep(place)
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{os.getpid()}-", dir=place) as name:
        log = Path(name, "log")
        policy = ConfinementPolicy().with_limits(wall_seconds=20.0, grace_seconds=1.0)
        if filter_path(platform.machine()) is None:
            policy = ConfinementPolicy(limits=policy.limits, waived=frozenset({"seccomp"}))
        ended = run_job(host, Job(command=("/bin/true",), binds=(), policy=policy), log=log, cancel=threading.Event())
        if ended.reason == "ok":
            return None
        return " ".join(last_lines(log, lines=3)) or ended.message or "bubblewrap gave no reason"


def _detail(host: Host) -> str:
    mode = f"as root, tasks run as user {host.drop_to[0]}" if host.drop_to else "as an ordinary user"
    return f"{mode}; {host.controllers.label if host.controllers else 'no control groups'}"
