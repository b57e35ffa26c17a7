"""One model on one dataset: registered, run step by step, measured, and reported, whatever happens on the way."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from platform import machine
from typing import TYPE_CHECKING, Any, cast, get_args

from medperf.domain.digests import Digest
from medperf.domain.disclosure import Exit
from medperf.domain.errors import (
    Conflict,
    InternalError,
    Interrupted,
    InvalidInput,
    MedPerfError,
    ServerUnavailable,
    TaskFailed,
)
from medperf.domain.events import Note
from medperf.domain.executions import AttemptState, FailureClass, first_disclosure
from medperf.domain.metrics import check_metrics
from medperf.flows.compatibility import read_metrics
from medperf.flows.cubes import ReadyCube
from medperf.flows.egress import Agreement, send
from medperf.flows.planning import Ground, PlannedRun, evaluated
from medperf.flows.pulse import Live, Pulse
from medperf.flows.site import Site

if TYPE_CHECKING:
    from medperf.wire.executions import AttemptCreate, ExecutionView, PinnedCube, TaskName
    from medperf.workspace.runs import LocalRun


@dataclass(frozen=True)
class RunOutcome:
    """How one model ended.

    Attributes:
        run: its id at this site; empty where the metrics are of a run elsewhere.
        execution, attempt: at the server; None: the server knows of none.
        metrics: flat and checked, undefined as None; None: there are none.
        message: of a failure, for people here; never sent.
        log: of the task that failed.
        seconds: that it took now.
        cached: no container was started for it.
    """

    model: int
    name: str
    run: str
    execution: int | None
    attempt: int | None
    state: AttemptState
    failure: FailureClass | None = None
    metrics: dict[str, Any] | None = None
    message: str = ""
    log: str = ""
    seconds: float = 0.0
    cached: bool = False


@dataclass
class _End:
    """How the work ended. ``document``: the metrics as the evaluator wrote them; ``told``: the server is to learn of it."""

    state: AttemptState
    failure: FailureClass | None = None
    message: str = ""
    log: str = ""
    document: dict[str, Any] | None = None
    flat: dict[str, Any] | None = None
    cached: bool = False
    told: bool = True
    task: TaskName | None = None
    steps: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Attempts:
    """What all attempts of one command share. `run` may be called from several threads.

    Attributes:
        stop: set: nothing more begins, and what runs ends.
        faults: of ours, which ended the attempt that they happened in.
    """

    site: Site
    ground: Ground
    agreement: Agreement
    pulse: Pulse
    stop: threading.Event
    about: str
    faults: list[Exception] = field(default_factory=list)

    def run(self, planned: PlannedRun, body: AttemptCreate | None) -> RunOutcome | None:
        """One model from its registration to its report. What goes wrong is in the outcome; None: stopped before it began.

        Args:
            body: its registration; None: it is registered, and goes on.
        """
        if self.stop.is_set():
            return None
        runs, started = self.site.workspace.runs, self.site.clock()
        try:
            run = self._begun(planned, body)
        except MedPerfError as error:  # another process was quicker, or the workspace cannot be written
            return RunOutcome(
                planned.model,
                planned.name,
                "",
                None,
                None,
                AttemptState.FAILED,
                FailureClass.REFUSED,
                message=error.what,
            )
        try:
            try:
                run = self._registered(run, planned, body)
            except (ServerUnavailable, Interrupted) as error:
                # It may have arrived: the run stays open, and the same command goes on from here.
                return self._outcome(run, planned, _End(AttemptState.INTERRUPTED, message=error.what), started)
            except MedPerfError as error:
                end = _End(AttemptState.FAILED, FailureClass.REFUSED, error.what, told=False)
                if error.code == "attempt_ended":
                    end = _End(AttemptState.INTERRUPTED, message=error.what, told=False)
            else:
                end = self._worked(run, planned)
            run = self._closed(run, end)
            return self._outcome(run, planned, end, started)
        finally:
            if runs.get(run.uuid).state.is_open:
                runs.let_go(run.uuid)

    def tell(self, run: LocalRun) -> None:
        """Report how a run ended that the server still holds for open.

        Raises:
            MedPerfError: as `medperf.flows.egress.send`.
        """
        self._report(run, AttemptState.RUNNING)
        self._report(run, run.state, run.failure)

    # -- beginning -----------------------------------------------------------------------------------------------------

    def _begun(self, planned: PlannedRun, body: AttemptCreate | None) -> LocalRun:
        from medperf.workspace.runs import LocalRun

        runs = self.site.workspace.runs
        if planned.action == "resume" and planned.before is not None:
            return runs.take(planned.before.uuid)
        before = planned.before
        if before is not None and runs.get(before.uuid).state.is_open:
            # It ended at the server while this site was away, or something else would run now than was registered.
            runs.take(before.uuid)
            runs.change(before.uuid, state=AttemptState.INTERRUPTED, execution=before.execution, attempt=before.attempt)
        assert body is not None, "only what goes on is registered already"
        return runs.add(
            LocalRun(
                uuid=str(body.uuid),
                instance_id=self.site.credential().instance_id,
                benchmark=body.benchmark,
                dataset=self.ground.verified.dataset.uuid,
                dataset_id=body.dataset,
                model=planned.model,
                model_name=planned.name,
                contract=body.contract,
            )
        )

    def _registered(self, run: LocalRun, planned: PlannedRun, body: AttemptCreate | None) -> LocalRun:
        """The server knows of it, and that it runs."""
        runs, api = self.site.workspace.runs, self.site.api
        if planned.owed and planned.before is not None:
            self.tell(planned.before)
        if body is not None:

            def keep(answer: ExecutionView) -> None:
                number = answer.attempt_of(uuid.UUID(run.uuid)).number
                runs.change(run.uuid, execution=answer.id, attempt=number, state=AttemptState.RUNNING)

            send(
                self.site,
                Exit.EXECUTION,
                body,
                api.executions.register,
                about=self.about,
                agreement=self.agreement,
                keep=keep,
            )
        run = runs.get(run.uuid)
        self._report(run, AttemptState.RUNNING)
        return run

    # -- the work ------------------------------------------------------------------------------------------------------

    def _worked(self, run: LocalRun, planned: PlannedRun) -> _End:
        with self.pulse.of(run, self.stop) as live:
            try:
                end = self._measured(planned, live)
            except Interrupted as error:
                end = self._interrupted(live, error)
            except MedPerfError as error:
                end = _End(AttemptState.FAILED, failure_of(error), error.what, str(error.details.get("log", "")))
            except Exception as error:  # noqa: BLE001 - a door: a fault of ours in one model stops no other one
                self.faults.append(error)
                end = _End(AttemptState.FAILED, FailureClass.INTERNAL, f"A fault of MedPerf: {error!r}")
            end.task, end.steps = live.task, live.steps
            return end

    def _measured(self, planned: PlannedRun, live: Live) -> _End:
        """Infer, evaluate, and look at what was measured. The labels are the evaluator's alone."""
        ground, runner = self.ground, self.ground.runner
        assert planned.ready is not None, "nothing else is planned to run"

        def check() -> None:
            ground.verified.recheck(self.site)

        whose = f"of {planned.name} ({planned.model})"
        given = {"data_path": ground.verified.data}
        infer = runner.run(planned.ready, "infer", given, cancel=live.stop, title=f"infer {whose}", check=check)
        live.steps["infer"] = str(infer.key)
        live.task = "evaluate"
        predictions = (infer.outputs / "output_path", infer.identities["output_path"])
        inputs = evaluated(ground, predictions)

        def check_all() -> None:
            check()
            read = self.site.workspace.steps.lookup(infer.key)
            if read is None or read.facts["identities"] != infer.identities:
                raise InvalidInput(
                    "predictions_changed",
                    "The predictions were touched or deleted while they were evaluated.",
                    "Run the same command again when nothing cleans up.",
                )

        evaluate = runner.run(
            ground.evaluator, "evaluate", inputs, cancel=live.stop, title=f"evaluate {whose}", check=check_all
        )
        live.steps["evaluate"] = str(evaluate.key)
        try:
            document = read_metrics(evaluate)
            flat = check_metrics(ground.contract, document)
        except InvalidInput as error:
            return _End(AttemptState.FAILED, FailureClass.BAD_METRICS, error.what)
        return _End(
            AttemptState.PARTIAL if _is_partial(flat) else AttemptState.COMPLETED,
            document=document,
            flat=flat,
            cached=infer.cached and evaluate.cached,
        )

    def _interrupted(self, live: Live, error: Interrupted) -> _End:
        if live.refusal is None:
            return _End(AttemptState.INTERRUPTED, message=error.what)
        if live.ended:
            return _End(AttemptState.INTERRUPTED, message=live.refusal.what, told=False)
        return _End(AttemptState.FAILED, FailureClass.REFUSED, live.refusal.what)

    # -- ending --------------------------------------------------------------------------------------------------------

    def _closed(self, run: LocalRun, end: _End) -> LocalRun:
        """Keep how it ended, then tell the server."""
        runs = self.site.workspace.runs
        run = runs.change(
            run.uuid,
            state=end.state,
            failure=end.failure,
            message=end.message,
            log=end.log,
            metrics=end.document,
            steps=end.steps,
            disclosure=first_disclosure(end.state),
        )
        if not end.told:
            return run
        try:
            self._report(run, end.state, end.failure, end.task)
        except (ServerUnavailable, Interrupted) as error:
            text = f"The server was not told how {run.model_name} ended: {error.what} The same command tells it."
            self.site.emit(Note(text, level="warning"))
        except Conflict as error:  # it ended there otherwise: what was measured belongs to no attempt
            end.state, end.failure, end.message, end.document, end.flat = (
                *(AttemptState.INTERRUPTED, None),
                *(error.what, None, None),
            )
            return runs.change(
                run.uuid, state=end.state, failure=None, message=end.message, metrics=None, disclosure=None
            )
        except MedPerfError as error:
            self.site.emit(Note(f"The server was not told how {run.model_name} ended: {error.what}", level="warning"))
        return run

    def _report(
        self, run: LocalRun, state: AttemptState, failure: FailureClass | None = None, task: TaskName | None = None
    ) -> None:
        from medperf.wire.executions import AttemptReport

        assert run.execution is not None
        assert run.attempt is not None
        body = AttemptReport(execution=run.execution, attempt=run.attempt, state=state, failure=failure, task=task)
        send(
            self.site,
            Exit.ATTEMPT_STATE,
            body,
            self.site.api.executions.report,
            about=self.about,
            agreement=self.agreement,
        )

    def _outcome(self, run: LocalRun, planned: PlannedRun, end: _End, started: float) -> RunOutcome:
        run = self.site.workspace.runs.get(run.uuid)
        how = end.state.value if end.failure is None else f"{end.state.value} ({end.failure.value}): {end.message}"
        level = "success" if end.state.has_metrics else "warning"
        self.site.emit(Note(f"{planned.name} ({planned.model}): {how}", level=level))
        return RunOutcome(
            model=planned.model,
            name=planned.name,
            run=run.uuid,
            execution=run.execution,
            attempt=run.attempt,
            state=end.state,
            failure=end.failure,
            metrics=end.flat,
            message=end.message,
            log=end.log,
            seconds=self.site.clock() - started,
            cached=end.cached,
        )


def registration(
    ground: Ground, planned: PlannedRun, *, benchmark: int, reason: str | None, engine: str
) -> AttemptCreate:
    """What is said of an attempt before it runs: the digests of everything."""
    from medperf.wire.executions import Architecture, AttemptCreate, EngineName

    assert planned.ready is not None
    before = planned.before
    known = before.uuid if before is not None and planned.action == "resume" else None
    assert machine() in get_args(Architecture), machine()
    return AttemptCreate(
        uuid=uuid.UUID(known) if known is not None else uuid.uuid4(),
        benchmark=benchmark,
        dataset=ground.standing.dataset.id,
        model=planned.model,
        reason=reason,
        preparator=_pinned(ground, ground.preparator),
        model_cube=_pinned(ground, planned.ready),
        evaluator=_pinned(ground, ground.evaluator),
        identity=ground.identity,
        contract=ground.contract_digest,
        data_check=ground.verified.report.reading,
        engine=cast(EngineName, engine),
        architecture=cast(Architecture, machine()),
    )


def failure_of(error: MedPerfError) -> FailureClass:
    """The class of what went wrong in a step: all that the server learns of it."""
    if isinstance(error, TaskFailed):
        reason = str(error.details["reason"])
        if reason == "output-limit" and error.details["task"] == "evaluate":
            return FailureClass.BAD_METRICS  # its only output is the metrics
        return FailureClass(reason.replace("-", "_"))
    if error.code == "data_changed":
        return FailureClass.DATA_CHANGED
    return FailureClass.INTERNAL if isinstance(error, InternalError) else FailureClass.ENGINE


def _pinned(ground: Ground, ready: ReadyCube) -> PinnedCube:
    from medperf.wire.executions import PinnedCube, cube_digest

    prepared = ground.runner.prepared(ready)
    files: Mapping[str, str] = {str(name): digest for name, digest in ready.files.items()}
    return PinnedCube(
        digest=cube_digest(files), form=prepared.form, form_digest=Digest.of_document(dict(prepared.digests))
    )


def _is_partial(flat: Mapping[str, Any]) -> bool:
    """Whether the evaluator says that it did not get through all cases."""
    failed, evaluated_, total = (flat.get(f"cases.{name}") for name in ("failed", "evaluated", "total"))
    return bool(failed) or (evaluated_ is not None and total is not None and evaluated_ < total)
