"""One run of the command line: the global options, the streams, and the site that a command works at."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medperf.cli.draw import Drawer
from medperf.cli.output import Output
from medperf.cli.signals import Signals
from medperf.domain.errors import UsageError

if TYPE_CHECKING:
    from medperf.cli.ask import Terminal
    from medperf.flows.site import Site


class Format(StrEnum):
    """How answers are printed."""

    TEXT = "text"
    JSON = "json"


@dataclass
class Session:
    """What the person said besides the command, and where answers go.

    The fields of the global options may still change while the command line is read; `out` is made after that.
    """

    environ: Mapping[str, str]
    cwd: Path
    stdin: Any
    stdout: Any
    stderr: Any
    profile: str | None = None
    server: str | None = None
    certificate: str | None = None
    format: Format = Format.TEXT
    verbose: bool = False
    signals: Signals = field(default_factory=Signals)

    @classmethod
    def of_process(cls, leading: Mapping[str, str], words: Sequence[str] = ()) -> Session:
        """The session of this process. ``--format`` is looked at first, so that even a wrong command line is answered in it.

        Args:
            leading: global options before the command.
            words: the rest of the command line, not yet read.
        """
        for stream in (sys.stdout, sys.stderr):
            # A name that the terminal's encoding cannot show must not end a command.
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")
        formats = [entry.value for entry in Format]
        said = (_format_in(words), leading.get("format"), os.environ.get("MEDPERF_FORMAT"))
        wanted = next((word for word in said if word in formats), None)
        return cls(
            environ=os.environ,
            cwd=_current_folder(),
            stdin=sys.stdin,
            stdout=sys.stdout,
            stderr=sys.stderr,
            format=Format.JSON if wanted == Format.JSON.value else Format.TEXT,
        )

    def accept(self, leading: Mapping[str, str]) -> None:
        """Take the global options that stood before the command.

        Raises:
            UsageError: a format that does not exist.
        """
        self.profile, self.server, self.certificate = (
            leading.get(name) for name in ("profile", "server", "certificate")
        )
        self.verbose = "verbose" in leading
        for source, value in (
            ("MEDPERF_FORMAT", self.environ.get("MEDPERF_FORMAT")),
            ("--format", leading.get("format")),
        ):
            if value and value not in tuple(Format):
                raise UsageError(
                    "usage",
                    f"{source} is {value!r}; the formats are text and json.",
                    "Use --format text or --format json.",
                )

    @cached_property
    def out(self) -> Output:
        """Where the answer goes."""
        return Output(self.stdout, as_json=self.format is Format.JSON)

    @cached_property
    def drawer(self) -> Drawer:
        """Where progress goes. Silent for programs: their stderr holds the error document and nothing else."""
        return Drawer(
            self.stderr,
            silent=self.format is Format.JSON and not self.verbose,
            plain=self.format is Format.JSON,
            verbose=self.verbose,
        )

    @cached_property
    def ask(self) -> Terminal:
        """How the person is asked."""
        from medperf.cli.ask import Terminal

        quiet = self.format is Format.JSON
        return Terminal(self.stdin, self.stderr, drawer=self.drawer, signals=self.signals, quiet=quiet)

    @contextmanager
    def site(self, *, stops_gently: bool = False) -> Iterator[Site]:
        """The site of the active profile.

        Args:
            stops_gently: the flow runs containers: the first Ctrl-C only asks it to stop them. Otherwise Ctrl-C ends at once.
        """
        from medperf.flows.site import Site, SiteOptions

        options = SiteOptions(profile=self.profile, server=self.server, certificate=self.certificate)
        with (
            self.drawer as drawer,
            Site.open(options, environ=self.environ, cwd=self.cwd, emit=drawer, ask=self.ask) as site,
            self.signals.watch(site.cancel if stops_gently else None, quiet=self.format is Format.JSON),
        ):
            yield site

    def command(self, *words: str) -> str:
        """A command to suggest, ready to paste."""
        return shlex.join(["medperf", *words])

    def next(self, *words: str) -> str:
        """A command about the same server to suggest: with the global options of this one."""
        options: list[str] = []
        for name in ("profile", "server", "certificate"):
            value = getattr(self, name)
            if value:
                options += [f"--{name}", value]
        return self.command(*words, *options)

    def shown(self, path: Path) -> Path:
        """``path`` as a person here would write it: relative where it is below the current folder."""
        here = self.cwd
        return path.relative_to(here) if path.is_absolute() and path.is_relative_to(here) else path

    def pointed(self, fix: str) -> str:
        """``fix`` with its ``medperf login`` about the server that this command was about."""
        return fix.replace("medperf login", self.next("login")) if fix.endswith("medperf login") else fix

    @property
    def named_profile(self) -> str | None:
        """The profile that the person named for this call; None = the active one."""
        return self.profile or self.environ.get("MEDPERF_PROFILE") or None

    @property
    def home(self) -> Path:
        """Where profiles, logins and workspaces are kept."""
        from medperf.workspace.paths import home

        return home(self.environ)


def _format_in(words: Sequence[str]) -> str | None:
    """The last ``--format`` among words that nobody has read yet."""
    found = None
    for index, word in enumerate(words):
        if word == "--":
            break
        if word.startswith("--format="):
            found = word.partition("=")[2]
        elif word == "--format" and index + 1 < len(words):
            found = words[index + 1]
    return found


def _current_folder() -> Path:
    """Where the person is; the root where that folder was removed meanwhile, for most commands need none."""
    try:
        return Path.cwd()
    except OSError:
        return Path("/")
