"""``medperf inbox``: what waits for you."""

from __future__ import annotations

import typer

from medperf.cli.base import example, noun, session_of
from medperf.cli.output import Column, document

app = noun("what waits", "What waits for you.", "medperf inbox")


@example(app, "inbox", "medperf inbox", "medperf inbox --format json")
def inbox(ctx: typer.Context) -> None:
    """Show what waits for you, each thing with the command that deals with it."""
    from medperf.flows.inbox import read_inbox

    session = session_of(ctx)
    with session.site() as site:
        found = read_inbox(site)
    if session.out.as_json:
        items = [{**document(one), "command": session.next(*one.command)} for one in found.waiting]
        session.out.json({"items": items, "more": found.more})
        return
    session.out.table(
        [Column("since", extra=True), Column("what"), Column("command")],
        [(one.since, one.says, session.next(*one.command)) for one in found.waiting],
        empty="Nothing waits for you.",
    )
    if found.more:
        session.out.line("There is more; deal with these first.")
