"""``medperf run`` and ``medperf benchmark run``: models of a benchmark on a dataset of this site."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medperf.cli.base import Session, example, noun, session_of
from medperf.cli.metrics import first_metric, show_metrics
from medperf.cli.options import YesOption
from medperf.cli.output import Column, human_seconds
from medperf.domain.errors import UsageError

if TYPE_CHECKING:
    from medperf.flows.disclosing import Disclosed
    from medperf.flows.running import RunOutcome, RunPlan, RunReport, RunRequest

app = noun("runs", "Run models of a benchmark on a dataset.", "medperf run -b 1 -d 1")
_SHORT = 8  # of a run's id


def run(
    ctx: typer.Context,
    benchmark: Annotated[int, typer.Option("--benchmark", "-b", metavar="ID", help="The benchmark.")],
    dataset: Annotated[
        str,
        typer.Option(
            "--data_uid",
            "--data-uid",
            "--dataset",
            "-d",
            metavar="DATASET",
            help="The dataset: its name here, or its id.",
        ),
    ],
    model: Annotated[
        list[int] | None,
        typer.Option(
            "--model",
            "--model_uid",
            "-m",
            metavar="ID",
            help="Only this model; may be repeated. Else all that are not done yet.",
        ),
    ] = None,
    models_from_file: Annotated[
        Path | None,
        typer.Option("--models-from-file", "-f", metavar="FILE", help="Only the models whose ids this file holds."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run and all that stands in the way; start nothing.")
    ] = False,
    submit: Annotated[
        bool,
        typer.Option(
            "--submit", help="Then release the metrics; each is shown, and asked about, as by: medperf result submit"
        ),
    ] = False,
    jobs: Annotated[
        int,
        typer.Option("--jobs", "-j", min=1, metavar="N", help="So many models side by side, if the memory holds them."),
    ] = 1,
    reason: Annotated[
        str | None,
        typer.Option(
            "--reason", metavar="TEXT", help="Why models run again that were completed before.", show_default=False
        ),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Run every step again, even if nothing changed.")
    ] = False,
    full_check: Annotated[
        bool, typer.Option("--full-check", help="Read every byte of the data before, whatever the policy says.")
    ] = False,
    timeout: Annotated[
        list[str] | None,
        typer.Option("--timeout", metavar="TASK=SECONDS", help="Longest time of infer or evaluate; may be repeated."),
    ] = None,
    memory_bytes: Annotated[
        int | None, typer.Option("--memory-bytes", min=1, metavar="N", help="Most memory of each task.")
    ] = None,
    yes: YesOption = False,
) -> None:
    """Run models of a benchmark on a dataset of this site.

    Higher priorities first. Metrics stay at this site until you submit them.
    """
    from medperf.flows.planning import models_from_file as read_models
    from medperf.flows.running import RunRequest, plan_run, run_models, submit_measured

    session = session_of(ctx)
    if model and models_from_file is not None:
        raise UsageError("usage", "Models are named twice.", "Give --model or --models-from-file.")
    if dry_run and submit:
        raise UsageError("usage", "A dry run has nothing to submit.", "Give --dry-run or --submit.")
    request = RunRequest(
        benchmark=benchmark,
        dataset=dataset,
        models=read_models(models_from_file) if models_from_file is not None else tuple(model) if model else None,
        jobs=jobs,
        reason=reason,
        no_cache=no_cache,
        full_check=full_check,
        yes=yes,
        limits=_limits(timeout or [], memory_bytes),
    )
    if dry_run:
        with session.site(stops_gently=True) as site:
            plan = plan_run(site, request)
        _show_plan(session, request, plan)
        if plan.refusals:
            raise typer.Exit(1)
        return
    with session.site(stops_gently=True) as site:
        report = run_models(site, request)
        if not session.out.as_json:
            show_report(session, request, report)
        released = submit_measured(site, request, report) if submit else None
    if session.out.as_json:
        session.out.json(report.as_document() | ({"released": released} if submit else {}))
    elif released is not None:
        _show_released(session, released)
    if report.failed:
        raise typer.Exit(1)


_EXAMPLES = (
    "{command} -b 1 -d 1 --dry-run",
    "{command} -b 1 -d 1",
    "{command} -b 1 -d hospital-2024 -m 4 --reason 'The labels were corrected'",
    "{command} -b 1 -d 1 --jobs 2 --timeout infer=7200",
)


def add_run(noun_app: typer.Typer, command: str) -> None:
    """Register it, e.g. as ``medperf benchmark run``."""
    example(noun_app, "run", *(line.format(command=command) for line in _EXAMPLES))(run)


add_run(app, "medperf run")


def show_report(session: Session, request: RunRequest, report: RunReport) -> None:
    """What became of every model, and the command to go on with."""
    out = session.out
    out.table(
        [
            Column("model", right=True),
            Column("name"),
            Column("state"),
            Column("metric"),
            Column("time", right=True, extra=True),
            Column("run", short=True, extra=True),
        ],
        [
            (one.model, one.name, _state(one), _metric(one), _time(one), one.run[:_SHORT] or "-")
            for one in report.outcomes
        ],
        empty="Nothing was run.",
    )
    for one in report.outcomes:
        if one.message:
            out.line(f"Model {one.model} ({one.name}): {one.message}")
        if one.log:
            out.line(f"Log: {one.log}")
    for refused in report.plan.of("refused"):
        for error in refused.refusals:
            out.line(f"Model {refused.model} ({refused.name or 'unknown'}) was not run: {error.what} {error.fix}")
    if len(report.outcomes) == 1 and report.outcomes[0].metrics is not None:
        show_metrics(out, report.outcomes[0].metrics)
    if report.outcomes and all(one.cached for one in report.outcomes):
        out.line("Nothing changed: no container was started.")
    there = ["-b", str(request.benchmark), "-d", request.dataset]
    measured = [one for one in report.outcomes if one.metrics is not None and not one.cached]
    if measured:
        words = [*there, "-m", str(measured[0].model)] if len(measured) == 1 else there
        out.line(f"The metrics are on this machine only. Next: {session.next('result', 'submit', *words)}")
    elif any(one.metrics is not None for one in report.outcomes):  # some may be released or withheld by now
        out.line(f"What became of the metrics: {session.next('result', 'ls', *there)}")


def _show_plan(session: Session, request: RunRequest, plan: RunPlan) -> None:
    out = session.out
    if out.as_json:
        out.json(plan)
        return
    out.table(
        [
            Column("model", right=True),
            Column("name"),
            Column("priority", right=True, extra=True),
            Column("plan"),
            Column("done already", extra=True),
            Column("asks"),
        ],
        [
            (
                one.model,
                one.name or "-",
                one.priority,
                one.action,
                one.cached or "-",
                "accept it?" if one.to_accept is not None and one.action in ("run", "resume") else "-",
            )
            for one in plan.runs
        ],
        empty="No model would run.",
    )
    for error in plan.refusals:
        out.line(f"In the way: {error.what} {error.fix}")
    if plan.of("run", "resume"):
        words = [word for model in request.models or () for word in ("-m", str(model))]
        there = ("-b", str(request.benchmark), "-d", request.dataset)
        out.line(f"Nothing was started. Next: {session.next('run', *there, *words)}")


def _show_released(session: Session, released: list[Disclosed]) -> None:
    for one in released:
        number = f"result {one.result.id}" if one.result is not None else f"execution {one.execution}"
        session.out.line(f"The metrics of model {one.model} ({one.model_name}) are out: {number}.")
    session.out.line(f"Next: {session.next('result', 'ls', '--mine')}" if released else "No metrics were sent.")


def _limits(timeouts: list[str], memory_bytes: int | None) -> dict[str, Any]:
    """What this command asks for, by task.

    Raises:
        UsageError: a timeout that is not TASK=SECONDS.
    """
    from dataclasses import replace

    from medperf.domain.sitepolicy import TaskLimits

    found = {task: TaskLimits(memory_bytes=memory_bytes) for task in ("infer", "evaluate")} if memory_bytes else {}
    for text in timeouts:
        task, _, seconds = text.partition("=")
        try:
            wanted = float(seconds)
            if not 0 < wanted < float("inf"):
                raise ValueError
        except ValueError:
            raise UsageError(
                "usage", f"--timeout {text!r} is not TASK=SECONDS.", "Write it like --timeout infer=7200."
            ) from None
        found[task] = replace(found.get(task, TaskLimits()), seconds=wanted)
    return found


def _state(one: RunOutcome) -> str:
    failure = f" ({one.failure.value})" if one.failure is not None else ""
    return f"{one.state.value}{failure}"


def _metric(one: RunOutcome) -> str:
    return first_metric(one.metrics) if one.metrics else "-"


def _time(one: RunOutcome) -> str:
    return "already done" if one.cached else human_seconds(one.seconds)
