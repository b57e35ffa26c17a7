"""Request and response bodies of ``/executions``, ``/results`` and the results of a benchmark.

What a site sends has exactly the fields that `medperf.domain.disclosure` lists for its exit, the ids of its address among them: so a body
speaks for itself wherever it is shown and kept, and the server refuses one that came to another address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints

from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.domain.executions import AttemptState, Disclosure, FailureClass, ShownState, checked_reason
from medperf.domain.results import Cell, CellState
from medperf.wire.models import Body, FormName, Id, Sha256, View

TaskName = Literal["prepare", "sanity_check", "statistics", "infer", "evaluate"]
DataCheck = Literal["metadata", "full"]
EngineName = Literal["sandbox", "docker", "podman", "apptainer"]
Architecture = Literal["x86_64", "aarch64", "arm64", "ppc64le"]
Number = Annotated[int, Field(ge=1, le=limits.ATTEMPTS_PER_EXECUTION)]


def _reason(value: str) -> str:
    try:
        found = checked_reason(value)
    except InvalidInput as error:
        raise ValueError(error.what) from error
    assert found is not None
    return found


#: As `medperf.domain.executions.checked_reason` has it.
Reason = Annotated[str, StringConstraints(min_length=1, max_length=limits.REASON_LENGTH), AfterValidator(_reason)]


def cube_digest(files: Mapping[str, str]) -> Digest:
    """One digest of all files of an MLCube.

    Args:
        files: name -> ``sha256:`` digest, e.g. of its manifest and project.
    """
    return Digest.of_document(dict(files))


# ----------------------------------------------------------------------------------------------------------------- sent


class ExecutionCreate(Body):
    """``POST /executions``: that a model will run on a dataset for a benchmark. What is registered already is answered again."""

    benchmark: Id
    dataset: Id
    model: Id


class PinnedCube(Body):
    """What exactly will run of an MLCube.

    Attributes:
        digest: `cube_digest` of the files that are registered.
        form_digest: of all that the site's engine pinned for that form, e.g. the wheels and the interpreter.
    """

    digest: Sha256
    form: FormName
    form_digest: Sha256


class AttemptCreate(Body):
    """``POST /executions/{id}/attempts``: an attempt, before anything of it runs. The exit ``execution``.

    Attributes:
        uuid: made by the site; the same again gets the same attempt.
        reason: why it runs again, where an earlier attempt was completed or released.
        identity: of the dataset, as registered.
        contract: digest of the benchmark's metrics contract.
        data_check: how the site made sure that its data is what it registered.
    """

    uuid: UUID
    benchmark: Id
    dataset: Id
    model: Id
    reason: Reason | None = None
    preparator: PinnedCube
    model_cube: PinnedCube
    evaluator: PinnedCube
    identity: Sha256
    contract: Sha256
    data_check: DataCheck
    engine: EngineName
    architecture: Architecture

    def execution(self) -> ExecutionCreate:
        """What it is an attempt of."""
        return ExecutionCreate(benchmark=self.benchmark, dataset=self.dataset, model=self.model)


class AttemptReport(Body):
    """``PATCH /executions/{id}/attempts/{number}``: how far it came. The exit ``attempt_state``.

    Attributes:
        failure: with FAILED, and only then.
        task: where it stands, or ended.
    """

    execution: Id
    attempt: Number
    state: AttemptState
    failure: FailureClass | None = None
    task: TaskName | None = None


class ProgressReport(Body):
    """``PUT /executions/{id}/attempts/{number}/progress``: a sign of life. The exit ``progress``, without the dataset's own."""

    execution: Id
    attempt: Number
    task: TaskName | None = None
    percent: Annotated[int, Field(ge=0, le=100)] | None = None


class ReleaseCreate(Body):
    """``POST /executions/{id}/release``. The exit ``metrics``.

    Attributes:
        uuid: made by the site, for this release.
        metrics: the evaluator's document, nested or flat; it must keep the benchmark's contract.
    """

    uuid: UUID
    execution: Id
    attempt: Number
    metrics: Annotated[dict[str, Any], Field(min_length=1, max_length=limits.METRIC_KEYS)]


class WithholdingCreate(Body):
    """``POST /executions/{id}/withholding``: the metrics stay at the site. The exit ``withholding``."""

    execution: Id
    attempt: Number
    reason: Reason | None = None


class RetractionCreate(Body):
    """``POST /executions/{id}/retraction``: released metrics count no more. The exit ``retraction``."""

    execution: Id
    attempt: Number
    reason: Reason


# ------------------------------------------------------------------------------------------------------------- answered


class PinnedView(View):
    """See `PinnedCube`."""

    digest: str
    form: str
    form_digest: str


class AttemptView(View):
    """An attempt.

    Attributes:
        state: LOST is an open one that was not heard of for `limits.LOST_AFTER_SECONDS`.
        reason: why it ran again.
        disclosure: what became of its metrics; None: it has none.
        disclosure_reason: of a withholding or retraction.
    """

    number: int
    uuid: UUID
    state: ShownState
    failure: FailureClass | None = None
    task: str | None = None
    percent: int | None = None
    reason: str | None = None
    disclosure: Disclosure | None = None
    disclosure_reason: str | None = None
    preparator: PinnedView
    model_cube: PinnedView
    evaluator: PinnedView
    identity: str
    contract: str
    data_check: str
    engine: str
    architecture: str
    created_at: datetime
    heartbeat_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None


class ExecutionView(View):
    """One model on one dataset for one benchmark.

    Attributes:
        site: the label that the dataset's owner chose.
        state: what its attempts make of its cell in the benchmark's results.
        attempt: the number of the attempt that ``state`` speaks of.
        attempt_count: all of them.
        attempts: oldest first; in the detail, not in lists.
    """

    id: int
    benchmark: int
    dataset: int
    site: str
    model: int
    model_name: str
    state: CellState
    attempt: int | None = None
    attempt_count: int
    attempts: tuple[AttemptView, ...] | None = None
    created_at: datetime
    modified_at: datetime

    def attempt_of(self, uuid: UUID) -> AttemptView:
        """The attempt with the UUID that the site gave it.

        Raises:
            KeyError: there is none.
        """
        for attempt in self.attempts or ():
            if attempt.uuid == uuid:
                return attempt
        raise KeyError(str(uuid))


class ResultView(View):
    """Metrics that were released.

    Attributes:
        state: RELEASED, or RETRACTED with its ``reason``: then the metrics are shown no more.
        partial: the attempt did not get through all cases.
        revoked: the dataset or the model left the benchmark since. What was released stays, and is marked.
        metrics: flat; None: undefined.
    """

    id: int
    execution: int
    benchmark: int
    dataset: int
    site: str
    model: int
    model_name: str
    attempt: int
    state: Literal[Disclosure.RELEASED, Disclosure.RETRACTED]
    partial: bool
    revoked: bool
    reason: str | None = None
    metrics: dict[str, float | int | str | None] | None = None
    released_at: datetime
    retracted_at: datetime | None = None


class SiteRef(View):
    """A dataset as results name it: by the label that its owner chose."""

    id: int
    label: str


class ModelRef(View):
    """A model as results name it."""

    id: int
    name: str


#: dataset, model, state, revoked, result's id, and a value for each of ``metrics`` where the state has some.
TableRow = tuple[int, int, CellState, bool, int | None, tuple[float | int | str | None, ...] | None]


class ResultsTable(View):
    """``GET /benchmarks/{id}/results``: a row for each execution that the account may see. Values are in the order of ``metrics``.

    Attributes:
        metrics: dotted names; of the contract, and those of ``cases`` where it has them.
        sites, models: all that ``rows`` name, and those that joined the benchmark, for whoever may know that they did.
        next: as in `medperf.wire.models.Page`; None where all of it is here.
    """

    benchmark: int
    metrics: tuple[str, ...]
    sites: tuple[SiteRef, ...]
    models: tuple[ModelRef, ...]
    rows: tuple[TableRow, ...]
    next: str | None = None


def cells_of(pages: Iterable[ResultsTable]) -> list[Cell]:
    """The pages of a table as cells, e.g. for `medperf.domain.results.table` and `medperf.domain.leaderboard.leaderboard`.

    Every site has a cell with every model: those that were never heard of are missing.
    """
    sites: dict[int, str] = {}
    models: dict[int, str] = {}
    found: dict[tuple[int, int], Cell] = {}
    for page in pages:
        sites |= {site.id: site.label for site in page.sites}
        models |= {model.id: model.name for model in page.models}
        for dataset, model, state, revoked, _, values in page.rows:
            metrics = {} if values is None else dict(zip(page.metrics, values, strict=True))
            found[dataset, model] = Cell(dataset, sites[dataset], model, models[model], state, metrics, revoked)
    for dataset, label in sites.items():
        for model, name in models.items():
            if (dataset, model) not in found:
                found[dataset, model] = Cell(dataset, label, model, name, CellState.MISSING)
    return list(found.values())
