"""Logging in and out, passwords, accounts, and what this site is connected to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from medperf.domain import limits
from medperf.domain.errors import MedPerfError, NotFound
from medperf.domain.numbers import whole_number
from medperf.domain.sorting import Sort
from medperf.flows.interaction import new_secret
from medperf.flows.site import Site
from medperf.wire.models import PasswordChange, TokenCreate, UserCreate, UserUpdate, UserView


@dataclass(frozen=True)
class LoginResult:
    """Who is logged in where, until when. The token itself is never shown."""

    username: str
    is_admin: bool
    server: str
    expires_at: datetime


@dataclass(frozen=True)
class LogoutResult:
    """``ended_on_server``: whether the server was reached and ended the token too."""

    username: str | None
    ended_on_server: bool


@dataclass(frozen=True)
class StatusReport:
    """One look at everything. ``problem``: why the server could not be asked, or empty."""

    profile: str
    server: str
    certificate: str | None
    reachable: bool
    server_version: str | None
    instance_id: str | None
    development: bool | None
    username: str | None
    is_admin: bool
    expires_at: datetime | None
    workspace: str
    workspace_bytes: int
    engine: str
    pending: int
    problem: str
    organisations: tuple[str, ...] = ()  # those the account belongs to, each with its rights


def login(site: Site, *, username: str | None = None, password: str | None = None) -> LoginResult:
    """Ask for what is missing, log in, keep the token where only its owner can read it.

    Raises:
        Unauthenticated: wrong username or password, or a disabled account.
        ServerUnavailable: nobody answers there.
    """
    from medperf.client.credentials import Credential

    server = site.anonymous_api.server.get()
    username = username or site.ask.text("username: ")
    password = password or site.ask.secret("password: ")
    answer = site.anonymous_api.tokens.create(TokenCreate.of(username=username, password=password))
    site.credentials.set(
        site.profile.name,
        Credential(
            server=site.profile.server,
            token=answer.token,
            expires_at=answer.expires_at,
            username=answer.user.username,
            is_admin=answer.user.is_admin,
            instance_id=server.instance_id,
        ),
    )
    return LoginResult(
        username=answer.user.username,
        is_admin=answer.user.is_admin,
        server=site.profile.server,
        expires_at=answer.expires_at,
    )


def logout(site: Site) -> LogoutResult:
    """Forget the token here, and end it on the server if that can be reached."""
    credential = site.credentials.get(site.profile.name)
    if credential is None:
        return LogoutResult(username=None, ended_on_server=False)
    ended = True
    try:
        site.api.tokens.end_current()
    except MedPerfError:
        ended = False  # expired, another instance or no server: the token is of no use there, or ends by itself
    site.credentials.delete(site.profile.name)
    return LogoutResult(username=credential.username, ended_on_server=ended)


def change_password(site: Site, *, current: str | None = None, new: str | None = None) -> None:
    """Change the own password; every other login of the account ends.

    Raises:
        InvalidInput: the two entries of the new password differ, or it is too short.
        Unauthenticated: the current password is wrong.
    """
    site.credential()
    current = current or site.ask.secret("current password: ")
    if new is None:
        new = new_secret(site.ask, "new password")
    site.api.me.change_password(PasswordChange.of(current=current, new=new))


def status(site: Site) -> StatusReport:
    """Never fails because of the server, the login or the workspace: what is wrong is said in ``problem``."""
    credential = None
    problem = ""
    try:
        credential = site.credentials.get(site.profile.name)
    except MedPerfError as error:
        problem = str(error)
    if credential is not None and credential.server != site.profile.server:
        credential = None  # of the server that the profile named before: nothing here is done with it
    server = None
    try:
        server = site.anonymous_api.server.get()
    except MedPerfError as error:
        problem = problem or str(error)
    if server is not None and credential is not None and credential.instance_id != server.instance_id:
        problem = "This server was reset or replaced since you logged in. Log in again with: medperf login"
    elif credential is not None and credential.expired:
        problem = "Your login expired. Log in again with: medperf login"
    organisations: tuple[str, ...] = ()
    if credential is not None and server is not None and not problem:
        try:
            organisations = _organisations(site)
        except MedPerfError as error:  # a login that was ended there
            problem = str(error)
    pending = 0
    try:
        pending = len(site.workspace.pending.ls(server.instance_id)) if server else 0
    except MedPerfError as error:  # a full disk or a damaged workspace: all the rest can still be said
        problem = problem or str(error)
    return StatusReport(
        profile=site.profile.name,
        server=site.profile.server,
        certificate=str(site.certificate) if site.certificate else None,
        reachable=server is not None,
        server_version=server.version if server else None,
        instance_id=server.instance_id if server else None,
        development=server.development if server else None,
        username=credential.username if credential else None,
        is_admin=credential.is_admin if credential else False,
        expires_at=credential.expires_at if credential else None,
        workspace=str(site.workspace.path),
        workspace_bytes=sum(site.workspace.usage().values()),
        engine=site.engine.name,
        pending=pending,
        problem=problem,
        organisations=organisations,
    )


def _organisations(site: Site) -> tuple[str, ...]:
    """At most so many as one page holds; an admin, who sees all, is told their own."""
    found = site.api.organisations.list(limit=limits.PAGE_MAX)
    return tuple(f"{one.name} ({', '.join(one.rights)})" for one in found if one.rights)


def add_user(
    site: Site, *, username: str, password: str | None = None, email: str | None = None, admin: bool = False
) -> UserView:
    """Make an account, as an admin. The password is asked for when not given."""
    site.credential()
    password = password or site.ask.secret(f"password for {username}: ")
    return site.api.users.create(UserCreate.of(username=username, password=password, email=email, is_admin=admin))


def list_users(
    site: Site,
    *,
    name: str | None = None,
    is_admin: bool | None = None,
    is_active: bool | None = None,
    search: str | None = None,
    sort: Sort | None = None,
    limit: int | None = None,
) -> list[UserView]:
    """Accounts, as an admin."""
    found = site.api.users.list(
        name=name, is_admin=is_admin, is_active=is_active, search=search, sort=sort, limit=limit
    )
    return list(found)


def disable_user(site: Site, user: str, *, leave_unmanaged: bool = False) -> UserView:
    """Disable an account by id or username, as an admin: its logins end at once.

    Args:
        leave_unmanaged: also where an organisation is left without an active manager.

    Raises:
        NotFound: there is no such account.
        Conflict: an organisation would be left without an active manager; it is named.
    """
    wanted = UserUpdate.of(is_active=False, leave_unmanaged=leave_unmanaged)
    return site.api.users.update(_user_id(site, user), wanted)


def enable_user(site: Site, user: str) -> UserView:
    """Enable a disabled account by id or username, as an admin.

    Raises:
        NotFound: there is no such account.
    """
    return site.api.users.update(_user_id(site, user), UserUpdate.of(is_active=True))


def erase_user(site: Site, user: str) -> UserView:
    """Disable an account by id or username, as an admin, and erase what is personal of it, for good.

    Raises:
        NotFound: there is no such account.
        Conflict: one's own, the last admin's, or one whose organisation would have no manager.
    """
    user_id = _user_id(site, user)
    site.api.users.update(user_id, UserUpdate.of(is_active=False))
    return site.api.users.erase(user_id)


def _user_id(site: Site, user: str) -> int:
    """The id of an account that is told by id or username.

    Raises:
        NotFound: there is no such account.
    """
    number = whole_number(user)
    if number is not None:
        return number
    found = next(iter(site.api.users.list(name=user, limit=1)), None)
    if found is None:
        raise NotFound("unknown_user", f"There is no account named {user!r}.", "List them with: medperf user ls")
    return found.id
