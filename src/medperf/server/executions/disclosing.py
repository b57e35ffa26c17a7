"""What becomes of the metrics of an attempt: released, withheld, retracted."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import orjson
from starlette.responses import Response

from medperf.domain import limits
from medperf.domain.eligibility import refuse
from medperf.domain.errors import Conflict
from medperf.domain.executions import Disclosure, check_disclosure
from medperf.domain.metrics import CASES, MetricsContract, check_metrics, contract_from_document
from medperf.domain.permissions import Action as Doing
from medperf.domain.permissions import decide
from medperf.server.audit.service import Action, record
from medperf.server.authz import Actor, require, standing
from medperf.server.context import ServerContext
from medperf.server.db import Transaction
from medperf.server.errors import TooLarge
from medperf.server.executions import repository
from medperf.server.executions.registering import attempt_row, check_same, detail, found
from medperf.server.executions.subject import Subject, subject
from medperf.server.idempotency import Created, create_once
from medperf.server.requests import Sent
from medperf.server.responses import dumps
from medperf.server.schema import as_text
from medperf.wire.executions import ReleaseCreate, RetractionCreate, WithholdingCreate

_SHORT = 32 * 1024  # bytes; what is longer is looked at in a thread


def metric_keys(contract: MetricsContract) -> tuple[str, ...]:
    """All that a release holds, in the order in which it is stored and shown."""
    own = tuple(rule.key for rule in contract.rules)
    return own + (tuple(f"{CASES}.{name}" for name in ("evaluated", "failed", "total")) if contract.has_cases else ())


def checked(contract_text: str, metrics: dict[str, Any]) -> dict[str, Any]:
    """The metrics, flat and in order.

    Raises:
        InvalidInput: ``bad_metrics``, ``metrics_contract``.
    """
    contract = contract_from_document(orjson.loads(contract_text))
    flat = check_metrics(contract, metrics)
    return {key: flat[key] for key in metric_keys(contract)}


async def release(server: ServerContext, actor: Actor, execution_id: int, sent: Sent[ReleaseCreate]) -> Response:
    """Release the metrics of an attempt.

    Raises:
        NotFound: hidden, or not there.
        Forbidden: no right to release for the dataset's owner.
        InvalidInput: ``other_execution``; the metrics break the contract of the benchmark.
        Conflict: see `check_disclosure` and `medperf.domain.eligibility.release_refusals`; ``released_otherwise``.
    """
    wanted = sent.value
    about = await _before(server, actor, execution_id, wanted, Doing.RESULT_RELEASE)
    if len(sent.content) > limits.METRICS_BYTES:
        raise TooLarge("metrics_too_large", f"Metrics have at most {limits.METRICS_BYTES:,} bytes.", "Report less.")
    contract, document = about.benchmark.metrics_contract, wanted.metrics
    short = len(contract) + len(sent.content) <= _SHORT
    flat = checked(contract, document) if short else await asyncio.to_thread(checked, contract, document)
    text = orjson.dumps(flat).decode()

    async def make(tx: Transaction) -> Created:
        row, rows = await _locked(tx, actor, execution_id, Doing.RESULT_RELEASE)
        stored = attempt_row(rows, wanted.attempt)
        attempts = repository.domain_attempts(rows)
        if not check_disclosure(attempts, wanted.attempt, Disclosure.RELEASED, reason=None):
            known = await repository.result_of(tx, stored.id)
            if known is None or orjson.loads(known.metrics) != flat:
                raise Conflict(
                    "released_otherwise",
                    f"Attempt {wanted.attempt} is released with other metrics.",
                    "Retract that first, with a reason: medperf result retract",
                )
            return Created(dumps(repository.result_view(known)), status=200)
        now_about = await subject(tx, row.benchmark_id, row.dataset_id, row.mlcube_id, keep=True)
        refuse(now_about.release_refusals())
        values = {
            **{name: getattr(row, name) for name in ("owner_id", "benchmark_owner_id", "model_owner_id")},
            **{name: getattr(row, name) for name in ("benchmark_id", "dataset_id", "mlcube_id")},
            "execution_id": execution_id,
            "attempt_id": stored.id,
            "uuid": str(wanted.uuid),
            "state": Disclosure.RELEASED.value,
            "released_at": as_text(datetime.now(UTC)),
            "metrics": text,
        }
        if await repository.insert_release(tx, values) is None:
            raise Conflict(
                "release_live",
                "Another attempt of this execution is released; one release is live at a time.",
                "Retract that one first, with a reason: medperf result retract",
            )
        await _store(tx, actor, execution_id, stored, Disclosure.RELEASED, None)
        made = await repository.result_of(tx, stored.id)
        return Created(dumps(repository.result_view(made)))

    return await _once(server, actor, execution_id, "release", sent, make)


async def withhold(server: ServerContext, actor: Actor, execution_id: int, sent: Sent[WithholdingCreate]) -> Response:
    """Keep the metrics of an attempt at the site, for good.

    Raises:
        NotFound: hidden, or not there.
        Forbidden: no right to release for the dataset's owner.
        InvalidInput, Conflict: ``other_execution``; see `check_disclosure`.
    """
    wanted = sent.value

    async def make(tx: Transaction) -> Created:
        _, rows = await _locked(tx, actor, execution_id, Doing.RESULT_WITHHOLD)
        check_same((execution_id,), (wanted.execution,))
        stored = attempt_row(rows, wanted.attempt)
        attempts = repository.domain_attempts(rows)
        if check_disclosure(attempts, wanted.attempt, Disclosure.WITHHELD, reason=wanted.reason):
            await _store(tx, actor, execution_id, stored, Disclosure.WITHHELD, wanted.reason)
        return Created(dumps(await detail(tx, actor, execution_id)), status=200)

    return await _once(server, actor, execution_id, "withholding", sent, make)


async def retract(server: ServerContext, actor: Actor, execution_id: int, sent: Sent[RetractionCreate]) -> Response:
    """Released metrics count no more, and are shown no more.

    Raises:
        NotFound: hidden, or not there.
        Forbidden: no right to release for the dataset's owner.
        InvalidInput, Conflict: ``other_execution``; see `check_disclosure`.
    """
    wanted = sent.value

    async def make(tx: Transaction) -> Created:
        _, rows = await _locked(tx, actor, execution_id, Doing.RESULT_RETRACT)
        check_same((execution_id,), (wanted.execution,))
        stored = attempt_row(rows, wanted.attempt)
        attempts = repository.domain_attempts(rows)
        if check_disclosure(attempts, wanted.attempt, Disclosure.RETRACTED, reason=wanted.reason):
            await repository.retract(tx, stored.id)
            await _store(tx, actor, execution_id, stored, Disclosure.RETRACTED, wanted.reason)
        return Created(dumps(repository.result_view(await repository.result_of(tx, stored.id))), status=200)

    return await _once(server, actor, execution_id, "retraction", sent, make)


# -------------------------------------------------------------------------------------------------------------- helpers


async def _before(
    server: ServerContext, actor: Actor, execution_id: int, wanted: ReleaseCreate, action: Doing
) -> Subject:
    """What is refused before the metrics are looked at: outside of a transaction, since that may take a while."""
    async with server.database.read() as tx:
        row = await found(tx, actor, execution_id)
        require(decide(action, await standing(tx, actor, row.owner_id, keep=False)))
        check_same((execution_id,), (wanted.execution,))
        return await subject(tx, row.benchmark_id, row.dataset_id, row.mlcube_id, keep=False)


async def _locked(tx: Transaction, actor: Actor, execution_id: int, action: Doing) -> tuple[Any, Any]:
    """The execution and its attempts, which nobody else changes until the transaction ends."""
    row = await found(tx, actor, execution_id)
    require(decide(action, await standing(tx, actor, row.owner_id)))
    return row, await repository.lock(tx, execution_id)


async def _store(
    tx: Transaction, actor: Actor, execution_id: int, stored: Any, wanted: Disclosure, reason: str | None
) -> None:
    await repository.update_attempt(
        tx, stored.id, {"disclosure": wanted.value, "disclosure_reason": reason or stored.disclosure_reason}
    )
    await repository.refresh(tx, execution_id)
    events = {
        Disclosure.RELEASED: Action.RESULT_RELEASED,
        Disclosure.WITHHELD: Action.RESULT_WITHHELD,
        Disclosure.RETRACTED: Action.RESULT_RETRACTED,
    }
    data = {"attempt": stored.number}
    await record(tx, actor.user_id, events[wanted], f"execution:{execution_id}", data, personal={"reason": reason})


async def _once(
    server: ServerContext, actor: Actor, execution_id: int, what: str, sent: Sent[Any], make: Any
) -> Response:
    route = f"POST /executions/{execution_id}/{what}"
    return await create_once(server, actor, route=route, key=sent.key, content=sent.content, make=make)
