"""The answer of ``/inbox``."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from medperf.wire.models import View


class Waiting(StrEnum):
    """What waits for the account."""

    INVITATION = "invitation"  # to an organisation: accept or decline
    ASSOCIATION = "association"  # somebody asks: approve or reject
    BENCHMARK = "benchmark"  # pending: an admin approves or rejects
    REVIEW = "review"  # an attempt has metrics: release or withhold
    LOST = "lost"  # an attempt was not heard of: resume it, or run again


class InboxItem(View):
    """One thing.

    Attributes:
        id: of the invitation, association, benchmark or execution.
        name: of the organisation, or of the benchmark.
        benchmark, dataset, model: that it is about.
        attempt: its number, for review and lost.
        since: from when on it waits.
    """

    kind: Waiting
    id: int
    name: str
    benchmark: int | None = None
    dataset: int | None = None
    model: int | None = None
    attempt: int | None = None
    since: datetime


class InboxView(View):
    """What waits for the account, the oldest of each kind first. ``more``: there is more than is listed."""

    items: tuple[InboxItem, ...]
    more: bool = False
