"""Commands as real processes that are killed: at a point that they counted themselves (see ``kill_hook``), or at an instant."""

from __future__ import annotations

import contextlib
import ctypes
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import playing
import psutil
from people import MEDPERF, Person, Server

from medperf.cli.main import main
from medperf.client.client import MedPerfClient
from medperf.client.credentials import FileCredentialStore
from medperf.client.http import Transport

HOOK = Path(__file__).with_name("kill_hook")
_SUBREAPER = 36  # of prctl(2)


@dataclass(frozen=True)
class Ended:
    """How a command ended. ``points``: what it did, in order; ``seconds``: its wall time; ``code``: negative for a signal."""

    code: int
    text: str
    points: list[str]
    seconds: float


@dataclass
class World:
    """What the scenes of a module share: a server and a home that is logged in to it as the admin."""

    server: Server
    admin: Person
    folder: Path
    shared: dict[str, Any] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def api(self, person: Person | None = None) -> MedPerfClient:
        """The server as somebody who is logged in."""
        found = FileCredentialStore(home_of(person or self.admin)).get("local")
        assert found is not None
        return MedPerfClient(
            Transport(
                found.server, token=found.token, instance_id=found.instance_id, verify=self.server.data / "cert.crt"
            )
        )

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What several scenes need and is made by the first."""
        if name not in self.shared:
            self.shared[name] = make()
        return self.shared[name]

    def scene(self, *, person: Person | None = None) -> Scene:
        """A new scene; ``person``: somebody known, None: a copy of the admin's home."""
        number = next(self.numbers)
        folder = self.folder / f"scene-{number}"
        temporary = folder / "temporary"
        temporary.mkdir(parents=True)
        temporary.chmod(0o755)
        home = folder / "home"
        if person is None:
            shutil.copytree(self.admin.home, home, symlinks=True)
        else:
            home = person.home
        environ = self.admin.environ | {"HOME": str(home), "MEDPERF_HOME": str(home / ".medperf")}
        here = folder / "here"
        here.mkdir()
        return Scene(
            self, f"n{number}-{os.getpid()}", Person(here, environ | {"TMPDIR": str(temporary)}), here, temporary
        )


@dataclass
class Scene:
    """One kill: somebody in a folder of their own, and a name that nobody else uses.

    Attributes:
        here: where the commands run.
        lines: what is typed, one line per question.
        kept: whatever the steps of a case tell each other.
    """

    world: World
    name: str
    person: Person
    here: Path
    temporary: Path
    lines: Sequence[str] = ()
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def options(self) -> tuple[str, ...]:
        """What makes any command talk to the server."""
        return self.world.server.options

    @property
    def home(self) -> Path:
        """MedPerf's home."""
        return home_of(self.person)

    @property
    def workspace(self) -> Path:
        """The workspace of the server."""
        return self.home / f"localhost_{self.world.server.port}"

    def ask(self, *words: str) -> Any:
        """The JSON answer of a command that must work; with the server's options."""
        done = inside(self.person, *words, *self.options, "--format", "json")
        assert done.code == 0, (words, done.text)
        return json.loads(done.text)

    def run(self, *words: str, kill_at: int = -1, number: int = signal.SIGKILL, after: float | None = None) -> Ended:
        """A command as a process, until it ends or is killed.

        Args:
            kill_at: number of the point; 0: count the points; below: neither.
            number: the signal that ends it.
            after: seconds after which it is killed from outside.
        """
        log = self.here.parent / "points"
        log.unlink(missing_ok=True)
        environ = dict(self.person.environ)
        if kill_at >= 0:
            environ |= {
                "PYTHONPATH": str(HOOK),
                "PYTHONDONTWRITEBYTECODE": "1",
                "KILL_AT": str(kill_at),
                "KILL_WITH": str(int(number)),
                "KILL_LOG": str(log),
            }
        begin = time.monotonic()
        with subprocess.Popen(
            [str(MEDPERF), *words],
            env=environ,
            cwd=self.here,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            typed = "".join(f"{line}\n" for line in self.lines).encode()
            try:
                output, _ = process.communicate(typed, timeout=after if after is not None else 240)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number if after is not None else signal.SIGKILL)
                output, _ = process.communicate(timeout=120)
                assert after is not None, output.decode(errors="replace")
        points = log.read_text().splitlines() if log.exists() else []
        return Ended(process.returncode, output.decode(errors="replace"), points, time.monotonic() - begin)


def home_of(person: Person) -> Path:
    """MedPerf's home of somebody."""
    return Path(person.environ["MEDPERF_HOME"])


def inside(person: Person, *words: str) -> playing.Answer:
    """A command run in this process, with somebody's surroundings: the same door, ten times as fast as a process."""
    before, folder = dict(os.environ), Path.cwd()
    text = io.StringIO()
    try:
        os.environ.clear()
        os.environ.update(person.environ)
        os.chdir(person.home)
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            code = main(words)
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(before)
    return playing.Answer(text.getvalue(), code)


def _below(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.children(recursive=True)
    return []


@contextlib.contextmanager
def no_orphans(*, timeout: float = 30) -> Iterator[None]:
    """Whatever the processes inside leave behind becomes ours, and must end by itself."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(_SUBREAPER, 1, 0, 0, 0) == 0
    ours = psutil.Process()
    before = {child.pid for child in ours.children()}
    try:
        yield
    finally:
        # Not what belongs to a child that was there before: a database of other tests in this process.
        new = [child for child in ours.children() if child.pid not in before]
        left = new + [below for child in new for below in _below(child)]
        _, alive = psutil.wait_procs(left, timeout=timeout)
        libc.prctl(_SUBREAPER, 0, 0, 0, 0)
    assert alive == [], alive


def state_of(folder: Path) -> Mapping[str, bytes]:
    """All files below a folder, with their content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
