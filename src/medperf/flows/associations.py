"""Associations: who is in a benchmark, who asks to be, and the decisions about them.

What is said about a dataset of this site (yes to an invitation, and every end) goes through `medperf.flows.egress.send`; what a benchmark's
owner and a model's owner decide is no site data. A command that is given again changes nothing, and says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from medperf.domain.associations import Asset, Current, Side, Status, check_priority, decide
from medperf.domain.disclosure import Exit
from medperf.domain.errors import Conflict, Forbidden, NotFound, UsageError
from medperf.domain.executions import checked_reason
from medperf.domain.permissions import EVERY_RIGHT, Action, Right, Standing
from medperf.domain.permissions import decide as permitted
from medperf.flows.checking import verified_dataset
from medperf.flows.egress import send, settle, shown, tell
from medperf.flows.site import Site

if TYPE_CHECKING:
    from medperf.flows.joining import Tested
    from medperf.wire.associations import AssociationDecision, AssociationView
    from medperf.wire.models import PartyRef
    from medperf.workspace.datasets import LocalDataset

#: What the outbox calls decisions that are no site data; the association's id follows.
_KIND = "association:"


@dataclass(frozen=True)
class Which:
    """An association as somebody names it: by its id, or by its benchmark and its dataset or model.

    Raises:
        UsageError: it is named by halves, or twice.
    """

    id: int | None = None
    benchmark: int | None = None
    dataset: int | None = None
    model: int | None = None

    def __post_init__(self) -> None:
        assets = [self.dataset, self.model]
        pair = self.benchmark is not None and assets.count(None) == 1
        if (self.id is None) is not pair or (self.id is not None and [self.benchmark, *assets] != [None] * 3):
            raise UsageError(
                "usage",
                "An association is named by its id, or by its benchmark and either its dataset or its model.",
                "Give ID, or -b with -d or -m; see them with: medperf association ls",
            )


@dataclass(frozen=True)
class Decided:
    """An association as it is now.

    Attributes:
        already: it was so before, and nothing was changed.
        test: what was tested for a yes to an invitation of a model; None: nothing had to be.
    """

    association: AssociationView
    already: bool
    test: Tested | None = None


def list_associations(
    site: Site,
    *,
    benchmark: int | None = None,
    dataset: int | None = None,
    model: int | None = None,
    kind: Asset | None = None,
    status: Status | None = None,
    mine: bool = False,
    waiting: bool = False,
    newest_first: bool = False,
    limit: int | None = None,
) -> list[AssociationView]:
    """What the account may see, oldest first unless said otherwise.

    Args:
        mine: only of benchmarks, datasets and models of one's own, or of one's organisations.
        waiting: only those that the account may approve or reject.

    Raises:
        UsageError: ``waiting`` with a status: what waits is PENDING.
    """
    if waiting and status is not None:
        raise UsageError("usage", "What waits for you is PENDING.", "Leave --status out.")
    # The server looks for one of these three; the others are sorted out here.
    by = {"dataset": dataset, "model": model, "benchmark": benchmark}
    asked = next(({name: value} for name, value in by.items() if value is not None), {})
    wanted = {name: value for name, value in by.items() if value is not None and name not in asked}
    parties = rights_of(site) if mine else {}
    found = site.api.associations.list(
        **asked,
        kind=kind,
        status=status,
        waiting_for_me=True if waiting else None,
        sort="-id" if newest_first else None,
        limit=None if wanted or mine else limit,
    )
    fitting = (
        one
        for one in found
        if all(getattr(one, name) == value for name, value in wanted.items()) and (not mine or _sides(one, parties))
    )
    return list(itertools.islice(fitting, limit))


def find_association(site: Site, which: Which) -> AssociationView:
    """One association; with its report and history for those it is about.

    Raises:
        NotFound: there is none that the account may see.
    """
    if which.id is not None:
        return site.api.associations.get(which.id)
    assert which.benchmark is not None
    found = find_pair(site, which.benchmark, dataset=which.dataset, model=which.model)
    if found is None:
        noun, number = ("dataset", which.dataset) if which.dataset is not None else ("mlcube", which.model)
        what = f"Dataset {number}" if which.dataset is not None else f"MLCube {number}"
        raise NotFound(
            "no_such_association",
            f"{what} and benchmark {which.benchmark} have no association that you may see.",
            f"Its owner asks with: medperf {noun} associate; a benchmark's owner with: medperf association invite",
        )
    return site.api.associations.get(found.id)


def find_pair(
    site: Site, benchmark: int, *, dataset: int | None = None, model: int | None = None
) -> AssociationView | None:
    """The one of a benchmark and a dataset or model, without its history; None: they were never joined, or it is hidden."""
    return next(iter(list_associations(site, benchmark=benchmark, dataset=dataset, model=model)), None)


def rights_of(site: Site) -> dict[int, frozenset[Right]]:
    """What the account may do, by the party that it does it for: its own, and its organisations."""
    organisations = {one.id: frozenset(one.rights) for one in site.api.organisations.list() if one.rights}
    return {site.api.me.get().party_id: EVERY_RIGHT, **organisations}


def decide_association(
    site: Site,
    which: Which,
    wanted: Status,
    *,
    reason: str | None = None,
    report: str | None = None,
    no_cache: bool = False,
    yes: bool = False,
) -> Decided:
    """Approve, reject, cancel or revoke.

    The yes to an invitation of a model that came without a report runs the compatibility test first, and sends what it found.

    Args:
        report: id of the test to send instead of running it, or its beginning.
        no_cache: run every step of that test again.
        yes: do not ask before a report is sent; for a dataset see `medperf.flows.egress.send`.

    Raises:
        Conflict: the state allows it not, or it is the other side's decision: nobody approves what they asked for.
        Forbidden: without the right to decide, or nobody agreed.
        InvalidInput: the report speaks of something else; the dataset changed.
    """
    from medperf.wire.associations import AssociationDecision

    reason = checked_reason(reason)
    view = find_association(site, which)
    if view.status is wanted:
        _settle(site, view)
        return Decided(view, already=True)
    parties = rights_of(site)
    sides = _sides(view, parties)
    _check_may(view, wanted, sides)
    given: dict[str, Any] = {"status": wanted} | ({} if reason is None else {"reason": reason})
    test: Tested | None = None
    invited = wanted is Status.APPROVED and view.kind is Asset.MODEL and view.asked_by is Side.BENCHMARK
    if invited and view.report is None and Side.ASSET in sides:
        test = _tested(site, view, parties, report=report, no_cache=no_cache, yes=yes)
        given["report"] = test.report
    elif report is not None:
        raise UsageError("usage", "This decision takes no report.", "Leave --report out.")
    body = AssociationDecision.of(**given)
    found, already = _sent(site, view, body, ours=_is_site_data(view, wanted, sides), yes=yes)
    return Decided(found, already, test)


def end_association(site: Site, view: AssociationView) -> AssociationView:
    """End what is pending or approved of a dataset of this site; what has ended stays as it is.

    Raises:
        Conflict: the other side was quicker.
    """
    from medperf.wire.associations import AssociationDecision

    if view.status.has_ended:
        _settle(site, view)
        return view
    status = Status.REVOKED
    if view.status is Status.PENDING:
        status = Status.CANCELLED if view.asked_by is Side.ASSET else Status.REJECTED
    return _sent(site, view, AssociationDecision.of(status=status), ours=True, yes=False)[0]


def set_priority(site: Site, which: Which, priority: int) -> Decided:
    """Say when a model runs, as the benchmark's owner. Higher runs first.

    Raises:
        InvalidInput: a dataset, or a number out of range.
        Conflict: the association has ended, or somebody changed it meanwhile.
        Forbidden: of somebody else's benchmark.
    """
    from medperf.wire.associations import AssociationUpdate

    view = find_association(site, which)
    check_priority(view.kind, view.status, priority)
    if view.priority == priority:
        return Decided(view, already=True)
    changed = site.api.associations.update(view.id, AssociationUpdate.of(priority=priority), version=view.version)
    return Decided(changed, already=False)


def consented(site: Site, question: str, *, yes: bool) -> None:
    """Ask before something that is no site data is sent.

    Raises:
        Forbidden: ``not_agreed``.
    """
    if not yes and not site.ask.confirm(question):
        raise Forbidden(
            "not_agreed", "Nothing was sent: you did not agree.", "Run the same command again to be asked again."
        )


# ------------------------------------------------------------------------------------------------------------- deciding


def _sides(view: AssociationView, parties: Mapping[int, Any]) -> frozenset[Side]:
    """The sides that the account belongs to. The owner of an asset that is not shown is somebody else."""

    def mine(owner: PartyRef | None) -> bool:
        return owner is not None and owner.id in parties

    owners = {Side.BENCHMARK: view.benchmark_owner, Side.ASSET: view.owner}
    return frozenset(side for side, owner in owners.items() if mine(owner))


def _check_may(view: AssociationView, wanted: Status, sides: frozenset[Side]) -> None:
    """What the server would refuse, before anybody is asked or anything runs. A stranger's no is the server's.

    Raises:
        Conflict: see `medperf.domain.associations.decide`.
    """
    if not sides:
        return
    try:
        decide(Current(view.status, view.asked_by), wanted, by=sides)
    except Conflict as error:
        named = error.fix.endswith(("approve", "reject", "cancel", "revoke"))
        fix = f"{error.fix} {view.id}" if named else error.fix
        raise Conflict(error.code, error.what, fix, details=error.details) from None


def _is_site_data(view: AssociationView, wanted: Status, sides: frozenset[Side]) -> bool:
    """Whether it is a dataset's owner who decides. Who has both sides speaks for the dataset wherever that side may."""
    if view.kind is not Asset.DATASET or Side.ASSET not in sides:
        return False
    match wanted:
        case Status.APPROVED | Status.REJECTED:
            return view.asked_by is Side.BENCHMARK
        case Status.CANCELLED:
            return view.asked_by is Side.ASSET
    return True


def _tested(
    site: Site,
    view: AssociationView,
    parties: Mapping[int, frozenset[Right]],
    *,
    report: str | None,
    no_cache: bool,
    yes: bool,
) -> Tested:
    """The report that a yes to an invitation needs, agreed to."""
    from medperf.flows.joining import metrics_question, report_on_model

    assert view.model is not None
    assert view.owner is not None
    standing = Standing(asked=parties[view.owner.id], organisation=view.owner.name)
    verdict = permitted(Action.ASSOCIATION_DECIDE, standing)
    if not verdict.allowed:
        raise Forbidden(verdict.code, verdict.reason, verdict.fix)
    test = report_on_model(site, view.benchmark, view.model, report=report, no_cache=no_cache)
    consented(site, metrics_question(test, sent="with your yes to the invitation"), yes=yes)
    return test


def _sent(
    site: Site, view: AssociationView, body: AssociationDecision, *, ours: bool, yes: bool
) -> tuple[AssociationView, bool]:
    """Send a decision; and whether it was so already, by another process or an earlier try of this one."""
    for _ in range(2):
        try:
            answer = _through_egress(site, view, body, yes=yes) if ours else _plainly(site, view, body)
        except Conflict:
            now = site.api.associations.get(view.id)
            if now.status is not body.status:
                raise
            return now, True
        # An earlier try's answer, of before what is known now, is no answer to this one.
        if answer.version > view.version:
            break
    _settle(site, answer)
    return answer, False


def _through_egress(site: Site, view: AssociationView, body: AssociationDecision, *, yes: bool) -> AssociationView:
    dataset = _local(site, view)
    about = f"dataset {view.dataset}" if dataset is None else f"dataset {dataset.name!r} ({dataset.uuid[:8]})"
    about = f"{about} in benchmark {view.benchmark} ({view.benchmark_name})"
    address = {"association": view.id}
    way = Exit.ASSOCIATION_END
    if body.status is Status.APPROVED:
        way = Exit.ASSOCIATION_APPROVAL
        if dataset is not None:
            verified_dataset(site, dataset.uuid)
    else:  # nobody is asked, so it is shown here
        document = {**address, **body.model_dump(mode="json", exclude_unset=True)}
        tell(site, shown(way, document, server=site.profile.server, about=about))
    return send(site, way, body, _deliver(site, view), about=about, address=address, changed_only=True, yes=yes).answer


def _plainly(site: Site, view: AssociationView, body: AssociationDecision) -> AssociationView:
    from medperf.flows.uploads import create_once

    return create_once(site, f"{_KIND}{view.id}", body, _deliver(site, view))


def _deliver(site: Site, view: AssociationView) -> Callable[..., AssociationView]:
    def deliver(body: AssociationDecision, *, idempotency_key: str) -> AssociationView:
        return site.api.associations.decide(view.id, body, idempotency_key=idempotency_key)

    return deliver


def _local(site: Site, view: AssociationView) -> LocalDataset | None:
    """The dataset, if it is one of this site; its manager may sit elsewhere."""
    instance = site.credential().instance_id
    return next((one for one in site.workspace.datasets.ls() if one.registered.get(instance) == view.dataset), None)


def _settle(site: Site, view: AssociationView) -> None:
    """Nothing about an association that is known by now waits for an answer any more."""

    def became(body: Mapping[str, Any]) -> bool | None:
        return body.get("status") == view.status if body.get("association") == view.id else None

    for way in (Exit.ASSOCIATION_APPROVAL, Exit.ASSOCIATION_END):
        settle(site, way, became)
    for entry in site.workspace.pending.ls(site.credential().instance_id):
        if entry.kind == f"{_KIND}{view.id}":
            site.workspace.pending.forget(entry.key)
