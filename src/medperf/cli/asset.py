"""``medperf asset``: files that the server hosts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from medperf.cli.base import example, noun, session_of
from medperf.cli.options import LimitOption, MineOption, NameOption, OwnerOption, SearchOption, SortOption
from medperf.cli.output import Column

app = noun(
    "asset",
    "Upload, download and delete files that the server hosts.",
    "medperf asset upload mock_xrv_demo_data.tar.gz",
)

_Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="The asset's id.", show_default=False)]


@example(app, "upload", "medperf asset upload mock_xrv_demo_data.tar.gz")
def upload(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(metavar="PATH", help="The file.", show_default=False)],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Its name there; the file's name when missing.")
    ] = None,
    owner: OwnerOption = None,
) -> None:
    """Upload a file. Cut or killed, the same command goes on from there. What lies in MedPerf's own workspace is refused."""
    from medperf.flows.assets import upload_asset

    session = session_of(ctx)
    with session.site() as site:
        made = upload_asset(site, path, name=name, owner=owner)
    if session.out.as_json:
        session.out.json(made)
        return
    session.out.created("asset", made.id, made.name)
    session.out.line(f"Wherever a URL is asked for, it is asset:{made.id}")
    session.out.line(f"Next: {session.next('asset', 'ls', '--mine')}")


@example(app, "ls", "medperf asset ls --mine")
def ls(
    ctx: typer.Context,
    mine: MineOption = False,
    name: NameOption = None,
    digest: Annotated[str | None, typer.Option("--digest", metavar="SHA256", help="Only with this digest.")] = None,
    search: SearchOption = None,
    sort: SortOption = None,
    limit: LimitOption = None,
) -> None:
    """List the assets you may read."""
    from medperf.flows.assets import list_assets

    session = session_of(ctx)
    with session.site() as site:
        found = list_assets(site, mine=mine, name=name, digest=digest, search=search, sort=sort, limit=limit)
    session.out.listing(
        found,
        [
            Column("id", right=True),
            Column("name"),
            Column("bytes", right=True),
            Column("owner"),
            Column("created", extra=True),
            Column("digest", short=True),
        ],
        lambda asset: (asset.id, asset.name, asset.size, asset.owner.name, asset.created_at, asset.digest),
        empty="No assets found. Upload one with: medperf asset upload PATH",
    )


@example(app, "view", "medperf asset view 1")
def view(ctx: typer.Context, asset: _Id) -> None:
    """Show what an asset is."""
    from medperf.flows.assets import view_asset

    session = session_of(ctx)
    with session.site() as site:
        found = view_asset(site, asset)
    session.out.show(found)


@example(app, "download", "medperf asset download 1", "medperf asset download 1 --output weights.onnx")
def download(
    ctx: typer.Context,
    asset: _Id,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="PATH", help="The file or folder; the asset's name when missing."),
    ] = None,
) -> None:
    """Download an asset and check it. Cut or killed, the same command goes on from there."""
    from medperf.flows.assets import download_asset

    session = session_of(ctx)
    with session.site() as site:
        made = download_asset(site, asset, output=output)
    if session.out.as_json:
        session.out.json(made)
        return
    session.out.wrote(session.shown(made.path))


@example(app, "delete", "medperf asset delete 1")
def delete(ctx: typer.Context, asset: _Id) -> None:
    """Delete an asset of yours that no MLCube and no benchmark names."""
    from medperf.flows.assets import delete_asset

    session = session_of(ctx)
    with session.site() as site:
        gone = delete_asset(site, asset)
    session.out.answer(gone, f"Deleted asset {gone.id} ({gone.name}).")


@example(app, "quota", "medperf asset quota")
def quota(
    ctx: typer.Context,
    owner: Annotated[
        str | None,
        typer.Option("--owner", metavar="ORGANISATION", help="An organisation of yours, instead of yourself."),
    ] = None,
) -> None:
    """Show how much room your files take, and your unfinished uploads."""
    from medperf.flows.assets import read_quota

    session = session_of(ctx)
    with session.site() as site:
        found = read_quota(site, owner=owner)
    if session.out.as_json:
        session.out.json(found)
        return
    room = found.storage
    session.out.line(f"{room.owner.name}: {room.bytes:,} of {room.bytes_limit:,} bytes")
    session.out.line(f"assets: {room.assets:,} of {room.assets_limit:,}")
    session.out.line(f"unfinished uploads: {room.uploads:,} of {room.uploads_limit:,}")
    if found.unfinished:
        session.out.line()
        session.out.table(
            [
                Column("upload"),
                Column("name"),
                Column("sent", right=True),
                Column("bytes", right=True),
                Column("kept until"),
            ],
            [(entry.id, entry.name, entry.offset, entry.size, entry.expires_at) for entry in found.unfinished],
            empty="",
        )
        session.out.line("To go on, upload the same file again. To give one up: medperf asset cancel UPLOAD")


@example(app, "cancel", "medperf asset cancel 6b1e4c2a-7a52-4f0e-9d55-2f6c0b1d8e11")
def cancel(
    ctx: typer.Context,
    upload: Annotated[
        str, typer.Argument(metavar="UPLOAD", help="Its id, as medperf asset quota shows it.", show_default=False)
    ],
) -> None:
    """Give up an unfinished upload."""
    from medperf.flows.assets import cancel_upload

    session = session_of(ctx)
    with session.site() as site:
        gone = cancel_upload(site, upload)
    session.out.answer(gone, f"Cancelled the upload of {gone.name}: {gone.offset:,} of {gone.size:,} bytes had come.")
