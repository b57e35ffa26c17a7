"""How an association, a request and a decision are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medperf.cli.base import Session
from medperf.cli.metrics import show_metrics, show_test
from medperf.cli.output import Column
from medperf.domain.associations import Asset, Side, Status

if TYPE_CHECKING:
    from medperf.flows.associations import Decided
    from medperf.flows.joining import Asked, Tested
    from medperf.wire.associations import AssociationView


def show_asked(session: Session, done: Asked, *, shown: bool = False) -> None:
    """What became of a request or an invitation, and who acts next.

    Args:
        shown: the person saw the metrics when they were asked.
    """
    found = done.association
    if session.out.as_json:
        session.out.json(_document(done))
        return
    number = str(found.id)
    if not shown:
        _show_test(session, done.test)
    if done.already:
        session.out.line(f"It was asked before: nothing was sent. Association {number} is {found.status.value}.")
    elif found.status is Status.PENDING:
        session.out.line(f"Asked: association {number}, {_between(found)}. It is PENDING.")
    else:
        at_once = " at once" if found.is_automatic else ""
        session.out.line(f"Association {number} is {found.status.value}{at_once}: {_between(found)}.")
    if found.status is Status.PENDING:
        decides = _owner_of(found, found.asked_by.other)
        session.out.line(f"{decides} approves it with: {session.command('association', 'approve', number)}")
    session.out.line(f"Next: {session.next('association', 'view', number)}")


def show_decided(session: Session, done: Decided, *, shown: bool = False) -> None:
    """What became of an association, and what comes next. ``shown`` as of `show_asked`."""
    found = done.association
    if session.out.as_json:
        session.out.json(_document(done))
        return
    if not shown:
        _show_test(session, done.test)
    if done.already:
        session.out.line(f"Association {found.id} is {found.status.value} already: nothing was changed.")
    else:
        session.out.line(f"Association {found.id} is {found.status.value}: {_between(found)}.")
    if found.status is Status.APPROVED and found.kind is Asset.DATASET:
        words = ("run", "-b", str(found.benchmark), "-d", str(found.dataset))
        session.out.line(f"At the dataset's site, next: {session.command(*words)}")
    else:
        session.out.line(f"Next: {session.next('association', 'view', str(found.id))}")


def show_page(session: Session, found: AssociationView) -> None:
    """What a person wants to know of an association, and what to do with it."""
    out = session.out
    out.facts(
        ("association", found.id),
        ("benchmark", named(found.benchmark, found.benchmark_name)),
        ("benchmark's owner", found.benchmark_owner.name),
        (found.kind.value, named(found.asset, found.name)),
        (f"{found.kind.value}'s owner", _party(found)),
        ("status", f"{found.status.value}{' (without a person)' if found.is_automatic else ''}"),
        ("asked by", _side(found, found.asked_by)),
        ("asked", found.asked_at),
        ("decided", found.decided_at),
        ("priority", found.priority if found.kind is Asset.MODEL else None),
    )
    if found.report is not None:
        from medperf.domain.metrics import flatten_metrics

        out.line()
        out.line("What the model's compatibility test measured, on the benchmark's demo data:")
        show_metrics(out, flatten_metrics(found.report.metrics))
    if found.events:
        out.line()
        out.table(
            [Column("when"), Column("status"), Column("by"), Column("reason")],
            [
                (
                    one.at,
                    one.status,
                    "nobody: automatic" if one.is_automatic else _side(found, one.side),
                    one.reason,
                )
                for one in found.events
            ],
            empty="No history.",
        )
    number = str(found.id)
    if found.status is Status.PENDING:
        out.line(f"{_owner_of(found, found.asked_by.other)} decides: {session.next('association', 'approve', number)}")
        out.line(f"or: {session.next('association', 'reject', number)}")
    elif found.status is Status.APPROVED:
        out.line(f"Either side ends it with: {session.next('association', 'revoke', number)}")


def named(number: int, name: str | None) -> str:
    """``4 (xrv)``."""
    return f"{number} ({name})" if name else str(number)


def thing(one: AssociationView) -> str:
    """``model 4 (xrv)``."""
    return f"{one.kind.value} {named(one.asset, one.name)}"


def asker(one: AssociationView) -> str:
    """Who asked last."""
    return one.benchmark_owner.name if one.asked_by is Side.BENCHMARK else (_party(one) or "its owner")


def _party(one: AssociationView) -> str | None:
    return one.owner.name if one.owner is not None else None


def _owner_of(one: AssociationView, side: Side) -> str:
    found = one.benchmark_owner if side is Side.BENCHMARK else one.owner
    return found.name if found is not None else f"The {one.kind.value}'s owner"


def _side(one: AssociationView, side: Side) -> str:
    return f"the {side.value if side is Side.BENCHMARK else one.kind.value}'s owner"


def _between(one: AssociationView) -> str:
    return f"{thing(one)} and benchmark {named(one.benchmark, one.benchmark_name)}"


def _show_test(session: Session, test: Tested | None) -> None:
    if test is None:
        return
    if test.result is not None:
        show_test(session.out, test.result)
    else:
        show_metrics(session.out, test.metrics)


def _document(done: Asked | Decided) -> dict[str, Any]:
    """For programs. The report itself is in the association, for those it is about."""
    test = done.test
    return {
        "association": done.association,
        "already": done.already,
        "report_id": test.report_id if test is not None else None,
        "metrics": test.metrics if test is not None else None,
    }
