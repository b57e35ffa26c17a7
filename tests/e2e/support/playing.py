"""Shared by the tests that play documents and programs as a person would: a copy of the checkout, terminals, blocks of a page."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import selectors
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[3]
PORT = 8000
PACKAGES = ROOT / ".venv" / "medperf-cache"
_BUILT = {".git", ".venv", "site", "dist", "build", "medperf_tutorial", ".setup.lock", ".hypothesis"}
_OWN_SERVER_FILES = {"reset_db.sh", "seed.py"}


def copy_checkout(target: Path) -> Path:
    """What a fresh clone would hold, without git."""

    def ignore(folder: str, names: list[str]) -> set[str]:
        made = {name for name in names if name == "__pycache__" or name.endswith("_cache")}
        if Path(folder) == ROOT:
            made |= _BUILT & set(names)
        if Path(folder) == ROOT / "server":
            made |= set(names) - _OWN_SERVER_FILES
        return made

    shutil.copytree(ROOT, target, ignore=ignore)
    return target


def environment(home: Path, *, program: Path | None = None, **extra: str) -> dict[str, str]:
    """What a person's shell has: a home of its own, no settings of MedPerf; downloads are shared with the account that runs the tests."""
    real = Path(os.environ.get("HOME", "/"))
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("MEDPERF_", "PYTEST_", "VIRTUAL_ENV", "COV_"))
    }
    kept |= {
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "COLUMNS": "120",
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(real / ".cache" / "uv")),
        "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(real / ".cache" / "pip")),
    }
    for name in ("NO_COLOR", "FORCE_COLOR", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        kept.pop(name, None)
    if program is not None:
        kept["PATH"] = f"{program.parent}:{kept.get('PATH', '')}"
    return kept | extra


def share_packages(medperf_home: Path) -> None:
    """Let an empty home of MedPerf use the packages that earlier tests downloaded."""
    PACKAGES.mkdir(parents=True, exist_ok=True)
    medperf_home.mkdir(mode=0o700, parents=True)
    (medperf_home / "cache").symlink_to(PACKAGES)


# ---------------------------------------------------------------------------------------------------------------- pages


@dataclass(frozen=True)
class Block:
    """A fenced block of a page. ``terminal`` and ``types`` come from comments before it: ``<!-- types: name, password -->``."""

    language: str
    text: str
    line: int
    terminal: str = "main"
    types: tuple[str, ...] = ()


def blocks(page: Path, *, languages: tuple[str, ...]) -> list[Block]:
    """The fenced blocks of these languages, in order, without the indentation of a list."""
    found: list[Block] = []
    settings: dict[str, str] = {}
    inside: tuple[int, str, str, list[str]] | None = None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = re.fullmatch(r"(\s*)```\s*(\w*)\s*", line)
        if inside is not None:
            if fence:
                start, language, _indent, lines = inside
                inside = None
                if language in languages:
                    types = tuple(entry.strip() for entry in settings.get("types", "").split(",") if entry.strip())
                    found.append(Block(language, "\n".join(lines), start, settings.get("terminal", "main"), types))
                settings = {}
            else:
                inside[3].append(line.removeprefix(inside[2]))
        elif fence:
            inside = (number, fence[2], fence[1], [])
        else:
            settings |= dict(re.findall(r"<!--\s*(\w+):\s*(.*?)\s*-->", line))
    assert inside is None, f"{page.name}: the block of line {inside[0] if inside else 0} is not closed"
    return found


# ------------------------------------------------------------------------------------------------------------ terminals


@dataclass(frozen=True)
class Answer:
    """What a block did: everything it printed, and its exit code."""

    text: str
    code: int


class Terminal:
    """A shell in which blocks run one after another: folder and exported variables last from one to the next."""

    def __init__(self, folder: Path, environ: Mapping[str, str], state: Path) -> None:
        self.start = folder
        self._environ = dict(environ)
        self._state = state
        state.mkdir(parents=True)
        (state / "pwd").write_text(str(folder))
        self._background: list[Background] = []

    @property
    def folder(self) -> Path:
        """Where the shell is now."""
        return Path((self._state / "pwd").read_text().rstrip("\n"))

    def run(
        self, text: str, *, types: tuple[str, ...] = (), timeout: float = 240, folder: Path | None = None
    ) -> Answer:
        """Run a block; with ``types``, on a terminal on which somebody types these lines, one at each prompt."""
        command = self._command(text, folder)
        return (
            type_into(command, types, environ=self._environ, timeout=timeout)
            if types
            else run(command, environ=self._environ, timeout=timeout)
        )

    def leave_running(self, text: str, *, until: str, timeout: float = 60) -> Background:
        """Start a block that does not end; returns when its output holds ``until``."""
        started = Background(self._command(text, None), environ=self._environ)
        self._background.append(started)
        started.wait_for(until, timeout)
        return started

    def close(self) -> None:
        """Stop what was left running."""
        for program in self._background:
            program.stop()

    def _command(self, text: str, folder: Path | None) -> list[str]:
        state = self._state
        script = (
            f'[ ! -f "{state}/env" ] || source "{state}/env"\n'
            f'cd "{folder or self.folder}"\n'
            f'trap \'declare -px > "{state}/env"; pwd > "{state}/pwd"\' EXIT\n'
            "set -eo pipefail\n" + text + "\n"
        )
        return ["bash", "-c", script]


def run(command: list[str], *, environ: Mapping[str, str], timeout: float = 240, cwd: Path | None = None) -> Answer:
    """Run to the end with nothing to read; the whole process group is killed when it takes too long."""
    with subprocess.Popen(
        command,
        env=dict(environ),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            raise AssertionError(f"took longer than {timeout} s:\n{output.decode(errors='replace')}") from None
    return Answer(output.decode(errors="replace"), process.returncode)


def type_into(
    command: list[str], lines: tuple[str, ...], *, environ: Mapping[str, str], timeout: float = 240
) -> Answer:
    """Run on a pseudo-terminal and type one line at each prompt (output that ends with ``: ``)."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, dict(environ))
    deadline = time.monotonic() + timeout
    output, waiting, seen = b"", list(lines), 0
    with selectors.DefaultSelector() as selector:
        selector.register(terminal, selectors.EVENT_READ)
        while True:
            if not selector.select(max(0.0, deadline - time.monotonic())):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                raise AssertionError(f"waited too long; so far:\n{output.decode(errors='replace')}")
            try:
                piece = os.read(terminal, 65536)
            except OSError:  # the other side is closed
                piece = b""
            if not piece:
                break
            output += piece
            if waiting and output[seen:].endswith(b": "):
                seen = len(output)
                os.write(terminal, waiting.pop(0).encode() + b"\n")
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return Answer(output.decode(errors="replace").replace("\r\n", "\n"), os.waitstatus_to_exitcode(status))


@dataclass
class Background:
    """A program that runs beside the test; everything it prints is kept."""

    command: list[str]
    environ: Mapping[str, str]
    cwd: Path | None = None
    text: str = field(default="", init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            self.command,
            env=dict(self.environ),
            cwd=self.cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._changed = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in iter(self.process.stdout.readline, b""):
            with self._changed:
                self.text += line.decode(errors="replace")
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, pattern: str, timeout: float = 60) -> None:
        """Return when the output matches; fail when the program ends or time is up before."""
        with self._changed:
            done = self._changed.wait_for(lambda: self._ended or re.search(pattern, self.text), timeout)
        if not re.search(pattern, self.text):
            text = self.text
            self.stop()
            raise AssertionError(f"{'ended' if done else 'took too long'} before {pattern!r} was printed:\n{text}")

    def interrupt(self) -> None:
        """Ctrl-C: SIGINT to the whole group, as a terminal does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)

    def terminate(self) -> None:
        """``kill %1``: SIGTERM to the whole group, as a shell does with a job."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)

    def end(self, timeout: float = 60) -> int:
        """Wait for its end; returns the exit code."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            text = self.text
            self._kill()
            raise AssertionError(f"did not end within {timeout} s:\n{text}") from None
        self._reader.join(60)
        self._close()
        return code

    def stop(self) -> None:
        """Ctrl-C, and harder if that does not help."""
        self.interrupt()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self._kill()
        self._reader.join(60)
        self._close()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    def _close(self) -> None:
        if self.process.stdout is not None and not self._reader.is_alive():
            self.process.stdout.close()

    def family(self) -> list[psutil.Process]:
        """Everything it started that is alive now."""
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


# ----------------------------------------------------------------------------------------------------------------- port


@contextlib.contextmanager
def the_port() -> Iterator[int]:
    """Port 8000, held against other test processes on this machine; fails clearly when something else has it."""
    with Path(f"/tmp/medperf-tests-port-{PORT}-{os.getuid()}.lock").open("a") as lock:  # not per run
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not port_is_free(PORT):
            raise AssertionError(
                f"Port {PORT} is in use by another program; the documents' own commands need it. Stop that program (ss -ltnp)."
            )
        yield PORT


def port_is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
