"""Who types the commands of the demo."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

START_SECONDS = 60


class DemoFailed(Exception):
    """A step did something else than the tutorial says."""


class Interrupts:
    """SIGINT and SIGTERM as ``KeyboardInterrupt``, which can be put off for a moment and is never lost."""

    def __init__(self) -> None:
        self._holding = self._pending = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._arrived)

    def _arrived(self, *_: object) -> None:
        if self._holding:
            self._pending = True
        else:
            raise KeyboardInterrupt

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """An interrupt that comes inside is raised at the end."""
        self._holding = True
        try:
            yield
        finally:
            self._holding = False
            if self._pending:
                self._pending = False
                raise KeyboardInterrupt


class Player:
    """Types commands: prints each as a person would see it, passes its output on as it comes, and keeps times.

    Args:
        folder: the working folder, as a checkout would be.
        environ: what the commands see.
        interrupts: who holds a Ctrl-C back while a process is being started.
    """

    def __init__(self, folder: Path, environ: Mapping[str, str], interrupts: Interrupts) -> None:
        self._interrupts = interrupts
        self.folder = folder
        self.environ = dict(environ)
        self.times: list[tuple[str, float]] = []
        self._running: list[subprocess.Popen[bytes]] = []

    def say(self, text: str = "") -> None:
        """One line of our own."""
        print(text, flush=True)

    def type(self, command: str, *, title: str = "", refused: bool = False, yes: int = 0) -> str:
        """Run a command line and return what it printed.

        Args:
            title: what the summary calls it.
            refused: it has to fail.
            yes: to so many questions the answer is ``y``.

        Raises:
            DemoFailed: it failed, or with ``refused`` it did not.
        """
        self.say(f"\n$ {command}")
        started = time.monotonic()
        process = self._start(command, answers=b"y\n" * yes)
        assert process.stdout is not None
        lines = []
        for raw in iter(process.stdout.readline, b""):
            line = raw.decode(errors="replace")
            lines.append(line)
            if yes and line.endswith("[y/N]: \n"):
                line = line.replace("\n", "y\n")  # what was piped into it, as a terminal would show it
            sys.stdout.write(line)
            sys.stdout.flush()
        code = process.wait()
        self._forget(process)
        if (code != 0) is not refused:
            raise DemoFailed(f"exit code {code}: {command.splitlines()[0]}")
        if title:
            self.times.append((title, time.monotonic() - started))
        return "".join(lines)

    def ask(self, *words: str) -> Any:
        """A command's answer as JSON, without showing it."""
        answer = subprocess.run(
            ["medperf", *words, "--format", "json"],
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if answer.returncode != 0:
            raise DemoFailed(
                f"exit code {answer.returncode}: medperf {shlex.join(words)}: {answer.stderr.decode(errors='replace')}"
            )
        return json.loads(answer.stdout)

    def leave_running(self, command: str, *, until: str) -> None:
        """Start a command that goes on, and return when its output holds ``until``; what it prints until then is shown.

        Raises:
            DemoFailed: it ended, or said nothing of the kind in time.
        """
        self.say(f"\n$ {command} &")
        process = self._start(command)
        listening, lines = threading.Event(), []

        def read() -> None:
            assert process.stdout is not None
            for raw in iter(process.stdout.readline, b""):
                line = raw.decode(errors="replace")
                lines.append(line)
                if not listening.is_set():
                    sys.stdout.write(line)
                    sys.stdout.flush()
                if until in line:
                    listening.set()
            listening.set()

        threading.Thread(target=read, daemon=True).start()
        if not listening.wait(START_SECONDS) or not any(until in line for line in lines):
            raise DemoFailed(f"it did not start: {command}")

    def stop(self) -> None:
        """Ctrl-C to everything that still runs, harder if that does not help."""
        for number, patience in ((signal.SIGINT, 30), (signal.SIGKILL, 30)):
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            for process in self._running:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(patience)
            self._running = [process for process in self._running if process.poll() is None]

    def _start(self, command: str, *, answers: bytes = b"") -> subprocess.Popen[bytes]:
        # A Ctrl-C between the start of a process and the note of it would leave the process behind.
        with self._interrupts.held():
            process = subprocess.Popen(
                ["bash", "-c", command],
                cwd=self.folder,
                env=self.environ,
                stdin=subprocess.PIPE if answers else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self._running.append(process)
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(answers)
                process.stdin.close()
        return process

    def _forget(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        process.stdout.close()
        self._running.remove(process)
