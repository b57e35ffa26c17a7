"""Request and response bodies of ``/datasets``.

What a site sends has exactly the fields that `medperf.domain.disclosure` lists for its exit: only metadata of a dataset ever comes here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.states import State
from medperf.domain.values import nested
from medperf.wire.models import Body, Description, Id, Line, Name, PartyRef, Sha256, View


def statistics_digest(flat: Mapping[str, Any]) -> Digest:
    """The digest by which an association names statistics.

    Args:
        flat: what `medperf.domain.statistics.check_statistics` or `check_plain_statistics` gives.
    """
    return Digest.of_document(dict(flat))


class DatasetCreate(Body):
    """``POST /datasets``. The exit ``dataset_registration``.

    Attributes:
        uuid: made by the site; the same again, of the same data, gets the same dataset.
        preparator: the MLCube that prepared it.
        identity: salted digest of data and labels (`medperf.domain.identity.commitment`).
        raw_identity: the same of what it was prepared from.
        supersedes: an older dataset of the same owner.
        location: where the data is, for people, e.g. a town.
        site_label: what others see of it in results.
        owner: a party that the account may operate for; None: the account's own.
    """

    uuid: UUID
    name: Name
    description: Description = ""
    location: Line = ""
    site_label: Name
    preparator: Id
    identity: Sha256
    raw_identity: Sha256 | None = None
    supersedes: Id | None = None
    state: State = State.OPERATION
    owner: Id | None = None


class DatasetUpdate(Body):
    """``PATCH /datasets/{id}`` with ``If-Match``. The exit ``dataset_update``. In OPERATION: validity, activity and the label only."""

    name: Name | None = None
    description: Description | None = None
    location: Line | None = None
    site_label: Name | None = None
    identity: Sha256 | None = None
    state: State | None = None
    is_valid: bool | None = None
    is_active: bool | None = None


class DatasetStatistics(Body):
    """``PUT /datasets/{id}/statistics``. The exit ``statistics``. Sent again as they are, they are answered again.

    In OPERATION they can be given once.

    Attributes:
        dataset: as in the address.
        benchmark: whose contract they keep; None: numbers only.
        statistics: the preparator's document, nested.
    """

    dataset: Id
    benchmark: Id | None = None
    statistics: Annotated[dict[str, Any], Field(max_length=limits.STATISTIC_KEYS)]


class DatasetView(View):
    """A dataset, for its owner, admins, and the owners of benchmarks that it asked to join.

    Attributes:
        statistics: flat, undefined as None; in the detail, not in lists. None: not given yet.
        statistics_digest: see `statistics_digest`.
    """

    id: int
    uuid: UUID
    name: str
    description: str
    location: str
    site_label: str
    preparator: int
    identity: str
    raw_identity: str | None = None
    supersedes: int | None = None
    state: State
    is_valid: bool
    is_active: bool
    statistics: dict[str, float | int | bool | str | list[str] | None] | None = None
    statistics_digest: str | None = None
    owner: PartyRef
    version: int
    created_at: datetime
    modified_at: datetime

    def document(self) -> dict[str, Any]:
        """The statistics as they were nested."""
        return nested(self.statistics or {})
