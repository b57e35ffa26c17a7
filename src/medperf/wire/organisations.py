"""Request and response bodies of ``/organisations`` and ``/invitations``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from medperf.domain import limits
from medperf.domain.errors import InvalidInput
from medperf.domain.organisations import checked_name
from medperf.domain.permissions import Right
from medperf.wire.models import Body, PartyRef, Username, View


def _name(value: str) -> str:
    try:
        return checked_name(value)
    except InvalidInput as error:
        raise ValueError(error.what) from error


OrganisationName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=limits.NAME_LENGTH, strip_whitespace=True),
    AfterValidator(_name),
]
#: At least one: a member without any would be none.
Rights = Annotated[frozenset[Right], Field(min_length=1, max_length=len(Right))]


class OrganisationCreate(Body):
    """``POST /organisations``: whoever makes one is its first member, with every right."""

    name: OrganisationName


class OrganisationUpdate(Body):
    """``PATCH /organisations/{id}`` with ``If-Match``."""

    name: OrganisationName


class OrganisationView(View):
    """A party with members. Its ``id`` is what ``owner`` of other things names. ``rights``: those of the account that asks."""

    id: int
    name: str
    rights: tuple[Right, ...]
    version: int
    created_at: datetime
    modified_at: datetime


class MemberView(View):
    """A member; ``id`` is the account's."""

    id: int
    username: str
    is_active: bool
    rights: tuple[Right, ...]
    created_at: datetime
    modified_at: datetime


class MemberUpdate(Body):
    """``PATCH /organisations/{id}/members/{user_id}``: all rights the member will have."""

    rights: Rights


class InvitationCreate(Body):
    """``POST /organisations/{id}/invitations``. Nobody learns whether there is such an account."""

    username: Username
    rights: Rights


class InvitationView(View):
    """An open invitation."""

    id: int
    organisation: PartyRef
    username: str
    rights: tuple[Right, ...]
    created_at: datetime
    expires_at: datetime


class InvitationAnswer(Body):
    """``POST /invitations/{id}/answer``."""

    accept: bool


class InvitationAnswered(View):
    """What an answer led to; ``rights`` are empty for who declined."""

    organisation: PartyRef
    accepted: bool
    rights: tuple[Right, ...]
