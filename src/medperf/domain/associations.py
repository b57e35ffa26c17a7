"""Associations: a dataset or a model joins a benchmark, and who decides that. Pure functions over the one current row of a pair.

.. code-block:: text

    PENDING -> APPROVED | REJECTED   by the side that was asked (or at once: same owner, auto-approval)
    PENDING -> CANCELLED             by the side that asked
    APPROVED -> REVOKED              by either side
    REJECTED | CANCELLED | REVOKED   ended: either side may ask again, which is a new PENDING

Every change is one more version of the row and one more entry of its history, which only grows. Sides are parties: whether a person may
act for one is decided by `medperf.domain.permissions`. An approval here is the benchmark's; it never counts as the site's yes to a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from medperf.domain import limits
from medperf.domain.errors import Conflict, InvalidInput


class Status(StrEnum):
    """Where an association is."""

    PENDING = "PENDING"
    APPROVED = "APPROVED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"
    REVOKED = "REVOKED"

    @property
    def has_ended(self) -> bool:
        """Whether it may be asked for again."""
        return self in (Status.REJECTED, Status.CANCELLED, Status.REVOKED)


class Side(StrEnum):
    """The two owners of an association."""

    BENCHMARK = "benchmark"
    ASSET = "asset"

    @property
    def other(self) -> Side:
        """The side that decides when this one asks."""
        return Side.ASSET if self is Side.BENCHMARK else Side.BENCHMARK


class Asset(StrEnum):
    """What joins a benchmark."""

    DATASET = "dataset"
    MODEL = "model"


class AutoMode(StrEnum):
    """Whose requests a benchmark approves without a person."""

    NEVER = "never"
    ALWAYS = "always"
    ALLOW_LIST = "allow_list"


@dataclass(frozen=True, slots=True)
class AutoApproval:
    """A benchmark's policy for those who ask to join it. It says nothing about those it invites: they decide themselves.

    Args:
        parties: owners (party ids) whose requests are approved at once; only with ``allow_list``.

    Raises:
        InvalidInput: ``bad_auto_approval``: parties without a list, too many, or no ids.
    """

    mode: AutoMode = AutoMode.NEVER
    parties: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.parties and self.mode is not AutoMode.ALLOW_LIST:
            raise _bad_auto(
                f"Owners are listed, but the policy is {self.mode.value!r}.", "List owners with 'allow_list'."
            )
        if len(self.parties) > limits.AUTO_APPROVED_PARTIES:
            raise _bad_auto(f"More than {limits.AUTO_APPROVED_PARTIES} owners are listed.", "List fewer.")
        if not all(1 <= party <= limits.ID_MAX for party in self.parties):
            raise _bad_auto("An owner on the list is no id.", "See their ids with: medperf organisation ls")

    def admits(self, party: int) -> bool:
        """Whether a request of this owner is approved at once."""
        return self.mode is AutoMode.ALWAYS or (self.mode is AutoMode.ALLOW_LIST and party in self.parties)


class Current(NamedTuple):
    """The one current row of a (benchmark, asset).

    Attributes:
        asked_by: the side that asked last.
        asks: how often the pair was asked for so far, this one included.
    """

    status: Status
    asked_by: Side
    asks: int = 1


def ask(current: Current | None, *, by: Side, same_owner: bool, auto: AutoApproval, asset_owner: int) -> Current:
    """What a new request makes of the current row (None: the pair was never asked for): PENDING, or APPROVED at once.

    It is approved at once where one party owns both sides, and where the asset's owner asks and the benchmark's policy admits it.
    Whether the two are fit to be joined is for `medperf.domain.eligibility.join_refusals`.

    Args:
        by: the side that asks; a benchmark's request is an invitation.
        same_owner: one party owns the benchmark and the asset.
        asset_owner: the party that owns the asset.

    Raises:
        Conflict: one is pending or approved, or the pair was asked for too often.
    """
    if current is not None:
        _check_may_ask(current, by)
    at_once = same_owner or (by is Side.ASSET and auto.admits(asset_owner))
    return Current(Status.APPROVED if at_once else Status.PENDING, by, 1 if current is None else current.asks + 1)


def decide(current: Current, wanted: Status, *, by: Set[Side]) -> Current:
    """What a decision makes of the current row.

    Args:
        by: the sides that the actor may act for: both, where one person manages two owners.

    Raises:
        InvalidInput: PENDING is no decision.
        Conflict: the state allows it not, or it is another side's decision.
    """
    if wanted is Status.PENDING:
        raise InvalidInput(
            "bad_decision", "PENDING is not a decision.", "Approve, reject, cancel or revoke; ask again for a new one."
        )
    needed = Status.APPROVED if wanted is Status.REVOKED else Status.PENDING
    if current.status is not needed:
        raise Conflict("wrong_association_state", *_wrong_state(current.status, wanted))
    may = {
        Status.APPROVED: {current.asked_by.other},
        Status.REJECTED: {current.asked_by.other},
        Status.CANCELLED: {current.asked_by},
        Status.REVOKED: set(Side),
    }[wanted]
    if not may & by:
        raise _other_side(current.asked_by, wanted)
    return current._replace(status=wanted)


def shows_dataset(current: Current | None) -> bool:
    """Whether the benchmark's owner sees the dataset and its statistics through this association.

    A dataset that asked, and one that joined (also by invitation, also until revoked: what was released stays). Inviting a dataset, a
    rejection and a request that was taken back show nothing.
    """
    if current is None:
        return False
    if current.status is Status.PENDING:
        return current.asked_by is Side.ASSET
    return current.status in (Status.APPROVED, Status.REVOKED)


def check_priority(asset: Asset, status: Status, priority: int) -> None:
    """Can this association have this priority? Higher runs first.

    Raises:
        InvalidInput: a dataset, or a number out of range.
        Conflict: the association has ended.
    """
    if asset is not Asset.MODEL:
        raise InvalidInput("no_priority", "Only models have a priority.", "Name a model with -m.")
    if abs(priority) > limits.PRIORITY_MAX:
        raise InvalidInput(
            "bad_priority",
            f"The priority {priority} is out of range.",
            f"Give a whole number from -{limits.PRIORITY_MAX} to {limits.PRIORITY_MAX}; higher runs first.",
        )
    if status.has_ended:
        raise Conflict(
            "association_ended",
            f"This association is {status.value}: it has no priority.",
            "It may be asked for again.",
        )


class Ranked(NamedTuple):
    """A model and its priority in a benchmark."""

    model: int
    priority: int


def run_order(models: Iterable[Ranked]) -> list[int]:
    """The models' ids in the order they run: higher priority first, then the older."""
    return [entry.model for entry in sorted(models, key=lambda entry: (-entry.priority, entry.model))]


def _check_may_ask(current: Current, by: Side) -> None:
    if current.status is Status.APPROVED:
        raise Conflict("already_associated", "This association is already approved.", "Nothing is left to ask.")
    if current.status is Status.PENDING and current.asked_by is by:
        raise Conflict(
            "already_asked",
            "This was already asked for and waits for the other side.",
            "Wait, or take the request back with: medperf association cancel",
        )
    if current.status is Status.PENDING:
        raise Conflict(
            "asked_by_the_other_side",
            "The other side already asks for this association; you decide.",
            "Approve it with: medperf association approve",
        )
    if current.asks >= limits.ASSOCIATION_ASKS:
        raise Conflict(
            "asked_too_often",
            f"This association was asked for {current.asks} times, which is the most.",
            "Talk to the other side, then join with a new version.",
        )


def _wrong_state(status: Status, wanted: Status) -> tuple[str, str]:
    what = f"The association is {status.value}: it cannot become {wanted.value}."
    if status is Status.PENDING:
        return what, "Nothing is approved yet: reject or cancel it instead."
    if status is Status.APPROVED:
        return what, "Either side ends it with: medperf association revoke"
    return what, "It has ended; ask again with: medperf dataset associate, or medperf mlcube associate"


def _other_side(asked_by: Side, wanted: Status) -> Conflict:
    whose = "benchmark's" if asked_by is Side.BENCHMARK else "dataset's or model's"
    if wanted is Status.CANCELLED:
        return Conflict(
            "not_your_request",
            f"The {whose} owner asked, so only they take it back.",
            "Reject it with: medperf association reject",
        )
    return Conflict(
        "own_request",
        f"The {whose} owner asked, so the other side decides.",
        "Wait for them, or take the request back with: medperf association cancel",
    )


def _bad_auto(what: str, fix: str) -> InvalidInput:
    return InvalidInput("bad_auto_approval", what, fix)
