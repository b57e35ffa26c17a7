"""What waits for the account, each thing with the command that deals with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medperf.domain.associations import Asset
from medperf.flows.site import Site

if TYPE_CHECKING:
    from medperf.wire.associations import AssociationView
    from medperf.wire.inbox import InboxItem


@dataclass(frozen=True)
class Waits:
    """One thing that waits.

    Attributes:
        says: what it is, for people.
        command: the words after ``medperf`` that deal with it.
    """

    item: InboxItem
    says: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Inbox:
    """All that waits, the oldest of each kind first. ``more``: there is more than is listed."""

    waiting: tuple[Waits, ...]
    more: bool


def read_inbox(site: Site) -> Inbox:
    """What waits for the account."""
    from medperf.wire.inbox import Waiting

    view = site.api.inbox.get()
    asks: dict[int, AssociationView] = {}
    if any(item.kind is Waiting.ASSOCIATION for item in view.items):
        asks = {one.id: one for one in site.api.associations.list(waiting_for_me=True)}
    return Inbox(tuple(_waits(item, asks.get(item.id)) for item in view.items), view.more)


def _waits(item: InboxItem, asked: AssociationView | None) -> Waits:
    from medperf.wire.inbox import Waiting

    where = f"benchmark {item.benchmark} ({item.name})"
    match item.kind:
        case Waiting.INVITATION:
            return Waits(item, f"{item.name} invites you to join it", ("organisation", "accept", str(item.id)))
        case Waiting.ASSOCIATION:
            return Waits(item, _asks(item, asked, where), ("association", "approve", str(item.id)))
        case Waiting.BENCHMARK:
            says = f"Benchmark {item.id} ({item.name}) waits to be approved"
            return Waits(item, says, ("benchmark", "approve", str(item.id)))
        case Waiting.REVIEW:
            says = f"Model {item.model} ran on dataset {item.dataset} for {where}: its metrics wait to be released"
            return Waits(item, says, ("result", "submit", "-r", str(item.id)))
        case Waiting.LOST:
            says = f"Model {item.model} on dataset {item.dataset} for {where} was not heard of any more"
            return Waits(item, says, ("run", *_triple(item)))


def _asks(item: InboxItem, asked: AssociationView | None, where: str) -> str:
    """An association, which one's own benchmark is asked for, or one's dataset or model is invited to."""
    thing = f"dataset {item.dataset}" if item.dataset is not None else f"model {item.model}"
    if asked is None:
        return f"{thing[:1].upper()}{thing[1:]} and {where} wait for your yes"
    named = f"{thing} ({asked.name})" if asked.name else thing
    if asked.asked_by.value == "benchmark":
        needs = ", which takes a test" if asked.kind is Asset.MODEL else ""
        return f"{asked.benchmark_owner.name} invites your {named} to join {where}{needs}"
    who = asked.owner.name if asked.owner is not None else "its owner"
    return f"{who} asks that {named} may join {where}"


def _triple(item: InboxItem) -> tuple[str, ...]:
    return ("-b", str(item.benchmark), "-d", str(item.dataset), "-m", str(item.model))
