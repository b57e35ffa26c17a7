"""What is done with datasets."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import sqlalchemy as sa
from starlette.responses import Response

from medperf.domain import limits
from medperf.domain.errors import Conflict, InvalidInput, NotFound
from medperf.domain.permissions import Action as Attempt
from medperf.domain.states import Kind, State, check_editable, check_state_change
from medperf.domain.statistics import check_plain_statistics, check_statistics, derive_statistics_contract
from medperf.server.audit.service import Action, record
from medperf.server.authz import Actor, owner_for, require, standing
from medperf.server.benchmarks import repository as benchmarks
from medperf.server.context import ServerContext
from medperf.server.datasets import policy, repository
from medperf.server.datasets.tables import datasets
from medperf.server.db import Transaction
from medperf.server.errors import TooLarge
from medperf.server.idempotency import Created, create_once
from medperf.server.metadata import column_values
from medperf.server.mlcubes import repository as mlcubes
from medperf.server.requests import Sent, stale
from medperf.server.responses import dumps, etag
from medperf.server.rows import check_room
from medperf.wire.datasets import DatasetCreate, DatasetStatistics, DatasetUpdate, statistics_digest

_SHORT = 32 * 1024  # characters; what is longer is looked at in a thread


async def create(server: ServerContext, actor: Actor, sent: Sent[DatasetCreate]) -> Response:
    """Register a dataset. One that was registered with the same UUID is answered again.

    Raises:
        InvalidInput: see `owner_for`; ``unknown_mlcube``, ``wrong_kind``, ``not_in_operation``, ``invalid_mlcube``, ``unknown_dataset``.
        Forbidden: no right to operate for that owner.
        Conflict: ``dataset_exists``, ``name_taken``, ``uuid_taken``, ``too_many_rows``.
    """
    wanted = sent.value
    values = {
        "uuid": str(wanted.uuid),
        "name": wanted.name,
        "description": wanted.description,
        "location": wanted.location,
        "site_label": wanted.site_label,
        "preparator_id": wanted.preparator,
        "supersedes_id": wanted.supersedes,
        "identity": wanted.identity,
        "raw_identity": wanted.raw_identity,
        "state": wanted.state.value,
        "is_valid": True,
        "is_active": True,
        "statistics_digest": None,
        "statistics": None,
    }

    async def make(tx: Transaction) -> Created:
        owner_id = await owner_for(tx, actor, wanted.owner, Attempt.DATASET_REGISTER)
        known = await _known(tx, owner_id, wanted)
        if known is not None:
            return known
        await check_room(server, tx, datasets, owner_id, most=server.settings.dataset_count, things="datasets")
        await _check_preparator(tx, actor, wanted.preparator)
        await _check_older(tx, actor, owner_id, wanted.supersedes)
        dataset_id = await repository.insert(tx, {**values, "owner_id": owner_id})
        if dataset_id is None:
            known = await _known(tx, owner_id, wanted)
            if known is None:
                await repository.check_free(tx, owner_id, values)
                raise stale()  # whatever it was is gone again
            return known
        data = {"state": wanted.state.value, "owner": owner_id, "preparator": wanted.preparator}
        await record(
            tx, actor.user_id, Action.DATASET_CREATED, f"dataset:{dataset_id}", data | {"identity": wanted.identity}
        )
        view = repository.detail(await found(tx, actor, dataset_id))
        return Created(dumps(view), headers=etag(view))

    return await create_once(server, actor, route="POST /datasets", key=sent.key, content=sent.content, make=make)


async def update(
    server: ServerContext, actor: Actor, dataset_id: int, version: int, wanted: DatasetUpdate
) -> dict[str, Any]:
    """Change what may change.

    Raises:
        NotFound, Forbidden, Conflict: hidden, without the right, frozen, or taken.
        PreconditionFailed: edited meanwhile.
    """
    changes = wanted.model_dump(exclude_unset=True, exclude_none=True)
    async with actor.change(server.database) as tx:
        row = await found(tx, actor, dataset_id)
        require(policy.may_update(await standing(tx, actor, row.owner_id), changes.keys()))
        if row.version != version:
            raise stale()
        check_editable("dataset", State(row.state), changes)
        check_state_change(State(row.state), changes.get("state", State(row.state)))
        await repository.check_free(tx, row.owner_id, changes, but=dataset_id)
        if not await repository.update(tx, dataset_id, version, column_values(changes)):
            raise stale()
        await record(tx, actor.user_id, Action.DATASET_UPDATED, f"dataset:{dataset_id}", {"fields": sorted(changes)})
        return repository.detail(await found(tx, actor, dataset_id))


async def set_statistics(
    server: ServerContext, actor: Actor, dataset_id: int, sent: Sent[DatasetStatistics]
) -> dict[str, Any]:
    """Give the statistics. In OPERATION they can be given once; the same again changes nothing.

    Raises:
        NotFound, Forbidden: hidden, or without the right.
        InvalidInput: ``other_dataset``, ``unknown_benchmark``, ``other_preparator``; they break the contract (``bad_statistics``,
            ``statistics_contract``).
        Conflict: ``frozen_in_operation``.
    """
    wanted = sent.value
    report = await _report_for(server, actor, dataset_id, wanted)
    if len(sent.content) > limits.STATISTICS_BYTES:
        raise TooLarge(
            "statistics_too_large", f"Statistics have at most {limits.STATISTICS_BYTES:,} bytes.", "Report less."
        )
    short = len(sent.content) + len(report or "") <= _SHORT
    flat = checked(report, wanted.statistics) if short else await asyncio.to_thread(checked, report, wanted.statistics)
    digest = str(statistics_digest(flat))
    async with actor.change(server.database) as tx:
        row = await found(tx, actor, dataset_id)
        require(policy.may_set_statistics(await standing(tx, actor, row.owner_id)))
        now_there = await repository.lock(tx, dataset_id)
        if now_there.statistics_digest != digest:
            if State(now_there.state) is State.OPERATION and now_there.statistics_digest is not None:
                raise Conflict(
                    "frozen_in_operation",
                    "In OPERATION the statistics of a dataset are frozen.",
                    "Register the data as a new dataset: medperf dataset create",
                )
            changes = {"statistics": orjson.dumps(flat).decode(), "statistics_digest": digest}
            if not await repository.update(tx, dataset_id, now_there.version, changes):
                raise stale()
            await record(tx, actor.user_id, Action.DATASET_STATISTICS_SET, f"dataset:{dataset_id}", {"digest": digest})
        return repository.detail(await found(tx, actor, dataset_id))


async def found(tx: Transaction, actor: Actor, dataset_id: int) -> sa.Row[Any]:
    """Raises:
    NotFound: not there, or hidden.
    """
    row = await repository.get(tx, actor, dataset_id)
    if row is None:
        raise NotFound(
            "no_such_dataset",
            f"There is no dataset {dataset_id} that you may see.",
            "List them with: medperf dataset ls",
        )
    return row


def checked(report: str | None, statistics: dict[str, Any]) -> dict[str, Any]:
    """The statistics, flat.

    Args:
        report: JSON of the benchmark's compatibility report, whose statistics make the contract; None: no benchmark.

    Raises:
        InvalidInput: ``bad_statistics``, ``statistics_contract``.
    """
    if report is None:
        return check_plain_statistics(statistics)
    return check_statistics(derive_statistics_contract(orjson.loads(report)["statistics"]), statistics)


# -------------------------------------------------------------------------------------------------------------- helpers


async def _known(tx: Transaction, owner_id: int, wanted: DatasetCreate) -> Created | None:
    """The answer for what was registered with this UUID before.

    Raises:
        Conflict: ``uuid_taken``: it was other data.
    """
    row = await repository.by_uuid(tx, owner_id, str(wanted.uuid))
    if row is None:
        return None
    if (row.identity, row.preparator_id) != (wanted.identity, wanted.preparator):
        raise Conflict(
            "uuid_taken", f"Dataset {row.id} was registered with this UUID, for other data.", "Make a new UUID."
        )
    view = repository.detail(row)
    return Created(dumps(view), status=200, headers=etag(view))


async def _check_preparator(tx: Transaction, actor: Actor, mlcube_id: int) -> None:
    cube = (await mlcubes.get_many(tx, actor, [mlcube_id])).get(mlcube_id)
    if cube is None:
        raise InvalidInput(
            "unknown_mlcube", "The preparator is no MLCube that you may see.", "List them with: medperf mlcube ls"
        )
    kind = Kind(cube.kind)
    if kind is not Kind.PREPARATOR:
        raise InvalidInput(
            "wrong_kind",
            f"The preparator, MLCube {mlcube_id}, is {kind.with_article}.",
            f"Give {Kind.PREPARATOR.with_article}.",
        )
    if State(cube.state) is not State.OPERATION:
        raise InvalidInput(
            "not_in_operation",
            f"The preparator, MLCube {mlcube_id}, is in DEVELOPMENT.",
            "Its owner puts it in OPERATION first.",
        )
    if not cube.is_valid:
        raise InvalidInput(
            "invalid_mlcube", f"The preparator, MLCube {mlcube_id}, was marked invalid.", "Use another one."
        )


async def _check_older(tx: Transaction, actor: Actor, owner_id: int, older: int | None) -> None:
    if older is None:
        return
    row = await repository.get(tx, actor, older)
    if row is None or row.owner_id != owner_id:
        raise InvalidInput(
            "unknown_dataset",
            f"Dataset {older} is none of the same owner.",
            "See yours with: medperf dataset ls --mine",
        )


async def _report_for(server: ServerContext, actor: Actor, dataset_id: int, wanted: DatasetStatistics) -> str | None:
    """What is refused before the statistics are looked at, outside of a transaction; and the benchmark's report, which is frozen."""
    async with server.database.read() as tx:
        row = await found(tx, actor, dataset_id)
        require(policy.may_set_statistics(await standing(tx, actor, row.owner_id, keep=False)))
        if wanted.dataset != dataset_id:
            raise InvalidInput(
                "other_dataset",
                f"The statistics are of dataset {wanted.dataset}, the address names {dataset_id}.",
                "Send them to their own address.",
            )
        if wanted.benchmark is None:
            return None
        benchmark = await benchmarks.get(tx, actor, wanted.benchmark)
        if benchmark is None:
            raise InvalidInput(
                "unknown_benchmark",
                f"There is no benchmark {wanted.benchmark} that you may see.",
                "List them with: medperf benchmark ls",
            )
        if benchmark.preparator_id != row.preparator_id:
            raise InvalidInput(
                "other_preparator",
                f"Dataset {dataset_id} was not prepared by the preparator of benchmark {wanted.benchmark}.",
                "Prepare it for this benchmark with: medperf dataset create -b",
            )
        return str(benchmark.report)
