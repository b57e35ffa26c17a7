"""Datasets of this site: what is here, what a server knows of it, and how it becomes known, joins a benchmark, and is withdrawn."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medperf.domain.digests import Digest
from medperf.domain.disclosure import Exit
from medperf.domain.errors import Conflict, InvalidInput, MedPerfError, NotFound
from medperf.domain.events import Note
from medperf.domain.identity import commitment
from medperf.domain.numbers import whole_number
from medperf.flows.checking import (
    Change,
    ChangeKind,
    CheckReport,
    VerifiedDataset,
    check_dataset,
    find_local,
    instance_of,
    verified_dataset,
)
from medperf.flows.creating import (
    CreatedDataset,
    DatasetRequest,
    checked_statistics,
    create_dataset,
    statistics_contract,
)
from medperf.flows.egress import KIND, send, settle
from medperf.flows.organisations import owner_id
from medperf.flows.site import Site

if TYPE_CHECKING:
    from medperf.wire.associations import AssociationView
    from medperf.wire.datasets import DatasetView
    from medperf.workspace.datasets import LocalDataset, Standing

__all__ = [
    "Change",
    "ChangeKind",
    "CheckReport",
    "CreatedDataset",
    "DatasetRequest",
    "DatasetSummary",
    "SubmittedDataset",
    "VerifiedDataset",
    "WithdrawnDataset",
    "associate_dataset",
    "check_dataset",
    "create_dataset",
    "join_benchmark",
    "list_datasets",
    "submit_dataset",
    "verified_dataset",
    "view_dataset",
    "withdraw_dataset",
]


@dataclass(frozen=True)
class DatasetSummary:
    """A dataset as this site and the server know it; one of the two may not."""

    local: LocalDataset | None
    registered: DatasetView | None
    standing: Standing

    @property
    def name(self) -> str:
        """What it is called: by the server, if it knows it."""
        found = self.registered or self.local
        assert found is not None
        return found.name


@dataclass(frozen=True)
class SubmittedDataset:
    """A dataset that the server knows now. ``already``: it did before, statistics too."""

    dataset: LocalDataset
    registered: DatasetView
    already: bool


@dataclass(frozen=True)
class WithdrawnDataset:
    """``registered`` None: no server knew it. ``ended``: the associations that ended with it; ``deleted``: the prepared data are gone."""

    dataset: LocalDataset
    registered: DatasetView | None
    ended: tuple[AssociationView, ...]
    deleted: bool


def list_datasets(
    site: Site, *, mine: bool = True, local: bool = False, name: str | None = None
) -> list[DatasetSummary]:
    """Datasets of this site and of the server, each once. The server never learns which name is looked for: it may be of one that
    was not registered.

    Args:
        mine: of the server's, only the account's own; False: all that the account may see.
        local: ask no server.
    """
    from medperf.workspace.datasets import Standing

    instance = instance_of(site)
    views = [] if local else list(site.api.datasets.list(owner="me" if mine else None))
    by_id = {view.id: view for view in views}
    found = []
    for dataset in site.workspace.datasets.ls():
        view = by_id.pop(dataset.registered.get(instance or "", 0), None)
        if name is None or name in (dataset.name, view.name if view else None):
            found.append(DatasetSummary(dataset, view, dataset.standing(instance or "")))
    others = (view for view in by_id.values() if name in (None, view.name))
    return found + [DatasetSummary(None, view, Standing.SUBMITTED) for view in others]


def view_dataset(site: Site, reference: str, *, local: bool = False) -> DatasetSummary:
    """One dataset, by its name or id here, or its id at the server.

    Raises:
        NotFound: neither knows it.
    """
    from medperf.workspace.datasets import Standing

    number = whole_number(reference)
    try:
        dataset = find_local(site, reference)
    except NotFound:
        if local or number is None:
            raise
        return DatasetSummary(None, site.api.datasets.get(number), Standing.SUBMITTED)
    instance = instance_of(site) or ""
    registered = dataset.registered.get(instance)
    view = site.api.datasets.get(registered) if registered is not None and not local else None
    return DatasetSummary(dataset, view, dataset.standing(instance))


def submit_dataset(site: Site, reference: str, *, owner: str | None = None, yes: bool = False) -> SubmittedDataset:
    """Register a dataset: what it is called, its salted identity, and its statistics, each shown before it goes.

    What was sent by an earlier call is not sent again; one that was cut goes on.

    Args:
        owner: an organisation, by name or id; None: the account itself.
        yes: see `medperf.flows.egress.send`.

    Raises:
        InvalidInput: the preparator is not registered; the data are not what was prepared; statistics that may not leave.
        Forbidden: nobody agreed.
    """
    from medperf.wire.datasets import DatasetCreate, DatasetStatistics

    dataset = find_local(site, reference)
    preparator = _registered_preparator(dataset)
    datasets, instance = site.workspace.datasets, site.credential().instance_id
    about = _about(dataset)
    registered = dataset.registered.get(instance)
    view = site.api.datasets.get(registered) if registered is not None else None
    _settle(site, dataset, view)
    if view is not None and view.statistics_digest is not None:
        return SubmittedDataset(dataset, view, already=True)
    facts = dataset.facts
    benchmark = site.api.benchmarks.get(facts.benchmark) if facts.benchmark is not None else None
    checked_statistics(statistics_contract(benchmark) if benchmark is not None else None, facts.statistics)
    verified_dataset(site, dataset.uuid)
    if view is None:
        body = DatasetCreate.of(
            uuid=uuid.UUID(dataset.uuid),
            name=dataset.name,
            description=facts.description,
            location=facts.location,
            site_label=facts.site_label,
            preparator=preparator,
            identity=commitment(dataset.salt, dataset.root),
            raw_identity=commitment(dataset.salt, Digest(facts.raw_root)),
            owner=owner_id(site, owner),
        )

        def keep(created: DatasetView) -> None:
            datasets.register(dataset.uuid, instance_id=instance, registered=created.id)

        view = send(
            site, Exit.DATASET_REGISTRATION, body, site.api.datasets.create, about=about, yes=yes, keep=keep
        ).answer
    statistics = DatasetStatistics.of(dataset=view.id, benchmark=facts.benchmark, statistics=dict(facts.statistics))
    view = send(
        site, Exit.STATISTICS, statistics, _without_key(site.api.datasets.set_statistics), about=about, yes=yes
    ).answer
    return SubmittedDataset(datasets.get(dataset.uuid), view, already=False)


def associate_dataset(site: Site, reference: str, benchmark_id: int, *, yes: bool = False) -> AssociationView:
    """Ask a benchmark's owner to take a dataset. Identity, preparator and the digest of its statistics are named; no model runs.

    Where it was asked for before, and has not ended, that is found and nothing is sent.

    Raises:
        InvalidInput: not registered, another preparator, statistics that break this benchmark's contract, data that changed.
        Conflict: what else stands in the way.
        Forbidden: nobody agreed.
    """
    from medperf.domain.associations import Side, Status
    from medperf.flows.associations import find_pair
    from medperf.wire.associations import AssociationCreate

    dataset = find_local(site, reference)
    registered = dataset.registered.get(site.credential().instance_id)
    if registered is None:
        raise InvalidInput(
            "not_submitted",
            f"The server does not know the dataset {dataset.name!r} yet.",
            f"Register it first: medperf dataset submit {dataset.uuid[:8]}",
        )
    before = find_pair(site, benchmark_id, dataset=registered)
    if before is not None and (
        before.status is Status.APPROVED or (before.status is Status.PENDING and before.asked_by is Side.ASSET)
    ):
        pair = (registered, benchmark_id)
        settle(site, Exit.ASSOCIATION, lambda body: (body.get("dataset"), body.get("benchmark")) == pair or None)
        return before
    view, benchmark = site.api.datasets.get(registered), site.api.benchmarks.get(benchmark_id)
    if view.preparator != benchmark.preparator:
        raise InvalidInput(
            "other_preparator",
            f"Dataset {view.id} was prepared by MLCube {view.preparator}, but benchmark {benchmark.id} wants MLCube {benchmark.preparator}.",
            f"Create one for it: medperf dataset create -b {benchmark.id} ...",
        )
    if view.statistics_digest is None:
        raise InvalidInput(
            "no_statistics",
            f"The server lacks the statistics of dataset {view.id}.",
            f"Send them: medperf dataset submit {view.id}",
        )
    checked_statistics(statistics_contract(benchmark), view.document())
    verified_dataset(site, dataset.uuid)
    body = AssociationCreate.of(
        uuid=_request_uuid(site, view.id, benchmark.id),
        benchmark=benchmark.id,
        dataset=view.id,
        preparator=view.preparator,
        identity=view.identity,
        statistics_digest=view.statistics_digest,
    )
    about = f"{_about(dataset)} in benchmark {benchmark.id} ({benchmark.name})"
    return send(site, Exit.ASSOCIATION, body, site.api.associations.ask, about=about, changed_only=True, yes=yes).answer


def join_benchmark(
    site: Site, reference: str, benchmark_id: int, *, owner: str | None = None, yes: bool = False
) -> AssociationView:
    """`submit_dataset`, then `associate_dataset`: what goes is shown piece by piece, and each is agreed to."""
    submit_dataset(site, reference, owner=owner, yes=yes)
    return associate_dataset(site, reference, benchmark_id, yes=yes)


def withdraw_dataset(site: Site, reference: str, *, delete: bool = False, yes: bool = False) -> WithdrawnDataset:
    """Let nothing run on a dataset any more, and end its associations. What was released stays released.

    Args:
        delete: delete the prepared data of this site too, once the server knows; the raw records are never touched.

    Raises:
        InvalidInput: ``not_submitted``: there is nothing to withdraw, and nothing is to be deleted.
        Forbidden: nobody agreed.
    """
    from medperf.wire.datasets import DatasetUpdate

    dataset = find_local(site, reference)
    instance = instance_of(site)
    registered = dataset.registered.get(instance or "")
    if registered is None and not delete:
        raise InvalidInput(
            "not_submitted",
            f"The server does not know the dataset {dataset.name!r}, so nothing can run on it.",
            "Delete its prepared data with --delete.",
        )
    view: DatasetView | None = None
    ended: tuple[AssociationView, ...] = ()
    if registered is not None:
        view = site.api.datasets.get(registered)
        if view.is_active:
            version = view.version

            def update(body: DatasetUpdate, *, idempotency_key: str) -> DatasetView:  # noqa: ARG001 - as `send` calls it - If-Match does it
                return site.api.datasets.update(registered, body, version=version)

            body = DatasetUpdate.of(is_active=False)
            about = f"{_about(dataset)} (dataset {registered})"
            where = {"dataset": registered}
            view = send(
                site, Exit.DATASET_UPDATE, body, update, about=about, address=where, changed_only=True, yes=yes
            ).answer
        _settle(site, dataset, view)
        ended = tuple(_ended(site, registered))
    if delete:
        others = [known for known in dataset.registered if known != instance]
        question = f"Delete the prepared data of {dataset.name!r} ({dataset.facts.files:,} files)?"
        if others:
            question = f"Another server knows this dataset too. {question}"
        if not yes and not site.ask.confirm(question):
            raise MedPerfError(
                "not_agreed",
                "The dataset is withdrawn, and its prepared data stay: you did not agree to delete them.",
                "Run the same command again to be asked again.",
            )
        site.workspace.datasets.remove(dataset.uuid)
    return WithdrawnDataset(dataset, view, ended, deleted=delete)


# ------------------------------------------------------------------------------------------------------------------- within


def _settle(site: Site, dataset: LocalDataset, view: DatasetView | None) -> None:
    """What an earlier call sent and heard nothing of arrived, where the server has the dataset as it said."""
    if view is None:
        return

    def registration(body: Mapping[str, Any]) -> bool | None:
        return body["uuid"] == dataset.uuid or None

    def statistics(body: Mapping[str, Any]) -> bool | None:
        return (body["dataset"] == view.id and view.statistics_digest is not None) or None

    def withdrawal(body: Mapping[str, Any]) -> bool | None:
        return (body == {"dataset": view.id, "is_active": False} and not view.is_active) or None

    settle(site, Exit.DATASET_REGISTRATION, registration)
    settle(site, Exit.STATISTICS, statistics)
    settle(site, Exit.DATASET_UPDATE, withdrawal)


def _ended(site: Site, dataset_id: int) -> Iterator[AssociationView]:
    """End what is pending or approved of a dataset."""
    from medperf.flows.associations import end_association

    for association in list(site.api.associations.list(dataset=dataset_id)):
        try:
            now = end_association(site, association)
            if not association.status.has_ended:
                yield now
        except Conflict as error:  # the other side was quicker
            site.emit(Note(f"Association {association.id} was not ended: {error.what}", level="warning"))


def _registered_preparator(dataset: LocalDataset) -> int:
    if dataset.facts.preparator is None:
        raise InvalidInput(
            "preparator_not_registered",
            f"The dataset {dataset.name!r} was prepared by {dataset.facts.preparator_label}, which is not registered.",
            "Register that MLCube and create the dataset with its id; or create it for a benchmark.",
        )
    return dataset.facts.preparator


def _request_uuid(site: Site, dataset_id: int, benchmark_id: int) -> uuid.UUID:
    """The UUID of an unanswered request for this pair, or a new one."""
    import json

    for entry in site.workspace.pending.ls(site.credential().instance_id):
        if entry.kind == f"{KIND}{Exit.ASSOCIATION.value}":
            body = json.loads(entry.body)
            if (body.get("dataset"), body.get("benchmark")) == (dataset_id, benchmark_id):
                return uuid.UUID(body["uuid"])
    return uuid.uuid4()


def _without_key(call: Callable[[Any], DatasetView]) -> Callable[..., DatasetView]:
    """For requests that are the same however often they arrive."""

    def deliver(body: Any, *, idempotency_key: str) -> DatasetView:  # noqa: ARG001 - as `send` calls it
        return call(body)

    return deliver


def _about(dataset: LocalDataset) -> str:
    return f"dataset {dataset.name!r} ({dataset.uuid[:8]})"
