"""``medperf user``: the accounts of the server."""

from __future__ import annotations

from typing import Annotated

import typer

from medperf.cli.base import example, noun, session_of
from medperf.cli.options import LimitOption, SearchOption, SortOption, YesOption
from medperf.cli.output import Column
from medperf.domain.errors import MedPerfError

app = noun("user", "Manage the accounts of the server (admins only).", "medperf user ls")

_User = Annotated[str, typer.Argument(metavar="ID|NAME", help="The account.", show_default=False)]


@example(app, "add", "medperf user add alice --email alice@example.com", "medperf user add bob --admin")
def add(
    ctx: typer.Context,
    username: Annotated[str, typer.Argument(metavar="USERNAME", help="The name to log in with.", show_default=False)],
    password: Annotated[
        str | None,
        typer.Option(
            "--password", "-p", metavar="TEXT", help="Asked for when missing, which keeps it out of the process list."
        ),
    ] = None,
    email: Annotated[str | None, typer.Option("--email", metavar="ADDRESS", help="Where to reach the person.")] = None,
    admin: Annotated[bool, typer.Option("--admin", help="May approve benchmarks and manage accounts.")] = False,
) -> None:
    """Make an account."""
    from medperf.flows.accounts import add_user

    session = session_of(ctx)
    with session.site() as site:
        made = add_user(site, username=username, password=password, email=email, admin=admin)
    if session.out.as_json:
        session.out.json(made)
        return
    session.out.created("user", made.id, made.username, then=session.next("login", "--username", made.username))


@example(app, "ls", "medperf user ls")
def ls(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Only this username.")] = None,
    admin: Annotated[bool | None, typer.Option("--admin/--no-admin", help="Only admins, or only others.")] = None,
    active: Annotated[
        bool | None, typer.Option("--active/--disabled", help="Only active, or only disabled ones.")
    ] = None,
    search: SearchOption = None,
    sort: SortOption = None,
    limit: LimitOption = None,
) -> None:
    """List the accounts."""
    from medperf.flows.accounts import list_users

    session = session_of(ctx)
    with session.site() as site:
        found = list_users(site, name=name, is_admin=admin, is_active=active, search=search, sort=sort, limit=limit)
    session.out.listing(
        found,
        [
            Column("id", right=True),
            Column("username"),
            Column("email"),
            Column("admin"),
            Column("active"),
            Column("created", extra=True),
        ],
        lambda user: (user.id, user.username, user.email, user.is_admin, user.is_active, user.created_at),
        empty="No accounts found.",
    )


@example(app, "erase", "medperf user erase alice", "medperf user erase 5 --yes")
def erase(
    ctx: typer.Context,
    user: _User,
    yes: YesOption = False,
) -> None:
    """Disable an account and erase its name, address and other personal values, for good. What it owns stays."""
    from medperf.flows.accounts import erase_user

    session = session_of(ctx)
    if not yes and not session.ask.confirm(f"Erase the name and the address of {user} for good?"):
        raise MedPerfError("declined", "Nothing was erased.", "Answer y, or give --yes, to erase.")
    with session.site() as site:
        erased = erase_user(site, user)
    session.out.answer(erased, f"Erased user {erased.id}: it is called {erased.username} now.")


@example(app, "disable", "medperf user disable alice")
def disable(
    ctx: typer.Context,
    user: _User,
    leave_unmanaged: Annotated[
        bool,
        typer.Option("--leave-unmanaged", help="Also where an organisation has no other active manager."),
    ] = False,
) -> None:
    """Disable an account: its logins end at once, what it owns stays."""
    from medperf.flows.accounts import disable_user

    session = session_of(ctx)
    with session.site() as site:
        disabled = disable_user(site, user, leave_unmanaged=leave_unmanaged)
    session.out.answer(disabled, f"Disabled user {disabled.id} ({disabled.username}).")


@example(app, "enable", "medperf user enable alice")
def enable(ctx: typer.Context, user: _User) -> None:
    """Enable a disabled account again; it logs in with its old password."""
    from medperf.flows.accounts import enable_user

    session = session_of(ctx)
    with session.site() as site:
        enabled = enable_user(site, user)
    session.out.answer(enabled, f"Enabled user {enabled.id} ({enabled.username}).")
