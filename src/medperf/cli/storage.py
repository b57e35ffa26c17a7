"""``medperf storage``: what this site keeps on disk."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from medperf.cli.base import example, noun, session_of
from medperf.cli.options import YesOption
from medperf.cli.output import Column, human_bytes

app = noun("storage", "Look at what this site keeps on disk, and clean up.", "medperf storage ls")


class PartName(StrEnum):
    """What can be cleaned up; the same words as `medperf.flows.storage.CLEANABLE`, which is not imported for a help text."""

    PREDICTIONS = "predictions"
    STEPS = "steps"
    DOWNLOADS = "downloads"
    LOGS = "logs"
    PREPARING = "preparing"
    WHEELS = "wheels"


@example(app, "ls", "medperf storage ls")
def ls(ctx: typer.Context) -> None:
    """Show what each part of the workspace takes, and how much of it a cleanup would free."""
    from medperf.flows.storage import list_storage

    session = session_of(ctx)
    with session.site() as site:
        found = list_storage(site)
    session.out.listing(
        found,
        [
            Column("part"),
            Column("things", right=True),
            Column("size", right=True),
            Column("can go", right=True),
            Column("what it is"),
            Column("where", extra=True),
        ],
        lambda one: (
            one.part,
            one.count,
            human_bytes(one.bytes),
            human_bytes(one.free) if one.free else "-",
            one.part.says,
            session.shown(one.path),
        ),
        empty="Nothing is kept here.",
    )
    if not session.out.as_json:
        session.out.line(f"All of it: {human_bytes(sum(one.bytes for one in found))}")
        if any(one.free for one in found):
            session.out.line(f"Next: {session.next('storage', 'cleanup', '--dry-run')}")


@example(
    app,
    "cleanup",
    "medperf storage cleanup",
    "medperf storage cleanup logs steps --older-than 30 --yes",
    "medperf storage cleanup predictions --dry-run",
)
def cleanup(
    ctx: typer.Context,
    parts: Annotated[
        list[PartName] | None,
        typer.Argument(
            metavar="PART",
            help="predictions, steps, downloads, logs, preparing or wheels; the first four when missing.",
            show_default=False,
        ),
    ] = None,
    older_than: Annotated[
        int | None,
        typer.Option("--older-than", metavar="DAYS", min=0, max=36500, help="Only what was made before that."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")] = False,
    yes: YesOption = False,
) -> None:
    """Delete what can be downloaded or computed again, and predictions that nobody needs. Never prepared data, nor what waits for a decision."""
    from medperf.flows.storage import Part, clean_up

    session = session_of(ctx)
    with session.site() as site:
        done = clean_up(
            site, [Part(part.value) for part in parts or ()], older_than=older_than, dry_run=dry_run, yes=yes
        )
    if session.out.as_json:
        session.out.json(done)
        return
    found = [part for part in done.parts if part.count]
    session.out.table(
        [Column("part"), Column("things", right=True), Column("size", right=True)],
        [(part.part, part.count, human_bytes(part.bytes)) for part in found],
        empty="There is nothing to delete.",
    )
    if found:
        session.out.line(f"{'Deleted' if done.deleted else 'To be deleted'}: {human_bytes(done.bytes)}")
    if found and not done.deleted:
        words = [part.part.value for part in found]
        age = ["--older-than", str(older_than)] if older_than is not None else []
        session.out.line(f"Next: {session.next('storage', 'cleanup', *words, *age)}")
