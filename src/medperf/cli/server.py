"""``medperf server``: set up and run a server on this machine."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from medperf.cli.base import Session, example, noun, session_of
from medperf.cli.options import YesOption
from medperf.cli.server_audit import app as audit
from medperf.cli.server_database import Database, database_of, with_password
from medperf.cli.server_folder import Data, folder_of, installed
from medperf.cli.tutorial import Role
from medperf.domain.errors import MedPerfError
from medperf.domain.events import Note

app = noun("server", "Set up and run a server on this machine.", "medperf server start")
app.add_typer(audit)


@example(
    app,
    "init",
    "medperf server init --development",
    "medperf server init --data /srv/medperf --username alice",
    "medperf server init --data /srv/medperf --database postgresql://medperf@localhost/medperf",
)
def init(
    ctx: typer.Context,
    data: Data = None,
    database: Database = None,
    development: Annotated[
        bool,
        typer.Option("--development", help="For this machine only: a known admin account, may be seeded and reset."),
    ] = False,
    username: Annotated[str, typer.Option("--username", metavar="NAME", help="The first admin's account.")] = "admin",
    password: Annotated[
        str | None,
        typer.Option(
            "--password", metavar="TEXT", help="Its password; asked for when missing, but not with --development."
        ),
    ] = None,
) -> None:
    """Make the database, the folder of assets and the first admin's account; for development also a certificate."""
    session = session_of(ctx)
    folder = _private(session, folder_of(session, data))
    with installed():
        where = database_of(session, database)
    if password is None and not development:
        from medperf.flows.interaction import new_secret

        password = new_secret(session.ask, f"password for {username}")
    with installed():
        from medperf.server import admin

        made = with_password(
            session,
            where,
            lambda url: admin.init(
                folder, development=development, admin_username=username, admin_password=password, database=url
            ),
        )
    if session.out.as_json:
        session.out.json(made)
        return
    session.out.line(f"Created server in {made.data} with the admin account {made.admin_username}.")
    if password is None:  # --development, the only way not to be asked
        session.out.line("Its password is admin. For development only: keep it on this machine.")
    session.out.line(f"Next: {session.command('server', 'start', *_given(data))}")


@example(
    app,
    "start",
    "medperf server start",
    "medperf server start --host 0.0.0.0 --port 8443 --cert /etc/medperf/tls.crt --key /etc/medperf/tls.key",
)
def start(
    ctx: typer.Context,
    data: Data = None,
    database: Database = None,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Listen there; 0.0.0.0 is everywhere.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="N", help="Listen there; 0 is any free one.")
    ] = 8000,
    cert: Annotated[
        Path | None, typer.Option("--cert", metavar="PATH", help="The certificate; the data folder's own when missing.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="PATH", help="The certificate's private key.")] = None,
    http: Annotated[bool, typer.Option("--http", help="Without TLS; on this machine only, or behind a proxy.")] = False,
    behind_proxy: Annotated[
        bool, typer.Option("--behind-proxy", help="A proxy in front ends TLS and says who asks.")
    ] = False,
    requests_per_second: Annotated[
        float | None,
        typer.Option(
            "--requests-per-second", min=0, metavar="N", help="Of one account, for each worker (500); 0 is any number."
        ),
    ] = None,
    workers: Annotated[int, typer.Option("--workers", min=1, metavar="N", help="Processes.")] = 1,
    development: Annotated[
        bool, typer.Option("--development", help="Set the data folder up for development first, if it is new.")
    ] = False,
    migrate: Annotated[
        bool,
        typer.Option("--migrate", help="Bring a PostgreSQL database of an older version up to date; save it first."),
    ] = False,
) -> None:
    """Run the server until Ctrl-C."""
    session = session_of(ctx)
    folder = _private(session, folder_of(session, data))
    with installed(), contextlib.suppress(KeyboardInterrupt):
        from medperf.server import admin
        from medperf.server.audit.commands import noticed
        from medperf.server.settings import Settings

        where = database_of(session, database)
        admin.serve(
            folder,
            host=host,
            port=port,
            cert=cert,
            key=key,
            http=http,
            behind_proxy=behind_proxy,
            requests_per_second=requests_per_second,
            workers=workers,
            development=development,
            database=where,
            migrate=migrate,
            ready=lambda url, development: _ready(
                session,
                url,
                None if cert else folder / "cert.crt",
                development=development,
                notice=noticed(Settings(data=folder, database=where)),
            ),
        )


@example(app, "reset", "medperf server reset", "medperf server reset --data /srv/medperf --yes")
def reset(
    ctx: typer.Context,
    data: Data = None,
    database: Database = None,
    yes: YesOption = False,
    force: Annotated[bool, typer.Option("--force", help="Also a server that is not for development.")] = False,
) -> None:
    """Delete everything on the server and begin anew, as another instance."""
    session = session_of(ctx)
    folder = folder_of(session, data)
    if not yes and not session.ask.confirm(f"Delete all accounts, MLCubes, benchmarks and assets in {folder}?"):
        raise MedPerfError("declined", "Nothing was deleted.", "Answer y, or give --yes, to delete everything.")
    with installed():
        from medperf.server import admin

        made = admin.reset(folder, force=force, database=database_of(session, database))
    if session.out.as_json:
        session.out.json(made)
        return
    session.out.line(f"Reset server in {folder}: a new instance with the admin account {made.admin_username}.")
    session.out.line("If it is running, it goes on; everybody has to log in again.")
    following = ("server", "seed", "--demo", "benchmark") if made.development else ("login",)
    session.out.line(f"Next: {session.command(*following)}")


@example(
    app,
    "seed",
    "medperf server seed --demo benchmark",
    "medperf server seed --demo model --server https://localhost:8000 --cert server/cert.crt",
)
def seed(
    ctx: typer.Context,
    demo: Annotated[Role, typer.Option("--demo", help="The tutorial to prepare for.")],
    server: Annotated[
        str | None, typer.Option("--server", metavar="URL", help="The server; the local one when missing.")
    ] = None,
    cert: Annotated[
        str | None, typer.Option("--cert", "--certificate", metavar="PATH", help="The server's certificate to trust.")
    ] = None,
    username: Annotated[str, typer.Option("--username", metavar="NAME", help="An admin's account.")] = "admin",
    password: Annotated[
        str | None, typer.Option("--password", metavar="TEXT", help="Its password; the development one when missing.")
    ] = None,
) -> None:
    """Make the accounts and entries of a tutorial, on a development server that is running."""
    from medperf.flows.tutorial import seed_server

    session = session_of(ctx)
    with session.drawer as drawer:
        made = seed_server(
            demo.value,
            server=server or session.server or "https://localhost:8000",
            certificate=cert or session.certificate,
            environ=session.environ,
            cwd=session.cwd,
            username=username,
            password=password,
            emit=drawer,
        )
    if session.out.as_json:
        session.out.json(made)
        return
    session.out.line(f"Seeded {made.server} for the {demo.value} tutorial.")
    session.out.view({"users": list(made.users), "mlcubes": list(made.mlcubes), "benchmarks": list(made.benchmarks)})
    session.out.line(f"Next: {session.command('tutorial', 'setup', demo.value)}")


def _ready(session: Session, url: str, own_certificate: Path | None, *, development: bool, notice: str | None) -> None:
    """One line when the server listens; for a development server another that says how to log in. ``notice``: a warning before."""
    if notice is not None:
        with session.drawer as drawer:
            drawer(Note(notice, level="warning"))
    shown = url.replace("//127.0.0.1:", "//localhost:")
    if development and own_certificate is not None:
        from medperf.flows.profiles import trust_own_server

        trust_own_server(session.home, (shown, url), own_certificate)
    if session.out.as_json:
        session.out.json({"url": shown, "development": development})
        return
    session.out.line(f"MedPerf server listening on {shown} (Ctrl-C stops it)")
    if development:
        options = [] if shown == "https://localhost:8000" else ["--server", shown]
        session.out.line(f"Log in with: {session.command(*options, 'login')} (the tutorials name the accounts)")


def _private(session: Session, folder: Path) -> Path:
    """``folder``; where it is inside MedPerf's home, that is made first, for its owner alone."""
    from medperf.flows.profiles import make_home

    if folder.is_relative_to(session.home):
        make_home(session.home)
    return folder


def _given(data: Path | None) -> list[str]:
    return ["--data", str(data)] if data is not None else []
