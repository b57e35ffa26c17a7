"""``medperf organisation``: own things together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from medperf.cli.base import Session, example, noun, session_of
from medperf.cli.options import LimitOption
from medperf.cli.output import Column
from medperf.domain.permissions import Right

app = noun("organisation", "Own MLCubes and benchmarks together with others.", "medperf organisation ls")

_Organisation = Annotated[
    str, typer.Argument(metavar="ORGANISATION", help="The organisation's name or id.", show_default=False)
]
_Member = Annotated[str, typer.Argument(metavar="USERNAME", help="The member, by name or id.", show_default=False)]
_Invitation = Annotated[int, typer.Argument(metavar="ID", help="The invitation's id.", show_default=False)]
_Manage = Annotated[bool, typer.Option("--manage", help="May invite, change rights and mark things invalid.")]
_Operate = Annotated[bool, typer.Option("--operate", help="May register and edit, upload and run.")]
_Release = Annotated[bool, typer.Option("--release", help="May release results.")]


@example(app, "create", "medperf organisation create 'Hospital A'")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Unique among organisations.", show_default=False)],
) -> None:
    """Make an organisation; you become its first manager."""
    from medperf.flows.organisations import create_organisation

    session = session_of(ctx)
    with session.site() as site:
        made = create_organisation(site, name)
    if session.out.as_json:
        session.out.json(made)
        return
    following = session.next("organisation", "invite", str(made.id), "USERNAME")
    session.out.created("organisation", made.id, made.name, then=following)


@example(app, "ls", "medperf organisation ls")
def ls(ctx: typer.Context, limit: LimitOption = None) -> None:
    """List the organisations you belong to; an admin sees all."""
    from medperf.flows.organisations import list_organisations

    session = session_of(ctx)
    with session.site() as site:
        found = list_organisations(site, limit=limit)
    session.out.listing(
        found,
        [Column("id", right=True), Column("name"), Column("your rights"), Column("created", extra=True)],
        lambda one: (one.id, one.name, _rights_text(one.rights), one.created_at),
        empty="You belong to no organisation. Make one with: medperf organisation create NAME",
    )


@example(app, "view", "medperf organisation view 'Hospital A'")
def view(ctx: typer.Context, organisation: _Organisation) -> None:
    """Show an organisation and your rights in it."""
    from medperf.flows.organisations import find_organisation

    session = session_of(ctx)
    with session.site() as site:
        session.out.show(find_organisation(site, organisation))


@example(app, "rename", "medperf organisation rename 3 'Hospital B'")
def rename(
    ctx: typer.Context,
    organisation: _Organisation,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its new name.", show_default=False)],
) -> None:
    """Give an organisation another name."""
    from medperf.flows.organisations import rename_organisation

    session = session_of(ctx)
    with session.site() as site:
        renamed = rename_organisation(site, organisation, name)
    session.out.answer(renamed, f"Organisation {renamed.id} is now {renamed.name}.")


@example(app, "members", "medperf organisation members 'Hospital A'")
def members(ctx: typer.Context, organisation: _Organisation, limit: LimitOption = None) -> None:
    """List who belongs to an organisation, and what they may do for it."""
    from medperf.flows.organisations import list_members

    session = session_of(ctx)
    with session.site() as site:
        found = list_members(site, organisation, limit=limit)
    session.out.listing(
        found,
        [
            Column("id", right=True),
            Column("username"),
            Column("rights"),
            Column("active", extra=True),
            Column("since", extra=True),
        ],
        lambda one: (one.id, one.username, _rights_text(one.rights), one.is_active, one.created_at),
        empty="Nobody belongs to it.",
    )


@example(app, "invite", "medperf organisation invite 'Hospital A' alice --operate --release")
def invite(
    ctx: typer.Context,
    organisation: _Organisation,
    username: Annotated[str, typer.Argument(metavar="USERNAME", help="Whom to invite.", show_default=False)],
    manage: _Manage = False,
    operate: _Operate = False,
    release: _Release = False,
) -> None:
    """Invite somebody, with the right to operate where no other is given. Whether there is such an account is not told."""
    from medperf.flows.organisations import invite as send

    session = session_of(ctx)
    with session.site() as site:
        made = send(site, organisation, username, _chosen(manage, operate, release))
    if session.out.as_json:
        session.out.json(made)
        return
    session.out.line(f"Invited {made.username} to {made.organisation.name} ({_rights_text(made.rights)}): {made.id}")
    session.out.line(f"They accept it with: medperf organisation accept {made.id}")
    session.out.line(f"Next: {session.next('organisation', 'invitations', str(made.organisation.id))}")


@example(app, "invitations", "medperf organisation invitations", "medperf organisation invitations 'Hospital A'")
def invitations(
    ctx: typer.Context,
    organisation: Annotated[
        str | None,
        typer.Argument(metavar="ORGANISATION", help="Those it sent; when missing, those to you.", show_default=False),
    ] = None,
    limit: LimitOption = None,
) -> None:
    """List open invitations: to you, or of an organisation that you manage."""
    from medperf.flows.organisations import list_invitations

    session = session_of(ctx)
    with session.site() as site:
        found = list_invitations(site, organisation, limit=limit)
    session.out.listing(
        found,
        [
            Column("id", right=True),
            Column("organisation"),
            Column("username"),
            Column("rights"),
            Column("expires", extra=True),
        ],
        lambda one: (one.id, one.organisation.name, one.username, _rights_text(one.rights), one.expires_at),
        empty="No open invitations.",
    )
    if found and organisation is None and not session.out.as_json:
        session.out.line(f"Next: {session.next('organisation', 'accept', str(found[0].id))}")


@example(app, "accept", "medperf organisation accept 7")
def accept(ctx: typer.Context, invitation: _Invitation) -> None:
    """Accept an invitation to you."""
    _answer(session_of(ctx), invitation, accept=True)


@example(app, "decline", "medperf organisation decline 7")
def decline(ctx: typer.Context, invitation: _Invitation) -> None:
    """Decline an invitation to you."""
    _answer(session_of(ctx), invitation, accept=False)


@example(app, "cancel-invitation", "medperf organisation cancel-invitation 'Hospital A' 7")
def cancel_invitation(ctx: typer.Context, organisation: _Organisation, invitation: _Invitation) -> None:
    """Take an invitation back."""
    from medperf.flows.organisations import cancel_invitation as cancel

    session = session_of(ctx)
    with session.site() as site:
        cancel(site, organisation, invitation)
    session.out.answer({"cancelled": invitation}, f"Cancelled invitation {invitation}.")


@example(app, "set-rights", "medperf organisation set-rights 'Hospital A' alice --operate --release")
def set_rights(
    ctx: typer.Context,
    organisation: _Organisation,
    member: _Member,
    manage: _Manage = False,
    operate: _Operate = False,
    release: _Release = False,
) -> None:
    """Give a member exactly these rights."""
    from medperf.flows.organisations import set_rights as change

    session = session_of(ctx)
    with session.site() as site:
        changed = change(site, organisation, member, _chosen(manage, operate, release))
    session.out.answer(changed, f"The rights of {changed.username} are now: {_rights_text(changed.rights)}.")


@example(app, "remove", "medperf organisation remove 'Hospital A' alice")
def remove(ctx: typer.Context, organisation: _Organisation, member: _Member) -> None:
    """Remove a member; what the organisation owns stays with it."""
    from medperf.flows.organisations import remove_member

    session = session_of(ctx)
    with session.site() as site:
        gone = remove_member(site, organisation, member)
    session.out.answer(gone, f"Removed {gone.username}.")


@example(app, "leave", "medperf organisation leave 'Hospital A'")
def leave(ctx: typer.Context, organisation: _Organisation) -> None:
    """Leave an organisation. Its last manager cannot."""
    from medperf.flows.organisations import leave_organisation

    session = session_of(ctx)
    with session.site() as site:
        left = leave_organisation(site, organisation)
    session.out.answer(left, f"You left {left.name}.")


def _rights_text(rights: Sequence[Right]) -> str:
    """Rights for people."""
    return ", ".join(right.value for right in rights) or "-"


def _chosen(manage: bool, operate: bool, release: bool) -> list[Right]:
    chosen = ((Right.MANAGE, manage), (Right.OPERATE, operate), (Right.RELEASE, release))
    return [right for right, wanted in chosen if wanted]


def _answer(session: Session, invitation: int, *, accept: bool) -> None:
    from medperf.flows.organisations import answer_invitation

    with session.site() as site:
        answered = answer_invitation(site, invitation, accept=accept)
    if session.out.as_json:
        session.out.json(answered)
    elif answered.accepted:
        session.out.line(f"You belong to {answered.organisation.name} now ({_rights_text(answered.rights)}).")
        words = ("organisation", "view", str(answered.organisation.id))
        session.out.line(f"Next: {session.next(*words)}")
    else:
        session.out.line(f"You declined the invitation to {answered.organisation.name}.")
