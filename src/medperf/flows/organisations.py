"""Organisations: make one, invite, answer, and choose one as the owner of what is registered."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING

from medperf.domain.errors import NotFound, UsageError
from medperf.domain.numbers import whole_number
from medperf.domain.permissions import Right
from medperf.flows.site import Site

if TYPE_CHECKING:
    from medperf.wire.models import PartyRef
    from medperf.wire.organisations import InvitationAnswered, InvitationView, MemberView, OrganisationView


def create_organisation(site: Site, name: str) -> OrganisationView:
    """A new organisation with this account as its first manager.

    Raises:
        InvalidInput: the name breaks the rules.
        Conflict: another organisation has it.
    """
    from medperf.wire.organisations import OrganisationCreate

    return site.api.organisations.create(OrganisationCreate.of(name=name))


def list_organisations(site: Site, *, limit: int | None = None) -> list[OrganisationView]:
    """Those the account belongs to; all, for an admin."""
    return list(site.api.organisations.list(limit=limit))


def find_organisation(site: Site, organisation: str) -> OrganisationView:
    """An organisation by id or name. Names are compared without capitals; none is a number.

    Raises:
        NotFound: none that the account may see.
    """
    from medperf.domain.organisations import name_key

    number = whole_number(organisation)
    if number is not None:
        return site.api.organisations.get(number)
    wanted = name_key(organisation)
    found = next((entry for entry in site.api.organisations.list() if name_key(entry.name) == wanted), None)
    if found is None:
        raise NotFound(
            "unknown_organisation",
            f"You belong to no organisation named {organisation[:200]!r}.",
            "List yours with: medperf organisation ls",
        )
    return found


def owner_id(site: Site, owner: str | None) -> int | None:
    """The party that ``--owner`` names; None: the account itself.

    Raises:
        NotFound: no such organisation.
    """
    return None if owner is None else find_organisation(site, owner).id


def owner_filter(owner: int | None) -> str:
    """The filter of a listing of what an owner has; `owned_by` sorts out the rest."""
    return "me" if owner is None else str(owner)


def listed_owner(site: Site, *, mine: bool, owner: str | None) -> str | None:
    """What a listing asks the server for; None: everybody's.

    Args:
        owner: the id of a party, or the name of one of one's own organisations.

    Raises:
        UsageError: both are said.
        NotFound: no such organisation.
    """
    if owner is None:
        return "me" if mine else None
    if mine:
        raise UsageError("usage", "Both --mine and --owner are given.", "Give one of them.")
    number = whole_number(owner)
    return str(number if number is not None else find_organisation(site, owner).id)


def owned_by(party: PartyRef, owner: int | None) -> bool:
    """Whether that party is the owner; None: the account itself. Among what is "mine", only one's own is a person's."""
    return party.kind == "person" if owner is None else party.id == owner


def rename_organisation(site: Site, organisation: str, name: str) -> OrganisationView:
    """Give it another name."""
    from medperf.wire.organisations import OrganisationUpdate

    wanted = OrganisationUpdate.of(name=name)
    found = find_organisation(site, organisation)
    return site.api.organisations.update(found.id, wanted, version=found.version)


def list_members(site: Site, organisation: str, *, limit: int | None = None) -> list[MemberView]:
    """Who belongs to it, with which rights."""
    return list(site.api.organisations.members(find_organisation(site, organisation).id, limit=limit))


def set_rights(site: Site, organisation: str, member: str, rights: Iterable[Right]) -> MemberView:
    """Replace a member's rights.

    Raises:
        UsageError: no right at all.
        NotFound: no such member.
        Conflict: the last manager would manage no longer.
    """
    from medperf.wire.organisations import MemberUpdate

    chosen = frozenset(rights)
    if not chosen:
        raise UsageError(
            "usage",
            "A member has at least one right.",
            "Give --manage, --operate or --release; or: medperf organisation remove --help",
        )
    wanted = MemberUpdate.of(rights=chosen)
    found = find_organisation(site, organisation)
    return site.api.organisations.set_rights(found.id, _member(site, found, member).id, wanted)


def remove_member(site: Site, organisation: str, member: str) -> MemberView:
    """Take a member out; returns who it was."""
    found = find_organisation(site, organisation)
    gone = _member(site, found, member)
    site.api.organisations.remove_member(found.id, gone.id)
    return gone


def leave_organisation(site: Site, organisation: str) -> OrganisationView:
    """Leave it; what it owns stays with it.

    Raises:
        Conflict: the account is its last manager.
    """
    found = find_organisation(site, organisation)
    site.api.organisations.remove_member(found.id, site.api.me.get().id)
    return found


def invite(site: Site, organisation: str, username: str, rights: Iterable[Right] = ()) -> InvitationView:
    """Invite somebody by username. The answer is the same whether there is such an account or not.

    Args:
        rights: those the member will have; none: the right to operate.
    """
    from medperf.wire.organisations import InvitationCreate

    wanted = InvitationCreate.of(username=username, rights=frozenset(rights) or {Right.OPERATE})
    return site.api.organisations.invite(find_organisation(site, organisation).id, wanted)


def list_invitations(site: Site, organisation: str | None = None, *, limit: int | None = None) -> list[InvitationView]:
    """Open invitations: to the account, or of an organisation it manages."""
    if organisation is None:
        return list(site.api.invitations.list(limit=limit))
    return list(site.api.organisations.invitations(find_organisation(site, organisation).id, limit=limit))


def cancel_invitation(site: Site, organisation: str, invitation_id: int) -> None:
    """Take an invitation back."""
    site.api.organisations.cancel_invitation(find_organisation(site, organisation).id, invitation_id)


def answer_invitation(site: Site, invitation_id: int, *, accept: bool) -> InvitationAnswered:
    """Accept or decline."""
    from medperf.wire.organisations import InvitationAnswer

    return site.api.invitations.answer(invitation_id, InvitationAnswer.of(accept=accept))


def _member(site: Site, organisation: OrganisationView, member: str) -> MemberView:
    """A member by username or account id."""
    members = list(site.api.organisations.members(organisation.id))
    named = next((entry for entry in members if entry.username.lower() == member.lower()), None)
    found = named or next((entry for entry in members if str(entry.id) == member), None)
    if found is None:
        raise NotFound(
            "no_such_member",
            f"{organisation.name} has no member {member[:200]!r}.",
            f"List them with: medperf organisation members {shlex.quote(organisation.name)}",
        )
    return found
