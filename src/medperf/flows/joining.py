"""Asking for an association: a model's owner asks to join a benchmark with a compatibility test, a benchmark's owner invites."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from medperf.domain.associations import Side, Status
from medperf.domain.eligibility import Fitness, join_refusals, refuse
from medperf.domain.errors import Conflict, Forbidden, InvalidInput, NotFound, UsageError
from medperf.domain.events import Note
from medperf.domain.metrics import contract_from_document
from medperf.domain.permissions import Action, Standing
from medperf.domain.permissions import decide as permitted
from medperf.domain.states import Kind
from medperf.flows.associations import consented, find_pair, rights_of
from medperf.flows.creating import statistics_contract
from medperf.flows.cubes import check_usable, registered_cube
from medperf.flows.site import Site
from medperf.wire.associations import AssociationCreate, AssociationInvite, AssociationView
from medperf.wire.models import BenchmarkView, CompatibilityReport, MLCubeView
from medperf.wire.reports import check_model_report, check_tested

if TYPE_CHECKING:
    from medperf.flows.compatibility import TestResult

_ASKED = "association-request"
_INVITED = "association-invitation"
Request = TypeVar("Request", AssociationCreate, AssociationInvite)


@dataclass(frozen=True)
class Tested:
    """A model tested with a benchmark, as the benchmark's rules want it.

    Attributes:
        metrics: flat; None = undefined.
        result: how the test ran; None: an earlier test is sent.
    """

    benchmark: BenchmarkView
    model: MLCubeView
    report_id: str
    report: CompatibilityReport
    metrics: dict[str, Any]
    result: TestResult | None


@dataclass(frozen=True)
class Asked:
    """A request, as it is now.

    Attributes:
        already: it was asked for before, and nothing was sent now.
        test: what was sent with it; None: nothing was.
    """

    association: AssociationView
    already: bool
    test: Tested | None = None


def associate_model(
    site: Site,
    benchmark_id: int,
    model_id: int,
    *,
    report: str | None = None,
    no_cache: bool = False,
    yes: bool = False,
) -> Asked:
    """Ask a benchmark's owner to take a model: test it with the benchmark's own demo data, show the metrics, send the report.

    Args:
        report: id of the test to send instead of running it, or its beginning.
        no_cache: run every step of the test again.
        yes: do not ask before the report is sent.

    Raises:
        Conflict: what stands in the way; ``asked_by_the_other_side``: the benchmark's owner invited it.
        Forbidden: it is not the account's model, or nobody agreed.
        InvalidInput: no model, or a report that speaks of something else; nothing was sent.
        TaskFailed: the test failed; nothing was sent.
    """
    benchmark, model = site.api.benchmarks.get(benchmark_id), site.api.mlcubes.get(model_id)
    pair = {"benchmark": benchmark_id, "model": model_id}
    before = find_pair(site, benchmark_id, model=model_id)
    if before is not None and _is_there(before, by=Side.ASSET):
        _forget(site, _ASKED, pair)
        return Asked(before, already=True)
    _check_owner(site, benchmark, model)
    _check_fit(benchmark, model)

    def send(body: AssociationCreate, *, idempotency_key: str) -> AssociationView:
        return site.api.associations.ask(body, idempotency_key=idempotency_key)

    answered = _again(site, _ASKED, pair, AssociationCreate, send, before=before)
    if answered is not None:
        return Asked(answered, already=False)
    test = report_on_model(site, benchmark_id, model_id, report=report, no_cache=no_cache)
    consented(site, metrics_question(test, sent="with your request"), yes=yes)
    body = AssociationCreate.of(uuid=uuid.uuid4(), benchmark=benchmark_id, model=model_id, report=test.report)
    return Asked(_first(site, _ASKED, body, send), already=False, test=test)


def invite(
    site: Site, benchmark_id: int, *, dataset: int | None = None, model: int | None = None, report: str | None = None
) -> Asked:
    """Ask the owner of a dataset or a model to join one's benchmark.

    Args:
        dataset, model: one of them. Of a dataset nothing is told before its owner agrees.
        report: id of a test of the model to send with it; without, the model's owner tests it to say yes.

    Raises:
        UsageError: not one of them, or a report of a dataset.
        Conflict: what stands in the way.
        Forbidden: not the account's benchmark.
        InvalidInput: a report that speaks of something else; ``missing_report``: both sides are one's own.
    """
    given = {name: number for name, number in (("dataset", dataset), ("model", model)) if number is not None}
    if len(given) != 1:
        raise UsageError("usage", "Either a dataset or a model is invited.", "Give one of -d and -m.")
    if report is not None and model is None:
        raise UsageError("usage", "A report is of a model.", "Give -m with --report.")
    pair = {"benchmark": benchmark_id, **given}
    before = find_pair(site, benchmark_id, dataset=dataset, model=model)
    if before is not None and _is_there(before, by=Side.BENCHMARK):
        _forget(site, f"{_INVITED}:{benchmark_id}", pair)
        return Asked(before, already=True)

    def send(body: AssociationInvite, *, idempotency_key: str) -> AssociationView:
        return site.api.associations.invite(benchmark_id, body, idempotency_key=idempotency_key)

    answered = _again(site, f"{_INVITED}:{benchmark_id}", pair, AssociationInvite, send, before=before)
    if answered is not None:
        return Asked(answered, already=False)
    test: Tested | None = None
    if model is not None:
        cube, benchmark = site.api.mlcubes.get(model), site.api.benchmarks.get(benchmark_id)
        _check_fit(benchmark, cube)
        if report is not None:
            test = report_on_model(site, benchmark_id, model, report=report)
        elif cube.owner.id == benchmark.owner.id:
            raise InvalidInput(
                "missing_report",
                f"MLCube {model} and benchmark {benchmark_id} have one owner: it joins at once, so it must be tested first.",
                f"Test it and let it join with: medperf mlcube associate -b {benchmark_id} -m {model}",
            )
    body = AssociationInvite.of(uuid=uuid.uuid4(), **given, report=None if test is None else test.report)
    return Asked(_first(site, f"{_INVITED}:{benchmark_id}", body, send), already=False, test=test)


def report_on_model(
    site: Site, benchmark_id: int, model_id: int, *, report: str | None = None, no_cache: bool = False
) -> Tested:
    """Run the compatibility test of a model with a benchmark's preparator, evaluator and demo data, or take the report of one.

    Args:
        report: id of an earlier test, or its beginning.

    Raises:
        InvalidInput: the report speaks of another MLCube or benchmark, or its metrics break the benchmark's contract.
        TaskFailed: the test failed.
    """
    benchmark, model = site.api.benchmarks.get(benchmark_id), site.api.mlcubes.get(model_id)
    preparator, evaluator = site.api.mlcubes.get(benchmark.preparator), site.api.mlcubes.get(benchmark.evaluator)
    if report is not None:
        found = _stored(site, benchmark, model, report)
    else:
        found = _run(site, benchmark, preparator, model, evaluator, no_cache=no_cache)
    check_model_report(
        found.report,
        benchmark_id=benchmark.id,
        demo_digest=benchmark.demo.digest,
        prepared_identity=benchmark.prepared_identity,
        metrics=contract_from_document(benchmark.metrics_contract or {}),
        statistics=statistics_contract(benchmark),
    )
    check_tested("preparator", preparator, found.report.preparator)
    check_tested("model", model, found.report.model)
    check_tested("evaluator", evaluator, found.report.evaluator)
    return found


def metrics_question(test: Tested, *, sent: str) -> str:
    """What a person reads before a report goes: what the test measured, and to whom that is told."""
    benchmark, model = test.benchmark, test.model
    values = {name: "undefined" if value is None else value for name, value in test.metrics.items()}
    lines = [
        f"MLCube {model.id} ({model.name}) passed the compatibility test of benchmark {benchmark.id} ({benchmark.name}):"
    ]
    lines += [f"  {name}: {value}" for name, value in values.items()]
    lines += [f"The test's report goes to {benchmark.owner.name} {sent}. It is no result of the benchmark.", "Send it?"]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------------- checking


def _is_there(before: AssociationView, *, by: Side) -> bool:
    """Whether there is nothing left to ask.

    Raises:
        Conflict: the other side asks, so this one decides.
    """
    if before.status is Status.PENDING and before.asked_by is not by:
        raise Conflict(
            "asked_by_the_other_side",
            "The other side already asks for this association; you decide.",
            f"Approve it with: medperf association approve {before.id}",
        )
    return not before.status.has_ended


def _check_owner(site: Site, benchmark: BenchmarkView, model: MLCubeView) -> None:
    """Found before the test runs.

    Raises:
        Forbidden: the model is somebody else's.
    """
    parties = rights_of(site)
    standing = Standing(rights=parties.get(model.owner.id, frozenset()), organisation=model.owner.name)
    verdict = permitted(Action.ASSOCIATION_ASK, standing)
    if verdict.allowed:
        return
    if benchmark.owner.id in parties and not standing.rights:
        raise Forbidden(
            verdict.code,
            f"MLCube {model.id} ({model.name}) belongs to {model.owner.name}, who asks for it.",
            f"Invite it into your benchmark: medperf association invite -b {benchmark.id} -m {model.id}",
        )
    raise Forbidden(verdict.code, verdict.reason, verdict.fix)


def _check_fit(benchmark: BenchmarkView, model: MLCubeView) -> None:
    """What the server would refuse, before the test runs.

    Raises:
        InvalidInput: no model, marked invalid, or the benchmark's own reference model.
        Conflict: everything else that stands in the way; all of it is in the details.
    """
    check_usable(model, Kind.MODEL)
    if model.id == benchmark.reference_model:
        raise InvalidInput(
            "reference_model",
            f"MLCube {model.id} is the reference model of benchmark {benchmark.id}: it is in it already.",
            "Nothing is left to ask.",
        )
    joined = Fitness(
        f"benchmark {benchmark.id}", benchmark.state, benchmark.is_valid, benchmark.is_active, benchmark.approval
    )
    refuse(join_refusals(joined, Fitness(f"MLCube {model.id}", model.state, model.is_valid)))


# -------------------------------------------------------------------------------------------------------------- testing


def _run(
    site: Site,
    benchmark: BenchmarkView,
    preparator: MLCubeView,
    model: MLCubeView,
    evaluator: MLCubeView,
    *,
    no_cache: bool,
) -> Tested:
    from medperf.flows.compatibility import TestCubes, test_workflow
    from medperf.flows.data import demo_data
    from medperf.flows.files import obtain_registered

    cubes = TestCubes(
        preparator=registered_cube(site, preparator, Kind.PREPARATOR),
        model=registered_cube(site, model, Kind.MODEL),
        evaluator=registered_cube(site, evaluator, Kind.EVALUATOR),
    )
    data = demo_data(site, obtain_registered(site, benchmark.demo, name="demo data"))
    contract = contract_from_document(benchmark.metrics_contract or {})
    result = test_workflow(site, cubes, data, contract=contract, no_cache=no_cache)
    # As it is kept: every field is set, so that the same is sent whether it is read again or not.
    report = CompatibilityReport.model_validate(result.report.model_dump(mode="json"))
    return Tested(benchmark, model, str(result.report_id), report, result.metrics, result)


def _stored(site: Site, benchmark: BenchmarkView, model: MLCubeView, report: str) -> Tested:
    """An earlier test of this site.

    Raises:
        NotFound: there is none.
        InvalidInput: it did not pass, or an older version wrote it.
    """
    from pydantic import ValidationError

    stored = site.workspace.reports.get(report)
    again = f"Run it again: medperf test run -b {benchmark.id} -m {model.id}"
    if "report" not in stored.report:
        raise InvalidInput("test_failed", f"The test {stored.id.short} did not pass: it has no report.", again)
    try:
        document = CompatibilityReport.model_validate(stored.report["report"])
    except ValidationError as error:
        raise InvalidInput("bad_report", f"The report {stored.id.short} cannot be read any more.", again) from error
    return Tested(benchmark, model, str(stored.id), document, stored.report["metrics"], None)


# -------------------------------------------------------------------------------------------------------- sending once


def _first(site: Site, kind: str, body: Request, send: Callable[..., AssociationView]) -> AssociationView:
    from medperf.flows.uploads import create_once

    return create_once(site, kind, body, send)


def _again(
    site: Site,
    kind: str,
    pair: Mapping[str, int],
    model: type[Request],
    send: Callable[..., AssociationView],
    *,
    before: AssociationView | None,
) -> AssociationView | None:
    """Send an earlier request of this pair again, exactly as it was agreed to then, where its answer was never heard.

    Args:
        before: what is known of the pair; ended, or nothing.

    Returns:
        what the server made of it; None: there is none, or it arrived and ended since.
    """
    for entry in site.workspace.pending.ls(site.credential().instance_id):
        if entry.kind != kind or not _is_about(json.loads(entry.body), pair):
            continue
        site.emit(Note("An earlier try of this got no answer: it is sent again."))
        try:
            answer = send(_as_it_was(entry.body, model), idempotency_key=entry.key)
        except (Conflict, Forbidden, InvalidInput, NotFound):
            site.workspace.pending.forget(entry.key)
            raise
        site.workspace.pending.forget(entry.key)
        if before is None or answer.version > before.version:
            return answer
    return None


def _as_it_was(body: bytes, model: type[Request]) -> Request:
    """With exactly the fields that were set: the server takes one key for one content only."""
    return model.model_validate({name: value for name, value in json.loads(body).items() if value is not None})


def _forget(site: Site, kind: str, pair: Mapping[str, int]) -> None:
    """What was asked for is there, so nothing about it waits for an answer."""
    for entry in site.workspace.pending.ls(site.credential().instance_id):
        if entry.kind == kind and _is_about(json.loads(entry.body), pair):
            site.workspace.pending.forget(entry.key)


def _is_about(body: Mapping[str, Any], pair: Mapping[str, int]) -> bool:
    """An invitation's benchmark stands in its address."""
    return all(body.get(name, number if name == "benchmark" else None) == number for name, number in pair.items())
