"""``/associations``, and the invitations of benchmarks."""

from __future__ import annotations

from collections.abc import Iterator

from medperf.client.base import Part
from medperf.client.http import Transport
from medperf.wire.associations import (
    AssociationCreate,
    AssociationDecision,
    AssociationInvite,
    AssociationUpdate,
    AssociationView,
)


class AssociationsPart(Part[AssociationView]):
    """``/associations``."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, "/associations", AssociationView)

    def list(
        self,
        *,
        benchmark: int | None = None,
        dataset: int | None = None,
        model: int | None = None,
        kind: str | None = None,
        status: str | None = None,
        waiting_for_me: bool | None = None,
        sort: str | None = None,
        limit: int | None = None,
    ) -> Iterator[AssociationView]:
        """What the account may see, oldest first unless ``sort`` says otherwise.

        Args:
            benchmark, dataset, model: one of them; all of them with ``waiting_for_me``.
            waiting_for_me: those that the account may approve or reject; without ``status``.
        """
        return self._pages(
            limit=limit,
            benchmark=benchmark,
            dataset=dataset,
            model=model,
            kind=kind,
            status=status,
            waiting_for_me=waiting_for_me,
            sort=sort,
        )

    def get(self, association_id: int) -> AssociationView:
        """One association; with its report and history for those it is about."""
        return self._get(f"/{association_id}")

    def ask(self, body: AssociationCreate, *, idempotency_key: str) -> AssociationView:
        """Ask to join a benchmark. The same key, or the same UUID, give what became of the request.

        Raises:
            Conflict: something stands in the way: ``details["refusals"]`` of the problem lists all of it.
        """
        # Only what was set: of a dataset exactly the fields leave that its site showed.
        answer = self._send("POST", "", body, changed_only=True, idempotency_key=idempotency_key)
        return self._parsed(AssociationView, answer)

    def invite(self, benchmark_id: int, body: AssociationInvite, *, idempotency_key: str) -> AssociationView:
        """Ask a dataset or a model to join one's benchmark. As `ask`."""
        data = body.model_dump_json().encode()
        path = f"/benchmarks/{benchmark_id}/invitations"
        answer = self._transport.request("POST", path, body=data, idempotency_key=idempotency_key)
        return self._parsed(AssociationView, answer)

    def decide(self, association_id: int, body: AssociationDecision, *, idempotency_key: str) -> AssociationView:
        """Approve, reject, cancel or revoke.

        Raises:
            Forbidden: it is the other side's decision.
            Conflict: the state allows it not.
        """
        path = f"/{association_id}/decision"
        # Only what was set, as `ask`.
        answer = self._send("POST", path, body, changed_only=True, idempotency_key=idempotency_key)
        return self._parsed(AssociationView, answer)

    def update(self, association_id: int, body: AssociationUpdate, *, version: int) -> AssociationView:
        """Give a model its priority.

        Args:
            version: of the view that the change is based on.

        Raises:
            Conflict: somebody changed it meanwhile.
        """
        answer = self._send("PATCH", f"/{association_id}", body, changed_only=True, version=version)
        return self._parsed(AssociationView, answer)
