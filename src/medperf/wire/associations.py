"""Request and response bodies of ``/associations``, and of a benchmark's invitations.

What a site sends about a dataset has exactly the fields that `medperf.domain.disclosure` lists for the exit ``association``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import ConfigDict, Field, model_validator

from medperf.domain import limits
from medperf.domain.associations import Asset, Side, Status
from medperf.wire.executions import Reason
from medperf.wire.models import Body, CompatibilityReport, Id, PartyRef, Sha256, View

_OF_DATASET: dict[str, Any] = {
    "dataset": {"type": "integer"},
    "preparator": {"type": "integer"},
    "identity": {"type": "string"},
    "statistics_digest": {"type": "string"},
}
_OF_MODEL: dict[str, Any] = {"model": {"type": "integer"}, "report": {"type": "object"}}


def _only(fields: dict[str, Any], *others: str) -> dict[str, Any]:
    """For the API's description: all of these fields, and none of the others."""
    return {"required": list(fields), "properties": fields | {name: {"type": "null"} for name in others}}


class AssociationCreate(Body):
    """``POST /associations``: the owner of a dataset or model asks to join a benchmark.

    Attributes:
        uuid: of this request, made by who asks; the same again changes nothing.
        preparator, identity, statistics_digest: of the dataset, as registered; with a dataset, and only then.
        report: the compatibility test of the model with this benchmark; with a model, and only then.
    """

    model_config = ConfigDict(
        json_schema_extra={"oneOf": [_only(_OF_DATASET, *_OF_MODEL), _only(_OF_MODEL, *_OF_DATASET)]}
    )

    uuid: UUID
    benchmark: Id
    dataset: Id | None = None
    preparator: Id | None = None
    identity: Sha256 | None = None
    statistics_digest: Sha256 | None = None
    model: Id | None = None
    report: CompatibilityReport | None = None

    @model_validator(mode="after")
    def _one_asset(self) -> Self:
        of_dataset = (self.dataset, self.preparator, self.identity, self.statistics_digest)
        of_model = (self.model, self.report)
        if not (None not in of_dataset and of_model == (None, None)) and not (
            None not in of_model and of_dataset == (None,) * 4
        ):
            raise ValueError("give dataset, preparator, identity and statistics_digest, or model and report")
        return self


class AssociationInvite(Body):
    """``POST /benchmarks/{id}/invitations``: a benchmark's owner asks a dataset or a model to join. Give one of the two.

    Attributes:
        uuid: of this request, made by who asks; the same again changes nothing.
        report: the compatibility test of the model, where the benchmark's owner made it; else the model's owner sends it to approve.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                _only({"dataset": {"type": "integer"}}, *_OF_MODEL),
                _only({"model": {"type": "integer"}}, "dataset"),
            ]
        }
    )

    uuid: UUID
    dataset: Id | None = None
    model: Id | None = None
    report: CompatibilityReport | None = None

    @model_validator(mode="after")
    def _one_asset(self) -> Self:
        if (self.dataset is None) == (self.model is None):
            raise ValueError("give either dataset or model")
        if self.report is not None and self.model is None:
            raise ValueError("a report is of a model")
        return self


class AssociationDecision(Body):
    """``POST /associations/{id}/decision``.

    Attributes:
        status: APPROVED or REJECTED by the side that was asked, CANCELLED by the side that asked, REVOKED by either.
        reason: one line; in its history, which both sides see.
        report: with the approval of an invitation of a model that came without one.
    """

    status: Status
    reason: Reason | None = None
    report: CompatibilityReport | None = None


class AssociationUpdate(Body):
    """``PATCH /associations/{id}`` with ``If-Match``. Higher runs first."""

    priority: Annotated[int, Field(ge=-limits.PRIORITY_MAX, le=limits.PRIORITY_MAX)]


class AssociationEventView(View):
    """One line of an association's history.

    Attributes:
        side: who did it.
        is_automatic: approved without a person, by the benchmark's policy or because one owner has both.
        version: of the association, after it.
    """

    status: Status
    side: Side
    is_automatic: bool
    version: int
    reason: str | None = None
    at: datetime


class AssociationView(View):
    """A dataset or a model in a benchmark.

    Attributes:
        kind: what it is of; of ``dataset`` and ``model`` one is there.
        name: of the model, or the site label of the dataset. None while the dataset is not shown to the benchmark's owner.
        owner: of the model or dataset; None as ``name``.
        asked_by: the side that asked last; the other one decides.
        priority: of a model; higher runs first.
        report: of a model; for both owners and admins, in the detail.
        events: its history, oldest first; for both owners and admins, in the detail.
    """

    id: int
    benchmark: int
    benchmark_name: str
    benchmark_owner: PartyRef
    kind: Asset
    dataset: int | None = None
    model: int | None = None
    name: str | None = None
    owner: PartyRef | None = None
    status: Status
    asked_by: Side
    is_automatic: bool
    priority: int
    report: CompatibilityReport | None = None
    events: tuple[AssociationEventView, ...] | None = None
    version: int
    asked_at: datetime
    decided_at: datetime | None = None
    modified_at: datetime

    @property
    def asset(self) -> int:
        """The id of its dataset or model."""
        found = self.dataset if self.kind is Asset.DATASET else self.model
        assert found is not None
        return found
