"""``medperf dataset``: data of this site. They are prepared and checked here; what a server is told is shown first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from medperf.cli.base import Session, example, noun, session_of
from medperf.cli.dataset_text import (
    both_documents,
    fields_of,
    flags_of,
    local_document,
    named,
    row_of,
    show_created,
    show_dataset,
)
from medperf.cli.options import LocalOption, MineOption, NameOption, OwnerOption, YesOption
from medperf.cli.output import Column, human_bytes, human_seconds
from medperf.domain.errors import UsageError

if TYPE_CHECKING:
    from medperf.flows.editing import EditedDataset
    from medperf.wire.associations import AssociationView

app = noun("dataset", "Prepare, check, register and withdraw data of this site.", "medperf dataset ls")

_Dataset = Annotated[
    str, typer.Argument(metavar="DATASET", help="Its name or id here, or its id at the server.", show_default=False)
]
_MaybeDataset = Annotated[
    str | None,
    typer.Argument(metavar="DATASET", help="Its name or id here, or its id at the server.", show_default=False),
]
_DataUid = Annotated[
    str | None,
    typer.Option("--data_uid", "--data-uid", "-d", metavar="DATASET", help="The same, as an option."),
]


@example(
    app,
    "create",
    "medperf dataset create --benchmark 1 \\",
    "    --data_path medperf_tutorial/hospital/images --labels_path medperf_tutorial/hospital/labels \\",
    "    --name chest-2024 --description 'Frontal chest X-rays of 2024' --location 'Ward 7'",
    "medperf dataset create -b 1 -d records -l labels --name chest-2025 --join",
)
def create(
    ctx: typer.Context,
    data_path: Annotated[
        str, typer.Option("--data_path", "--data-path", "-d", metavar="PATH", help="The raw records.")
    ],
    labels_path: Annotated[
        str, typer.Option("--labels_path", "--labels-path", "-l", metavar="PATH", help="Their labels.")
    ],
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Its name, unique at this site.")],
    benchmark: Annotated[
        int | None, typer.Option("--benchmark", "-b", metavar="ID", help="The benchmark it is meant for.")
    ] = None,
    data_prep: Annotated[
        str | None,
        typer.Option(
            "--data_prep", "--data-prep", "-p", metavar="ID|PATH", help="Instead of a benchmark: the preparator."
        ),
    ] = None,
    description: Annotated[str, typer.Option("--description", metavar="TEXT", help="What it holds.")] = "",
    location: Annotated[str, typer.Option("--location", metavar="TEXT", help="Where the data are from.")] = "",
    site_label: Annotated[
        str | None,
        typer.Option(
            "--site-label", metavar="TEXT", help="What others see of it in results; the location when missing."
        ),
    ] = None,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="Check and describe the data again.")] = False,
    join: Annotated[
        bool,
        typer.Option("--join", help="Then register it and ask the benchmark to take it; what goes is shown first."),
    ] = False,
) -> None:
    """Prepare records, check and describe them. Nothing leaves this machine, unless --join is given and you agree."""
    from medperf.flows.datasets import DatasetRequest, create_dataset, join_benchmark

    session = session_of(ctx)
    request = DatasetRequest(
        name=name,
        data_path=data_path,
        labels_path=labels_path,
        description=description,
        location=location,
        site_label=site_label,
        benchmark=benchmark,
        preparator=data_prep,
        no_cache=no_cache,
        go_on=join,
    )
    if join and benchmark is None:
        raise UsageError("usage", "--join needs a benchmark to join.", "Give it with --benchmark.")
    with session.site(stops_gently=True) as site:
        made = create_dataset(site, request)
        if not session.out.as_json:
            show_created(session, made, following=not join)
        joined = join_benchmark(site, made.dataset.uuid, int(str(benchmark))) if join else None
    if not session.out.as_json:
        if joined is not None:
            session.out.line(f"The server knows it as dataset {joined.dataset}.")
            _associated(session, joined)
        return
    session.out.json(
        {
            **local_document(made.dataset),
            "resumed": made.resumed,
            "already": made.already,
            "containers_started": made.containers_started,
            "seconds": made.seconds,
            "association": joined,
        }
    )


@example(
    app, "submit", "medperf dataset submit chest-2024", "medperf dataset submit -d chest-2024 --owner 'Hospital A'"
)
def submit(
    ctx: typer.Context,
    dataset: _MaybeDataset = None,
    data_uid: _DataUid = None,
    owner: OwnerOption = None,
    yes: YesOption = False,
) -> None:
    """Register a dataset: what it is called, its salted identity and its statistics, each shown before it goes."""
    from medperf.flows.datasets import submit_dataset

    session = session_of(ctx)
    wanted = _one(dataset, data_uid, "submit")
    with session.site() as site:
        made = submit_dataset(site, wanted, owner=owner, yes=yes)
    if session.out.as_json:
        session.out.json(
            {"already": made.already, "registered": made.registered, "local": local_document(made.dataset)}
        )
        return
    number, benchmark = str(made.registered.id), made.dataset.facts.benchmark
    associate = session.next("dataset", "associate", "-b", str(benchmark or "BENCHMARK"), "-d", number)
    if made.already:
        session.out.line(f"The server knows it already: dataset {number} ({made.registered.name}).")
        session.out.line(f"Next: {associate}")
        return
    session.out.created("dataset", number, made.registered.name, then=associate)


@example(app, "associate", "medperf dataset associate -b 1 -d 1", "medperf dataset associate chest-2024 --benchmark 1")
def associate(
    ctx: typer.Context,
    benchmark: Annotated[
        int, typer.Option("--benchmark", "--benchmark_uid", "-b", metavar="ID", help="The benchmark to join.")
    ],
    dataset: _MaybeDataset = None,
    data_uid: _DataUid = None,
    yes: YesOption = False,
) -> None:
    """Ask a benchmark's owner to take a registered dataset. No model runs, and no metric leaves."""
    from medperf.flows.datasets import associate_dataset

    session = session_of(ctx)
    wanted = _one(dataset, data_uid, "associate")
    with session.site() as site:
        made = associate_dataset(site, wanted, benchmark, yes=yes)
    if session.out.as_json:
        session.out.json(made)
        return
    _associated(session, made)


@example(app, "ls", "medperf dataset ls", "medperf dataset ls --local")
def ls(
    ctx: typer.Context,
    mine: MineOption = False,
    local: LocalOption = False,
    name: NameOption = None,
    active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="Only active, or only inactive ones.")
    ] = None,
) -> None:
    """List the datasets of this site, and those of the server that you may see."""
    from medperf.flows.datasets import list_datasets

    session = session_of(ctx)
    with session.site() as site:
        found = list_datasets(site, mine=mine, local=local, name=name)
    if active is not None:
        found = [one for one in found if one.registered is not None and one.registered.is_active is active]
    if session.out.as_json:
        session.out.json({"items": [both_documents(one) for one in found]})
        return
    session.out.table(
        [
            Column("id", right=True),
            Column("local id"),
            Column("name"),
            Column("preparator", right=True, extra=True),
            Column("state"),
            Column("active", extra=True),
            Column("owner", extra=True),
            Column("created", extra=True),
        ],
        map(row_of, found),
        empty="No datasets found. Prepare one with: medperf dataset create --help",
    )


@example(app, "view", "medperf dataset view chest-2024", "medperf dataset view 1 --verbose")
def view(ctx: typer.Context, dataset: _Dataset, local: LocalOption = False) -> None:
    """Show a dataset as this site and the server know it; everything with --verbose."""
    from medperf.flows.datasets import view_dataset

    session = session_of(ctx)
    with session.site() as site:
        found = view_dataset(site, dataset, local=local)
    if session.out.as_json or session.verbose:
        session.out.show(both_documents(found))
    else:
        show_dataset(session, found)


@example(app, "check", "medperf dataset check chest-2024", "medperf dataset check 1 --full")
def check(
    ctx: typer.Context,
    dataset: _Dataset,
    full: Annotated[bool, typer.Option("--full", help="Read every byte, also of files that look untouched.")] = False,
) -> None:
    """Look whether the prepared data are still what was prepared; exit code 1 if not."""
    from medperf.flows.datasets import check_dataset

    session = session_of(ctx)
    with session.site(stops_gently=True) as site:
        report = check_dataset(site, dataset, full=full)
    out = session.out
    if out.as_json:
        out.json({**fields_of(report), "unchanged": report.unchanged})
    else:
        out.table(
            [Column("file"), Column("change"), Column("now")],
            [(one.path, one.kind, one.other) for one in report.changes],
            empty=f"Unchanged: {report.files:,} files ({human_bytes(report.bytes)}), {report.hashed:,} read, in "
            f"{human_seconds(report.seconds)}.",
        )
    if not report.unchanged:
        if not out.as_json:
            out.line(
                "These are not the data that were prepared: no model runs on them. Put the files back, "
                f"or prepare the records anew: {session.next('dataset', 'create', '--help')}"
            )
        raise typer.Exit(1)


@example(
    app,
    "edit",
    "medperf dataset edit chest-2024 --site-label 'Hospital A'",
    "medperf dataset edit 1 --invalid",
)
def edit(
    ctx: typer.Context,
    dataset: _Dataset,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Its name.")] = None,
    description: Annotated[str | None, typer.Option("--description", metavar="TEXT", help="What it holds.")] = None,
    location: Annotated[str | None, typer.Option("--location", metavar="TEXT", help="Where the data are from.")] = None,
    site_label: Annotated[
        str | None, typer.Option("--site-label", metavar="TEXT", help="What others see of it in results.")
    ] = None,
    valid: Annotated[
        bool | None,
        typer.Option("--valid/--invalid", help="Whether the data are sound. What is invalid is not run on."),
    ] = None,
    active: Annotated[
        bool | None, typer.Option("--active/--inactive", help="Whether models may run on it now.")
    ] = None,
    yes: YesOption = False,
) -> None:
    """Change what is said of a dataset. Once a server knows it, only the label and the flags can change."""
    from medperf.flows.editing import edit_dataset

    session = session_of(ctx)
    with session.site() as site:
        done = edit_dataset(
            site,
            dataset,
            name=name,
            description=description,
            location=location,
            site_label=site_label,
            is_valid=valid,
            is_active=active,
            yes=yes,
        )
    _edited(session, done)


@example(app, "deactivate", "medperf dataset deactivate chest-2024")
def deactivate(ctx: typer.Context, dataset: _Dataset, yes: YesOption = False) -> None:
    """Let no model run on a dataset until it is made active again; it stays in its benchmarks."""
    from medperf.flows.editing import deactivate_dataset

    session = session_of(ctx)
    with session.site() as site:
        done = deactivate_dataset(site, dataset, yes=yes)
    _edited(session, done)


@example(app, "withdraw", "medperf dataset withdraw chest-2024", "medperf dataset withdraw 1 --delete")
def withdraw(
    ctx: typer.Context,
    dataset: _Dataset,
    delete: Annotated[
        bool, typer.Option("--delete", help="Also delete the prepared data. The raw records are never touched.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Take a dataset out of every benchmark and let nothing run on it. What was released stays released."""
    from medperf.flows.datasets import withdraw_dataset

    session = session_of(ctx)
    with session.site() as site:
        done = withdraw_dataset(site, dataset, delete=delete, yes=yes)
    if session.out.as_json:
        session.out.json(
            {
                "dataset": done.dataset.uuid,
                "registered": done.registered,
                "ended": [one.id for one in done.ended],
                "deleted": done.deleted,
            }
        )
        return
    if done.registered is not None:
        session.out.line(
            f"Withdrew dataset {done.registered.id} ({done.registered.name}): nothing runs on it any more."
        )
    for association in done.ended:
        session.out.line(
            f"Association {association.id} with benchmark {association.benchmark} is {association.status.value}."
        )
    if done.deleted:
        session.out.line(f"Deleted the prepared data of {done.dataset.name}.")
        session.out.line(f"The raw records are where they were: {done.dataset.facts.raw_data}")
    else:
        session.out.line(
            f"Its prepared data stay here. Next: {session.next('dataset', 'withdraw', dataset, '--delete')}"
        )


# ------------------------------------------------------------------------------------------------------------------- within


def _one(given: str | None, option: str | None, command: str) -> str:
    """The dataset that was named, in one of two ways."""
    if (given is None) == (option is None):
        problem = "No dataset is named." if given is None else "The dataset is named twice."
        raise UsageError("usage", problem, f"Name it once. See: medperf dataset {command} --help")
    return str(given if given is not None else option)


def _associated(session: Session, made: AssociationView) -> None:
    """Where the request stands, and what comes next."""
    from medperf.domain.associations import Status

    session.out.line(
        f"Association {made.id}: dataset {made.dataset} in benchmark {made.benchmark} is {made.status.value}."
    )
    if made.status is Status.APPROVED:
        session.out.line(f"Next: {session.next('run', '-b', str(made.benchmark), '-d', str(made.dataset))}")
    else:
        session.out.line("The owner of the benchmark decides about it.")
        session.out.line(f"Next: {session.next('association', 'view', str(made.id))}")


def _edited(session: Session, done: EditedDataset) -> None:
    local, there = done.dataset, done.registered
    if session.out.as_json:
        here = local_document(local) if local is not None else None
        session.out.json({"changed": done.changed, "registered": there, "local": here})
        return
    changed = f"Changed {', '.join(done.changed)}." if done.changed else "Nothing changed: all of it is so already."
    session.out.line(f"Dataset {named(local, there)}: {changed}")
    flags = flags_of(there)
    if flags:
        session.out.line(f"It is {flags}: no model runs on it.")
    reference = str(there.id) if there is not None else local.name if local is not None else ""
    session.out.line(f"Next: {session.next('dataset', 'view', reference)}")
