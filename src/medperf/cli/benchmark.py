"""``medperf benchmark``: what is compared, and the admin's decision about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medperf.cli.base import Session, example, noun, session_of
from medperf.cli.benchmark_results import add_results
from medperf.cli.editing import (
    AutoDatasetsOfOption,
    AutoDatasetsOption,
    AutoModelsOfOption,
    AutoModelsOption,
    VisibilityOption,
    add_benchmark_editing,
    auto_choice,
    decides_by_itself,
)
from medperf.cli.metrics import show_contract, show_metrics, show_test
from medperf.cli.options import (
    LimitOption,
    MineOption,
    NameOption,
    OwnedByOption,
    OwnerOption,
    SearchOption,
    SortOption,
    StateOption,
    ValidOption,
)
from medperf.cli.output import Column, human_bytes
from medperf.cli.run import add_run
from medperf.domain.errors import InvalidInput, UsageError
from medperf.domain.states import Approval

if TYPE_CHECKING:
    from medperf.domain.metrics import MetricsContract
    from medperf.wire.models import BenchmarkView

app = noun("benchmark", "Submit, look up and decide about benchmarks.", "medperf benchmark ls --mine")
_Id = Annotated[int, typer.Argument(metavar="ID", help="The benchmark's id.", show_default=False)]


@example(
    app,
    "submit",
    "medperf benchmark submit --name tutorial_bmk --description 'My first benchmark' \\",
    "    --demo-url https://example.com/demo.tar.gz \\",
    "    --data-preparation-mlcube 1 --reference-model-mlcube 2 --evaluator-mlcube 3",
    "medperf benchmark submit --from medperf_tutorial --name tutorial_bmk",
)
def submit(
    ctx: typer.Context,
    name: Annotated[
        str | None, typer.Option("--name", "-n", metavar="NAME", help="Its name, unique among its owner's.")
    ] = None,
    description: Annotated[
        str | None, typer.Option("--description", "-d", metavar="TEXT", help="What it compares.")
    ] = None,
    docs_url: Annotated[
        str | None, typer.Option("--docs-url", "-u", metavar="URL", help="Where more about it can be read.")
    ] = None,
    demo_url: Annotated[
        str | None,
        typer.Option(
            "--demo-url", metavar="URL|PATH", help="The demo dataset's tarball. A local file is uploaded to the server."
        ),
    ] = None,
    demo_hash: Annotated[
        str | None, typer.Option("--demo-hash", metavar="SHA256", help="The tarball's digest, to be checked.")
    ] = None,
    data_preparation_mlcube: Annotated[
        int | None, typer.Option("--data-preparation-mlcube", "-p", metavar="ID", help="The data preparation MLCube.")
    ] = None,
    reference_model_mlcube: Annotated[
        int | None, typer.Option("--reference-model-mlcube", "-m", metavar="ID", help="The reference model MLCube.")
    ] = None,
    evaluator_mlcube: Annotated[
        int | None, typer.Option("--evaluator-mlcube", "-e", metavar="ID", help="The metrics MLCube.")
    ] = None,
    from_folder: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FOLDER", help="Instead of the ids: a folder with three MLCubes and a demo dataset."
        ),
    ] = None,
    metrics_contract: Annotated[
        str | None,
        typer.Option(
            "--metrics-contract",
            metavar="FILE",
            help="YAML with the range, direction and rank of each metric; derived from the test's metrics when missing.",
        ),
    ] = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Run every step of the test again, even if nothing changed.")
    ] = False,
    owner: OwnerOption = None,
    auto_models: AutoModelsOption = None,
    auto_models_of: AutoModelsOfOption = None,
    auto_datasets: AutoDatasetsOption = None,
    auto_datasets_of: AutoDatasetsOfOption = None,
    results_visibility: VisibilityOption = None,
) -> None:
    """Run the compatibility test on the demo dataset and, if it passes, submit the benchmark for approval."""
    from medperf.flows.benchmarks import BenchmarkSubmission, submit_benchmark, submit_benchmark_from_folder
    from medperf.flows.editing import BenchmarkPolicy

    models, datasets = auto_choice(auto_models, auto_models_of), auto_choice(auto_datasets, auto_datasets_of)
    policy = BenchmarkPolicy(models, datasets, results_visibility)

    session = session_of(ctx)
    single: dict[str, Any] = {
        "--demo-url": demo_url,
        "--data-preparation-mlcube": data_preparation_mlcube,
        "--reference-model-mlcube": reference_model_mlcube,
        "--evaluator-mlcube": evaluator_mlcube,
    }
    if from_folder is not None:
        _refuse(
            [option for option, value in {**single, "--demo-hash": demo_hash}.items() if value is not None],
            "cannot be given together with --from",
        )
        with session.site(stops_gently=True) as site:
            made = submit_benchmark_from_folder(
                site,
                from_folder,
                name=name,
                description=description,
                docs_url=docs_url,
                metrics_contract=metrics_contract,
                no_cache=no_cache,
                owner=owner,
                policy=policy,
            )
    else:
        _refuse(
            [option for option, value in {"--name": name, **single}.items() if value is None],
            "must be given (or --from FOLDER)",
        )
        submission = BenchmarkSubmission(
            name=str(name),
            description=description or "",
            demo_url=str(demo_url),
            preparator=single["--data-preparation-mlcube"],
            reference_model=single["--reference-model-mlcube"],
            evaluator=single["--evaluator-mlcube"],
            demo_hash=demo_hash,
            docs_url=docs_url or "",
            metrics_contract=metrics_contract,
            no_cache=no_cache,
            owner=owner,
            policy=policy,
        )
        with session.site(stops_gently=True) as site:
            made = submit_benchmark(site, submission)
    if session.out.as_json:
        session.out.json(made)
        return
    show_test(session.out, made.test)
    session.out.line()
    show_contract(session.out, made.test.contract)
    session.out.line("This metrics contract is frozen with the benchmark: every result of it must keep to it.")
    session.out.line()
    for cube in made.mlcubes:
        session.out.line(f"MLCube {cube.id} ({cube.name}): {cube.kind.value}")
    session.out.created("benchmark", made.benchmark.id, made.benchmark.name)
    session.out.line(_waiting(session, made.benchmark))
    session.out.line(f"Next: {session.next('benchmark', 'view', str(made.benchmark.id))}")


@example(app, "ls", "medperf benchmark ls", "medperf benchmark ls --mine", "medperf benchmark ls --approval PENDING")
def ls(
    ctx: typer.Context,
    mine: MineOption = False,
    owner: OwnedByOption = None,
    approval: Annotated[
        Approval | None, typer.Option("--approval", case_sensitive=False, help="Only so decided.")
    ] = None,
    state: StateOption = None,
    name: NameOption = None,
    valid: ValidOption = None,
    active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="Only active, or only inactive ones.")
    ] = None,
    search: SearchOption = None,
    sort: SortOption = None,
    limit: LimitOption = None,
) -> None:
    """List the benchmarks you may see."""
    from medperf.flows.benchmarks import list_benchmarks

    session = session_of(ctx)
    with session.site() as site:
        found = list_benchmarks(
            site,
            mine=mine,
            owner=owner,
            approval=approval,
            state=state,
            is_valid=valid,
            is_active=active,
            name=name,
            search=search,
            sort=sort,
            limit=limit,
        )
    session.out.listing(
        found,
        [
            Column("id", right=True),
            Column("name"),
            Column("cubes", extra=True),
            Column("state"),
            Column("approval"),
            Column("active", extra=True),
            Column("owner"),
            Column("created", extra=True),
        ],
        lambda one: (
            one.id,
            one.name,
            (one.preparator, one.reference_model, one.evaluator),
            one.state,
            one.approval,
            one.is_active,
            one.owner.name,
            one.created_at,
        ),
        empty="No benchmarks found. Submit one with: medperf benchmark submit --help",
        without=("report", "metrics_contract"),
    )


@example(app, "view", "medperf benchmark view 1", "medperf benchmark view 1 --verbose")
def view(ctx: typer.Context, benchmark: _Id) -> None:
    """Show a benchmark, its metrics contract and what its compatibility test measured; every digest with --verbose."""
    from medperf.flows.benchmarks import view_benchmark

    session = session_of(ctx)
    with session.site() as site:
        found = view_benchmark(site, benchmark)
    if session.out.as_json or session.verbose:
        session.out.show(found)
    else:
        _page(session, found)


@example(app, "approve", "medperf benchmark approve 1", "medperf benchmark approve 1 --reason 'Checked by the board'")
def approve(
    ctx: typer.Context,
    benchmark: _Id,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Why; its owner reads it.", show_default=False)
    ] = "",
) -> None:
    """Approve a benchmark (admins only)."""
    from medperf.flows.benchmarks import decide_benchmark

    session = session_of(ctx)
    with session.site() as site:
        decided = decide_benchmark(site, benchmark, approve=True, reason=reason)
    _decided(session, decided)


@example(app, "reject", "medperf benchmark reject 1 --reason 'The demo dataset holds real names'")
def reject(
    ctx: typer.Context,
    benchmark: _Id,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; its owner reads it.")],
) -> None:
    """Reject a benchmark (admins only)."""
    from medperf.flows.benchmarks import decide_benchmark

    session = session_of(ctx)
    with session.site() as site:
        decided = decide_benchmark(site, benchmark, approve=False, reason=reason)
    _decided(session, decided)


add_benchmark_editing(app)
add_results(app)
add_run(app, "medperf benchmark run")


def _decided(session: Session, benchmark: BenchmarkView) -> None:
    if session.out.as_json:
        session.out.json(benchmark)
        return
    session.out.line(f"Benchmark {benchmark.id} ({benchmark.name}) is {benchmark.approval.value}.")
    contract = _contract(benchmark)
    session.out.facts(
        ("Reason", benchmark.approval_reason),
        ("Owner", benchmark.owner.name),
        ("MLCubes", _cubes(benchmark)),
        ("Primary metric", None if contract is None else contract.primary or "none"),
    )


def _page(session: Session, benchmark: BenchmarkView) -> None:
    """What a person wants to know of a benchmark, and what to do with it."""
    out, number = session.out, str(benchmark.id)
    report = benchmark.report
    out.facts(
        ("benchmark", f"{number} ({benchmark.name})"),
        ("description", benchmark.description),
        ("more about it", benchmark.docs_url),
        ("owner", benchmark.owner.name),
        ("state", f"{benchmark.state.value}{'' if benchmark.is_valid else ', marked invalid by its owner'}"),
        ("active", None if benchmark.is_active else "no"),
        ("approval", benchmark.approval),
        ("reason", benchmark.approval_reason),
        *decides_by_itself(benchmark),
        ("MLCubes", _cubes(benchmark)),
        ("demo data", f"{_short(benchmark.demo.digest)} ({human_bytes(benchmark.demo.size)})"),
        ("submitted", benchmark.created_at),
        ("decided", benchmark.decided_at),
        ("tested", f"with {report.engine} on {report.architecture}" if report is not None else None),
    )
    if report is not None:
        from medperf.domain.metrics import flatten_metrics

        out.line()
        out.line("What its compatibility test measured:")
        show_metrics(out, flatten_metrics(report.metrics))
    contract = _contract(benchmark)
    if contract is not None:
        out.line()
        out.line("Its metrics contract:")
        show_contract(out, contract)
    out.line()
    out.line(f"Every digest: {session.next('benchmark', 'view', number, '--verbose')}")
    if benchmark.approval is Approval.PENDING:
        out.line(_waiting(session, benchmark))
    elif benchmark.approval is Approval.APPROVED:
        model = session.next("test", "run", "--benchmark", number, "--model", "my_model/mlcube/mlcube.yaml")
        out.line(f"With a model, next: {model}")
        out.line(f"With data, next: {session.next('dataset', 'create', '--help')}")
    else:
        out.line("Next: medperf benchmark submit --help (mend what the reason says, and submit it under another name)")


def _waiting(session: Session, benchmark: BenchmarkView) -> str:
    there = ["--server", session.server] if session.server else []  # the admin has a profile of their own
    approve = session.command("benchmark", "approve", str(benchmark.id), *there)
    return f"It is {benchmark.approval.value}. An admin of the server approves it with: {approve}"


def _cubes(benchmark: BenchmarkView) -> str:
    return (
        f"{benchmark.preparator} (preparator), {benchmark.reference_model} (reference model), "
        f"{benchmark.evaluator} (evaluator)"
    )


def _contract(benchmark: BenchmarkView) -> MetricsContract | None:
    """None where the server sent none, or one that only a newer version reads; the whole document shows it then."""
    from medperf.domain.metrics import contract_from_document

    try:
        return contract_from_document(benchmark.metrics_contract) if benchmark.metrics_contract else None
    except InvalidInput:
        return None


def _short(digest: str) -> str:
    from medperf.domain.digests import Digest

    return Digest(digest).short


def _refuse(options: list[str], why: str) -> None:
    if options:
        raise UsageError("usage", f"{', '.join(options)} {why}.", "See: medperf benchmark submit --help")
