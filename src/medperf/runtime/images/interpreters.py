# ruff: noqa: PTH111, PTH116, PTH118, PTH123, PTH208, S108 - descriptors, plain path texts and folders of the sandbox
"""The Python that runs inside the sandbox: found on this machine, never installed, identified by digest."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medperf.domain.errors import InvalidInput

_FACTS = """
import json, os, platform, sys, sysconfig
print(json.dumps({
    "base_prefix": sys.base_prefix, "base_exec_prefix": sys.base_exec_prefix, "version": sys.version,
    "info": list(sys.version_info[:3]), "implementation": sys.implementation.name,
    "soabi": sysconfig.get_config_var("SOABI") or "", "machine": platform.machine(),
    "executable": os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable),
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """One Python on this machine. ``executable`` is the real file (no venv, no link); ``prefix`` the folder it needs to see."""

    executable: str
    prefix: str
    exec_prefix: str
    implementation: str
    version: tuple[int, int, int]
    build: str  # sys.version: names the build and its compiler
    soabi: str
    machine: str

    @property
    def name(self) -> str:
        """For people, e.g. ``cpython 3.11.7``."""
        return f"{self.implementation} {'.'.join(map(str, self.version))}"

    @property
    def short(self) -> str:
        """Major and minor version, e.g. ``3.11``."""
        return f"{self.version[0]}.{self.version[1]}"

    @property
    def compatibility(self) -> str:
        """What decides which wheels fit: implementation, version, binary interface, machine and C library."""
        libc = "-".join(part for part in platform.libc_ver() if part)
        return "|".join((self.implementation, ".".join(map(str, self.version)), self.soabi, self.machine, libc))

    def digest(self, cache: Path | None = None) -> str:
        """Identity for step keys: the build's description and the binary's bytes, not where it lies."""
        return _digest(self, cache)


def find_interpreter(requires: str | None, *, label: str = "The MLCube") -> Interpreter:
    """The interpreter for ``requires`` (such as ``>=3.11``): the one we run on if it fits, else the first on PATH that does.

    Raises:
        InvalidInput: ``requires`` is no version specifier, or nothing here satisfies it.
    """
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        wanted = SpecifierSet(requires or "")
    except InvalidSpecifier as error:
        raise InvalidInput(
            "bad_manifest",
            f"{label} asks for Python {requires!r}, which is no version specifier.",
            "Write e.g. '>=3.11'.",
        ) from error
    seen: list[str] = []
    for path in _candidates():
        found = _inspect(*path)
        if found is None or found.implementation != "cpython":
            continue
        if wanted.contains(".".join(map(str, found.version)), prereleases=True) and _usable(found):
            return found
        seen.append(found.name)
    raise InvalidInput(
        "no_interpreter",
        f"{label} needs Python {requires}; this machine has {', '.join(dict.fromkeys(seen)) or 'none that a sandbox can use'}.",
        f"Install a Python {requires} (apt-get install python3) so that it is found on PATH.",
    )


def _candidates() -> list[tuple[str, int, int]]:
    """(path, size, mtime) of our own base interpreter, then of every python3 on PATH and in the system's folder."""
    base = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    paths = [base]
    folders = [*os.environ.get("PATH", "").split(os.pathsep), "/usr/local/bin", "/usr/bin"]
    for folder in dict.fromkeys(folders):
        try:
            names = sorted(
                (name for name in os.listdir(folder or ".") if re.fullmatch(r"python3(\.\d+)?", name)), key=len
            )
        except OSError:
            continue
        paths += [os.path.join(folder, name) for name in names]
    found = []
    for path in dict.fromkeys(os.path.realpath(path) for path in paths):
        try:
            info = os.stat(path)
        except OSError:
            continue
        # pyenv's and similar tools' shims are scripts that pick a version; only real binaries are asked.
        if os.access(path, os.X_OK) and _is_binary(path):
            found.append((path, info.st_size, info.st_mtime_ns))
    return found


def _is_binary(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF"
    except OSError:
        return False


@functools.lru_cache(maxsize=64)
def _inspect(path: str, *_stamp: int) -> Interpreter | None:
    """Ask an interpreter what it is (once per process and file); our own base is known without asking."""
    if path == os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable):
        import sysconfig

        facts: dict[str, Any] = {
            "base_prefix": sys.base_prefix,
            "base_exec_prefix": sys.base_exec_prefix,
            "version": sys.version,
            "info": list(sys.version_info[:3]),
            "implementation": sys.implementation.name,
            "soabi": sysconfig.get_config_var("SOABI") or "",
            "machine": platform.machine(),
            "executable": path,
        }
    else:
        try:
            answer = subprocess.run(
                [path, "-I", "-S", "-c", _FACTS], capture_output=True, timeout=20, stdin=subprocess.DEVNULL, check=True
            )
            facts = json.loads(answer.stdout)
        except (OSError, subprocess.SubprocessError, ValueError):
            return None
    major, minor, micro = facts["info"]
    return Interpreter(
        executable=facts["executable"],
        prefix=os.path.realpath(facts["base_prefix"]),
        exec_prefix=os.path.realpath(facts["base_exec_prefix"]),
        implementation=facts["implementation"],
        version=(major, minor, micro),
        build=facts["version"],
        soabi=facts["soabi"],
        machine=facts["machine"],
    )


def _usable(found: Interpreter) -> bool:
    """Whether its prefix can be shown to a sandbox without showing a whole machine or home folder."""
    homes = {"/", os.path.expanduser("~"), "/home", "/root", "/opt", "/var", "/tmp"}
    library = Path(found.prefix, "lib", f"python{found.short}")
    return found.prefix not in homes and found.exec_prefix not in homes and library.is_dir()


@functools.lru_cache(maxsize=16)
def _digest(found: Interpreter, cache: Path | None) -> str:
    info = os.stat(found.executable)
    stamp = [found.executable, info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns]
    facts = asdict(found)
    for path in ("executable", "prefix", "exec_prefix"):
        del facts[path]
    record = (
        cache / "interpreters" / f"{hashlib.sha256(found.executable.encode()).hexdigest()[:16]}.json" if cache else None
    )
    binary = None
    if record is not None and record.is_file():
        try:
            known = json.loads(record.read_bytes())
            binary = known["binary"] if known["stamp"] == stamp else None
        except (ValueError, KeyError, TypeError):
            binary = None
    if binary is None:
        with open(found.executable, "rb") as file:
            binary = hashlib.file_digest(file, "sha256").hexdigest()
        if record is not None:
            record.parent.mkdir(parents=True, exist_ok=True)
            temporary = record.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps({"stamp": stamp, "binary": binary}))
            temporary.replace(record)
    return "sha256:" + hashlib.sha256(json.dumps([facts, binary], sort_keys=True).encode()).hexdigest()


def tool(name: str) -> str | None:
    """Absolute path of a system program, looked for in the usual folders beyond PATH too."""
    return shutil.which(
        name,
        path=os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]),
    )
