"""``medperf association``: who is in a benchmark, and the decisions about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from medperf.cli.association_text import asker, named, show_asked, show_decided, show_page, thing
from medperf.cli.base import Session, example, noun, session_of
from medperf.cli.options import LimitOption, YesOption
from medperf.cli.output import Column
from medperf.domain.associations import Asset, Status
from medperf.domain.errors import UsageError

if TYPE_CHECKING:
    from medperf.flows.associations import Which

app = noun(
    "association",
    "Let datasets and models into benchmarks: invite, approve, revoke, rank.",
    "medperf association ls --waiting",
)

_Id = Annotated[
    int | None,
    typer.Argument(metavar="[ID]", help="The association's id; or give -b with -d or -m.", show_default=False),
]
_Benchmark = Annotated[int | None, typer.Option("--benchmark", "-b", metavar="ID", help="The benchmark.")]
_Dataset = Annotated[
    int | None, typer.Option("--dataset", "-d", metavar="ID", help="The dataset, by its id at the server.")
]
_Model = Annotated[int | None, typer.Option("--model", "-m", metavar="ID", help="The model MLCube.")]
_Reason = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Why; both sides read it.", show_default=False)
]
_Report = Annotated[
    str | None,
    typer.Option("--report", metavar="ID", help="Send the report of this test of the model instead of running one."),
]


@example(
    app,
    "ls",
    "medperf association ls",
    "medperf association ls --waiting",
    "medperf association ls -b 1 --kind model --status approved",
)
def ls(
    ctx: typer.Context,
    benchmark: _Benchmark = None,
    dataset: _Dataset = None,
    model: _Model = None,
    kind: Annotated[Asset | None, typer.Option("--kind", help="Only of datasets, or only of models.")] = None,
    status: Annotated[Status | None, typer.Option("--status", case_sensitive=False, help="Only these.")] = None,
    mine: Annotated[
        bool, typer.Option("--mine", help="Only of what you, or organisations you belong to, own on either side.")
    ] = False,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only those that you may approve or reject.")] = False,
    newest: Annotated[bool, typer.Option("--newest", help="The newest first.")] = False,
    limit: LimitOption = None,
) -> None:
    """List the associations you may see: yours, and which models are in benchmarks."""
    from medperf.flows.associations import list_associations

    session = session_of(ctx)
    with session.site() as site:
        found = list_associations(
            site,
            benchmark=benchmark,
            dataset=dataset,
            model=model,
            kind=kind,
            status=status,
            mine=mine,
            waiting=waiting,
            newest_first=newest,
            limit=limit,
        )
    session.out.listing(
        found,
        [
            Column("id", right=True),
            Column("benchmark"),
            Column("kind", extra=True),
            Column("dataset or model"),
            Column("status"),
            Column("asked by"),
            Column("priority", right=True),
            Column("asked", extra=True),
        ],
        lambda one: (
            one.id,
            named(one.benchmark, one.benchmark_name),
            one.kind,
            thing(one),
            f"{one.status.value}{' (automatic)' if one.is_automatic else ''}",
            asker(one),
            one.priority if one.kind is Asset.MODEL else None,
            one.asked_at,
        ),
        empty="No associations found. Ask with: medperf dataset associate, or medperf mlcube associate",
        without=("report", "events"),
    )
    if found and waiting and not session.out.as_json:
        session.out.line(f"Next: {session.next('association', 'view', str(found[0].id))}")


@example(app, "view", "medperf association view 7", "medperf association view -b 1 -m 4 --verbose")
def view(
    ctx: typer.Context,
    association: _Id = None,
    benchmark: _Benchmark = None,
    dataset: _Dataset = None,
    model: _Model = None,
) -> None:
    """Show an association: both sides, what the model's test measured, and its history; every digest with --verbose."""
    from medperf.flows.associations import find_association

    session, which = session_of(ctx), _which(association, benchmark, dataset, model)
    with session.site() as site:
        found = find_association(site, which)
    if session.out.as_json or session.verbose:
        session.out.show(found)
    else:
        show_page(session, found)


@example(
    app,
    "approve",
    "medperf association approve 7",
    "medperf association approve -b 1 -m 4",
    "medperf association approve -b 1 -d 1 --reason 'Welcome'",
)
def approve(
    ctx: typer.Context,
    association: _Id = None,
    benchmark: _Benchmark = None,
    dataset: _Dataset = None,
    model: _Model = None,
    reason: _Reason = None,
    report: _Report = None,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Run every step of the test again, even if nothing changed.")
    ] = False,
    yes: YesOption = False,
) -> None:
    """Say yes to a request, or to an invitation; a model that is invited is tested first, and its report sent."""
    from medperf.flows.associations import decide_association

    session, which = session_of(ctx), _which(association, benchmark, dataset, model)
    with session.site(stops_gently=True) as site:
        done = decide_association(
            site, which, Status.APPROVED, reason=reason, report=report, no_cache=no_cache, yes=yes
        )
    show_decided(session, done, shown=not yes)


@example(
    app, "reject", "medperf association reject 7 --reason 'Other scanners'", "medperf association reject -b 1 -d 1"
)
def reject(
    ctx: typer.Context,
    association: _Id = None,
    benchmark: _Benchmark = None,
    dataset: _Dataset = None,
    model: _Model = None,
    reason: _Reason = None,
) -> None:
    """Say no to a request, or to an invitation. It may be asked again."""
    _decide(session_of(ctx), _which(association, benchmark, dataset, model), Status.REJECTED, reason)


@example(app, "cancel", "medperf association cancel 7", "medperf association cancel -b 1 -m 4")
def cancel(
    ctx: typer.Context,
    association: _Id = None,
    benchmark: _Benchmark = None,
    dataset: _Dataset = None,
    model: _Model = None,
    reason: _Reason = None,
) -> None:
    """Take back a request, or an invitation, that nobody decided about yet."""
    _decide(session_of(ctx), _which(association, benchmark, dataset, model), Status.CANCELLED, reason)


@example(app, "revoke", "medperf association revoke 7 --reason 'Withdrawn'", "medperf association revoke -b 1 -m 4")
def revoke(
    ctx: typer.Context,
    association: _Id = None,
    benchmark: _Benchmark = None,
    dataset: _Dataset = None,
    model: _Model = None,
    reason: _Reason = None,
) -> None:
    """End an approved association, as either side. Nothing new runs; what was released stays, marked."""
    _decide(session_of(ctx), _which(association, benchmark, dataset, model), Status.REVOKED, reason)


@example(app, "invite", "medperf association invite -b 1 -m 4", "medperf association invite -b 1 -d 2")
def invite(
    ctx: typer.Context,
    benchmark: Annotated[int, typer.Option("--benchmark", "-b", metavar="ID", help="Your benchmark.")],
    dataset: _Dataset = None,
    model: _Model = None,
    report: _Report = None,
) -> None:
    """Ask the owner of a dataset or a model to join your benchmark."""
    from medperf.flows.joining import invite as send

    session = session_of(ctx)
    with session.site() as site:
        done = send(site, benchmark, dataset=dataset, model=model, report=report)
    show_asked(session, done)


@example(
    app,
    "set_priority",
    "medperf association set_priority -b 1 -m 4 10",
    "medperf association set_priority 7 10",
    "medperf association set_priority 7 --priority -5",
)
def set_priority(
    ctx: typer.Context,
    numbers: Annotated[
        list[int] | None,
        typer.Argument(
            metavar="[ID] [PRIORITY]",
            help="The association's id, unless -b and -m are given; then the priority.",
            show_default=False,
        ),
    ] = None,
    benchmark: _Benchmark = None,
    model: _Model = None,
    priority: Annotated[
        int | None, typer.Option("--priority", "-p", metavar="N", help="The priority, also one below 0.")
    ] = None,
) -> None:
    """Say when a model of your benchmark runs: higher priorities first."""
    from medperf.flows.associations import set_priority as change

    session, given = session_of(ctx), list(numbers or [])
    if priority is None and given:
        priority = given.pop()
    if priority is None or len(given) > 1:
        problem = "No priority is given." if priority is None else "Too many numbers are given."
        raise UsageError("usage", problem, "See: medperf association set_priority --help")
    which = _which(given[0] if given else None, benchmark, None, model)
    with session.site() as site:
        done = change(site, which, priority)
    found = done.association
    if session.out.as_json:
        session.out.json({"association": found, "already": done.already})
        return
    told = f"{thing(found)} in benchmark {named(found.benchmark, found.benchmark_name)}"
    if done.already:
        session.out.line(f"Nothing was changed: {told} has the priority {found.priority} already.")
    else:
        session.out.line(f"{told[:1].upper()}{told[1:]} has the priority {found.priority} now.")
    words = ("association", "ls", "-b", str(found.benchmark), "--kind", "model")
    session.out.line(f"Next: {session.next(*words)}")


# ------------------------------------------------------------------------------------------------------------------- within


def _which(association: int | None, benchmark: int | None, dataset: int | None, model: int | None) -> Which:
    from medperf.flows.associations import Which

    return Which(association, benchmark, dataset, model)


def _decide(session: Session, which: Which, wanted: Status, reason: str | None) -> None:
    from medperf.flows.associations import decide_association

    with session.site() as site:
        done = decide_association(site, which, wanted, reason=reason)
    show_decided(session, done)
