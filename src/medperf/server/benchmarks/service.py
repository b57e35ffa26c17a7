"""What is done with benchmarks."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
import sqlalchemy as sa
from starlette.responses import Response

from medperf.domain.associations import AutoMode
from medperf.domain.errors import InvalidInput, NotFound
from medperf.domain.executions import ResultsVisibility, check_visibility_change
from medperf.domain.permissions import Action as Attempt
from medperf.domain.states import Approval, Kind, State, check_approval, check_editable, check_state_change
from medperf.server.assets import openings
from medperf.server.assets.repository import readable
from medperf.server.assets.service import check_references, hosted
from medperf.server.audit.service import Action, record
from medperf.server.authz import Actor, owner_for, require, standing
from medperf.server.benchmarks import policy, repository, rules
from medperf.server.benchmarks.rules import RegisteredCube
from medperf.server.benchmarks.tables import benchmarks
from medperf.server.context import ServerContext
from medperf.server.db import Transaction
from medperf.server.idempotency import Created, create_once
from medperf.server.metadata import column_values, metadata_text
from medperf.server.mlcubes import repository as mlcubes
from medperf.server.organisations import repository as organisations
from medperf.server.requests import Sent, stale
from medperf.server.responses import dump_text, dumps, etag
from medperf.server.rows import check_room
from medperf.server.schema import now
from medperf.wire.models import AutoPolicy, BenchmarkCreate, BenchmarkUpdate, Decision, FileRef


async def create(server: ServerContext, actor: Actor, sent: Sent[BenchmarkCreate]) -> Response:
    """Register a benchmark. Its report must speak of exactly the MLCubes and the demo data that it names; all is frozen with it.

    Raises:
        InvalidInput: see `rules.check_report`, `owner_for`, `rules.check_cubes` and `check_references`.
        Forbidden: no right to operate for that owner.
        Conflict: ``name_taken``.
    """
    wanted = sent.value
    contract = await asyncio.to_thread(rules.check_report, wanted)
    values = {
        "name": wanted.name,
        "description": wanted.description,
        "docs_url": wanted.docs_url,
        "state": wanted.state.value,
        "approval": Approval.PENDING.value,
        "approval_reason": "",
        "is_valid": True,
        "is_active": True,
        "demo": dump_text(wanted.demo.model_dump(mode="json")),
        "prepared_identity": wanted.report.prepared_identity,
        "preparator_id": wanted.preparator,
        "reference_model_id": wanted.reference_model,
        "evaluator_id": wanted.evaluator,
        "report": dump_text(wanted.report.model_dump(mode="json")),
        "metrics_contract": dump_text(contract.as_document()),
        **policy_values("auto_models", wanted.auto_models),
        **policy_values("auto_datasets", wanted.auto_datasets),
        "results_visibility": wanted.results_visibility.value,
        "user_metadata": metadata_text(wanted.user_metadata),
        "decided_at": None,
    }

    async def make(tx: Transaction) -> Created:
        owner_id = await owner_for(tx, actor, wanted.owner, Attempt.BENCHMARK_REGISTER)
        if opened := _opened(wanted):
            require(policy.may_update(await standing(tx, actor, owner_id), opened))
        await check_room(server, tx, benchmarks, owner_id, most=server.settings.benchmark_count, things="benchmarks")
        ids = {part: getattr(wanted, part) for part in rules.PARTS}
        rows = await mlcubes.get_many(tx, actor, set(ids.values()))
        cubes = {cube_id: registered(row) for cube_id, row in rows.items()}
        rules.check_cubes(wanted, cubes)
        asset_ids = await check_references(tx, actor, [("demo", wanted.demo)])
        await _check_readable(tx, actor, {part: cubes[ids[part]] for part in ("preparator", "evaluator")})
        benchmark_id = await repository.ROWS.insert(tx, {**values, "owner_id": owner_id}, asset_ids)
        await openings.open_to_owner(tx, benchmark_id, owner_id)
        await record(
            tx,
            actor.user_id,
            Action.BENCHMARK_CREATED,
            f"benchmark:{benchmark_id}",
            {**ids, "state": wanted.state.value, "owner": owner_id},
        )
        view = repository.detail(await found(tx, actor, benchmark_id))
        return Created(dumps(view), headers=etag(view))

    return await create_once(server, actor, route="POST /benchmarks", key=sent.key, content=sent.content, make=make)


async def update(
    server: ServerContext, actor: Actor, benchmark_id: int, version: int, wanted: BenchmarkUpdate
) -> dict[str, Any]:
    """Change what may change.

    Raises:
        NotFound, Forbidden, Conflict: hidden, without the right, or frozen.
        PreconditionFailed: edited meanwhile.
    """
    changes = wanted.model_dump(exclude_unset=True, exclude_none=True)
    async with actor.change(server.database) as tx:
        row = await found(tx, actor, benchmark_id)
        require(policy.may_update(await standing(tx, actor, row.owner_id), changes.keys()))
        if row.version != version:
            raise stale()
        check_editable("benchmark", State(row.state), changes)
        check_state_change(State(row.state), changes.get("state", State(row.state)))
        if wanted.results_visibility is not None:
            now_shown = ResultsVisibility(row.results_visibility)
            check_visibility_change(now_shown, wanted.results_visibility, state=State(row.state))
        if not await repository.ROWS.update(tx, benchmark_id, version, _columns(wanted, changes)):
            raise stale()
        await record(
            tx, actor.user_id, Action.BENCHMARK_UPDATED, f"benchmark:{benchmark_id}", {"fields": sorted(changes)}
        )
        return repository.detail(await found(tx, actor, benchmark_id))


def policy_values(name: str, wanted: AutoPolicy) -> dict[str, Any]:
    """Columns of what is approved without a person.

    Raises:
        InvalidInput: ``bad_auto_approval``.
    """
    approval = wanted.approval()
    return {name: approval.mode.value, f"{name}_parties": dump_text(sorted(approval.parties))}


def _opened(wanted: BenchmarkCreate) -> set[str]:
    """The fields of a new benchmark that open it to others by themselves: who operates for its owner may not decide that alone."""
    fields = {name for name in ("auto_models", "auto_datasets") if getattr(wanted, name).mode is not AutoMode.NEVER}
    return fields if wanted.results_visibility is ResultsVisibility.OWNERS else fields | {"results_visibility"}


def _columns(wanted: BenchmarkUpdate, changes: dict[str, Any]) -> dict[str, Any]:
    found = column_values(changes)
    for name in ("auto_models", "auto_datasets"):
        if name in changes:
            found |= policy_values(name, getattr(wanted, name))
    return found


async def decide(server: ServerContext, actor: Actor, benchmark_id: int, sent: Sent[Decision]) -> Response:
    """Approve or reject.

    Raises:
        NotFound: not there, or hidden.
        Forbidden: no admin, or one who belongs to the owner.
        Conflict, InvalidInput: see `check_approval`.
        PreconditionFailed: somebody decided, or edited it, at the same moment.
    """
    wanted = sent.value

    async def make(tx: Transaction) -> Created:
        row = await found(tx, actor, benchmark_id)
        await organisations.keep_members(tx, row.owner_id)
        require(policy.may_decide(await standing(tx, actor, row.owner_id)))
        check_approval(Approval(row.approval), wanted.approval, state=State(row.state))
        changes = {"approval": wanted.approval.value, "approval_reason": wanted.reason, "decided_at": now()}
        if not await repository.ROWS.update(tx, benchmark_id, row.version, changes):
            raise stale()
        await record(
            tx,
            actor.user_id,
            Action.BENCHMARK_DECIDED,
            f"benchmark:{benchmark_id}",
            {"approval": wanted.approval.value},
            personal={"reason": wanted.reason},
        )
        if wanted.approval is Approval.APPROVED:  # which only something in OPERATION can be
            await openings.publish(tx, benchmark_id)
        view = repository.detail(await found(tx, actor, benchmark_id))
        return Created(dumps(view), status=200, headers=etag(view))

    route = f"POST /benchmarks/{benchmark_id}/decision"
    return await create_once(server, actor, route=route, key=sent.key, content=sent.content, make=make)


async def found(tx: Transaction, actor: Actor, benchmark_id: int) -> sa.Row[Any]:
    """Raises:
    NotFound: not there, or hidden.
    """
    row = await repository.get(tx, actor, benchmark_id)
    if row is None:
        raise NotFound(
            "no_such_benchmark",
            f"There is no benchmark {benchmark_id} that you may see.",
            "List them with: medperf benchmark ls",
        )
    return row


async def _check_readable(tx: Transaction, actor: Actor, cubes: Mapping[str, RegisteredCube]) -> None:
    """A benchmark opens the hosted files of its preparator and evaluator to whoever sees it, so only someone who reads them may
    make one: else anybody could open a stranger's files with a benchmark of their own.

    Raises:
        InvalidInput: ``unreadable_files``.
    """
    wanted = {asset_id: part for part, cube in cubes.items() for ref in cube.files.values() for asset_id in hosted(ref)}
    known = await readable(tx, actor, wanted)
    for asset_id, part in wanted.items():
        if asset_id not in known:
            raise InvalidInput(
                "unreadable_files",
                f"The {part}, MLCube {cubes[part].id}, has files on this server that you may not read.",
                "Ask its owner to make the benchmark, or use an MLCube of your own or of an approved benchmark.",
            )


def registered(row: sa.Row[Any]) -> RegisteredCube:
    """A row of MLCubes, as the rules look at it."""
    files = {name: FileRef.model_validate(ref) for name, ref in orjson.loads(row.files).items()}
    return RegisteredCube(
        row.id, row.name, Kind(row.kind), State(row.state), row.is_valid, files, orjson.loads(row.forms)
    )
