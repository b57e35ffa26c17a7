"""``medperf result``: what was measured here, what of it left, and what others released to you."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from medperf.cli.base import Session, example, noun, session_of
from medperf.cli.metrics import first_metric, show_metrics
from medperf.cli.options import LimitOption, YesOption
from medperf.cli.output import Column
from medperf.domain.errors import UsageError

if TYPE_CHECKING:
    from medperf.flows.choosing import Choice
    from medperf.flows.disclosing import Disclosed
    from medperf.flows.results import ResultDetail, ResultSummary

app = noun(
    "result",
    "Review, submit, withhold, retract and look up results.",
    "medperf result ls",
    "medperf result submit -r 3",
)

BenchmarkOption = Annotated[int | None, typer.Option("--benchmark", "-b", metavar="ID", help="Of this benchmark.")]
DatasetOption = Annotated[
    str | None, typer.Option("--dataset", "-d", metavar="DATASET", help="Of this dataset: its name here, or its id.")
]
ModelOption = Annotated[int | None, typer.Option("--model", "-m", metavar="ID", help="Of this model.")]
ModelsOption = Annotated[
    list[int] | None, typer.Option("--model", "-m", metavar="ID", help="Of this model; may be given several times.")
]
RunOption = Annotated[
    str | None,
    typer.Option(
        "--run", "-r", metavar="RUN|EXECUTION", help="The id of an execution, or the beginning of a run's id here."
    ),
]


# ------------------------------------------------------------------------------------------------------------- looking


@example(app, "ls", "medperf result ls", "medperf result ls --mine -b 1", "medperf result ls --local")
def ls(
    ctx: typer.Context,
    mine: Annotated[
        bool, typer.Option("--mine", help="Only of your data, and that of organisations you operate for.")
    ] = False,
    local: Annotated[
        bool, typer.Option("--local", help="Only what ran at this site, with every attempt; no server is asked.")
    ] = False,
    benchmark: BenchmarkOption = None,
    dataset: DatasetOption = None,
    model: ModelOption = None,
    limit: LimitOption = None,
) -> None:
    """List results that you may see, and executions that have none yet, newest first."""
    from medperf.flows.results import list_results

    session = session_of(ctx)
    with session.site() as site:
        found = list_results(
            site, mine=mine, local=local, benchmark=benchmark, dataset=dataset, model=model, limit=limit
        )
    session.out.listing(
        found,
        [
            Column("id", right=True),
            Column("run", extra=not local),  # elsewhere the execution names it too
            Column("execution", right=True),
            Column("benchmark", right=True),
            Column("dataset"),
            Column("model"),
            Column("state"),
            Column("metric", extra=True),
            Column("at", extra=True),
        ],
        lambda one: (
            one.result,
            one.run[:8] if one.run else None,
            _numbered(one),
            one.benchmark,
            f"{one.dataset} ({one.site})" if one.site else one.dataset,
            f"{one.model} ({one.model_name})",
            _state(one),
            first_metric(one.metrics),
            one.at,
        ),
        empty="No results found. Run a model with: medperf run --help",
    )


@example(app, "view", "medperf result view 5", "medperf result view -r 3", "medperf result view 3f2a81c0")
def view(
    ctx: typer.Context,
    result: Annotated[
        str | None,
        typer.Argument(
            metavar="ID", help="The result's id, or the beginning of the id of a run of this site.", show_default=False
        ),
    ] = None,
    run: RunOption = None,
) -> None:
    """Show a result: its metrics, what became of them, and every attempt."""
    from medperf.flows.results import view_result

    session = session_of(ctx)
    if (result is None) == (run is None):
        raise UsageError("usage", "It is not said which result to show.", "Give its id, or -r RUN.")
    with session.site() as site:
        found = view_result(site, result, run=run)
    if session.out.as_json or session.verbose:
        session.out.show(found)
    else:
        _page(session, found)


# ------------------------------------------------------------------------------------------------------------- making


@example(app, "create", "medperf result create -b 1 -d chest -m 4")
def create(
    ctx: typer.Context,
    benchmark: Annotated[int, typer.Option("--benchmark", "-b", metavar="ID", help="The benchmark.")],
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", metavar="DATASET", help="The dataset: its name here, or its id.")
    ],
    model: Annotated[int, typer.Option("--model", "-m", metavar="ID", help="The model.")],
    reason: Annotated[
        str | None,
        typer.Option(
            "--reason", metavar="TEXT", help="Why it runs again, if it was completed before.", show_default=False
        ),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Run every step again, even if nothing changed.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Run one model on a dataset for a benchmark. Its metrics stay at this site until you submit them."""
    from medperf.cli.run import show_report
    from medperf.flows.running import RunRequest, run_models

    session = session_of(ctx)
    request = RunRequest(
        benchmark=benchmark, dataset=dataset, models=(model,), reason=reason, no_cache=no_cache, yes=yes
    )
    with session.site(stops_gently=True) as site:
        report = run_models(site, request)
    if session.out.as_json:
        session.out.json(report)
    else:
        show_report(session, request, report)
    if report.failed:
        raise typer.Exit(1)


# ------------------------------------------------------------------------------------------------------------ deciding


@example(
    app,
    "submit",
    "medperf result submit -r 3",
    "medperf result submit -b 1 -d chest -m 4",
    "medperf result submit -b 1 -d chest",
)
def submit(
    ctx: typer.Context,
    run: RunOption = None,
    benchmark: BenchmarkOption = None,
    dataset: DatasetOption = None,
    models: ModelsOption = None,
    yes: YesOption = False,
) -> None:
    """Release metrics: shown exactly as they are sent, and sent only if you agree. Without a model: all that wait for it."""
    from medperf.flows.disclosing import submit_results

    session = session_of(ctx)
    with session.site() as site:
        done = submit_results(site, _choice(run, benchmark, dataset, models), yes=yes)
    if session.out.as_json:
        session.out.json({"items": done})
        return
    if not done:
        session.out.line("Nothing was sent: you did not agree.")
        return
    for one in done:
        number = f"result {one.result.id}" if one.result is not None else f"execution {one.execution}"
        how = "was submitted before" if one.already else "is submitted"
        session.out.line(f"The metrics of model {one.model} ({one.model_name}) are out: {number} {how}.")
    _after(session, done)
    first = done[0]
    if first.result is not None:
        session.out.line(f"Next: {session.next('result', 'view', str(first.result.id))}")


@example(app, "withhold", "medperf result withhold -r 3 --reason 'The labels of two cases are in doubt'")
def withhold(
    ctx: typer.Context,
    run: RunOption = None,
    benchmark: BenchmarkOption = None,
    dataset: DatasetOption = None,
    models: ModelsOption = None,
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="TEXT", help="Why; the benchmark's owner reads it.", show_default=False),
    ] = None,
) -> None:
    """Keep metrics at this site, for good. The benchmark's owner sees that they are withheld, and the reason."""
    from medperf.flows.disclosing import withhold_results

    session = session_of(ctx)
    with session.site() as site:
        done = withhold_results(site, _choice(run, benchmark, dataset, models), reason=reason)
    if session.out.as_json:
        session.out.json({"items": done})
        return
    for one in done:
        how = "were withheld before" if one.already else "stay at this site"
        session.out.line(f"The metrics of model {one.model} ({one.model_name}) {how} (execution {one.execution}).")
    _after(session, done)
    session.out.line(f"Next: {session.next('result', 'ls', '--mine')}")


@example(
    app,
    "retract",
    "medperf result retract 5 --reason 'The labels were those of another study'",
    "medperf result retract -r 3 --reason 'Prepared with the wrong parameters'",
)
def retract(
    ctx: typer.Context,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; whoever sees the result reads it.", show_default=False)
    ],
    result: Annotated[
        int | None, typer.Argument(metavar="ID", help="The result's id; or use -r.", show_default=False)
    ] = None,
    run: RunOption = None,
    benchmark: BenchmarkOption = None,
    dataset: DatasetOption = None,
    models: ModelsOption = None,
) -> None:
    """Say that metrics that left count no more. They are shown no more; that they were released, and why not any more, stays."""
    from medperf.flows.disclosing import retract_result

    session = session_of(ctx)
    choice = _choice(run, benchmark, dataset, models)
    if result is not None and (run is not None or benchmark is not None or dataset is not None or models):
        raise UsageError("usage", "A result is named, and a run or dataset too.", "Give one of them.")
    with session.site() as site:
        done = retract_result(site, choice, reason=reason, result=result)
    if session.out.as_json:
        session.out.json(done)
        return
    number = f"Result {done.result.id}" if done.result is not None else f"The result of execution {done.execution}"
    session.out.line(f"{number} {'was retracted before' if done.already else 'is retracted'}.")
    _after(session, [done])
    session.out.line(
        f"Its model can run again, with a reason: {session.next('run', '--help')}"
        if done.run is None
        else f"Next: {session.next('run', '-b', str(done.run.benchmark), '-d', str(done.run.dataset_id), '-m', str(done.model), '--reason', 'REASON')}"
    )


# -------------------------------------------------------------------------------------------------------------- helpers


def _choice(run: str | None, benchmark: int | None, dataset: str | None, models: list[int] | None) -> Choice:
    from medperf.flows.choosing import Choice

    return Choice(run=run, benchmark=benchmark, dataset=dataset, models=tuple(models or ()))


def _after(session: Session, done: Sequence[Disclosed]) -> None:
    """What became of the predictions."""
    deleted = sum(one.predictions == "deleted" for one in done)
    kept = sum(one.predictions == "kept" for one in done)
    if deleted:
        session.out.line(
            f"Deleted the predictions of {deleted} {'run' if deleted == 1 else 'runs'}: nobody needs them any more."
        )
    if kept:
        session.out.line(
            f"Kept the predictions of {kept} {'run' if kept == 1 else 'runs'}; see: {session.next('storage', 'ls')}"
        )


def _numbered(one: ResultSummary) -> str | None:
    if one.execution is None:
        return None
    return f"{one.execution}" if one.attempt in (None, 1) else f"{one.execution}, attempt {one.attempt}"


def _state(one: ResultSummary) -> str:
    return f"{one.state.value}, revoked" if one.revoked else one.state.value


def _page(session: Session, found: ResultDetail) -> None:
    out, one, run = session.out, found.summary, found.run
    out.facts(
        ("result", one.result),
        ("state", _state(one)),
        ("reason", one.reason),
        ("benchmark", one.benchmark),
        ("dataset", f"{one.dataset} ({one.site})" if one.site else one.dataset),
        ("model", f"{one.model} ({one.model_name})"),
        ("execution", _numbered(one)),
        ("run of this site", run.uuid[:8] if run is not None else None),
        ("released", found.result.released_at if found.result is not None else None),
        ("retracted", found.result.retracted_at if found.result is not None else None),
        ("how it ended", run.message if run is not None else None),
        ("log", run.log if run is not None else None),
    )
    if found.measured:
        out.line()
        if found.result is None:
            out.line("Measured here; nothing of it has left this site:")
        elif not one.metrics:
            out.line("Measured here; what was released counts no more:")
        show_metrics(out, found.measured)
    if found.execution is not None and found.execution.attempts:
        out.line()
        out.table(
            [
                Column("attempt", right=True),
                Column("state"),
                Column("failure", extra=True),
                Column("metrics"),
                Column("reason"),
                Column("data check", extra=True),
                Column("began", extra=True),
            ],
            [
                (
                    attempt.number,
                    attempt.state,
                    attempt.failure,
                    attempt.disclosure,
                    attempt.disclosure_reason or attempt.reason,
                    attempt.data_check,
                    attempt.started_at,
                )
                for attempt in found.execution.attempts
            ],
            empty="-",
        )
    if one.state.value == "under review" and run is not None:
        out.line()
        number = str(one.execution) if one.execution is not None else run.uuid[:8]
        out.line(f"Next: {session.next('result', 'submit', '-r', number)}")
        out.line(f"Or keep them here: {session.next('result', 'withhold', '-r', number)}")
