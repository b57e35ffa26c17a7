"""``medperf profile``: a server with an account and settings of this site."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from medperf.cli.base import example, noun, session_of
from medperf.cli.output import Column
from medperf.domain.errors import UsageError

app = noun("profile", "Choose between servers and their settings.", "medperf profile ls")
_Name = Annotated[str, typer.Argument(metavar="NAME", help="The profile.", show_default=False)]
_Optional = Annotated[
    str | None, typer.Argument(metavar="NAME", help="The profile; the active one when missing.", show_default=False)
]
_Certificate = Annotated[
    str | None,
    typer.Option(
        "--certificate",
        metavar="PATH|system|automatic",
        help="The server's certificate: trust only this file, the system's authorities, or find it.",
    ),
]
_Engine = Annotated[str | None, typer.Option("--engine", metavar="NAME|auto", help="What runs containers.")]
_Wheelhouse = Annotated[
    str | None,
    typer.Option(
        "--wheelhouse",
        metavar="DIR",
        help="A folder of wheels, for sites without internet; an empty text takes it away.",
    ),
]
_Memory = Annotated[
    int | None, typer.Option("--memory-bytes", metavar="N", help="Most memory of a task; 0 is the policy's own limit.")
]
_Timeouts = Annotated[
    list[str] | None,
    typer.Option(
        "--timeout",
        metavar="TASK=SECONDS",
        help="Longest time of a task; may be repeated. TASK= is the policy's own limit.",
    ),
]


@example(app, "ls", "medperf profile ls")
def ls(ctx: typer.Context) -> None:
    """List the profiles; the active one is marked."""
    from medperf.flows.profiles import list_profiles

    session = session_of(ctx)
    found = list_profiles(session.home)
    session.out.listing(
        found,
        [Column("name"), Column("server"), Column("active"), Column("built in")],
        lambda profile: (profile.name, profile.server, profile.active, profile.built_in),
        empty="No profiles.",
    )


@example(
    app,
    "create",
    "medperf profile create hospital --server https://medperf.example.org",
    "medperf profile create lab --server https://medperf.example.org --engine sandbox --timeout infer=7200",
)
def create(
    ctx: typer.Context,
    name: _Name,
    server: Annotated[str, typer.Option("--server", metavar="URL", help="The server it talks to.")],
    certificate: _Certificate = None,
    engine: _Engine = None,
    wheelhouse: _Wheelhouse = None,
    memory_bytes: _Memory = None,
    timeout: _Timeouts = None,
) -> None:
    """Make a profile."""
    from medperf.flows.profiles import create_profile

    session = session_of(ctx)
    made = create_profile(
        session.home, name, server=server, **_given(certificate, engine, wheelhouse, memory_bytes, timeout)
    )
    if session.out.as_json:
        session.out.json(made)
        return
    session.out.line(f"Created profile {made.name}.")
    session.out.line(f"Next: {session.command('profile', 'activate', made.name)}")


@example(app, "activate", "medperf profile activate hospital")
def activate(ctx: typer.Context, name: _Name) -> None:
    """Use a profile from now on."""
    from medperf.flows.profiles import activate_profile

    session = session_of(ctx)
    chosen = activate_profile(session.home, name)
    session.out.answer(chosen, f"Profile {name} is active. Server: {chosen.server}")


@example(
    app,
    "set",
    "medperf profile set --server https://medperf.example.org",
    "medperf profile set hospital --certificate /etc/medperf/ca.crt",
)
def set_(
    ctx: typer.Context,
    name: _Optional = None,
    server: Annotated[str | None, typer.Option("--server", metavar="URL", help="The server it talks to.")] = None,
    certificate: _Certificate = None,
    engine: _Engine = None,
    wheelhouse: _Wheelhouse = None,
    memory_bytes: _Memory = None,
    timeout: _Timeouts = None,
) -> None:
    """Change settings of a profile; what is not given stays."""
    from medperf.flows.profiles import set_profile

    session = session_of(ctx)
    changes = _given(certificate, engine, wheelhouse, memory_bytes, timeout)
    if server is not None:
        changes["server"] = server
    if not changes:
        raise UsageError("usage", "There is nothing to change.", "See: medperf profile set --help")
    changed = set_profile(session.home, name or session.named_profile, **changes)
    session.out.answer(changed, f"Changed profile {changed.name}.")


@example(app, "view", "medperf profile view", "medperf profile view hospital")
def view(ctx: typer.Context, name: _Optional = None) -> None:
    """Show a profile with all its settings."""
    from medperf.flows.profiles import view_profile

    session = session_of(ctx)
    session.out.show(view_profile(session.home, name or session.named_profile))


@example(app, "delete", "medperf profile delete hospital")
def delete(ctx: typer.Context, name: _Name) -> None:
    """Delete a profile and its login. What this machine remembers of its server stays."""
    from medperf.flows.profiles import delete_profile

    session = session_of(ctx)
    delete_profile(session.home, name)
    session.out.answer({"deleted": name}, f"Deleted profile {name}.")


def _given(
    certificate: str | None,
    engine: str | None,
    wheelhouse: str | None,
    memory_bytes: int | None,
    timeouts: list[str] | None,
) -> dict[str, Any]:
    """The settings that were given, as the profile keeps them.

    Raises:
        UsageError: a timeout that is not TASK=SECONDS.
    """
    given: dict[str, Any] = {"certificate": certificate, "engine": engine}
    given = {name: value for name, value in given.items() if value is not None}
    if wheelhouse is not None:
        given["wheelhouse"] = wheelhouse or None
    if memory_bytes is not None:
        given["memory_bytes"] = memory_bytes or None
    if timeouts:
        given["timeouts"] = dict(map(_timeout, timeouts))
    return given


def _timeout(text: str) -> tuple[str, float | None]:
    task, equals, seconds = text.partition("=")
    try:
        if not equals:
            raise ValueError
        return task, float(seconds) if seconds else None
    except ValueError:
        raise UsageError(
            "usage", f"--timeout {text!r} is not TASK=SECONDS.", "Write it like --timeout infer=7200."
        ) from None
