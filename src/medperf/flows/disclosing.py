"""What becomes of the metrics of a run: submitted (released), withheld, retracted. Each is shown exactly as it goes, and only then sent.

A command that was killed is typed again: what was agreed to is sent again under its key and not asked for again, and what arrived is
found as it is.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from medperf.domain.digests import Digest
from medperf.domain.disclosure import Exit
from medperf.domain.errors import Conflict, Forbidden, InvalidInput
from medperf.domain.events import Note
from medperf.domain.executions import Attempt, AttemptState, Disclosure, ShownState, check_disclosure, checked_reason
from medperf.domain.permissions import Action, Standing, decide
from medperf.flows.choosing import Choice, Subject, chosen_runs, registered, subject, subjects_of
from medperf.flows.egress import KIND, send, settle
from medperf.flows.predictions import drop_predictions
from medperf.flows.results import result_of
from medperf.flows.site import Site

if TYPE_CHECKING:
    from medperf.wire.executions import ResultView
    from medperf.workspace.runs import LocalRun

Predictions = Literal["deleted", "kept", "none"]
_MAKES = {
    f"{KIND}{Exit.METRICS.value}": Disclosure.RELEASED,
    f"{KIND}{Exit.WITHHOLDING.value}": Disclosure.WITHHELD,
    f"{KIND}{Exit.RETRACTION.value}": Disclosure.RETRACTED,
}


@dataclass(frozen=True)
class Disclosed:
    """What was decided about the metrics of one attempt.

    Attributes:
        run: of this site; None: it ran elsewhere.
        result: what the server has now; None: it was withheld.
        already: it was so before.
        predictions: what became of the predictions of this run.
    """

    execution: int
    attempt: int
    model: int
    model_name: str
    disclosure: Disclosure
    run: LocalRun | None
    result: ResultView | None
    already: bool
    predictions: Predictions


# --------------------------------------------------------------------------------------------------------------- doing


def submit_results(site: Site, choice: Choice, *, yes: bool = False) -> list[Disclosed]:
    """Release metrics: what the evaluator measured, exactly as shown. What is released already is found, not sent again.

    Everything that can be refused is refused before anything is sent or asked.

    Args:
        yes: see `medperf.flows.egress.send`.

    Raises:
        InvalidInput: metrics that break the benchmark's contract.
        Conflict: nothing to release, withheld or retracted, another attempt of it is released.
        Forbidden: no right to release for the dataset's owner; nobody agreed.
        NotFound: no such run at this site.
    """
    _tidy(site)
    subjects = []
    for run in chosen_runs(site, choice, Disclosure.UNDER_REVIEW):
        _check_complete(run)
        _check_contract(site, run)
        subjects.append(registered(site, run))
    _check_right(site, subjects, Action.RESULT_RELEASE)
    fresh = [_check(one, Disclosure.RELEASED, reason=None) for one in subjects]
    _check_joined(site, [one for one, new in zip(subjects, fresh, strict=True) if new])
    done = []
    for one, new in zip(subjects, fresh, strict=True):
        try:
            result = _release(site, one, yes=yes, new=new)
        except Forbidden as refused:
            if refused.code != "not_agreed" or len(subjects) == 1:
                raise
            site.emit(Note(f"Not sent, and still under review: {one.about}."))  # the others are decisions of their own
            continue
        done.append(_disclosed(site, one, Disclosure.RELEASED, result, already=not new))
    return done


def withhold_results(site: Site, choice: Choice, *, reason: str | None = None) -> list[Disclosed]:
    """Keep metrics at the site, for good. A person is always asked.

    Raises:
        InvalidInput: ``bad_reason``.
        Conflict: nothing to withhold, or already released.
        Forbidden: no right to release for the dataset's owner; nobody agreed.
        NotFound: no such run or execution.
    """
    from medperf.wire.executions import WithholdingCreate

    reason = checked_reason(reason)
    _tidy(site)
    subjects = subjects_of(site, choice, Disclosure.UNDER_REVIEW)
    _check_right(site, subjects, Action.RESULT_WITHHOLD)
    fresh = [_check(one, Disclosure.WITHHELD, reason=reason) for one in subjects]
    done = []
    for one, new in zip(subjects, fresh, strict=True):
        keep = _keeper(site, one, Disclosure.WITHHELD)
        if new:
            body = WithholdingCreate.of(execution=one.execution.id, attempt=one.attempt, reason=reason)
            send(site, Exit.WITHHOLDING, body, site.api.executions.withhold, about=one.about, keep=keep)
        else:
            _already_so(site, Exit.WITHHOLDING, one, keep)
        done.append(_disclosed(site, one, Disclosure.WITHHELD, None, already=not new))
    return done


def retract_result(site: Site, choice: Choice, *, reason: str, result: int | None = None) -> Disclosed:
    """Say that released metrics count no more; they are shown no more. A person is always asked.

    Args:
        result: its id at the server, instead of ``choice``.

    Raises:
        InvalidInput: ``bad_reason``; more than one is chosen.
        Conflict: nothing is released.
        Forbidden: no right to release for the dataset's owner; nobody agreed.
        NotFound: no such result, run or execution.
    """
    from medperf.wire.executions import RetractionCreate

    checked = checked_reason(reason)
    assert checked is not None
    _tidy(site)
    if result is not None:
        view = site.api.results.get(result)
        subjects = [subject(site, site.api.executions.get(view.execution), view.attempt)]
    else:
        subjects = subjects_of(site, choice, Disclosure.RELEASED)
    if len(subjects) > 1:
        raise InvalidInput(
            "several_results",
            f"{len(subjects)} results are meant; each retraction is a decision of its own.",
            "Name one: medperf result retract -r EXECUTION, or its model with -m",
        )
    one = subjects[0]
    _check_right(site, subjects, Action.RESULT_RETRACT)
    keep = _keeper(site, one, Disclosure.RETRACTED)
    if _check(one, Disclosure.RETRACTED, reason=checked):
        body = RetractionCreate.of(execution=one.execution.id, attempt=one.attempt, reason=checked)
        sent = send(site, Exit.RETRACTION, body, site.api.executions.retract, about=one.about, keep=keep)
        return _disclosed(site, one, Disclosure.RETRACTED, sent.answer, already=False)
    _already_so(site, Exit.RETRACTION, one, keep)
    found = next(
        (
            view
            for view in site.api.results.list(
                benchmark=one.execution.benchmark, dataset=one.execution.dataset, model=one.execution.model
            )
            if (view.execution, view.attempt) == (one.execution.id, one.attempt)
        ),
        None,
    )
    return _disclosed(site, one, Disclosure.RETRACTED, found, already=True)


def _release(site: Site, one: Subject, *, yes: bool, new: bool) -> ResultView | None:
    from medperf.wire.executions import ReleaseCreate

    run, keep = one.run, _keeper(site, one, Disclosure.RELEASED)
    assert run is not None
    if not new and not _unanswered(site, Disclosure.RELEASED, one):
        keep(None)
        return result_of(site, run)
    body = ReleaseCreate.of(
        uuid=uuid.uuid5(uuid.UUID(run.uuid), "release"),  # the same each time, so that one body has one key
        execution=one.execution.id,
        attempt=one.attempt,
        metrics=dict(run.metrics or {}),
    )
    return send(site, Exit.METRICS, body, site.api.executions.release, about=one.about, yes=yes, keep=keep).answer


# ------------------------------------------------------------------------------------------------------------- refusing


def _check_complete(run: LocalRun) -> None:
    if run.metrics is None or not run.state.has_metrics:
        raise Conflict(
            "nothing_to_disclose",
            f"The run {run.uuid[:8]} of model {run.model} ({run.model_name}) is {run.state.value}: it has no metrics.",
            f"Run it to its end: medperf run -b {run.benchmark} -d {run.dataset_id} -m {run.model}",
        )


def _check_contract(site: Site, run: LocalRun) -> None:
    """The site's own check; the server makes it again."""
    from medperf.domain.metrics import check_metrics, contract_from_document

    document = site.api.benchmarks.get(run.benchmark).metrics_contract or {}
    if run.contract and Digest.of_document(document) != run.contract:
        raise Conflict(
            "other_contract",
            f"Nothing was sent: the metrics contract of benchmark {run.benchmark} is not the one that this run was registered with.",
            "Contracts are frozen, so this is not that server's benchmark any more. Tell the server's admin.",
        )
    try:
        check_metrics(contract_from_document(document), run.metrics)
    except InvalidInput as error:
        raise InvalidInput(
            error.code,
            f"Nothing was sent of model {run.model} ({run.model_name}). {error.what}",
            f"Withhold it (medperf result withhold -r {run.uuid[:8]}) and tell the benchmark's owner.",
        ) from error


def _check_right(site: Site, subjects: Sequence[Subject], action: Action) -> None:
    """Found before anybody is asked; the server decides again."""
    for dataset in {one.execution.dataset for one in subjects}:
        owner = site.api.datasets.get(dataset).owner
        if owner.kind != "organisation":
            continue
        organisation = site.api.organisations.get(owner.id)
        standing = Standing(rights=frozenset(organisation.rights), organisation=organisation.name)
        verdict = decide(action, standing)
        if not verdict.allowed:
            raise Forbidden(
                verdict.code, f"Nothing was sent. Dataset {dataset} is of {owner.name}. {verdict.reason}", verdict.fix
            )


def _check_joined(site: Site, subjects: Sequence[Subject]) -> None:
    """Metrics that the server would refuse must not reach it: dataset and model are still in the benchmark."""
    from medperf.domain.eligibility import release_refusals
    from medperf.flows.associations import find_pair

    for one in subjects:
        view = one.execution
        dataset = find_pair(site, view.benchmark, dataset=view.dataset)
        is_reference = site.api.benchmarks.get(view.benchmark).reference_model == view.model
        model = None if is_reference else find_pair(site, view.benchmark, model=view.model)
        refusals = release_refusals(
            dataset.status if dataset is not None else None,
            model.status if model is not None else None,
            is_reference=is_reference,
        )
        for refusal in refusals:
            raise Conflict(
                refusal.code,
                f"Nothing was sent of {one.about}. {refusal.what}",
                f"Keep its metrics at the site, for good (medperf result withhold -r {view.id}), or let it join again.",
            )


def _check(one: Subject, wanted: Disclosure, *, reason: str | None) -> bool:
    """Whether there is something to send; False: the server has it so already."""
    attempts = [
        Attempt(
            number=view.number,
            state=AttemptState.RUNNING if view.state is ShownState.LOST else AttemptState(view.state.value),
            heartbeat_at=view.heartbeat_at,
            failure=view.failure,
            disclosure=view.disclosure,
        )
        for view in one.execution.attempts or ()
    ]
    found = next((attempt for attempt in attempts if attempt.number == one.attempt), None)
    if found is None or (found.state.is_open and one.run is not None and one.run.state.has_metrics):
        view = one.execution
        raise Conflict(
            "not_reported",
            f"The server has not heard yet that attempt {one.attempt} of execution {view.id} ended.",
            f"Tell it; nothing runs twice: medperf run -b {view.benchmark} -d {view.dataset} -m {view.model}",
        )
    return check_disclosure(attempts, one.attempt, wanted, reason=reason)


# -------------------------------------------------------------------------------------------------------------- helpers


def _keeper(site: Site, one: Subject, disclosure: Disclosure) -> Callable[[object], None]:
    """Writes down at once what was decided."""

    def keep(_: object) -> None:
        if one.run is not None and one.run.disclosure is not disclosure:
            site.workspace.runs.change(one.run.uuid, disclosure=disclosure)

    return keep


def _already_so(site: Site, exit: Exit, one: Subject, keep: Callable[[object], None]) -> None:
    """An earlier try arrived, though nobody here heard so: that is written down, and nothing waits for an answer."""

    def became(body: Mapping[str, Any]) -> bool | None:
        return (body["execution"], body["attempt"]) == (one.execution.id, one.attempt) or None

    keep(None)
    settle(site, exit, became)


def _waiting(site: Site) -> Iterator[tuple[str, Disclosure, int, int]]:
    """What was agreed to and got no answer yet: its key, what it makes of the metrics, execution and attempt."""
    for entry in site.workspace.pending.ls(site.credential().instance_id):
        wanted = _MAKES.get(entry.kind)
        if wanted is not None:
            body = json.loads(entry.body)
            yield entry.key, wanted, body["execution"], body["attempt"]


def _unanswered(site: Site, wanted: Disclosure, one: Subject) -> bool:
    """Whether an earlier try of this was agreed to and got no answer."""
    return any(tuple(found) == (wanted, one.execution.id, one.attempt) for _, *found in _waiting(site))


def _tidy(site: Site) -> None:
    """End what a command did not that was killed after the answer: the outbox, and predictions that nobody needs."""
    for key, wanted, execution, attempt in list(_waiting(site)):
        run = site.workspace.runs.find(site.credential().instance_id, execution, attempt)
        if run is not None and run.disclosure is wanted:
            site.workspace.pending.forget(key)
    drop_predictions(site)


def _disclosed(
    site: Site, one: Subject, disclosure: Disclosure, result: ResultView | None, *, already: bool
) -> Disclosed:
    """With what the retention of predictions asks for, done."""
    had = _has_predictions(site, one.run)
    drop_predictions(site)
    run = site.workspace.runs.get(one.run.uuid) if one.run is not None else None
    return Disclosed(
        execution=one.execution.id,
        attempt=one.attempt,
        model=one.execution.model,
        model_name=one.execution.model_name,
        disclosure=disclosure,
        run=run,
        result=result,
        already=already,
        predictions="none" if not had else "kept" if _has_predictions(site, run) else "deleted",
    )


def _has_predictions(site: Site, run: LocalRun | None) -> bool:
    key = run.steps.get("infer") if run is not None else None
    return key is not None and site.workspace.steps.holds(Digest(key))
