"""``medperf login``, ``logout`` and ``passwd``."""

from __future__ import annotations

from typing import Annotated

import typer

from medperf.cli.base import example, noun, session_of

app = noun("your account", "Your account.", "medperf login")


@example(
    app, "login", "medperf login", "medperf login --username testbenchmarkowner", "medperf --profile hospital login"
)
def login(
    ctx: typer.Context,
    username: Annotated[
        str | None, typer.Option("--username", "-u", metavar="NAME", help="Your username; asked for when missing.")
    ] = None,
    password: Annotated[
        str | None,
        typer.Option(
            "--password",
            "-p",
            metavar="TEXT",
            help="Your password; asked for when missing, which keeps it out of the process list.",
        ),
    ] = None,
) -> None:
    """Log in to the server of the active profile."""
    from medperf.flows import accounts

    session = session_of(ctx)
    with session.site() as site:
        result = accounts.login(site, username=username, password=password)
    if session.out.as_json:
        session.out.json(result)
        return
    role = " (an admin)" if result.is_admin else ""
    session.out.line(
        f"Logged in to {result.server} as {result.username}{role}, until {result.expires_at:%Y-%m-%d %H:%M} UTC."
    )
    following = ("benchmark", "ls", "--approval", "PENDING") if result.is_admin else ("status",)
    session.out.line(f"Next: {session.next(*following)}")


@example(app, "logout", "medperf logout")
def logout(ctx: typer.Context) -> None:
    """Log out: end the token on the server and forget it here."""
    from medperf.flows import accounts

    session = session_of(ctx)
    with session.site() as site:
        result = accounts.logout(site)
    if session.out.as_json:
        session.out.json(result)
    elif result.username is None:
        session.out.line("You were not logged in.")
    else:
        where = "" if result.ended_on_server else " here; the server could not be reached, so its token ends by itself"
        session.out.line(f"Logged out {result.username}{where}.")


@example(app, "passwd", "medperf passwd")
def passwd(ctx: typer.Context) -> None:
    """Change your password. It is asked for; all your other logins end."""
    from medperf.flows import accounts

    session = session_of(ctx)
    with session.site() as site:
        accounts.change_password(site)
    session.out.answer({"changed": True}, "Your password was changed.")
