"""Shell completion: the only place that loads the whole tree, and only when a shell asks for it."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

import typer

from medperf.cli.main import COMMANDS


def tree() -> typer.Typer:
    """All commands below one root."""
    root = typer.Typer(name="medperf", rich_markup_mode=None, pretty_exceptions_enable=False)
    for module in dict.fromkeys(entry.module for entry in COMMANDS):
        app = importlib.import_module(f"medperf.cli.{module}").app
        names = {entry.name for entry in COMMANDS if entry.module == module}
        if app.info.name in names:
            root.add_typer(app)
        else:
            root.registered_commands.extend(app.registered_commands)
    return root


def complete(arguments: Sequence[str]) -> int:
    """Answer the shell, or install the script that asks; returns the exit code."""
    try:
        typer.main.get_command(tree()).main(list(arguments), prog_name="medperf")
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 1
    return 0
