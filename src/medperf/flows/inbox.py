"""What waits for the account, each thing with the command that deals with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from medperf.domain.associations import Asset, Side, Status
from medperf.flows.site import Site

if TYPE_CHECKING:
    from medperf.wire.associations import AssociationView
    from medperf.wire.inbox import InboxItem

#: What a site adds to the server's kinds: models that may run on a dataset of its own, and did not yet.
TO_RUN = "run"


@dataclass(frozen=True)
class Waits:
    """One thing that waits.

    Attributes:
        kind: of `medperf.wire.inbox.Waiting`, or `TO_RUN`.
        id: of the invitation, association, benchmark or execution; None: to run.
        models: to run.
        says: what it is, for people.
        command: the words after ``medperf`` that deal with it.
    """

    kind: str
    says: str
    command: tuple[str, ...]
    since: datetime | None
    id: int | None = None
    benchmark: int | None = None
    dataset: int | None = None
    model: int | None = None
    attempt: int | None = None
    models: tuple[int, ...] = ()


@dataclass(frozen=True)
class Inbox:
    """All that waits, the oldest of each kind first. ``more``: there is more than is listed."""

    waiting: tuple[Waits, ...]
    more: bool


def read_inbox(site: Site) -> Inbox:
    """What waits for the account; and what this site could run."""
    from medperf.wire.inbox import Waiting

    view = site.api.inbox.get()
    asks: dict[int, AssociationView] = {}
    if any(item.kind is Waiting.ASSOCIATION for item in view.items):
        asks = {one.id: one for one in site.api.associations.list(waiting_for_me=True)}
    reviewed = {item.dataset for item in view.items if item.kind is Waiting.REVIEW}
    joined = {
        (one.benchmark, dataset)
        for dataset in reviewed
        for one in site.api.associations.list(dataset=dataset, status=Status.APPROVED)
    }
    told = tuple(
        _waits(item, asks.get(item.id), is_joined=(item.benchmark, item.dataset) in joined) for item in view.items
    )
    return Inbox((*told, *_to_run(site)), view.more)


def _waits(item: InboxItem, asked: AssociationView | None, *, is_joined: bool) -> Waits:
    says, command = _dealt_with(item, asked, is_joined=is_joined)
    return Waits(
        item.kind.value, says, command, item.since, item.id, item.benchmark, item.dataset, item.model, item.attempt
    )


def _dealt_with(item: InboxItem, asked: AssociationView | None, *, is_joined: bool) -> tuple[str, tuple[str, ...]]:
    """``is_joined``: of metrics under review, whether their dataset is in the benchmark."""
    from medperf.wire.inbox import Waiting

    number, where = str(item.id), f"benchmark {item.benchmark} ({item.name})"
    match item.kind:
        case Waiting.INVITATION:
            return f"{item.name} invites you to join it", ("organisation", "accept", number)
        case Waiting.ASSOCIATION:
            return _asks(item, asked, where), ("association", "approve", number)
        case Waiting.BENCHMARK:
            return f"Benchmark {number} ({item.name}) waits to be approved", ("benchmark", "approve", number)
        case Waiting.REVIEW:
            ran = f"Model {item.model} ran on dataset {item.dataset} for {where}"
            if not is_joined:
                why = "which the dataset is in no more: its metrics can only be withheld"
                return f"{ran}, {why}", ("result", "withhold", "-r", number)
            return f"{ran}: its metrics wait to be released", ("result", "submit", "-r", number)
        case Waiting.LOST:
            again = ("run", "-b", str(item.benchmark), "-d", str(item.dataset), "-m", str(item.model))
            return f"Model {item.model} on dataset {item.dataset} for {where} was not heard of any more", again


def _to_run(site: Site) -> Iterator[Waits]:
    """Models that no execution of this site's datasets is registered for, in the benchmarks that took them."""
    instance = site.credential().instance_id
    here = {dataset.registered[instance] for dataset in site.workspace.datasets.ls() if instance in dataset.registered}
    if not here:
        return
    # Several people may share a machine: a dataset that another account registered is not this one's to run on.
    own = site.api.datasets.list(owner="me", is_active=True, is_valid=True)
    for number, view in sorted((one.id, one) for one in own if one.id in here):
        known = {(one.benchmark, one.model) for one in site.api.executions.list(dataset=number)}
        for joined in site.api.associations.list(dataset=number, status=Status.APPROVED):
            benchmark = site.api.benchmarks.get(joined.benchmark)
            if not (benchmark.is_active and benchmark.is_valid):
                continue
            others = site.api.associations.list(benchmark=benchmark.id, kind=Asset.MODEL, status=Status.APPROVED)
            models = sorted({benchmark.reference_model, *(one.asset for one in others)})
            left = tuple(model for model in models if (benchmark.id, model) not in known)
            if left:
                what = f"Model {left[0]}" if len(left) == 1 else f"{len(left)} models"
                yield Waits(
                    TO_RUN,
                    f"{what} of benchmark {benchmark.id} ({benchmark.name}) did not run on your dataset {number} ({view.name}) yet",
                    ("run", "-b", str(benchmark.id), "-d", str(number)),
                    joined.decided_at,
                    benchmark=benchmark.id,
                    dataset=number,
                    models=left,
                )


def _asks(item: InboxItem, asked: AssociationView | None, where: str) -> str:
    """An association, which one's own benchmark is asked for, or one's dataset or model is invited to."""
    thing = f"dataset {item.dataset}" if item.dataset is not None else f"model {item.model}"
    if asked is None:
        return f"{thing[:1].upper()}{thing[1:]} and {where} wait for your yes"
    named = f"{thing} ({asked.name})" if asked.name else thing
    if asked.asked_by is Side.BENCHMARK:
        needs = ", which takes a test" if asked.kind is Asset.MODEL else ""
        return f"{asked.benchmark_owner.name} invites your {named} to join {where}{needs}"
    who = asked.owner.name if asked.owner is not None else "its owner"
    return f"{who} asks that {named} may join {where}"
