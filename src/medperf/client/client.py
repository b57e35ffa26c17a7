"""The server's API, one typed part per noun."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from medperf.client.assets import AssetsPart, UploadsPart
from medperf.client.base import Part
from medperf.client.http import Transport
from medperf.wire.assets import UploadView
from medperf.wire.audit import AuditEventView, CheckpointView
from medperf.wire.models import (
    AssetView,
    BenchmarkCreate,
    BenchmarkUpdate,
    BenchmarkView,
    Decision,
    MLCubeCreate,
    MLCubeUpdate,
    MLCubeView,
    PasswordChange,
    ServerView,
    TokenCreate,
    TokenView,
    UserCreate,
    UserUpdate,
    UserView,
)

if TYPE_CHECKING:  # few commands speak of them: the others pay nothing for it
    from medperf.client.associations import AssociationsPart
    from medperf.client.datasets import DatasetsPart
    from medperf.client.executions import ExecutionsPart, ResultsPart
    from medperf.client.inbox import InboxPart
    from medperf.client.organisations import InvitationsPart, OrganisationsPart


class ServerPart(Part[ServerView]):
    """``/server``."""

    def get(self) -> ServerView:
        """Who the server is; needs no login."""
        return self._get()


class TokensPart(Part[TokenView]):
    """``/tokens``."""

    def create(self, body: TokenCreate) -> TokenView:
        """Log in.

        Raises:
            Unauthenticated: wrong name or password, or a disabled account.
        """
        return self._parsed(TokenView, self._send("POST", "", body))

    def end_current(self) -> None:
        """Log out: the token that is used ends."""
        self._transport.request("DELETE", self._path + "/current")


class MePart(Part[UserView]):
    """``/me``."""

    def get(self) -> UserView:
        """The account that is logged in."""
        return self._get()

    def change_password(self, body: PasswordChange) -> None:
        """Replace the password; other logins of the account end."""
        self._send("POST", "/password", body)


class UsersPart(Part[UserView]):
    """``/users`` (admins)."""

    def list(
        self,
        *,
        name: str | None = None,
        is_admin: bool | None = None,
        is_active: bool | None = None,
        search: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> Iterator[UserView]:
        """Accounts, oldest first unless ``sort`` or ``search`` says otherwise."""
        return self._pages(limit=limit, name=name, is_admin=is_admin, is_active=is_active, search=search, sort=sort)

    def get(self, user_id: int) -> UserView:
        """One account."""
        return self._get(f"/{user_id}")

    def create(self, body: UserCreate, *, idempotency_key: str | None = None) -> UserView:
        """Make an account."""
        return self._parsed(
            UserView, self._send("POST", "", body, idempotency_key=idempotency_key or str(uuid.uuid4()))
        )

    def update(self, user_id: int, body: UserUpdate) -> UserView:
        """Enable or disable an account."""
        return self._parsed(UserView, self._send("PATCH", f"/{user_id}", body))

    def erase(self, user_id: int) -> UserView:
        """Erase what is personal of a disabled account, for good."""
        return self._parsed(UserView, self._transport.request("DELETE", f"{self._path}/{user_id}/personal"))


class MLCubesPart(Part[MLCubeView]):
    """``/mlcubes``."""

    def list(
        self,
        *,
        owner: str | None = None,
        kind: str | None = None,
        state: str | None = None,
        is_valid: bool | None = None,
        name: str | None = None,
        search: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> Iterator[MLCubeView]:
        """What the account may see, oldest first unless ``sort`` or ``search`` says otherwise. ``owner``: ``"me"`` or None."""
        return self._pages(
            limit=limit, owner=owner, kind=kind, state=state, is_valid=is_valid, name=name, search=search, sort=sort
        )

    def get(self, mlcube_id: int) -> MLCubeView:
        """One MLCube with its manifest."""
        return self._get(f"/{mlcube_id}")

    def create(self, body: MLCubeCreate, *, idempotency_key: str) -> MLCubeView:
        """Register an MLCube. The same key and body again give the first answer."""
        return self._parsed(MLCubeView, self._send("POST", "", body, idempotency_key=idempotency_key))

    def update(self, mlcube_id: int, body: MLCubeUpdate, *, version: int) -> MLCubeView:
        """Change the fields that ``body`` was made with.

        Args:
            version: of the view that the change is based on.

        Raises:
            Conflict: somebody changed it meanwhile.
        """
        return self._parsed(MLCubeView, self._send("PATCH", f"/{mlcube_id}", body, changed_only=True, version=version))


class BenchmarksPart(Part[BenchmarkView]):
    """``/benchmarks``."""

    def list(
        self,
        *,
        owner: str | None = None,
        approval: str | None = None,
        state: str | None = None,
        is_valid: bool | None = None,
        is_active: bool | None = None,
        name: str | None = None,
        search: str | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> Iterator[BenchmarkView]:
        """What the account may see, oldest first unless ``sort`` or ``search`` says otherwise. ``owner``: ``"me"`` or None."""
        return self._pages(
            limit=limit,
            owner=owner,
            approval=approval,
            state=state,
            is_valid=is_valid,
            is_active=is_active,
            name=name,
            search=search,
            sort=sort,
        )

    def get(self, benchmark_id: int) -> BenchmarkView:
        """One benchmark with its report and metrics contract."""
        return self._get(f"/{benchmark_id}")

    def create(self, body: BenchmarkCreate, *, idempotency_key: str) -> BenchmarkView:
        """Register a benchmark. The same key and body again give the first answer."""
        return self._parsed(BenchmarkView, self._send("POST", "", body, idempotency_key=idempotency_key))

    def update(self, benchmark_id: int, body: BenchmarkUpdate, *, version: int) -> BenchmarkView:
        """Change the fields that ``body`` was made with; see `MLCubesPart.update`."""
        return self._parsed(
            BenchmarkView, self._send("PATCH", f"/{benchmark_id}", body, changed_only=True, version=version)
        )

    def decide(self, benchmark_id: int, body: Decision, *, idempotency_key: str | None = None) -> BenchmarkView:
        """Approve or reject, as an admin."""
        key = idempotency_key or str(uuid.uuid4())
        return self._parsed(BenchmarkView, self._send("POST", f"/{benchmark_id}/decision", body, idempotency_key=key))


class AuditPart(Part[AuditEventView]):
    """``/audit-events`` (admins)."""

    def list(
        self, *, action: str | None = None, target: str | None = None, limit: int | None = None
    ) -> Iterator[AuditEventView]:
        """Changes, oldest first."""
        return self._pages(limit=limit, action=action, target=target)


class CheckpointsPart(Part[CheckpointView]):
    """``/audit-checkpoints``."""

    def list(self, *, limit: int | None = None) -> Iterator[CheckpointView]:
        """The seals of the audit trail, oldest first."""
        return self._pages(limit=limit)


class MedPerfClient:
    """Everything the server offers, as one account."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport
        self.server = ServerPart(transport, "/server", ServerView)
        self.tokens = TokensPart(transport, "/tokens", TokenView)
        self.me = MePart(transport, "/me", UserView)
        self.users = UsersPart(transport, "/users", UserView)
        self.mlcubes = MLCubesPart(transport, "/mlcubes", MLCubeView)
        self.benchmarks = BenchmarksPart(transport, "/benchmarks", BenchmarkView)
        self.assets = AssetsPart(transport, "/assets", AssetView)
        self.uploads = UploadsPart(transport, "/uploads", UploadView)
        self.audit = AuditPart(transport, "/audit-events", AuditEventView)
        self.checkpoints = CheckpointsPart(transport, "/audit-checkpoints", CheckpointView)

    @cached_property
    def datasets(self) -> DatasetsPart:
        """``/datasets``."""
        from medperf.client.datasets import DatasetsPart

        return DatasetsPart(self.transport)

    @cached_property
    def associations(self) -> AssociationsPart:
        """``/associations``."""
        from medperf.client.associations import AssociationsPart

        return AssociationsPart(self.transport)

    @cached_property
    def organisations(self) -> OrganisationsPart:
        """``/organisations``."""
        from medperf.client.organisations import OrganisationsPart

        return OrganisationsPart(self.transport)

    @cached_property
    def invitations(self) -> InvitationsPart:
        """``/invitations``."""
        from medperf.client.organisations import InvitationsPart

        return InvitationsPart(self.transport)

    @cached_property
    def executions(self) -> ExecutionsPart:
        """``/executions``."""
        from medperf.client.executions import ExecutionsPart

        return ExecutionsPart(self.transport)

    @cached_property
    def results(self) -> ResultsPart:
        """``/results``, and the results of benchmarks."""
        from medperf.client.executions import ResultsPart

        return ResultsPart(self.transport)

    @cached_property
    def inbox(self) -> InboxPart:
        """``/inbox``."""
        from medperf.client.inbox import InboxPart

        return InboxPart(self.transport)

    def close(self) -> None:
        """Close connections."""
        self.transport.close()
