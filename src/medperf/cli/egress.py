"""``medperf egress``: the journal of everything that left this site."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from medperf.cli.base import example, noun, session_of
from medperf.cli.options import LimitOption
from medperf.cli.output import Column, cell
from medperf.domain.disclosure import RULES, Exit

if TYPE_CHECKING:
    from medperf.workspace.egress import EgressEntry

app = noun("egress", "Look up everything that left this site, and who agreed.", "medperf egress ls")


@example(app, "ls", "medperf egress ls", "medperf egress ls --kind metrics --limit 10")
def ls(
    ctx: typer.Context,
    kind: Annotated[Exit | None, typer.Option("--kind", help="Only of this kind.")] = None,
    limit: LimitOption = None,
) -> None:
    """List what left, newest first. No server is asked."""
    from medperf.flows.egress import list_egress

    session = session_of(ctx)
    with session.site() as site:
        found = list_egress(site, kind=kind, limit=limit)
    session.out.listing(
        found,
        [
            Column("number", right=True),
            Column("kind"),
            Column("about", short=True),
            Column("agreed by"),
            Column("outcome"),
            Column("server", extra=True),
            Column("when", extra=True),
        ],
        lambda one: (
            one.number,
            one.kind,
            one.about,
            one.consent,
            _outcome(one),
            one.server,
            datetime.fromisoformat(one.at),
        ),
        empty="Nothing left this site towards this server.",
    )


@example(app, "view", "medperf egress view 3")
def view(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(metavar="NUMBER", help="Its number in the journal.", show_default=False)],
) -> None:
    """Show one body exactly as it left, and what became of it."""
    from medperf.flows.egress import view_egress

    session = session_of(ctx)
    with session.site() as site:
        found = view_egress(site, number)
    if session.out.as_json:
        session.out.json({**_head(found), "body": found.body, "events": found.events})
        return
    out = session.out
    out.facts(
        ("number", found.number),
        ("kind", f"{found.kind.value} ({RULES[found.kind].says})"),
        ("about", found.about),
        ("server", found.server),
        ("agreed by", found.consent),
        ("agreed", datetime.fromisoformat(found.at)),
        ("digest", found.digest),
    )
    for event in found.events:
        detail = f" ({event.detail})" if event.detail else ""
        out.facts((event.event.value, f"{cell(datetime.fromisoformat(event.at))}{detail}"))
    out.line()
    out.line("The body:")
    out.view(found.body)


def _outcome(entry: EgressEntry) -> str:
    """The newest event; what was never begun says so."""
    return entry.outcome.value if entry.outcome is not None else "not begun"


def _head(entry: EgressEntry) -> dict[str, object]:
    return {
        "number": entry.number,
        "key": entry.key,
        "kind": entry.kind,
        "about": entry.about,
        "server": entry.server,
        "instance_id": entry.instance_id,
        "consent": entry.consent,
        "at": entry.at,
        "digest": entry.digest,
        "outcome": entry.outcome,
    }
