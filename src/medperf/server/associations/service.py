"""What is done with associations: asking and inviting, deciding, ranking."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from starlette.responses import Response

from medperf.domain.associations import Asset, Current, Side, Status, check_priority, shows_dataset
from medperf.domain.associations import decide as decided
from medperf.domain.errors import Conflict, NotFound
from medperf.domain.permissions import Standing
from medperf.server.assets import openings
from medperf.server.associations import checking, policy, repository
from medperf.server.audit.service import Action, record
from medperf.server.authz import Actor, require, standing
from medperf.server.context import ServerContext
from medperf.server.datasets import repository as datasets
from medperf.server.db import Transaction
from medperf.server.idempotency import Created, create_once
from medperf.server.requests import Sent, stale
from medperf.server.responses import dump_text, dumps, etag
from medperf.server.schema import now
from medperf.wire.associations import AssociationDecision, AssociationUpdate


async def decide(server: ServerContext, actor: Actor, association_id: int, sent: Sent[AssociationDecision]) -> Response:
    """Approve, reject, cancel or revoke.

    Raises:
        NotFound: not there, or hidden.
        Forbidden: without the right, or another side's decision.
        Conflict, InvalidInput: see `medperf.domain.associations.decide`; for an approval also `rules` and ``benchmark_full``.
    """
    wanted = sent.value
    before = await _before(server, actor, association_id, wanted)

    async def make(tx: Transaction) -> Created:
        row = await found(tx, actor, association_id)
        require(policy.may_decide(await _standing(tx, actor, row), wanted.status))
        kind, asset_id = asset_of(row)
        benchmark = await repository.lock_benchmark(tx, row.benchmark_id)
        asset = await repository.keep_asset(tx, kind, asset_id)
        pair = await repository.lock_pair(tx, kind, benchmark_id=row.benchmark_id, asset_id=asset_id)
        assert pair is not None
        who = await _standing(tx, actor, pair)
        require(policy.may_decide(who, wanted.status))
        current = repository.current_of(pair)
        following = decided(current, wanted.status, by=policy.sides(who, current.asked_by, wanted.status))
        changes: dict[str, Any] = {"status": following.status.value, "is_automatic": False, "decided_at": now()}
        if following.status is Status.APPROVED:
            checking.refuse_unfit(benchmark, kind, asset)
            before.check_same(asset)
            await check_not_full(server, tx, pair.benchmark_id, kind)
            if wanted.report is not None:
                changes["report"] = dump_text(wanted.report.model_dump(mode="json"))
        if not await repository.update(tx, association_id, pair.version, changes):
            raise stale()
        side = _side(who, current, following.status)
        event = {"status": following.status.value, "side": side.value, "is_automatic": False, "reason": wanted.reason}
        await repository.remember(tx, {"association_id": association_id, "version": pair.version + 1, **event})
        await take_effect(tx, pair, following, before=current.status)
        data = {"status": following.status.value, "by": side.value, **about(pair)}
        await record(
            tx,
            actor.user_id,
            Action.ASSOCIATION_DECIDED,
            f"association:{association_id}",
            data,
            personal={"reason": wanted.reason},
        )
        view = await read(tx, actor, association_id)
        return Created(dumps(view), status=200, headers=etag(view))

    route = f"POST /associations/{association_id}/decision"
    return await create_once(server, actor, route=route, key=sent.key, content=sent.content, make=make)


async def update(
    server: ServerContext, actor: Actor, association_id: int, version: int, wanted: AssociationUpdate
) -> dict[str, Any]:
    """Say when a model runs.

    Raises:
        NotFound, Forbidden: hidden, or without the right.
        InvalidInput, Conflict: see `medperf.domain.associations.check_priority`.
        PreconditionFailed: changed meanwhile.
    """
    async with actor.change(server.database) as tx:
        row = await found(tx, actor, association_id)
        require(policy.may_set_priority(await _standing(tx, actor, row)))
        if row.version != version:
            raise stale()
        check_priority(Asset(row.kind), Status(row.status), wanted.priority)
        if not await repository.update(tx, association_id, version, {"priority": wanted.priority}):
            raise stale()
        data = {"priority": wanted.priority, **about(row)}
        await record(tx, actor.user_id, Action.ASSOCIATION_UPDATED, f"association:{association_id}", data)
        return await read(tx, actor, association_id)


async def found(tx: Transaction, actor: Actor, association_id: int) -> sa.Row[Any]:
    """Raises:
    NotFound: not there, or hidden.
    """
    row = await repository.get(tx, actor, association_id)
    if row is None:
        raise NotFound(
            "no_such_association",
            f"There is no association {association_id} that you may see.",
            "List them with: medperf association ls",
        )
    return row


async def read(tx: Transaction, actor: Actor, association_id: int) -> dict[str, Any]:
    """One with its history, as the actor may see it.

    Raises:
        NotFound: not there, or hidden.
    """
    return await repository.detail(tx, await found(tx, actor, association_id))


# ------------------------------------------------------------------------------------------------ for asking, too


def asset_of(row: Any) -> tuple[Asset, int]:
    """What an association is of, and its id."""
    kind = Asset(row.kind)
    return kind, row.dataset_id if kind is Asset.DATASET else row.mlcube_id


def about(row: Any) -> dict[str, int]:
    """The ids that an audit event names."""
    kind, asset_id = asset_of(row)
    return {"benchmark": row.benchmark_id, "dataset" if kind is Asset.DATASET else "mlcube": asset_id}


async def check_not_full(server: ServerContext, tx: Transaction, benchmark_id: int, kind: Asset) -> None:
    """Room for one more that is approved. The benchmark is locked.

    Raises:
        Conflict: ``benchmark_full``.
    """
    most = server.settings.joined_count
    if await repository.count_joined(tx, benchmark_id, kind) >= most:
        raise Conflict(
            "benchmark_full",
            f"{most:,} {kind.value}s are in benchmark {benchmark_id}, the most allowed.",
            "Its owner revokes one first: medperf association revoke",
        )


async def take_effect(tx: Transaction, row: Any, following: Current, *, before: Status | None) -> None:
    """Open and close what others may see and read through the association, which has its new status in the database.

    Args:
        before: the status that it had.
    """
    kind, asset_id = asset_of(row)
    joined = following.status is Status.APPROVED
    left = before is Status.APPROVED and not joined
    if kind is Asset.MODEL:
        if joined:
            await openings.model_joined(tx, row.benchmark_id, asset_id)
        elif left:
            await openings.model_left(tx, row.benchmark_id, asset_id)
        return
    shown = shows_dataset(following)
    await datasets.show(tx, asset_id, benchmark_id=row.benchmark_id, party_id=row.owner_id, shown=shown)
    if joined:
        await openings.dataset_joined(tx, row.benchmark_id, row.asset_owner_id)
    elif left:
        await openings.dataset_left(tx, row.benchmark_id, row.asset_owner_id)


# -------------------------------------------------------------------------------------------------------------- helpers


async def _standing(tx: Transaction, actor: Actor, row: Any, *, keep: bool = True) -> Standing:
    benchmark = await standing(tx, actor, row.owner_id, keep=keep)
    asset = await standing(tx, actor, row.asset_owner_id, keep=keep)
    return policy.standing_of(row, benchmark=benchmark, asset=asset)


def _side(who: Standing, current: Current, wanted: Status) -> Side:
    """Who did it. Of somebody who revokes for both sides, the one that asked."""
    if wanted in (Status.APPROVED, Status.REJECTED):
        return current.asked_by.other
    mine = policy.sides(who, current.asked_by, wanted)
    return current.asked_by if current.asked_by in mine else current.asked_by.other


async def _before(
    server: ServerContext, actor: Actor, association_id: int, wanted: AssociationDecision
) -> checking.Checked:
    """What takes long to check of an approval, outside of the transaction that decides."""
    async with server.database.read() as tx:
        row = await found(tx, actor, association_id)
        require(policy.may_decide(await _standing(tx, actor, row, keep=False), wanted.status))
        kind, asset_id = asset_of(row)
        approves = wanted.status is Status.APPROVED and row.status == Status.PENDING
        invited = approves and row.asked_by == Side.BENCHMARK
        if wanted.report is not None:
            checking.check_report_belongs(kind, invited=invited, known=row.report is not None)
        if not invited or (kind is Asset.MODEL and row.report is not None):
            return checking.Checked(None)
        if kind is Asset.MODEL and wanted.report is None:
            raise checking.missing_report(row.benchmark_id, asset_id)
        subject = await checking.subject(tx, row.benchmark_id, kind, asset_id, wanted.report)
    return await checking.checked(subject)
