"""Asking for an association: the owner of a dataset or model asks to join, or a benchmark's owner invites."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson
from starlette.responses import Response

from medperf.domain.associations import Asset, AutoApproval, AutoMode, Side, Status
from medperf.domain.associations import ask as asked
from medperf.domain.eligibility import refuse
from medperf.domain.errors import InvalidInput
from medperf.server.associations import checking, policy, repository, rules
from medperf.server.associations.service import about, check_not_full, read, take_effect
from medperf.server.associations.tables import associations
from medperf.server.audit.service import Action, record
from medperf.server.authz import Actor, require, standing
from medperf.server.benchmarks import repository as benchmarks
from medperf.server.benchmarks import service as benchmark_service
from medperf.server.context import ServerContext
from medperf.server.datasets import repository as datasets
from medperf.server.db import Transaction
from medperf.server.idempotency import Created, create_once
from medperf.server.mlcubes import repository as mlcubes
from medperf.server.requests import Sent, stale
from medperf.server.responses import dump_text, dumps, etag
from medperf.server.rows import check_room
from medperf.server.schema import now
from medperf.wire.associations import AssociationCreate, AssociationInvite
from medperf.wire.models import CompatibilityReport


@dataclass(frozen=True)
class _Request:
    """A request of either side. ``claims``: what is said of a dataset."""

    by: Side
    uuid: str
    benchmark: int
    kind: Asset
    asset: int
    report: CompatibilityReport | None
    claims: AssociationCreate | None = None


@dataclass(frozen=True)
class _Found:
    """The owners of both sides, which never change; and what was checked already."""

    benchmark_owner: int
    asset_owner: int
    checked: checking.Checked

    @property
    def same_owner(self) -> bool:
        return self.benchmark_owner == self.asset_owner

    def owner(self, side: Side) -> int:
        return self.benchmark_owner if side is Side.BENCHMARK else self.asset_owner


async def ask(server: ServerContext, actor: Actor, sent: Sent[AssociationCreate]) -> Response:
    """A dataset's or model's owner asks to join a benchmark.

    Raises:
        InvalidInput: ``unknown_benchmark``, ``unknown_dataset``, ``unknown_mlcube``; ``association_mismatch``; see `rules`.
        Forbidden: no right to operate for its owner.
        Conflict: see `medperf.domain.associations.ask` and `medperf.domain.eligibility.join_refusals`; ``benchmark_full``.
    """
    wanted = sent.value
    kind = Asset.DATASET if wanted.dataset is not None else Asset.MODEL
    asset_id = wanted.dataset if wanted.dataset is not None else wanted.model
    assert asset_id is not None  # the wire model sees to it
    claims = wanted if kind is Asset.DATASET else None
    request = _Request(Side.ASSET, str(wanted.uuid), wanted.benchmark, kind, asset_id, wanted.report, claims)
    return await _once(server, actor, "POST /associations", sent, request)


async def invite(server: ServerContext, actor: Actor, benchmark_id: int, sent: Sent[AssociationInvite]) -> Response:
    """A benchmark's owner asks a dataset or a model to join. Of a dataset that it may not see it learns nothing.

    Raises:
        NotFound: the benchmark is not there, or hidden.
        Forbidden: no right to operate for its owner.
        InvalidInput, Conflict: as `ask`.
    """
    wanted = sent.value
    kind = Asset.DATASET if wanted.dataset is not None else Asset.MODEL
    asset_id = wanted.dataset if wanted.dataset is not None else wanted.model
    assert asset_id is not None  # the wire model sees to it
    request = _Request(Side.BENCHMARK, str(wanted.uuid), benchmark_id, kind, asset_id, wanted.report)
    return await _once(server, actor, f"POST /benchmarks/{benchmark_id}/invitations", sent, request)


async def _once(server: ServerContext, actor: Actor, route: str, sent: Sent[Any], wanted: _Request) -> Response:
    found = await _before(server, actor, wanted)

    async def make(tx: Transaction) -> Created:
        require(policy.may_ask(await standing(tx, actor, found.owner(wanted.by))))
        benchmark = await repository.lock_benchmark(tx, wanted.benchmark)
        asset = await repository.keep_asset(tx, wanted.kind, wanted.asset)
        row = await repository.lock_pair(tx, wanted.kind, benchmark_id=wanted.benchmark, asset_id=wanted.asset)
        if row is not None and await repository.was_asked(tx, row.id, wanted.uuid):
            return _answered(await read(tx, actor, row.id), status=200)
        current = None if row is None else repository.current_of(row)
        following = asked(
            current,
            by=wanted.by,
            same_owner=found.same_owner,
            auto=_auto(benchmark, wanted.kind),
            asset_owner=found.asset_owner,
        )
        approved = following.status is Status.APPROVED
        if wanted.claims is not None:
            rules.check_asks_for(wanted.claims, asset)
        if wanted.by is Side.ASSET or approved or wanted.kind is Asset.MODEL:
            checking.refuse_unfit(benchmark, wanted.kind, asset)
            found.checked.check_same(asset)
        else:  # nothing of a dataset is told before its owner agreed
            refuse(tuple(rules.fitness_of_benchmark(benchmark).refusals()))
        if approved:
            await check_not_full(server, tx, wanted.benchmark, wanted.kind)
        moment = now()
        values: dict[str, Any] = {
            "decider_id": found.owner(wanted.by.other),
            "status": following.status.value,
            "asked_by": wanted.by.value,
            "asks": following.asks,
            "is_automatic": approved,
            "asked_at": moment,
            "decided_at": moment if approved else None,
        }
        if wanted.report is not None:
            values["report"] = dump_text(wanted.report.model_dump(mode="json"))
        if row is None:
            association_id, version = await _insert(server, tx, wanted, found, values), 1
        else:
            association_id, version = row.id, row.version + 1
            if not await repository.update(tx, association_id, row.version, values):
                raise stale()
        event = {"status": following.status.value, "side": wanted.by.value, "is_automatic": approved}
        ids = {"association_id": association_id, "version": version, "uuid": wanted.uuid}
        await repository.remember(tx, {**ids, **event})
        made = await repository.lock_pair(tx, wanted.kind, benchmark_id=wanted.benchmark, asset_id=wanted.asset)
        await take_effect(tx, made, following, before=None if current is None else current.status)
        data = {"status": following.status.value, "by": wanted.by.value, **about(made)}
        await record(tx, actor.user_id, Action.ASSOCIATION_ASKED, f"association:{association_id}", data)
        return _answered(await read(tx, actor, association_id), status=201)

    return await create_once(server, actor, route=route, key=sent.key, content=sent.content, make=make)


async def _insert(
    server: ServerContext, tx: Transaction, wanted: _Request, found: _Found, values: dict[str, Any]
) -> int:
    """The first request of the pair: it counts for whoever asks."""
    maker = found.owner(wanted.by)
    most = server.settings.association_count
    await check_room(server, tx, associations, maker, most=most, things="associations", column="maker_id")
    pair = {
        "owner_id": found.benchmark_owner,
        "asset_owner_id": found.asset_owner,
        "maker_id": maker,
        "benchmark_id": wanted.benchmark,
        "kind": wanted.kind.value,
        "dataset_id": wanted.asset if wanted.kind is Asset.DATASET else None,
        "mlcube_id": wanted.asset if wanted.kind is Asset.MODEL else None,
    }
    return await repository.insert(tx, {**pair, **values})


def _answered(view: dict[str, Any], *, status: int) -> Created:
    return Created(dumps(view), status=status, headers=etag(view))


def _auto(benchmark: Any, kind: Asset) -> AutoApproval:
    name = "auto_models" if kind is Asset.MODEL else "auto_datasets"
    parties = frozenset(orjson.loads(getattr(benchmark, f"{name}_parties")))
    return AutoApproval(AutoMode(getattr(benchmark, name)), parties)


# ---------------------------------------------------------------------------------------------- before the transaction


async def _before(server: ServerContext, actor: Actor, wanted: _Request) -> _Found:
    """Who owns what, whether the actor may ask, and the checks that take long."""
    async with server.database.read() as tx:
        if wanted.by is Side.BENCHMARK:
            benchmark: Any = await benchmark_service.found(tx, actor, wanted.benchmark)
            require(policy.may_ask(await standing(tx, actor, benchmark.owner_id, keep=False)))
            asset_owner = await _owner(tx, actor, wanted)
        else:
            asset_owner = await _owner(tx, actor, wanted)
            require(policy.may_ask(await standing(tx, actor, asset_owner, keep=False)))
            benchmark = await benchmarks.get(tx, actor, wanted.benchmark)
            if benchmark is None:
                raise InvalidInput(
                    "unknown_benchmark",
                    f"There is no benchmark {wanted.benchmark} that you may see.",
                    "List them with: medperf benchmark ls",
                )
        same_owner = bool(benchmark.owner_id == asset_owner)
        if wanted.kind is Asset.MODEL and wanted.report is None and same_owner:
            raise checking.missing_report(wanted.benchmark, wanted.asset)
        subject = await checking.subject(tx, wanted.benchmark, wanted.kind, wanted.asset, wanted.report)
    hidden = wanted.kind is Asset.DATASET and wanted.by is Side.BENCHMARK and not same_owner
    checked = checking.Checked(None) if hidden else await checking.checked(subject)
    return _Found(benchmark.owner_id, asset_owner, checked)


async def _owner(tx: Transaction, actor: Actor, wanted: _Request) -> int:
    """Who owns the dataset or model. Any dataset can be invited; else it must be in sight.

    Raises:
        InvalidInput: ``unknown_dataset``, ``unknown_mlcube``.
    """
    row: Any
    if wanted.kind is Asset.MODEL:
        row = await mlcubes.get(tx, actor, wanted.asset)
    elif wanted.by is Side.BENCHMARK:
        row = await repository.asset(tx, wanted.kind, wanted.asset)
    else:
        row = await datasets.get(tx, actor, wanted.asset)
    if row is not None:
        return int(row.owner_id)
    noun, command = ("MLCube", "mlcube") if wanted.kind is Asset.MODEL else ("dataset", "dataset")
    raise InvalidInput(
        f"unknown_{command}",
        f"There is no {noun} {wanted.asset} that you may see.",
        f"List them with: medperf {command} ls",
    )
