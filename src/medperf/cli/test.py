"""``medperf test``: compatibility tests on this machine."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from medperf.cli.base import example, noun, session_of
from medperf.cli.metrics import first_metric, show_metrics, show_test
from medperf.cli.output import Column, Output, human_seconds
from medperf.domain.digests import Digest

if TYPE_CHECKING:
    from medperf.flows.compatibility import TestSummary

app = noun("test", "Run the compatibility test of a workflow, on this machine.", "medperf test ls")


@example(
    app,
    "run",
    "medperf test run \\",
    "    --data_preparation medperf_tutorial/chexpert_prep/mlcube/mlcube.yaml \\",
    "    --model medperf_tutorial/xrv_densenet/mlcube/mlcube.yaml \\",
    "    --evaluator medperf_tutorial/metrics/mlcube/mlcube.yaml \\",
    "    --data_path medperf_tutorial/mock_chexpert/images \\",
    "    --labels_path medperf_tutorial/mock_chexpert/labels",
    "medperf test run --benchmark 1 --model my_model/mlcube/mlcube.yaml",
)
def run(
    ctx: typer.Context,
    data_preparation: Annotated[
        str | None,
        typer.Option(
            "--data_preparation", "--data-preparation", "-p", metavar="ID|PATH", help="The data preparation MLCube."
        ),
    ] = None,
    model: Annotated[str | None, typer.Option("--model", "-m", metavar="ID|PATH", help="The model MLCube.")] = None,
    evaluator: Annotated[
        str | None, typer.Option("--evaluator", "-e", metavar="ID|PATH", help="The metrics MLCube.")
    ] = None,
    data_path: Annotated[
        str | None,
        typer.Option(
            "--data_path", "--data-path", "-d", metavar="PATH", help="Data records on this machine, with --labels_path."
        ),
    ] = None,
    labels_path: Annotated[
        str | None,
        typer.Option(
            "--labels_path", "--labels-path", "-l", metavar="PATH", help="Labels on this machine, with --data_path."
        ),
    ] = None,
    demo_dataset_url: Annotated[
        str | None,
        typer.Option(
            "--demo_dataset_url",
            "--demo-dataset-url",
            metavar="URL|PATH",
            help="Instead of the two paths: a demo dataset's tarball.",
        ),
    ] = None,
    demo_dataset_hash: Annotated[
        str | None,
        typer.Option(
            "--demo_dataset_hash", "--demo-dataset-hash", metavar="SHA256", help="The tarball's digest, to be checked."
        ),
    ] = None,
    benchmark: Annotated[
        int | None, typer.Option("--benchmark", "-b", metavar="ID", help="Take what is not given from this benchmark.")
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Run every step again, even if nothing changed.")
    ] = False,
) -> None:
    """Prepare, check, infer and evaluate, then show the metrics. Steps whose inputs did not change are not run again."""
    from medperf.flows.compatibility import TestRequest, run_test

    session = session_of(ctx)
    request = TestRequest(
        preparator=data_preparation,
        model=model,
        evaluator=evaluator,
        data_path=data_path,
        labels_path=labels_path,
        demo_url=demo_dataset_url,
        demo_hash=demo_dataset_hash,
        benchmark=benchmark,
        no_cache=no_cache,
    )
    with session.site(stops_gently=True) as site:
        result = run_test(site, request)
    if session.out.as_json:
        session.out.json(result)
        return
    show_test(session.out, result)
    session.out.line(f"Next: {session.next('test', 'view', result.report_id.short)}")


@example(app, "ls", "medperf test ls")
def ls(ctx: typer.Context) -> None:
    """List the tests that were run on this machine, newest first; those that failed too."""
    from medperf.flows.compatibility import list_tests

    session = session_of(ctx)
    with session.site() as site:
        found = list_tests(site)
    session.out.listing(
        found,
        [
            Column("id", short=True),
            Column("created"),
            Column("state"),
            Column("preparator", extra=True),
            Column("model"),
            Column("evaluator", extra=True),
            Column("data", extra=True),
            Column("engine", extra=True),
            Column("metric"),
        ],
        lambda test: (
            test.id,
            datetime.fromisoformat(test.created_at),
            test.state,
            test.preparator,
            test.model,
            test.evaluator,
            test.data,
            test.engine or "-",
            first_metric(test.metrics),
        ),
        empty="No test was run yet. Run one with: medperf test run --help",
    )


@example(app, "view", "medperf test view", "medperf test view 3f2a", "medperf test view --verbose")
def view(
    ctx: typer.Context,
    report: Annotated[
        str | None,
        typer.Argument(
            metavar="ID", help="The report's id or its beginning; the latest when missing.", show_default=False
        ),
    ] = None,
) -> None:
    """Show a report: what ran and what it measured; every digest with --verbose."""
    from medperf.flows.compatibility import view_test

    session = session_of(ctx)
    with session.site() as site:
        found = view_test(site, report)
    if session.out.as_json:
        session.out.json(found)
        return
    out = session.out
    if found.report is None:
        _show_failure(out, found)
        return
    if session.verbose:
        out.view({"id": found.id, "created_at": found.created_at, "data": found.data, "report": found.report})
        out.line()
        show_metrics(out, found.metrics)
        return
    short = Digest(found.id).short
    steps = [
        f"{step['task']} ({'already done' if step['cached'] else human_seconds(step['seconds'])})"
        for step in found.report["steps"]
    ]
    out.facts(
        ("report", short),
        ("created", datetime.fromisoformat(found.created_at)),
        ("data preparation", found.preparator),
        ("model", found.model),
        ("evaluator", found.evaluator),
        ("data", found.data),
        ("engine", found.engine),
        ("steps", steps),
    )
    out.line()
    show_metrics(out, found.metrics)
    out.line(f"Every digest: {session.next('test', 'view', short, '--verbose')}")
    out.line("With a benchmark, next: medperf benchmark submit --help")
    out.line("With a model, next: medperf mlcube associate --help")


def _show_failure(out: Output, test: TestSummary) -> None:
    """A test that has no report: what ran, and why it ended."""
    failure = test.failure or {}
    out.facts(
        ("report", Digest(test.id).short),
        ("created", datetime.fromisoformat(test.created_at)),
        ("state", test.state),
        ("data preparation", test.preparator),
        ("model", test.model),
        ("evaluator", test.evaluator),
        ("data", test.data),
        ("what happened", failure.get("what")),
        ("what to do", failure.get("fix")),
        ("log", failure.get("log")),
    )
