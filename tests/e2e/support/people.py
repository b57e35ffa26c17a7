"""Somebody with an empty home, and a server process: what the tests with real processes share."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import playing

MEDPERF = Path(sys.executable).parent / "medperf"


@dataclass(frozen=True)
class Person:
    """Somebody with an empty home and the ``medperf`` command."""

    home: Path
    environ: dict[str, str]

    def medperf(self, *words: str, timeout: float = 240) -> playing.Answer:
        """Run a command to its end."""
        return playing.run([str(MEDPERF), *words], environ=self.environ, cwd=self.home, timeout=timeout)

    def start(self, *words: str) -> playing.Background:
        """Start a command."""
        return playing.Background([str(MEDPERF), *words], environ=self.environ, cwd=self.home)

    def error(self, *words: str, timeout: float = 240) -> dict[str, Any]:
        """The error that a command ends with."""
        answer = self.medperf(*words, "--format", "json", timeout=timeout)
        assert answer.code != 0, answer.text
        document: dict[str, Any] = json.loads(answer.text)["error"]
        return document | {"exit": answer.code}


def new_person(home: Path) -> Person:
    """Somebody with an empty home."""
    home.mkdir(parents=True)
    return Person(home, playing.environment(home, program=MEDPERF, MEDPERF_HOME=str(home / ".medperf")))


@dataclass
class Server:
    """A server process, and whoever runs it."""

    person: Person
    data: Path
    port: int
    process: playing.Background

    @classmethod
    def start(cls, person: Person, data: Path, port: int) -> Server:
        """A fresh development server that listens."""
        process = person.start("server", "start", "--development", "--data", str(data), "--port", str(port))
        process.wait_for("listening on")
        return cls(person, data, port, process)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"https://localhost:{self.port}"

    @property
    def options(self) -> tuple[str, ...]:
        """What makes any command talk to it."""
        return ("--server", self.url, "--certificate", str(self.data / "cert.crt"))

    def log_in(self, person: Person) -> None:
        """As the admin."""
        answer = person.medperf("login", "-u", "admin", "-p", "admin", *self.options)
        assert answer.code == 0, answer.text

    def reset(self) -> None:
        """Another instance from now on."""
        answer = self.person.medperf("server", "reset", "--data", str(self.data), "--yes")
        assert answer.code == 0, answer.text
