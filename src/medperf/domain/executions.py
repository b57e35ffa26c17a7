"""Executions: one model on one dataset for one benchmark, its attempts, and what becomes of their metrics. Pure.

.. code-block:: text

    REGISTERED -> RUNNING -> COMPLETED | PARTIAL | FAILED(class) | INTERRUPTED | CANCELLED
    REGISTERED -> FAILED(a class that needs no container) | INTERRUPTED | CANCELLED
    COMPLETED | PARTIAL:  UNDER_REVIEW -> RELEASED | WITHHELD,  RELEASED -> RETRACTED(reason)

Attempts are numbered from 1 and never disappear; at most one is open, and at most one is RELEASED. LOST is not stored: it is what an open
attempt shows while its heartbeat has lapsed. Reports come from outboxes that repeat themselves, so whatever is already so is no error: the
checks answer False.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from medperf.domain import limits
from medperf.domain.errors import Conflict, InvalidInput
from medperf.domain.states import State


class AttemptState(StrEnum):
    """What is stored of an attempt."""

    REGISTERED = "REGISTERED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"
    CANCELLED = "CANCELLED"

    @property
    def is_open(self) -> bool:
        """Not ended."""
        return self in (AttemptState.REGISTERED, AttemptState.RUNNING)

    @property
    def has_metrics(self) -> bool:
        """Whether there is something to disclose."""
        return self in (AttemptState.COMPLETED, AttemptState.PARTIAL)


class ShownState(StrEnum):
    """What people see of an attempt: the stored state, or LOST."""

    REGISTERED = "REGISTERED"
    RUNNING = "RUNNING"
    LOST = "LOST"
    COMPLETED = "COMPLETED"
    PARTIAL = "PARTIAL"
    FAILED = "FAILED"
    INTERRUPTED = "INTERRUPTED"
    CANCELLED = "CANCELLED"


class FailureClass(StrEnum):
    """Why an attempt failed. All that the server and the benchmark's owner ever learn of it."""

    FETCH = "fetch"
    REFUSED = "refused"
    ENGINE = "engine"
    EXIT = "exit"
    SIGNAL = "signal"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    MISSING_OUTPUT = "missing_output"
    BAD_OUTPUT = "bad_output"
    BAD_METRICS = "bad_metrics"
    DATA_CHANGED = "data_changed"
    INTERNAL = "internal"


class Disclosure(StrEnum):
    """What became of the metrics of an attempt."""

    UNDER_REVIEW = "UNDER_REVIEW"
    RELEASED = "RELEASED"
    WITHHELD = "WITHHELD"
    RETRACTED = "RETRACTED"


class ResultsVisibility(StrEnum):
    """Who else sees a benchmark's results, besides the owners of the data, of the benchmark and, for its own, of the model."""

    OWNERS = "owners"
    PARTICIPANTS = "participants"
    ACCOUNTS = "accounts"

    def admits(self, *, participates: bool) -> bool:
        """Whether any other account sees them. ``participates``: it belongs to the owner of an asset that is approved in the benchmark."""
        return self is ResultsVisibility.ACCOUNTS or (self is ResultsVisibility.PARTICIPANTS and participates)


#: What can go wrong before any container was started.
BEFORE_RUNNING = frozenset(
    {
        FailureClass.FETCH,
        FailureClass.REFUSED,
        FailureClass.ENGINE,
        FailureClass.DATA_CHANGED,
        FailureClass.INTERNAL,
    }
)
LOST_AFTER = timedelta(seconds=limits.LOST_AFTER_SECONDS)

_A = AttemptState
_NEXT: dict[AttemptState, frozenset[AttemptState]] = {
    _A.REGISTERED: frozenset({_A.RUNNING, _A.FAILED, _A.INTERRUPTED, _A.CANCELLED}),
    _A.RUNNING: frozenset({_A.COMPLETED, _A.PARTIAL, _A.FAILED, _A.INTERRUPTED, _A.CANCELLED}),
}
_DISCLOSURES: dict[Disclosure, frozenset[Disclosure]] = {
    Disclosure.UNDER_REVIEW: frozenset({Disclosure.RELEASED, Disclosure.WITHHELD}),
    Disclosure.RELEASED: frozenset({Disclosure.RETRACTED}),
}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt, as the rules need it.

    Args:
        number: 1 for the first of its execution.
        heartbeat_at: when the site was last heard of; the registration counts. By the server's clock, with a time zone.
        failure: with FAILED, and only then.
        disclosure: with COMPLETED or PARTIAL, and only then.

    Raises:
        ValueError: a combination that cannot be.
    """

    number: int
    state: AttemptState
    heartbeat_at: datetime
    failure: FailureClass | None = None
    disclosure: Disclosure | None = None

    def __post_init__(self) -> None:
        if (self.failure is not None) != (self.state is AttemptState.FAILED):
            raise ValueError(f"{self.state} with the failure {self.failure}")
        if (self.disclosure is not None) != self.state.has_metrics:
            raise ValueError(f"{self.state} with the disclosure {self.disclosure}")

    def shown(self, now: datetime) -> ShownState:
        """See `shown_state`."""
        return shown_state(self.state, self.heartbeat_at, now)


def shown_state(state: AttemptState, heartbeat_at: datetime, now: datetime) -> ShownState:
    """The state, or LOST for an open attempt that was not heard of for `limits.LOST_AFTER_SECONDS`. A heartbeat brings it back."""
    if state.is_open and now - heartbeat_at > LOST_AFTER:
        return ShownState.LOST
    return ShownState(state.value)


def check_new_attempt(attempts: Sequence[Attempt], *, reason: str | None, now: datetime) -> tuple[int, ...]:
    """May a further attempt be registered for this execution?

    Args:
        attempts: all of them so far.
        reason: why it is run again; see `reason_needed`. Give it through `checked_reason` first.

    Returns:
        The numbers of LOST attempts which the new one replaces: whoever registers it stores them as INTERRUPTED at once, so that two
        never run side by side. To resume a lost attempt no new one is registered.

    Raises:
        Conflict: one is registered or running, the reason is missing, or there are too many.
    """
    lively = [one.number for one in attempts if one.state.is_open and one.shown(now) is not ShownState.LOST]
    if lively:
        raise Conflict(
            "attempt_running",
            f"Attempt {lively[0]} of this execution is registered or running.",
            f"Wait for it or stop it. If its machine is gone, it counts as lost {limits.LOST_AFTER_SECONDS} seconds after its last sign.",
        )
    if reason is None and reason_needed(attempts):
        raise Conflict(
            "reason_needed",
            "This execution was already completed or released; a new attempt needs a reason. All attempts stay visible.",
            "Give it with --reason.",
        )
    if len(attempts) >= limits.ATTEMPTS_PER_EXECUTION:
        raise Conflict(
            "too_many_attempts",
            f"This execution has {len(attempts)} attempts, which is the most.",
            "Register a new version of the model or dataset.",
        )
    return tuple(one.number for one in attempts if one.state.is_open)


def reason_needed(attempts: Sequence[Attempt]) -> bool:
    """Whether a new attempt takes a reason: one was COMPLETED, whatever came after, or its metrics were RELEASED once."""
    return any(
        one.state is AttemptState.COMPLETED or one.disclosure in (Disclosure.RELEASED, Disclosure.RETRACTED)
        for one in attempts
    )


def check_transition(attempt: Attempt, wanted: AttemptState, failure: FailureClass | None) -> bool:
    """May this attempt become that? What ended stays as it ended.

    Returns:
        False if it is already so: a report that arrived twice.

    Raises:
        InvalidInput: a failure without FAILED, FAILED without a failure, or one that needs a container that never ran.
        Conflict: the state allows it not.
    """
    if (failure is not None) != (wanted is AttemptState.FAILED):
        raise InvalidInput(
            "bad_failure",
            f"{wanted.value} {'needs' if failure is None else 'takes no'} failure class.",
            "Give one with FAILED, and only then.",
        )
    if attempt.state is wanted and attempt.failure is failure:
        return False
    if wanted not in _NEXT.get(attempt.state, frozenset()):
        raise Conflict(
            "wrong_attempt_state" if attempt.state.is_open else "attempt_ended",
            f"Attempt {attempt.number} is {attempt.state.value}: it cannot become {wanted.value}.",
            "Start it first." if attempt.state.is_open else "Run it again: finished steps are reused.",
        )
    if attempt.state is AttemptState.REGISTERED and failure is not None and failure not in BEFORE_RUNNING:
        raise InvalidInput(
            "bad_failure",
            f"The failure class {failure.value} is of a container, but attempt {attempt.number} never ran one.",
            "Report RUNNING first.",
        )
    return True


def first_disclosure(state: AttemptState) -> Disclosure | None:
    """What an attempt that ends so begins its disclosure with."""
    return Disclosure.UNDER_REVIEW if state.has_metrics else None


def check_disclosure(attempts: Sequence[Attempt], number: int, wanted: Disclosure, *, reason: str | None) -> bool:
    """May the metrics of attempt ``number`` be released, withheld or retracted? Whether the actor may is for
    `medperf.domain.permissions`, whether the metrics are in order for their contract, whether the association still stands for
    `medperf.domain.eligibility.release_refusals`.

    Args:
        attempts: all of the execution.
        reason: RETRACTED needs one, WITHHELD may have one. Give it through `checked_reason` first.

    Returns:
        False if it is already so: a report that arrived twice.

    Raises:
        InvalidInput: UNDER_REVIEW is no decision; a reason is missing or too many.
        Conflict: nothing to disclose, already decided, or another attempt's release is live.
    """
    attempt = next(one for one in attempts if one.number == number)
    if wanted is Disclosure.UNDER_REVIEW:
        raise InvalidInput("bad_decision", "UNDER_REVIEW is not a decision.", "Release, withhold or retract.")
    if attempt.disclosure is None:
        raise Conflict(
            "nothing_to_disclose",
            f"Attempt {number} is {attempt.state.value}; only COMPLETED and PARTIAL ones have metrics.",
            "Run it to its end first.",
        )
    if attempt.disclosure is wanted:
        return False
    if wanted not in _DISCLOSURES.get(attempt.disclosure, frozenset()):
        raise Conflict(
            "wrong_disclosure",
            f"The metrics of attempt {number} are {attempt.disclosure.value}: they cannot become {wanted.value}.",
            _after_disclosure(attempt.disclosure),
        )
    if wanted is Disclosure.RETRACTED and reason is None:
        raise InvalidInput("reason_needed", "A retraction needs a reason.", "Give it with --reason.")
    if wanted is Disclosure.RELEASED:
        if reason is not None:
            raise InvalidInput("reason_not_needed", "A release takes no reason.", "Leave it out.")
        _check_one_release(attempts)
    return True


def check_visibility_change(current: ResultsVisibility, wanted: ResultsVisibility, *, state: State) -> None:
    """In OPERATION results are shown to fewer, never to more: sites released them to those who saw them then.

    Raises:
        Conflict: ``visibility_only_narrows``.
    """
    widths = list(ResultsVisibility)
    if state is State.OPERATION and widths.index(wanted) > widths.index(current):
        raise Conflict(
            "visibility_only_narrows",
            f"Results are shown to {current.value}: a benchmark in OPERATION cannot show them to {wanted.value}.",
            "Register a new version of the benchmark; sites then release to whom it says.",
        )


def checked_reason(text: str | None) -> str | None:
    """A reason as it is stored and shown: one line, no more than needed. None stays None.

    Raises:
        InvalidInput: ``bad_reason``: empty, too long, or with characters that cannot be seen.
    """
    if text is None:
        return None
    found = " ".join(unicodedata.normalize("NFC", text).split())
    if any(unicodedata.category(letter).startswith("C") for letter in found):
        raise _bad_reason("has characters that cannot be seen")
    if not any(letter.isalpha() for letter in found):
        raise _bad_reason("says nothing")
    if len(found) > limits.REASON_LENGTH:
        raise _bad_reason(f"has {len(found)} characters; {limits.REASON_LENGTH} is the most")
    return found


def _check_one_release(attempts: Sequence[Attempt]) -> None:
    live = [one.number for one in attempts if one.disclosure is Disclosure.RELEASED]
    if live:
        raise Conflict(
            "release_live",
            f"The metrics of attempt {live[0]} of this execution are released; one release is live at a time.",
            "Retract that one first, with a reason: medperf result retract",
        )


def _after_disclosure(now: Disclosure) -> str:
    match now:
        case Disclosure.UNDER_REVIEW:
            return "Only what was released can be retracted. Keep it here with: medperf result withhold"
        case Disclosure.RELEASED:
            return "What was released can be retracted, with a reason: medperf result retract"
        case Disclosure.WITHHELD | Disclosure.RETRACTED:
            return "That is final. Run it again, with a reason, to have metrics to release."


def _bad_reason(why: str) -> InvalidInput:
    return InvalidInput(
        "bad_reason", f"The reason {why}.", "Give a plain sentence, without names of patients or files."
    )
