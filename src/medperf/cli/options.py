"""Options that several commands share, so that one thing is called and explained the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

from medperf.domain.sorting import Sort
from medperf.domain.states import State

# ------------------------------------------------------------------------------------------------------------- listings

MineOption = Annotated[bool, typer.Option("--mine", help="Only yours, and those of organisations you operate for.")]
OwnedByOption = Annotated[
    str | None,
    typer.Option("--owner", metavar="OWNER", help="Only of this owner: an id, or an organisation of yours by name."),
]
NameOption = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Only of this name.")]
StateOption = Annotated[State | None, typer.Option("--state", case_sensitive=False, help="Only in this state.")]
ValidOption = Annotated[bool | None, typer.Option("--valid/--invalid", help="Only valid, or only invalid ones.")]
SearchOption = Annotated[
    str | None,
    typer.Option("--search", metavar="TEXT", help="Only names that begin with this, whatever their capitals."),
]
SortOption = Annotated[
    Sort | None, typer.Option("--sort", help="The order: of creation, or of names; - turns it round.")
]
LocalOption = Annotated[bool, typer.Option("--local", help="Only what this site knows; no server is asked.")]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="At most so many.")]

# -------------------------------------------------------------------------------------------------------------- changes

#: Who will own what is registered.
OwnerOption = Annotated[
    str | None,
    typer.Option(
        "--owner", metavar="ORGANISATION", help="The organisation that will own it, by name or id; you when missing."
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
