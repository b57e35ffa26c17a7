"""Before a run: what would run, in which order, what is done already, and everything that stands in the way, found at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict, InternalError, Interrupted, InvalidInput, MedPerfError, UsageError
from medperf.domain.executions import checked_reason
from medperf.domain.identity import commitment
from medperf.domain.sitepolicy import Answer, ModelOffer, TaskLimits
from medperf.domain.states import Kind
from medperf.flows import accepting
from medperf.flows.checking import VerifiedDataset, find_local, verified_dataset
from medperf.flows.cubes import ReadyCube, registered_cube
from medperf.flows.eligible import Standing, look_up
from medperf.flows.history import Past, past_of
from medperf.flows.policy import run_confinement, site_policy
from medperf.flows.site import Site
from medperf.flows.steps import StepRunner

if TYPE_CHECKING:
    from medperf.domain.metrics import MetricsContract
    from medperf.wire.executions import AttemptView, ExecutionView
    from medperf.wire.models import BenchmarkView, MLCubeView
    from medperf.workspace.datasets import LocalDataset
    from medperf.workspace.runs import LocalRun

Action = Literal["run", "resume", "done", "refused"]
TASKS = ("infer", "evaluate")
T = TypeVar("T")


@dataclass(frozen=True)
class RunRequest:
    """What to run.

    Attributes:
        dataset: its name, its id at the server, or the beginning of its id here.
        models: ids, in any order; None: all that are approved in the benchmark and not done yet, and its reference model.
        jobs: models side by side at most.
        reason: why models that were completed before run again.
        no_cache: run every step again.
        full_check: read every byte of the data before, whatever the policy says.
        yes: the person said beforehand not to be asked; see `medperf.flows.egress.send`.
        limits: task -> what this run asks for; it lowers the policy's limits.
    """

    benchmark: int
    dataset: str
    models: tuple[int, ...] | None = None
    jobs: int = 1
    reason: str | None = None
    no_cache: bool = False
    full_check: bool = False
    yes: bool = False
    limits: Mapping[str, TaskLimits] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedRun:
    """One model.

    Attributes:
        action: ``resume``: an attempt that was cut goes on; ``done``: there are metrics already.
        refusals: what stands in the way of this model, besides what stands in the way of all.
        cached: tasks that are done already: no container starts for them.
        to_accept: the model as a person here will be asked to accept it; None: it is accepted.
        before: this site's newest run of it.
        owed: the server does not know yet how that one ended.
        there: what the server has of the attempt that goes on, with the id of its execution; None: none goes on, or it never arrived.
    """

    model: int
    name: str
    priority: int
    is_reference: bool
    action: Action
    refusals: tuple[MedPerfError, ...] = ()
    cached: tuple[str, ...] = ()
    to_accept: ModelOffer | None = None
    before: LocalRun | None = None
    owed: bool = False
    there: tuple[int, AttemptView] | None = field(default=None, repr=False)
    view: MLCubeView | None = field(default=None, repr=False)
    ready: ReadyCube | None = field(default=None, repr=False)

    def as_document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "model": self.model,
            "name": self.name,
            "priority": self.priority,
            "is_reference": self.is_reference,
            "action": self.action,
            "cached": list(self.cached),
            "asks": self.to_accept is not None,
            "run": self.before.uuid if self.before is not None and self.action in ("resume", "done") else None,
            "refusals": [told(error) for error in self.refusals],
        }


@dataclass(frozen=True)
class Ground:
    """What all models of a run share: verified data, the evaluator, and what is pinned of it."""

    verified: VerifiedDataset
    preparator: ReadyCube
    evaluator: ReadyCube
    runner: StepRunner
    contract: MetricsContract
    contract_digest: Digest
    identity: Digest
    standing: Standing


@dataclass(frozen=True)
class RunPlan:
    """What would run, first things first. ``refusals``: all of them, those of each model too; ``common``: of every model."""

    benchmark: BenchmarkView
    dataset: LocalDataset
    runs: tuple[PlannedRun, ...]
    common: tuple[MedPerfError, ...] = ()
    ground: Ground | None = field(default=None, repr=False)

    @property
    def refusals(self) -> tuple[MedPerfError, ...]:
        """Everything that stands in the way, once."""
        found = {
            (error.code, error.what): error for error in (*self.common, *(e for run in self.runs for e in run.refusals))
        }
        return tuple(found.values())

    def of(self, *actions: Action) -> tuple[PlannedRun, ...]:
        """The runs with one of these actions."""
        return tuple(run for run in self.runs if run.action in actions)

    def as_document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "benchmark": self.benchmark.id,
            "dataset": self.dataset.uuid,
            "runs": [run.as_document() for run in self.runs],
            "refusals": [told(error) for error in self.refusals],
        }


def told(error: MedPerfError) -> dict[str, str]:
    """An error for programs."""
    return {"code": error.code, "what": error.what, "fix": error.fix}


def plan_run(site: Site, request: RunRequest) -> RunPlan:
    """Look up, fetch and check everything. No container starts, and nothing about the data is sent.

    Raises:
        UsageError: a request that makes no sense.
        NotFound: the benchmark is hidden from the account, or this site has no such dataset.
        MedPerfError: the server or the workspace cannot be read.
    """
    _check_request(request)
    benchmark = site.api.benchmarks.get(request.benchmark)
    dataset = find_local(site, request.dataset)
    registered = dataset.registered.get(site.credential().instance_id)
    if registered is None:
        missing = InvalidInput(
            "not_submitted",
            f"The server does not know the dataset {dataset.name!r} yet.",
            f"Register it first: medperf dataset submit {dataset.uuid[:8]}",
        )
        return RunPlan(benchmark, dataset, (), (missing,))
    standing = look_up(site, benchmark, registered, request.models)
    common = list(standing.common())
    ground = _ground(site, request, dataset, standing, common)
    return RunPlan(
        benchmark, dataset, tuple(_runs(site, request, dataset, standing, ground, common)), tuple(common), ground
    )


def models_from_file(path: Path) -> tuple[int, ...]:
    """The ids in a text file, between commas, spaces or lines.

    Raises:
        InvalidInput: it cannot be read, or holds something else.
    """
    import re

    from medperf.domain import limits
    from medperf.domain.numbers import whole_number
    from medperf.runtime.manifests.files import read_plain

    text = read_plain(path, limits.PARAMETERS_BYTES, "list of models", follow=True).decode(errors="replace")
    words = [word for word in re.split(r"[\s,]+", text) if word]
    found = [whole_number(word) for word in words]
    wrong = next((word for word, number in zip(words, found, strict=True) if number is None), None)
    if wrong is not None or not words:
        raise InvalidInput(
            "bad_models_file",
            f"The list of models {str(path)!r} holds {wrong[:60]!r}, which is no id."
            if wrong
            else f"The list of models {str(path)!r} is empty.",
            "Write the ids of models into it, with commas or line breaks between them.",
        )
    return tuple(number for number in found if number is not None)


# ------------------------------------------------------------------------------------------------------- what all models share


def _check_request(request: RunRequest) -> None:
    if request.jobs < 1:
        raise UsageError("usage", f"--jobs is {request.jobs}.", "Give 1 or more.")
    if request.models is not None and not request.models:
        raise UsageError("usage", "No model is named.", "Name models with -m, or leave it out to run all of them.")
    unknown = sorted(set(request.limits) - set(TASKS))
    if unknown:
        raise UsageError("usage", f"A run has no task {unknown[0][:60]!r}.", f"Its tasks are {' and '.join(TASKS)}.")
    checked_reason(request.reason)


def _ground(
    site: Site, request: RunRequest, dataset: LocalDataset, standing: Standing, common: list[MedPerfError]
) -> Ground | None:
    """Add to ``common`` what is found; None where something of it is missing."""
    from medperf.domain.disclosure import Exit
    from medperf.domain.metrics import contract_from_document
    from medperf.flows.egress import needs_person, policy_asks

    benchmark, policy = standing.benchmark, site_policy(site)
    if request.yes and needs_person(site, Exit.EXECUTION):
        common.append(policy_asks(Exit.EXECUTION))
    identity = commitment(dataset.salt, dataset.root)
    if standing.dataset.identity != identity:
        common.append(
            Conflict(
                "other_identity",
                f"The data of {dataset.name!r} is not what dataset {standing.dataset.id} was registered with.",
                "Register the data as it is now as a new dataset: medperf dataset create",
            )
        )
    runner = StepRunner(
        site,
        use_cache=not request.no_cache,
        policy=lambda task: run_confinement(site, policy, task, request.limits.get(task)),
    )
    verified = _tried(common, lambda: verified_dataset(site, dataset.uuid, full=True if request.full_check else None))
    preparator = _tried(common, lambda: _fetched(site, runner, standing.cubes[benchmark.preparator], Kind.PREPARATOR))
    evaluator = _tried(common, lambda: _fetched(site, runner, standing.cubes[benchmark.evaluator], Kind.EVALUATOR))
    contract = _tried(common, lambda: contract_from_document(benchmark.metrics_contract or {}))
    if verified is None or preparator is None or evaluator is None or contract is None:
        return None
    digest = Digest.of_document(benchmark.metrics_contract)
    return Ground(verified, preparator, evaluator, runner, contract, digest, identity, standing)


def _fetched(site: Site, runner: StepRunner, view: MLCubeView, kind: Kind) -> ReadyCube:
    ready = registered_cube(site, view, kind)
    runner.prepared(ready)
    return ready


def _tried(found: list[MedPerfError], work: Callable[[], T]) -> T | None:
    """What it returns; None where it is refused, which is then in ``found``."""
    try:
        return work()
    except (Interrupted, InternalError):
        raise
    except MedPerfError as error:
        found.append(error)
        return None


# ---------------------------------------------------------------------------------------------------------------- each model


def _runs(
    site: Site,
    request: RunRequest,
    dataset: LocalDataset,
    standing: Standing,
    ground: Ground | None,
    common: list[MedPerfError],
) -> Iterable[PlannedRun]:
    wanted = standing.models
    if request.models is not None:
        wanted = sorted(set(request.models), key=lambda model: (-standing.priorities.get(model, 0), model))
    known = site.api.executions.list(benchmark=request.benchmark, dataset=standing.dataset.id)
    executions = {execution.model: execution for execution in known}
    for model in wanted:
        yield _planned(site, request, dataset, standing, ground, model, executions.get(model), stopped=bool(common))


def _planned(
    site: Site,
    request: RunRequest,
    dataset: LocalDataset,
    standing: Standing,
    ground: Ground | None,
    model: int,
    execution: ExecutionView | None,
    *,
    stopped: bool,
) -> PlannedRun:
    view = standing.cubes.get(model)
    refusals = list(standing.refusals(model))
    past = _past(site, request, dataset, model, execution)
    planned = PlannedRun(
        model=model,
        name=view.name if view is not None else "",
        priority=standing.priorities.get(model, 0),
        is_reference=standing.is_reference(model),
        action=past.action,
        before=past.run,
        owed=past.owed,
        there=(execution.id, past.there) if execution is not None and past.there is not None else None,
        view=view,
    )
    if past.action == "done":
        return planned
    offer = _tried(refusals, lambda: _offer(site, request, view)) if view is not None else None
    ready = None
    if view is not None and ground is not None and not refusals:
        ready = _tried(refusals, lambda: _fetched(site, ground.runner, view, Kind.MODEL))
    refusals += past.refusals
    return replace(
        planned,
        action="refused" if refusals or stopped else past.action,
        refusals=tuple(refusals),
        cached=_cached(ground, ready) if ground is not None and ready is not None else (),
        to_accept=offer,
        ready=ready,
    )


def _past(site: Site, request: RunRequest, dataset: LocalDataset, model: int, execution: ExecutionView | None) -> Past:
    """What there was of it, here and at the server."""
    runs = site.workspace.runs.ls(
        site.credential().instance_id, benchmark=request.benchmark, dataset=dataset.uuid, model=model
    )
    attempts = (site.api.executions.get(execution.id).attempts or ()) if execution is not None else ()
    again = request.models is not None and (request.no_cache or request.reason is not None)
    return past_of(runs, attempts, again=again, reason=request.reason)


def _offer(site: Site, request: RunRequest, view: MLCubeView) -> ModelOffer | None:
    """The model, if a person here must accept it first.

    Raises:
        Forbidden: it does not run here.
        InvalidInput: as `medperf.flows.accepting.offer_of`.
    """
    offer = accepting.offer_of(site, view)
    decision = accepting.acceptance(site, offer)
    if decision.answer is Answer.NO:
        raise accepting.refused(view, decision)
    if decision.answer is Answer.YES:
        return None
    if request.yes:
        raise accepting.asks(view)
    return offer


def _cached(ground: Ground, model: ReadyCube) -> tuple[str, ...]:
    """Tasks whose outputs lie here."""
    runner = ground.runner
    if not runner.use_cache:
        return ()
    steps = runner.site.workspace.steps
    infer = steps.lookup(runner.key(model, "infer", {"data_path": ground.verified.data}))
    if infer is None:
        return ()
    predictions = (infer.outputs / "output_path", str(infer.facts["identities"]["output_path"]))
    key = runner.key(ground.evaluator, "evaluate", evaluated(ground, predictions))
    return TASKS if steps.lookup(key) is not None else TASKS[:1]


def evaluated(ground: Ground, predictions: tuple[Path, str]) -> dict[str, tuple[Path, str]]:
    """What the evaluator reads."""
    return {"predictions": predictions, "labels": ground.verified.labels}
