"""Executions and attempts: registered before anything runs, and what is reported of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa
from starlette.responses import Response

from medperf.domain.eligibility import refuse
from medperf.domain.errors import Conflict, InvalidInput, NotFound
from medperf.domain.executions import AttemptState, check_new_attempt, check_transition, first_disclosure
from medperf.domain.permissions import Action as Doing
from medperf.domain.permissions import decide
from medperf.domain.states import Kind
from medperf.server.audit.service import Action, record
from medperf.server.authz import Actor, require, standing
from medperf.server.benchmarks import repository as benchmarks
from medperf.server.context import ServerContext
from medperf.server.datasets import repository as datasets
from medperf.server.db import Transaction
from medperf.server.executions import repository
from medperf.server.executions.subject import subject
from medperf.server.executions.tables import executions
from medperf.server.idempotency import Created, create_once
from medperf.server.mlcubes import repository as mlcubes
from medperf.server.requests import Sent
from medperf.server.responses import dump_text, dumps
from medperf.server.rows import check_room
from medperf.server.schema import as_text
from medperf.wire.executions import AttemptCreate, AttemptReport, ExecutionCreate, ProgressReport

#: Of an attempt, what its pins are.
_PINS = (
    "preparator",
    "model_cube",
    "evaluator",
    "identity",
    "contract",
    "data_check",
    "engine",
    "architecture",
)
#: And which of them are no part of what runs: a site that asks again may have looked at its data anew.
_LOOKED = {"data_check"}


async def create(server: ServerContext, actor: Actor, sent: Sent[ExecutionCreate]) -> Response:
    """Register an execution, or answer the one that is registered.

    Raises:
        InvalidInput: ``unknown_benchmark``, ``unknown_dataset``, ``unknown_mlcube``, ``wrong_kind``.
        Forbidden: no right to operate for the dataset's owner.
        Conflict: see `medperf.domain.eligibility.attempt_refusals`.
    """
    wanted = sent.value

    async def make(tx: Transaction) -> Created:
        benchmark = await benchmarks.get(tx, actor, wanted.benchmark)
        dataset = await datasets.get(tx, actor, wanted.dataset)
        model = await mlcubes.get(tx, actor, wanted.model)
        if benchmark is None:
            raise _unknown("benchmark", wanted.benchmark)
        if dataset is None:
            raise _unknown("dataset", wanted.dataset)
        if model is None:
            raise _unknown("mlcube", wanted.model)
        if model.kind != Kind.MODEL.value:
            raise InvalidInput(
                "wrong_kind", f"MLCube {model.id} is {Kind(model.kind).with_article}.", "Name a model with -m."
            )
        require(decide(Doing.EXECUTION_REGISTER, await standing(tx, actor, dataset.owner_id)))
        known = await repository.find(tx, wanted.benchmark, wanted.dataset, wanted.model)
        if known is not None:
            return Created(dumps(await detail(tx, actor, known)), status=200)
        about = await subject(tx, wanted.benchmark, wanted.dataset, wanted.model, keep=True)
        refuse(about.attempt_refusals())
        most = server.settings.execution_count
        await check_room(server, tx, executions, dataset.owner_id, most=most, things="executions")
        values = {
            "owner_id": dataset.owner_id,
            "benchmark_owner_id": benchmark.owner_id,
            "model_owner_id": model.owner_id,
            "benchmark_id": wanted.benchmark,
            "dataset_id": wanted.dataset,
            "mlcube_id": wanted.model,
        }
        made = await repository.insert(tx, values)
        if made is None:  # at the same moment
            known = await repository.find(tx, wanted.benchmark, wanted.dataset, wanted.model)
            assert known is not None, "what stands against it is there"
            return Created(dumps(await detail(tx, actor, known)), status=200)
        await record(
            tx,
            actor.user_id,
            Action.EXECUTION_CREATED,
            f"execution:{made}",
            {"benchmark": wanted.benchmark, "dataset": wanted.dataset, "model": wanted.model},
        )
        return Created(dumps(await detail(tx, actor, made)))

    return await create_once(server, actor, route="POST /executions", key=sent.key, content=sent.content, make=make)


async def add_attempt(server: ServerContext, actor: Actor, execution_id: int, sent: Sent[AttemptCreate]) -> Response:
    """Register an attempt; one with the same UUID is answered again.

    Raises:
        NotFound: hidden, or not there.
        Forbidden: no right to operate for the dataset's owner.
        InvalidInput: ``other_execution``: the body names another one.
        Conflict: see `medperf.domain.eligibility.attempt_refusals`, `Subject.pin_refusals`, `check_new_attempt`; ``uuid_taken``.
    """
    wanted = sent.value

    async def make(tx: Transaction) -> Created:
        row = await found(tx, actor, execution_id)
        require(decide(Doing.EXECUTION_REGISTER, await standing(tx, actor, row.owner_id)))
        check_same((row.benchmark_id, row.dataset_id, row.mlcube_id), (wanted.benchmark, wanted.dataset, wanted.model))
        rows = await repository.lock(tx, execution_id)
        known = next((one for one in rows if one.uuid == str(wanted.uuid)), None)
        if known is not None:
            _check_pins(known, wanted)
            return Created(dumps(await detail(tx, actor, execution_id)), status=200)
        about = await subject(tx, wanted.benchmark, wanted.dataset, wanted.model, keep=True)
        refuse((*about.attempt_refusals(), *about.pin_refusals(wanted)))
        now = datetime.now(UTC)
        lost = check_new_attempt(repository.domain_attempts(rows), reason=wanted.reason, now=now)
        for one in rows:
            if one.number in lost:
                ended = {"state": AttemptState.INTERRUPTED.value, "finished_at": as_text(now)}
                await repository.update_attempt(tx, one.id, ended)
        number = len(rows) + 1
        await _insert(tx, row, number, wanted, now)
        await repository.refresh(tx, execution_id)
        pins = wanted.model_dump(mode="json", include={"preparator", "model_cube", "evaluator"})
        data = {"attempt": number, "identity": wanted.identity, **pins}
        await record(
            tx,
            actor.user_id,
            Action.ATTEMPT_REGISTERED,
            f"execution:{execution_id}",
            data | ({"replaces": list(lost)} if lost else {}),
            personal={"reason": wanted.reason},
        )
        return Created(dumps(await detail(tx, actor, execution_id)))

    route = f"POST /executions/{execution_id}/attempts"
    return await create_once(server, actor, route=route, key=sent.key, content=sent.content, make=make)


def _check_pins(known: Any, wanted: AttemptCreate) -> None:
    """Whether what is asked for again is what was registered.

    Raises:
        Conflict: ``uuid_taken``.
    """
    registered = orjson.loads(known.pins)
    asked = wanted.model_dump(mode="json", include=set(_PINS) - _LOOKED)
    if any(registered[name] != value for name, value in asked.items()):
        raise Conflict(
            "uuid_taken",
            f"Attempt {known.number} was registered with this UUID, for something else to run.",
            "Make a new UUID.",
        )


async def _insert(tx: Transaction, row: Any, number: int, wanted: AttemptCreate, now: datetime) -> None:
    values = {
        "execution_id": row.id,
        "owner_id": row.owner_id,
        "number": number,
        "uuid": str(wanted.uuid),
        "state": AttemptState.REGISTERED.value,
        "heartbeat_at": as_text(now),
        "created_at": as_text(now),
        "reason": wanted.reason,
        "pins": dump_text(wanted.model_dump(mode="json", include=set(_PINS))),
    }
    if await repository.insert_attempt(tx, values) is None:
        raise Conflict(
            "attempt_running", "Another attempt of this execution is registered.", "Wait for it, or stop it."
        )


async def report(
    server: ServerContext, actor: Actor, execution_id: int, number: int, wanted: AttemptReport
) -> dict[str, Any]:
    """How far an attempt came. What is so already is no error.

    Raises:
        NotFound: hidden, or not there.
        Forbidden: no right to operate for the dataset's owner.
        InvalidInput, Conflict: ``other_execution``; see `check_transition`.
    """
    async with actor.change(server.database) as tx:
        row = await found(tx, actor, execution_id)
        require(decide(Doing.EXECUTION_REPORT, await standing(tx, actor, row.owner_id)))
        check_same((execution_id, number), (wanted.execution, wanted.attempt))
        rows = await repository.lock(tx, execution_id)
        stored = attempt_row(rows, number)
        now = datetime.now(UTC)
        if check_transition(repository.attempt_of(stored), wanted.state, wanted.failure):
            disclosure = first_disclosure(wanted.state)
            changes: dict[str, Any] = {
                "state": wanted.state.value,
                "failure": None if wanted.failure is None else wanted.failure.value,
                "disclosure": None if disclosure is None else disclosure.value,
                "heartbeat_at": as_text(now),
                "started_at" if wanted.state.is_open else "finished_at": as_text(now),
            }
            if wanted.task is not None:
                changes |= {"task": wanted.task}
            await repository.update_attempt(tx, stored.id, changes)
            data = {"attempt": number, "state": wanted.state.value}
            if wanted.failure is not None:
                data["failure"] = wanted.failure.value
            await record(tx, actor.user_id, Action.ATTEMPT_REPORTED, f"execution:{execution_id}", data)
            rows = await repository.refresh(tx, execution_id)
        return repository.attempt_view(attempt_row(rows, number), now)


async def progress(
    server: ServerContext, actor: Actor, execution_id: int, number: int, wanted: ProgressReport
) -> dict[str, Any]:
    """A sign of life of an open attempt. It leaves nothing in the audit trail: it is not kept either.

    Raises:
        NotFound: hidden, or not there.
        Forbidden: no right to operate for the dataset's owner.
        Conflict: ``attempt_ended``.
    """
    async with actor.change(server.database) as tx:
        row = await found(tx, actor, execution_id)
        require(decide(Doing.EXECUTION_REPORT, await standing(tx, actor, row.owner_id)))
        check_same((execution_id, number), (wanted.execution, wanted.attempt))
        alive = await repository.beat(tx, execution_id, number, task=wanted.task, percent=wanted.percent)
        stored = attempt_row(await repository.attempts_of(tx, execution_id), number)
        if not alive:
            raise Conflict(
                "attempt_ended",
                f"Attempt {number} is {stored.state}: there is nothing to report of it.",
                "Stop what still runs of it. Run it again: finished steps are reused.",
            )
        return repository.attempt_view(stored, datetime.now(UTC))


async def found(tx: Transaction, actor: Actor, execution_id: int) -> sa.Row[Any]:
    """Raises:
    NotFound: not there, or hidden.
    """
    row = await repository.get(tx, actor, execution_id)
    if row is None:
        raise NotFound(
            "no_such_execution",
            f"There is no execution {execution_id} that you may see.",
            "List them with: medperf result ls",
        )
    return row


async def detail(tx: Transaction, actor: Actor, execution_id: int) -> dict[str, Any]:
    """As `medperf.wire.executions.ExecutionView`, with all attempts."""
    row = await found(tx, actor, execution_id)
    now = datetime.now(UTC)
    rows = await repository.attempts_of(tx, execution_id)
    return repository.view(row) | {"attempts": [repository.attempt_view(one, now) for one in rows]}


def attempt_row(rows: Any, number: int) -> Any:
    """Raises:
    NotFound: ``no_such_attempt``.
    """
    for row in rows:
        if row.number == number:
            return row
    raise NotFound(
        "no_such_attempt", f"This execution has no attempt {number}.", "See its attempts with: medperf result view"
    )


def check_same(here: tuple[int, ...], named: tuple[int, ...]) -> None:
    """A body says itself what it is about, so one that went astray is found.

    Raises:
        InvalidInput: ``other_execution``.
    """
    if here != named:
        raise InvalidInput(
            "other_execution", "The body is about another execution or attempt than the address.", "Send it there."
        )


def _unknown(noun: str, thing: int) -> InvalidInput:
    label = {"benchmark": "benchmark", "dataset": "dataset", "mlcube": "MLCube"}[noun]
    return InvalidInput(
        f"unknown_{noun}", f"There is no {label} {thing} that you may see.", f"List them with: medperf {noun} ls"
    )
