"""``medperf model``: which models may run at this site."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from medperf.cli.base import example, noun, session_of
from medperf.cli.options import YesOption
from medperf.cli.output import Column

app = noun("model", "Say which models may run at this site.", "medperf model accept 4")


@example(app, "accept", "medperf model accept 4")
def accept(
    ctx: typer.Context,
    model: Annotated[int, typer.Argument(metavar="ID", help="The model's id.", show_default=False)],
    yes: YesOption = False,
) -> None:
    """Look at a model and accept it for this site: this digest, in this form. A benchmark's approval does not count here."""
    from medperf.flows.accepting import BY_POLICY, accept_model

    session = session_of(ctx)
    with session.site() as site:
        found = accept_model(site, model, yes=yes)
    if session.out.as_json:
        session.out.json(found)
        return
    who = f"{BY_POLICY} accepts it" if found.who == BY_POLICY else f"accepted by {found.who}"
    session.out.line(f"Model {found.model} ({found.name}) may run at this site: {who}.")
    session.out.facts(("digest", found.digest), ("form", found.form), ("it gets", found.resources))
    session.out.line(f"Next: {session.next('inbox')}")


@example(app, "ls", "medperf model ls")
def ls(ctx: typer.Context) -> None:
    """List the models that were accepted or refused at this site, newest first. No server is asked."""
    from medperf.flows.accepting import list_accepted

    session = session_of(ctx)
    with session.site() as site:
        found = list_accepted(site)
    session.out.listing(
        found,
        [
            Column("model", right=True),
            Column("name"),
            Column("answer"),
            Column("owner"),
            Column("form", extra=True),
            Column("digest", short=True),
            Column("by", extra=True),
            Column("when", extra=True),
        ],
        lambda one: (
            one.model,
            one.name,
            "accepted" if one.accepted else "refused",
            one.owner_name,
            one.form,
            one.digest,
            one.who,
            datetime.fromisoformat(one.at),
        ),
        empty="No model was accepted here yet. Accept one with: medperf model accept --help",
    )
