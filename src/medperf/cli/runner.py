"""Finds the command, gives it a session and turns whatever happens into text and an exit code."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

import typer

from medperf.cli import errors
from medperf.cli.main import COMMANDS
from medperf.cli.session import Session
from medperf.domain.errors import UsageError


def run(arguments: Sequence[str], *, leading: Mapping[str, str], problem: str = "") -> int:
    """Run a command line without its leading global options, which are in ``leading``; returns the exit code."""
    session = Session.of_process(leading, arguments)

    def work() -> None:
        session.accept(leading)
        if problem:
            raise UsageError("usage", problem, "See: medperf --help")
        name, *rest = arguments
        command = find_command(name)
        if "--help" in rest or "-h" in rest:
            session.out.write(help_of(command, f"medperf {name}", rest) + "\n")
            return
        with command.make_context(f"medperf {name}", rest, obj=session) as context:
            command.invoke(context)

    with session.signals:
        return errors.guard(session, work)


def find_command(name: str) -> Any:
    """The command or noun of that name, importing its module only.

    Raises:
        UsageError: there is none; names the closest ones.
    """
    for entry in COMMANDS:
        if entry.name == name:
            command: Any = typer.main.get_command(importlib.import_module(f"medperf.cli.{entry.module}").app)
            return command if command.name == name else command.commands[name]
    from difflib import get_close_matches

    close = get_close_matches(name, [entry.name for entry in COMMANDS], cutoff=0.5)
    fix = f"Did you mean: medperf {close[0]} ? See: medperf --help" if close else "See: medperf --help"
    raise UsageError("usage", f"There is no command {name!r}.", fix, details={"possibilities": close})


def help_of(command: Any, path: str, words: Sequence[str]) -> str:
    """The help of the command that ``words`` lead to, without reading its options (which would import what validates them)."""
    context = typer.Context(command, info_name=path)
    for word in words:
        below = getattr(command, "commands", {}).get(word)
        if below is not None:
            command = below
            context = typer.Context(command, info_name=word, parent=context)
    return context.get_help()
