# ruff: noqa: PTH112, PTH115, S108 - descriptors, plain path texts and folders of the sandbox
"""One confined program as data, and the bubblewrap arguments that follow from it."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medperf.domain.confinement import ConfinementPolicy
from medperf.runtime.images.interpreters import Interpreter

VENV = "/mlcube_python"
PROJECT = "/mlcube_project"
INSIDE_ID = 1000
_SHM_BYTES_LIMIT = 1024**3


@dataclass(frozen=True)
class Bind:
    """A host path and where it appears inside. ``mapped``: its owner may be shown as the sandbox's user."""

    source: Path
    target: str
    writable: bool = False
    mapped: bool = False


@dataclass(frozen=True)
class Job:
    """A program to run once, confined."""

    command: tuple[str, ...]
    binds: tuple[Bind, ...]
    policy: ConfinementPolicy
    interpreter: Interpreter | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: str = "/tmp"

    @property
    def outputs(self) -> tuple[Path, ...]:
        """Host folders that the program can write to."""
        return tuple(bind.source for bind in self.binds if bind.writable)


Place = Callable[[Path, bool, bool], str]
"""(host path, mapped, writable) -> where bubblewrap finds it."""
Data = Callable[[bytes], int]
"""Contents of a small file -> descriptor bubblewrap reads it from."""


def bwrap_arguments(job: Job, *, place: Place, data: Data) -> list[str]:
    """Everything after ``bwrap`` and its descriptors, up to ``--``."""
    arguments = [
        *("--unshare-all", "--unshare-user", "--disable-userns", "--uid", str(INSIDE_ID), "--gid", str(INSIDE_ID)),
        *("--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv", "--hostname", "sandbox"),
    ]
    if "no-network" in job.policy.waived:
        arguments += ["--share-net", "--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf"]
    for name, value in _environment(job).items():
        arguments += ["--setenv", name, value]
    arguments += _system(job)
    size = str(job.policy.limits.tmp_bytes)
    shared = str(min(job.policy.limits.tmp_bytes, _SHM_BYTES_LIMIT))
    arguments += [
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "--size",
        shared,
        "--perms",
        "1777",
        "--tmpfs",
        "/dev/shm",
        "--remount-ro",
        "/dev",
    ]
    arguments += ["--size", size, "--perms", "1777", "--tmpfs", "/tmp"]
    arguments += [
        "--ro-bind-data",
        str(data(f"medperf:x:{INSIDE_ID}:{INSIDE_ID}::/tmp:/bin/sh\n".encode())),
        "/etc/passwd",
    ]
    arguments += ["--ro-bind-data", str(data(f"medperf:x:{INSIDE_ID}:\n".encode())), "/etc/group"]
    if job.interpreter is not None:
        arguments += _python(job.interpreter, place, data)
    for bind in job.binds:
        arguments += [
            "--bind" if bind.writable else "--ro-bind",
            place(bind.source, bind.mapped, bind.writable),
            bind.target,
        ]
    return [*arguments, "--remount-ro", "/", "--chdir", job.folder]


def _environment(job: Job) -> dict[str, str]:
    limits = job.policy.limits
    available = len(os.sched_getaffinity(0))
    threads = str(max(1, min(available, int(limits.cpus + 0.999) if limits.cpus else available)))
    fixed = {
        "PATH": f"{VENV}/bin:/usr/bin:/bin",
        "HOME": "/tmp",
        "USER": "medperf",
        "LOGNAME": "medperf",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
    }
    return {**fixed, **job.environment}


def _system(job: Job) -> list[str]:
    """The machine's programs and libraries, read-only, without what the administrator put in /usr/local."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    own = job.interpreter is not None and Path(job.interpreter.prefix).is_relative_to("/usr/local")
    if not own and os.path.isdir("/usr/local"):
        arguments += ["--size", "4096", "--tmpfs", "/usr/local", "--remount-ro", "/usr/local"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = f"/{name}"
        try:
            info = os.lstat(path)
        except OSError:
            continue
        if stat.S_ISLNK(info.st_mode):
            arguments += ["--symlink", os.readlink(path), path]
        else:
            arguments += ["--ro-bind", path, path]
    for path in ("/etc/ld.so.cache", "/etc/alternatives", "/sys/devices/system/cpu"):
        arguments += ["--ro-bind-try", path, path]
    return arguments


def _python(interpreter: Interpreter, place: Place, data: Data) -> list[str]:
    """The interpreter at its own path, behind a virtual environment that hides the packages of this machine."""
    arguments: list[str] = []
    for prefix in dict.fromkeys((interpreter.prefix, interpreter.exec_prefix)):
        if not Path(prefix).is_relative_to("/usr"):
            arguments += ["--ro-bind", place(Path(prefix), False, False), prefix]
    binary = Path(interpreter.executable)
    if not any(binary.is_relative_to(prefix) for prefix in (interpreter.prefix, interpreter.exec_prefix, "/usr")):
        arguments += ["--ro-bind", place(binary, False, False), interpreter.executable]
    configuration = f"home = {binary.parent}\ninclude-system-site-packages = false\nversion = {'.'.join(map(str, interpreter.version))}\n"
    for name in ("python", "python3"):
        arguments += ["--symlink", interpreter.executable, f"{VENV}/bin/{name}"]
    arguments += ["--ro-bind-data", str(data(configuration.encode())), f"{VENV}/pyvenv.cfg"]
    return [*arguments, "--dir", site_packages(interpreter)]


def site_packages(interpreter: Interpreter) -> str:
    """Where the wheels appear inside."""
    return f"{VENV}/lib/python{interpreter.short}/site-packages"
