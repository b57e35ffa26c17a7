"""Executions, attempts and their disclosure: the rules as tables, and two machines that try everything."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from medperf.domain import limits
from medperf.domain.errors import Conflict, InvalidInput, MedPerfError
from medperf.domain.executions import (
    Attempt,
    AttemptState,
    Disclosure,
    FailureClass,
    ResultsVisibility,
    ShownState,
    check_disclosure,
    check_new_attempt,
    check_transition,
    check_visibility_change,
    checked_reason,
    first_disclosure,
    reason_needed,
    shown_state,
)
from medperf.domain.states import State

S, D, F = AttemptState, Disclosure, FailureClass
NOW = datetime(2030, 1, 1, tzinfo=UTC)
LOST = timedelta(seconds=limits.LOST_AFTER_SECONDS + 1)
OPEN = {S.REGISTERED, S.RUNNING}
WITH_METRICS = {S.COMPLETED, S.PARTIAL}
BEFORE_RUNNING = {F.FETCH, F.REFUSED, F.ENGINE, F.DATA_CHANGED, F.INTERNAL}


def attempt(state: AttemptState, number: int = 1, disclosure: Disclosure | None = None, **more: object) -> Attempt:
    failure = more.pop("failure", F.EXIT if state is S.FAILED else None)
    disclosure = disclosure or (D.UNDER_REVIEW if state in WITH_METRICS else None)
    heartbeat = more.pop("heartbeat_at", NOW)
    return Attempt(number, state, heartbeat, failure, disclosure)  # type: ignore[arg-type]


def code_of(call: Callable[[], object]) -> str:
    """The code of the refusal, or ''."""
    try:
        call()
    except MedPerfError as error:
        refusal = error
    else:
        return ""
    assert refusal.what.endswith(".")
    assert refusal.fix
    return refusal.code


# ------------------------------------------------------------------------------------------------------------ states

NEXT = {
    S.REGISTERED: {S.RUNNING, S.FAILED, S.INTERRUPTED, S.CANCELLED},
    S.RUNNING: {S.COMPLETED, S.PARTIAL, S.FAILED, S.INTERRUPTED, S.CANCELLED},
}


@pytest.mark.parametrize("current", AttemptState)
@pytest.mark.parametrize("failure", [None, *FailureClass])
def test_every_transition(current: AttemptState, failure: FailureClass | None) -> None:
    now = attempt(current)
    for wanted in AttemptState:
        code = code_of(lambda wanted=wanted: check_transition(now, wanted, failure))
        if (wanted is S.FAILED) != (failure is not None):
            assert code == "bad_failure"
        elif current is wanted and failure is now.failure:
            assert check_transition(now, wanted, failure) is False
        elif wanted not in NEXT.get(current, set()):
            assert code == ("wrong_attempt_state" if current in OPEN else "attempt_ended")
        elif current is S.REGISTERED and failure is not None and failure not in BEFORE_RUNNING:
            assert code == "bad_failure"
        else:
            assert check_transition(now, wanted, failure) is True


@pytest.mark.parametrize("state", AttemptState)
def test_what_shows_as_lost(state: AttemptState) -> None:
    edge = timedelta(seconds=limits.LOST_AFTER_SECONDS)
    for age in (timedelta(0), edge, -timedelta(days=1)):  # a clock that was set back loses nobody
        assert shown_state(state, NOW - age, NOW) == state.value
    late = shown_state(state, NOW - edge - timedelta(microseconds=1), NOW)
    assert late == (ShownState.LOST if state in OPEN else state.value)
    assert {one.value for one in ShownState} == {one.value for one in AttemptState} | {"LOST"}


def test_impossible_attempts() -> None:
    for state, failure, disclosure in itertools.product(AttemptState, [None, F.EXIT], [None, *Disclosure]):
        fine = (failure is not None) == (state is S.FAILED) and (disclosure is not None) == (state in WITH_METRICS)
        if fine:
            Attempt(1, state, NOW, failure, disclosure)
        else:
            with pytest.raises(ValueError):
                Attempt(1, state, NOW, failure, disclosure)


# ------------------------------------------------------------------------------------------------------ new attempts


@pytest.mark.parametrize(
    ("attempts", "reason", "expected"),
    [
        ([], None, ()),
        ([], "to be sure", ()),
        ([attempt(S.FAILED)], None, ()),
        ([attempt(S.INTERRUPTED)], None, ()),
        ([attempt(S.CANCELLED)], None, ()),
        ([attempt(S.PARTIAL)], None, ()),
        ([attempt(S.PARTIAL, 1, D.WITHHELD)], None, ()),
        ([attempt(S.PARTIAL, 1, D.RELEASED)], None, "reason_needed"),
        ([attempt(S.PARTIAL, 1, D.RETRACTED)], None, "reason_needed"),
        ([attempt(S.COMPLETED)], None, "reason_needed"),
        ([attempt(S.COMPLETED, 1, D.WITHHELD)], None, "reason_needed"),
        ([attempt(S.COMPLETED), attempt(S.FAILED, 2)], None, "reason_needed"),
        ([attempt(S.COMPLETED), attempt(S.FAILED, 2)], "a new driver", ()),
        ([attempt(S.REGISTERED)], None, "attempt_running"),
        ([attempt(S.RUNNING)], "to be sure", "attempt_running"),
        ([attempt(S.RUNNING, heartbeat_at=NOW - LOST)], None, (1,)),
        ([attempt(S.REGISTERED, heartbeat_at=NOW - LOST)], None, (1,)),
        ([attempt(S.COMPLETED), attempt(S.RUNNING, 2, heartbeat_at=NOW - LOST)], None, "reason_needed"),
        ([attempt(S.COMPLETED), attempt(S.RUNNING, 2, heartbeat_at=NOW - LOST)], "power cut", (2,)),
    ],
)
def test_when_a_new_attempt_is_taken(
    attempts: list[Attempt], reason: str | None, expected: str | tuple[int, ...]
) -> None:
    if isinstance(expected, str):
        assert code_of(lambda: check_new_attempt(attempts, reason=reason, now=NOW)) == expected
    else:
        assert check_new_attempt(attempts, reason=reason, now=NOW) == expected


def test_attempts_have_an_end() -> None:
    many = [attempt(S.FAILED, number) for number in range(1, limits.ATTEMPTS_PER_EXECUTION + 1)]
    assert code_of(lambda: check_new_attempt(many, reason="again", now=NOW)) == "too_many_attempts"
    assert check_new_attempt(many[:-1], reason=None, now=NOW) == ()


# -------------------------------------------------------------------------------------------------------- disclosure

DISCLOSURES = {
    (D.UNDER_REVIEW, D.RELEASED),
    (D.UNDER_REVIEW, D.WITHHELD),
    (D.RELEASED, D.RETRACTED),
}


@pytest.mark.parametrize("state", AttemptState)
@pytest.mark.parametrize(("current", "wanted"), list(itertools.product(Disclosure, Disclosure)))
@pytest.mark.parametrize("reason", [None, "mixed up sites"])
def test_every_disclosure(state: AttemptState, current: Disclosure, wanted: Disclosure, reason: str | None) -> None:
    one = attempt(state, 4, current if state in WITH_METRICS else None)

    def check() -> bool:
        return check_disclosure([one], 4, wanted, reason=reason)

    if wanted is D.UNDER_REVIEW:
        assert code_of(check) == "bad_decision"
    elif state not in WITH_METRICS:
        assert code_of(check) == "nothing_to_disclose"
    elif current is wanted:
        assert check() is False
    elif (current, wanted) not in DISCLOSURES:
        assert code_of(check) == "wrong_disclosure"
    elif wanted is D.RETRACTED and reason is None:
        assert code_of(check) == "reason_needed"
    elif wanted is D.RELEASED and reason is not None:
        assert code_of(check) == "reason_not_needed"
    else:
        assert check() is True


@pytest.mark.parametrize("other", Disclosure)
def test_one_live_release(other: Disclosure) -> None:
    attempts = [attempt(S.COMPLETED, 1, other), attempt(S.PARTIAL, 2)]
    code = code_of(lambda: check_disclosure(attempts, 2, D.RELEASED, reason=None))
    assert code == ("release_live" if other is D.RELEASED else "")
    assert check_disclosure(attempts, 2, D.WITHHELD, reason=None) is True


@pytest.mark.parametrize("state", AttemptState)
def test_what_ends_with_metrics_is_under_review(state: AttemptState) -> None:
    assert first_disclosure(state) is (D.UNDER_REVIEW if state in WITH_METRICS else None)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (None, None),
        ("a  new\ndriver", "a new driver"),
        (" Gerät defekt ", "Gerät defekt"),
        ("", "bad"),
        ("  ", "bad"),
        ("...", "bad"),
        ("a\0b", "bad"),
        ("a\u202eb", "bad"),
        ("x" * limits.REASON_LENGTH, "x" * limits.REASON_LENGTH),
        ("x" * (limits.REASON_LENGTH + 1), "bad"),
    ],
)
def test_reasons(text: str | None, kept: str | None) -> None:
    if kept == "bad":
        with pytest.raises(InvalidInput) as caught:
            checked_reason(text)
        assert caught.value.code == "bad_reason"
    else:
        assert checked_reason(text) == kept


@given(st.text(max_size=600))
def test_a_reason_that_is_taken_is_settled(text: str) -> None:
    try:
        kept = checked_reason(text)
    except InvalidInput:
        return
    assert kept is not None
    assert checked_reason(kept) == kept
    assert kept.isprintable()
    assert 1 <= len(kept) <= limits.REASON_LENGTH


@pytest.mark.parametrize(("current", "wanted"), list(itertools.product(ResultsVisibility, ResultsVisibility)))
def test_results_are_never_shown_to_more_than_when_they_were_released(
    current: ResultsVisibility, wanted: ResultsVisibility
) -> None:
    def seen_by(policy: ResultsVisibility) -> set[bool]:
        return {participates for participates in (False, True) if policy.admits(participates=participates)}

    check_visibility_change(current, wanted, state=State.DEVELOPMENT)
    if seen_by(wanted) <= seen_by(current):
        check_visibility_change(current, wanted, state=State.OPERATION)
    else:
        with pytest.raises(Conflict) as caught:
            check_visibility_change(current, wanted, state=State.OPERATION)
        assert caught.value.code == "visibility_only_narrows"
    assert [len(seen_by(policy)) for policy in ResultsVisibility] == [0, 1, 2]


# ------------------------------------------------------------------------------------------------------ the machines

REASONS = st.sampled_from([None, "a new driver"])
NUMBERS = st.integers(0, 12)


class ExecutionMachine(RuleBasedStateMachine):
    """A site, its outbox that repeats itself and a clock. The store does what the checks allow, as a server would."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.attempts: list[Attempt] = []
        self.reasons: list[str | None] = []
        self.trail: list[list[AttemptState]] = []
        self.failures: dict[int, set[FailureClass | None]] = {}
        self.before: list[list[AttemptState]] = []

    @rule(reason=REASONS)
    def register(self, reason: str | None) -> None:
        self.lively = [one.number for one in self.attempts if one.state in OPEN and self.now - one.heartbeat_at < LOST]
        self.completed = any(one.state is S.COMPLETED for one in self.attempts)
        try:
            replaced = check_new_attempt(self.attempts, reason=reason, now=self.now)
        except Conflict:
            return
        assert not self.lively, "two at once"
        assert reason is not None or not self.completed
        for number in replaced:
            self._store(number, S.INTERRUPTED, None)
        self.attempts.append(attempt(S.REGISTERED, len(self.attempts) + 1, heartbeat_at=self.now))
        self.trail.append([S.REGISTERED])
        self.reasons.append(reason)

    @precondition(lambda self: self.attempts)
    @rule(pick=NUMBERS, wanted=st.sampled_from(AttemptState), failure=st.sampled_from([None, None, *FailureClass]))
    def report(self, pick: int, wanted: AttemptState, failure: FailureClass | None) -> None:
        self._report(self.attempts[pick % len(self.attempts)], wanted, failure)

    @precondition(lambda self: self.attempts)
    @rule(wanted=st.sampled_from([S.RUNNING, S.COMPLETED, S.PARTIAL]))
    def progress(self, wanted: AttemptState) -> None:
        """The same, but likely to happen."""
        self._report(self.attempts[-1], wanted, None)

    @precondition(lambda self: self.attempts and self.attempts[-1].state in OPEN)
    @rule(failure=st.sampled_from([None, *FailureClass]))
    def fail(self, failure: FailureClass | None) -> None:
        self._report(self.attempts[-1], S.FAILED, failure)

    @precondition(lambda self: self.attempts)
    @rule(end=st.sampled_from([S.COMPLETED, S.PARTIAL, S.FAILED, S.INTERRUPTED]))
    def run_to_the_end(self, end: AttemptState) -> None:
        self._report(self.attempts[-1], S.RUNNING, None)
        self._report(self.attempts[-1], end, F.EXIT if end is S.FAILED else None)

    def _report(self, one: Attempt, wanted: AttemptState, failure: FailureClass | None) -> None:
        try:
            changes = check_transition(one, wanted, failure)
        except (Conflict, InvalidInput):
            return
        if changes:
            self._store(one.number, wanted, failure)
            assert check_transition(self.attempts[one.number - 1], wanted, failure) is False, "sent twice"

    def _store(self, number: int, state: AttemptState, failure: FailureClass | None) -> None:
        self.attempts[number - 1] = Attempt(number, state, self.now, failure, first_disclosure(state))
        self.trail[number - 1].append(state)

    @precondition(lambda self: self.attempts)
    @rule(pick=NUMBERS)
    def heartbeat(self, pick: int) -> None:
        one = self.attempts[pick % len(self.attempts)]
        if one.state in OPEN:
            self.attempts[one.number - 1] = replace(one, heartbeat_at=self.now)

    @rule(seconds=st.sampled_from([1, limits.LOST_AFTER_SECONDS, 10 * limits.LOST_AFTER_SECONDS]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @invariant()
    def attempts_never_disappear_and_their_past_never_changes(self) -> None:
        assert len(self.trail) >= len(self.before)
        for past, now in zip(self.before, self.trail, strict=False):
            assert now[: len(past)] == past
        self.before = [list(states) for states in self.trail]

    @invariant()
    def they_are_numbered_from_one(self) -> None:
        assert [one.number for one in self.attempts] == list(range(1, len(self.attempts) + 1))

    @invariant()
    def at_most_one_is_open_and_it_is_the_last(self) -> None:
        assert all(one.state not in OPEN for one in self.attempts[:-1])

    @invariant()
    def what_ended_stays_as_it_ended(self) -> None:
        for states in self.trail:
            assert all(state in OPEN for state in states[:-1])

    @invariant()
    def every_attempt_was_registered_first_and_metrics_come_from_running(self) -> None:
        for states in self.trail:
            assert states[0] is S.REGISTERED
            assert states.count(S.REGISTERED) == 1
            if states[-1] in WITH_METRICS:
                assert states == [S.REGISTERED, S.RUNNING, states[-1]]

    @invariant()
    def after_completed_every_attempt_has_a_reason(self) -> None:
        completed = False
        for one, reason in zip(self.attempts, self.reasons, strict=True):
            assert reason is not None or not completed
            completed = completed or one.state is S.COMPLETED

    @invariant()
    def a_failure_has_a_class_and_nothing_else_has(self) -> None:
        for one, states in zip(self.attempts, self.trail, strict=True):
            assert (one.failure is not None) == (one.state is S.FAILED)
            if one.failure is not None and S.RUNNING not in states:
                assert one.failure in BEFORE_RUNNING

    @invariant()
    def lost_is_never_stored_and_never_ended(self) -> None:
        for one in self.attempts:
            assert one.state.value != "LOST"
            if one.shown(self.now) is ShownState.LOST:
                assert one.state in OPEN


class DisclosureMachine(RuleBasedStateMachine):
    """People at a site who release, withhold and retract in any order, while attempts come and end."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts: list[Attempt] = []
        self.reasons: list[str | None] = []
        self.trail: list[list[tuple[Disclosure, str | None]]] = []
        self.before: list[list[tuple[Disclosure, str | None]]] = []

    @rule(state=st.sampled_from(AttemptState), reason=REASONS)
    def run(self, state: AttemptState, reason: str | None) -> None:
        """A further attempt that comes as far as ``state``. One that stayed open ends now, as a crash would end it."""
        if self.attempts and self.attempts[-1].state in OPEN:
            self.attempts[-1] = replace(self.attempts[-1], state=S.INTERRUPTED)
        try:
            check_new_attempt(self.attempts, reason=reason, now=NOW)
        except Conflict:
            assert reason is None
            assert reason_needed(self.attempts)
            return
        self.attempts.append(attempt(state, len(self.attempts) + 1))
        self.reasons.append(reason)
        self.trail.append([(D.UNDER_REVIEW, None)] if state in WITH_METRICS else [])

    @precondition(lambda self: self.attempts)
    @rule(pick=NUMBERS, wanted=st.sampled_from(Disclosure), reason=REASONS)
    def decide(self, pick: int, wanted: Disclosure, reason: str | None) -> None:
        one = self.attempts[pick % len(self.attempts)]
        try:
            changes = check_disclosure(self.attempts, one.number, wanted, reason=reason)
        except (Conflict, InvalidInput):
            return
        if changes:
            self.attempts[one.number - 1] = replace(one, disclosure=wanted)
            self.trail[one.number - 1].append((wanted, reason))
            assert check_disclosure(self.attempts, one.number, wanted, reason=reason) is False, "sent twice"

    @rule(state=st.sampled_from([S.COMPLETED, S.PARTIAL]))
    def run_to_the_end(self, state: AttemptState) -> None:
        """The same, but likely to leave something to decide."""
        self.run(state, "a new driver")

    @precondition(lambda self: self.attempts)
    @rule(pick=st.integers(0, 1), wanted=st.sampled_from([D.RELEASED, D.RELEASED, D.RETRACTED, D.WITHHELD]))
    def decide_plainly(self, pick: int, wanted: Disclosure) -> None:
        """About one of the last two."""
        self.decide(len(self.attempts) - 1 - min(pick, len(self.attempts) - 1), wanted, None)

    @invariant()
    def what_was_decided_stays_in_the_history(self) -> None:
        assert len(self.trail) >= len(self.before)
        for past, now in zip(self.before, self.trail, strict=False):
            assert now[: len(past)] == past
        self.before = [list(steps) for steps in self.trail]

    @invariant()
    def at_most_one_release_is_live(self) -> None:
        assert sum(one.disclosure is D.RELEASED for one in self.attempts) <= 1

    @invariant()
    def only_completed_and_partial_ones_are_disclosed(self) -> None:
        for one, steps in zip(self.attempts, self.trail, strict=True):
            assert (one.disclosure is not None) == (one.state in WITH_METRICS)
            assert bool(steps) == (one.state in WITH_METRICS)
            assert one.disclosure == (steps[-1][0] if steps else None)

    @invariant()
    def every_way_is_one_of_four(self) -> None:
        ways = (
            [],
            [D.UNDER_REVIEW],
            [D.UNDER_REVIEW, D.WITHHELD],
            [D.UNDER_REVIEW, D.RELEASED],
            [D.UNDER_REVIEW, D.RELEASED, D.RETRACTED],
        )
        for steps in self.trail:
            assert [step for step, _ in steps] in ways

    @invariant()
    def every_retraction_has_a_reason_and_no_release_has(self) -> None:
        for step, reason in itertools.chain.from_iterable(self.trail):
            if step is D.RETRACTED:
                assert reason
            if step is D.RELEASED:
                assert reason is None

    @invariant()
    def a_second_try_after_a_release_or_completion_says_why(self) -> None:
        """By what was known at the time only completion counts; a release may come later than the next attempt."""
        completed = False
        for one, reason in zip(self.attempts, self.reasons, strict=True):
            assert reason is not None or not completed
            completed = completed or one.state is S.COMPLETED


QUIET = [HealthCheck.too_slow]
SHORT = settings(max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=QUIET)
LONG = settings(max_examples=5000, stateful_step_count=60, deadline=None, suppress_health_check=QUIET)
TestExecutionMachine = ExecutionMachine.TestCase
TestExecutionMachine.settings = SHORT
TestDisclosureMachine = DisclosureMachine.TestCase
TestDisclosureMachine.settings = SHORT


@pytest.mark.long
class TestExecutionMachineLong(ExecutionMachine.TestCase):  # type: ignore[misc,name-defined]
    settings = LONG


@pytest.mark.long
class TestDisclosureMachineLong(DisclosureMachine.TestCase):  # type: ignore[misc,name-defined]
    settings = LONG
