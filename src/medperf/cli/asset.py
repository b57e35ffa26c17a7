"""``medperf asset``: files that the server hosts."""

from __future__ import annotations

from typing import Annotated

import typer

from medperf.cli.base import example, noun, session_of
from medperf.cli.output import Column

app = noun("asset", "Upload files that the server hosts.", "medperf asset upload mock_xrv_demo_data.tar.gz")


@example(app, "upload", "medperf asset upload mock_xrv_demo_data.tar.gz")
def upload(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="The file.", show_default=False)],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name there; the file's name when missing.")
    ] = None,
) -> None:
    """Upload a file. Everything inside MedPerf's own workspace is refused."""
    from medperf.flows.assets import upload_asset

    session = session_of(ctx)
    with session.site() as site:
        made = upload_asset(site, path, name=name)
    if session.out.as_json:
        session.out.json(made)
        return
    session.out.created("asset", made.id, made.name)
    session.out.line(f"Wherever a URL is asked for, it is asset:{made.id}")
    session.out.line(f"Next: {session.next('asset', 'ls', '--mine')}")


@example(app, "ls", "medperf asset ls --mine")
def ls(
    ctx: typer.Context,
    mine: Annotated[bool, typer.Option("--mine", help="Only yours.")] = False,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Only of this name.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, metavar="N", help="At most so many.")] = None,
) -> None:
    """List the assets you may read."""
    from medperf.flows.assets import list_assets

    session = session_of(ctx)
    with session.site() as site:
        found = list_assets(site, mine=mine, name=name, limit=limit)
    if session.out.as_json:
        session.out.json({"items": found})
        return
    session.out.table(
        [
            Column("id", right=True),
            Column("name"),
            Column("bytes", right=True),
            Column("owner"),
            Column("created", extra=True),
            Column("digest", short=True),
        ],
        [(asset.id, asset.name, asset.size, asset.owner.name, asset.created_at, asset.digest) for asset in found],
        empty="No assets found. Upload one with: medperf asset upload PATH",
    )
