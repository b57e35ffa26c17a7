"""``edit`` and ``deactivate`` of the nouns ``mlcube`` and ``benchmark``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medperf.cli.base import Session, example, session_of
from medperf.domain.associations import AutoMode
from medperf.domain.executions import ResultsVisibility

if TYPE_CHECKING:
    from medperf.flows.editing import AutoChoice, Edited
    from medperf.wire.models import AutoPolicyView, BenchmarkView

_MLCube = Annotated[int, typer.Argument(metavar="ID", help="The MLCube's id.", show_default=False)]
_Benchmark = Annotated[int, typer.Argument(metavar="ID", help="The benchmark's id.", show_default=False)]
_Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Its name; only in DEVELOPMENT.")]
_Operation = Annotated[
    bool, typer.Option("--operation", help="Put it in OPERATION, for good: what was tested is frozen then.")
]
_Valid = Annotated[
    bool | None, typer.Option("--valid/--invalid", help="Whether it is sound. Nothing new runs with what is invalid.")
]
_Metadata = Annotated[
    Path | None, typer.Option("--metadata", metavar="FILE", help="YAML or JSON with what else you want to say of it.")
]

#: Of ``benchmark submit`` too.
AutoModelsOption = Annotated[
    AutoMode | None,
    typer.Option("--auto-models", help="Whose models join without your yes: nobody's, everybody's, or of a list."),
]
AutoModelsOfOption = Annotated[
    list[str] | None,
    typer.Option("--auto-models-of", metavar="OWNER", help="An owner on that list, by name or id; give it repeatedly."),
]
AutoDatasetsOption = Annotated[
    AutoMode | None,
    typer.Option("--auto-datasets", help="Whose datasets join without your yes: nobody's, everybody's, or of a list."),
]
AutoDatasetsOfOption = Annotated[
    list[str] | None,
    typer.Option(
        "--auto-datasets-of", metavar="OWNER", help="An owner on that list, by name or id; give it repeatedly."
    ),
]
VisibilityOption = Annotated[
    ResultsVisibility | None,
    typer.Option(
        "--results-visibility",
        help="Who sees released results, besides the owners of data, model and benchmark. In OPERATION it only narrows.",
    ),
]


def add_mlcube_editing(app: typer.Typer) -> None:
    """Register both commands on the noun ``mlcube``."""
    example(app, "edit", "medperf mlcube edit 4 --invalid", "medperf mlcube edit 4 --metadata about.yaml")(edit_mlcube)
    example(app, "deactivate", "medperf mlcube deactivate 4")(deactivate_mlcube)


def add_benchmark_editing(app: typer.Typer) -> None:
    """Register both commands on the noun ``benchmark``."""
    example(
        app,
        "edit",
        "medperf benchmark edit 1 --auto-models always",
        "medperf benchmark edit 1 --auto-datasets-of testdataowner --auto-datasets-of 'Hospital A'",
        "medperf benchmark edit 1 --results-visibility owners",
    )(edit_benchmark)
    example(app, "deactivate", "medperf benchmark deactivate 1")(deactivate_benchmark)


def edit_mlcube(
    ctx: typer.Context,
    mlcube: _MLCube,
    name: _Name = None,
    operation: _Operation = False,
    valid: _Valid = None,
    metadata: _Metadata = None,
) -> None:
    """Change an MLCube. In OPERATION only its validity and what is said of it can change."""
    from medperf.flows.editing import edit_mlcube as edit

    session = session_of(ctx)
    with session.site() as site:
        done = edit(site, mlcube, name=name, operation=operation, is_valid=valid, metadata=metadata)
    _show(session, "mlcube", done)


def deactivate_mlcube(ctx: typer.Context, mlcube: _MLCube) -> None:
    """Mark an MLCube invalid: nothing new joins a benchmark or runs with it. 'mlcube edit --valid' takes it back."""
    from medperf.flows.editing import deactivate_mlcube as deactivate

    session = session_of(ctx)
    with session.site() as site:
        done = deactivate(site, mlcube)
    _show(session, "mlcube", done)


def edit_benchmark(
    ctx: typer.Context,
    benchmark: _Benchmark,
    name: _Name = None,
    description: Annotated[
        str | None, typer.Option("--description", "-d", metavar="TEXT", help="What it compares; only in DEVELOPMENT.")
    ] = None,
    docs_url: Annotated[
        str | None,
        typer.Option("--docs-url", "-u", metavar="URL", help="Where more about it can be read; only in DEVELOPMENT."),
    ] = None,
    operation: _Operation = False,
    valid: _Valid = None,
    active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="Whether anything new may join or run in it now.")
    ] = None,
    auto_models: AutoModelsOption = None,
    auto_models_of: AutoModelsOfOption = None,
    auto_datasets: AutoDatasetsOption = None,
    auto_datasets_of: AutoDatasetsOfOption = None,
    results_visibility: VisibilityOption = None,
    metadata: _Metadata = None,
) -> None:
    """Change a benchmark: who joins without your yes, who sees results, and whether it is in use."""
    from medperf.flows.editing import edit_benchmark as edit

    session = session_of(ctx)
    with session.site() as site:
        done = edit(
            site,
            benchmark,
            name=name,
            description=description,
            docs_url=docs_url,
            operation=operation,
            is_valid=valid,
            is_active=active,
            auto_models=auto_choice(auto_models, auto_models_of),
            auto_datasets=auto_choice(auto_datasets, auto_datasets_of),
            results_visibility=results_visibility,
            metadata=metadata,
        )
    _show(session, "benchmark", done)


def deactivate_benchmark(ctx: typer.Context, benchmark: _Benchmark) -> None:
    """Let nothing new join or run in a benchmark; its results stay. 'benchmark edit --active' takes it back."""
    from medperf.flows.editing import deactivate_benchmark as deactivate

    session = session_of(ctx)
    with session.site() as site:
        done = deactivate(site, benchmark)
    _show(session, "benchmark", done)


def auto_choice(mode: AutoMode | None, owners: list[str] | None) -> AutoChoice | None:
    """What somebody typed of an auto-approval; None: nothing."""
    from medperf.flows.editing import AutoChoice

    return None if mode is None and not owners else AutoChoice(mode, tuple(owners or ()))


def decides_by_itself(benchmark: BenchmarkView) -> tuple[tuple[str, str | None], ...]:
    """Facts of a benchmark's page: what it approves without a person, and who sees results; None where that is nobody else."""

    def whose(policy: AutoPolicyView) -> str | None:
        match policy.mode:
            case AutoMode.NEVER:
                return None
            case AutoMode.ALWAYS:
                return "everybody's"
        listed = "" if policy.parties is None else f": {', '.join(map(str, policy.parties))}"
        return f"those of owners on a list{listed}"

    others = {ResultsVisibility.PARTICIPANTS: "who takes part, too", ResultsVisibility.ACCOUNTS: "every account"}
    return (
        ("models that join without a yes", whose(benchmark.auto_models)),
        ("datasets that join without a yes", whose(benchmark.auto_datasets)),
        ("results are shown to", others.get(benchmark.results_visibility)),
    )


def _show(session: Session, noun: str, done: Edited[Any]) -> None:
    if session.out.as_json:
        session.out.json({"changed": done.changed, noun: done.view})
        return
    changed = f"Changed {', '.join(done.changed)}." if done.changed else "Nothing was changed: all of it is so already."
    title = "MLCube" if noun == "mlcube" else "Benchmark"
    session.out.line(f"{title} {done.view.id} ({done.view.name}): {changed}")
    marked = [
        word
        for word, off in (("invalid", not done.view.is_valid), ("inactive", not getattr(done.view, "is_active", True)))
        if off
    ]
    if marked:
        session.out.line(f"It is {' and '.join(marked)}: nothing new joins or runs with it.")
    session.out.line(f"Next: {session.next(noun, 'view', str(done.view.id))}")
