"""``/organisations`` and ``/invitations``."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from medperf.client.base import Part
from medperf.client.http import Transport
from medperf.wire.organisations import (
    InvitationAnswer,
    InvitationAnswered,
    InvitationCreate,
    InvitationView,
    MemberUpdate,
    MemberView,
    OrganisationCreate,
    OrganisationUpdate,
    OrganisationView,
)


class _Members(Part[MemberView]):
    def list(self, *, limit: int | None = None) -> Iterator[MemberView]:
        return self._pages(limit=limit)

    def update(self, user_id: int, body: MemberUpdate) -> MemberView:
        return self._parsed(MemberView, self._send("PATCH", f"/{user_id}", body))

    def delete(self, user_id: int) -> None:
        self._transport.request("DELETE", f"{self._path}/{user_id}")


class _Sent(Part[InvitationView]):
    def list(self, *, limit: int | None = None) -> Iterator[InvitationView]:
        return self._pages(limit=limit)

    def create(self, body: InvitationCreate, *, idempotency_key: str) -> InvitationView:
        return self._parsed(InvitationView, self._send("POST", "", body, idempotency_key=idempotency_key))

    def delete(self, invitation_id: int) -> None:
        self._transport.request("DELETE", f"{self._path}/{invitation_id}")


class OrganisationsPart(Part[OrganisationView]):
    """``/organisations``."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, "/organisations", OrganisationView)

    def list(self, *, limit: int | None = None) -> Iterator[OrganisationView]:
        """Those the account belongs to; all, for an admin."""
        return self._pages(limit=limit)

    def get(self, organisation_id: int) -> OrganisationView:
        """One organisation."""
        return self._get(f"/{organisation_id}")

    def create(self, body: OrganisationCreate, *, idempotency_key: str | None = None) -> OrganisationView:
        """Make an organisation; the account is its first manager."""
        key = idempotency_key or str(uuid.uuid4())
        return self._parsed(OrganisationView, self._send("POST", "", body, idempotency_key=key))

    def update(self, organisation_id: int, body: OrganisationUpdate, *, version: int) -> OrganisationView:
        """Rename it.

        Raises:
            Conflict: somebody changed it meanwhile, or the name is taken.
        """
        return self._parsed(OrganisationView, self._send("PATCH", f"/{organisation_id}", body, version=version))

    def members(self, organisation_id: int, *, limit: int | None = None) -> Iterator[MemberView]:
        """Who belongs to it."""
        return self._members(organisation_id).list(limit=limit)

    def set_rights(self, organisation_id: int, user_id: int, body: MemberUpdate) -> MemberView:
        """Replace a member's rights.

        Raises:
            Conflict: the last manager would manage no longer.
        """
        return self._members(organisation_id).update(user_id, body)

    def remove_member(self, organisation_id: int, user_id: int) -> None:
        """Remove a member; oneself: leave.

        Raises:
            Conflict: it is the last manager.
        """
        self._members(organisation_id).delete(user_id)

    def invitations(self, organisation_id: int, *, limit: int | None = None) -> Iterator[InvitationView]:
        """Its open invitations."""
        return self._sent(organisation_id).list(limit=limit)

    def invite(
        self, organisation_id: int, body: InvitationCreate, *, idempotency_key: str | None = None
    ) -> InvitationView:
        """Invite somebody by username."""
        return self._sent(organisation_id).create(body, idempotency_key=idempotency_key or str(uuid.uuid4()))

    def cancel_invitation(self, organisation_id: int, invitation_id: int) -> None:
        """Take an invitation back."""
        self._sent(organisation_id).delete(invitation_id)

    def _members(self, organisation_id: int) -> _Members:
        return _Members(self._transport, f"{self._path}/{organisation_id}/members", MemberView)

    def _sent(self, organisation_id: int) -> _Sent:
        return _Sent(self._transport, f"{self._path}/{organisation_id}/invitations", InvitationView)


class InvitationsPart(Part[InvitationView]):
    """``/invitations``: those to the account."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, "/invitations", InvitationView)

    def list(self, *, limit: int | None = None) -> Iterator[InvitationView]:
        """Open ones."""
        return self._pages(limit=limit)

    def answer(
        self, invitation_id: int, body: InvitationAnswer, *, idempotency_key: str | None = None
    ) -> InvitationAnswered:
        """Accept or decline."""
        key = idempotency_key or str(uuid.uuid4())
        sent = self._send("POST", f"/{invitation_id}/answer", body, idempotency_key=key)
        return self._parsed(InvitationAnswered, sent)
