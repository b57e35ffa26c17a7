"""``medperf tutorial``: the files of a tutorial."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from medperf.cli.base import example, noun, session_of

app = noun("tutorial", "Set up the files of a tutorial.", "medperf tutorial setup benchmark")


class Role(StrEnum):
    """Whose tutorial it is."""

    BENCHMARK = "benchmark"
    MODEL = "model"
    DATA = "data"


class Part(StrEnum):
    """What of the tutorials' files is wanted: a role's, or everybody's."""

    BENCHMARK = "benchmark"
    MODEL = "model"
    DATA = "data"
    ALL = "all"


@example(app, "setup", "medperf tutorial setup benchmark", "medperf tutorial setup all --folder somewhere_else")
def setup(
    ctx: typer.Context,
    role: Annotated[
        Part, typer.Argument(metavar="ROLE", help="Whose tutorial it is: benchmark, model, data, or all of them.")
    ] = Part.BENCHMARK,
    folder: Annotated[Path, typer.Option("--folder", metavar="DIR", help="The folder to make.")] = Path(
        "medperf_tutorial"
    ),
    force: Annotated[bool, typer.Option("--force", help="Write the folder anew if it exists.")] = False,
) -> None:
    """Copy a role's example MLCubes and data into a folder."""
    from medperf.flows.tutorial import setup_tutorial

    session = session_of(ctx)
    made = setup_tutorial(role.value, folder=folder, force=force)
    if session.out.as_json:
        session.out.json(made)
        return
    session.out.line(f"Created {made.path} with {', '.join(made.entries)}.")
    session.out.line(f"Next: {made.next}")
