"""Associations: the rules as tables, and as a machine that tries everything and keeps the history."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from medperf.domain import limits
from medperf.domain.associations import (
    Asset,
    AutoApproval,
    AutoMode,
    Current,
    Ranked,
    Side,
    Status,
    ask,
    check_priority,
    decide,
    run_order,
    shows_dataset,
)
from medperf.domain.errors import Conflict, InvalidInput, MedPerfError

NEVER = AutoApproval()
B, A = Side.BENCHMARK, Side.ASSET
SIDES = [frozenset(), frozenset({B}), frozenset({A}), frozenset({A, B})]


def code_of(call: Any) -> str:
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


#: From, to, and who: ``asked`` by the side that was asked, ``asker`` by the other, ``either`` by any.
DECISIONS = {
    (Status.PENDING, Status.APPROVED): "asked",
    (Status.PENDING, Status.REJECTED): "asked",
    (Status.PENDING, Status.CANCELLED): "asker",
    (Status.APPROVED, Status.REVOKED): "either",
}


@pytest.mark.parametrize(("current", "wanted"), list(itertools.product(Status, Status)))
@pytest.mark.parametrize("asked_by", Side)
@pytest.mark.parametrize("by", SIDES, ids=lambda by: "+".join(sorted(by)) or "nobody")
def test_every_decision(current: Status, wanted: Status, asked_by: Side, by: frozenset[Side]) -> None:
    row = Current(current, asked_by, 3)
    code = code_of(lambda: decide(row, wanted, by=by))
    whose = DECISIONS.get((current, wanted))
    asked = A if asked_by is B else B
    if wanted is Status.PENDING:
        assert code == "bad_decision"
    elif whose is None:
        assert code == "wrong_association_state"
    elif (whose == "asked" and asked in by) or (whose == "asker" and asked_by in by) or (whose == "either" and by):
        assert decide(row, wanted, by=by) == Current(wanted, asked_by, 3)
    else:
        assert code == ("not_your_request" if whose == "asker" else "own_request")


@pytest.mark.parametrize("by", Side)
@pytest.mark.parametrize("asked_by", Side)
@pytest.mark.parametrize("status", [None, *Status])
def test_when_one_may_ask(status: Status | None, asked_by: Side, by: Side) -> None:
    current = None if status is None else Current(status, asked_by, 2)
    code = code_of(lambda: ask(current, by=by, same_owner=False, auto=NEVER, asset_owner=1))
    if status is Status.APPROVED:
        assert code == "already_associated"
    elif status is Status.PENDING:
        assert code == ("already_asked" if asked_by is by else "asked_by_the_other_side")
    else:
        expected = Current(Status.PENDING, by, 1 if status is None else 3)
        assert ask(current, by=by, same_owner=False, auto=NEVER, asset_owner=1) == expected


ALWAYS = AutoApproval(AutoMode.ALWAYS)
LISTED = AutoApproval(AutoMode.ALLOW_LIST, frozenset({7}))


@pytest.mark.parametrize(
    ("by", "same_owner", "auto", "owner", "expected"),
    [
        (A, False, NEVER, 7, Status.PENDING),
        (A, True, NEVER, 7, Status.APPROVED),
        (A, False, ALWAYS, 7, Status.APPROVED),
        (A, False, LISTED, 7, Status.APPROVED),
        (A, False, LISTED, 8, Status.PENDING),
        (A, False, AutoApproval(AutoMode.ALLOW_LIST), 7, Status.PENDING),
        (B, False, NEVER, 7, Status.PENDING),
        (B, True, NEVER, 7, Status.APPROVED),
        (B, False, ALWAYS, 7, Status.PENDING),  # whom the benchmark invites decides themselves
        (B, False, LISTED, 7, Status.PENDING),
    ],
)
def test_what_is_approved_at_once(by: Side, same_owner: bool, auto: AutoApproval, owner: int, expected: Status) -> None:
    assert ask(None, by=by, same_owner=same_owner, auto=auto, asset_owner=owner).status is expected


def test_a_rejected_one_is_approved_at_once_when_the_policy_says_so_by_then() -> None:
    row = ask(Current(Status.REJECTED, A), by=A, same_owner=False, auto=ALWAYS, asset_owner=1)
    assert row == Current(Status.APPROVED, A, 2)


def test_asking_has_an_end() -> None:
    most = Current(Status.REJECTED, A, limits.ASSOCIATION_ASKS)
    with pytest.raises(Conflict, match="the most") as caught:
        ask(most, by=A, same_owner=False, auto=NEVER, asset_owner=1)
    assert caught.value.code == "asked_too_often"
    assert ask(most._replace(asks=most.asks - 1), by=A, same_owner=False, auto=NEVER, asset_owner=1).asks == most.asks


@pytest.mark.parametrize(
    ("mode", "parties"),
    [
        (AutoMode.NEVER, {1}),
        (AutoMode.ALWAYS, {1}),
        (AutoMode.ALLOW_LIST, {0}),
        (AutoMode.ALLOW_LIST, {limits.ID_MAX + 1}),
        (AutoMode.ALLOW_LIST, set(range(1, limits.AUTO_APPROVED_PARTIES + 2))),
    ],
)
def test_policies_that_make_no_sense(mode: AutoMode, parties: set[int]) -> None:
    with pytest.raises(InvalidInput) as caught:
        AutoApproval(mode, frozenset(parties))
    assert caught.value.code == "bad_auto_approval"


@pytest.mark.parametrize("asked_by", Side)
@pytest.mark.parametrize("status", Status)
def test_who_sees_a_dataset(status: Status, asked_by: Side) -> None:
    """Whoever invites a dataset sees nothing of it by that."""
    shown = {(Status.PENDING, A), (Status.APPROVED, A), (Status.APPROVED, B), (Status.REVOKED, A), (Status.REVOKED, B)}
    assert shows_dataset(Current(status, asked_by)) == ((status, asked_by) in shown)
    assert not shows_dataset(None)


@pytest.mark.parametrize("status", Status)
def test_priorities(status: Status) -> None:
    live = status in (Status.PENDING, Status.APPROVED)
    assert code_of(lambda: check_priority(Asset.MODEL, status, 5)) == ("" if live else "association_ended")
    assert code_of(lambda: check_priority(Asset.DATASET, status, 5)) == "no_priority"
    for number in (limits.PRIORITY_MAX, -limits.PRIORITY_MAX):
        assert code_of(lambda number=number: check_priority(Asset.MODEL, Status.APPROVED, number)) == ""
        beyond = number * 2
        assert code_of(lambda beyond=beyond: check_priority(Asset.MODEL, Status.APPROVED, beyond)) == "bad_priority"


@given(st.lists(st.builds(Ranked, st.integers(1, 50), st.integers(-3, 3)), unique_by=lambda entry: entry.model))
def test_higher_runs_first(models: list[Ranked]) -> None:
    order = run_order(models)
    priority = dict(models)
    assert sorted(order) == sorted(priority)
    for first, second in itertools.pairwise(order):
        assert (priority[first], -first) > (priority[second], -second)


# ------------------------------------------------------------------------------------------------------ the machine


class Entry(NamedTuple):
    """One line of the history, as a server would write it: who did what, and what the row was made by it."""

    did: str
    sides: frozenset[Side]
    same_owner: bool
    admitted: bool
    status: Status
    asked_by: Side


class AssociationMachine(RuleBasedStateMachine):
    """Two owners, or one, who try everything in any order. Only what the rules allow happens."""

    def __init__(self) -> None:
        super().__init__()
        self.current: Current | None = None
        self.history: list[Entry] = []
        self.seen: list[Entry] = []

    @initialize(same=st.sampled_from([False, False, False, True]))
    def begin(self, same: bool) -> None:
        self.same_owner = same

    @rule(
        by=st.sampled_from(Side),
        auto=st.sampled_from([NEVER, NEVER, NEVER, ALWAYS, LISTED]),
        owner=st.sampled_from([7, 8]),
    )
    def ask(self, by: Side, auto: AutoApproval, owner: int) -> None:
        try:
            row = ask(self.current, by=by, same_owner=self.same_owner, auto=auto, asset_owner=owner)
        except Conflict:
            return
        admitted = auto is ALWAYS or (auto is LISTED and owner == 7)
        self._store("ask", frozenset({by}), row, admitted)

    @rule(wanted=st.sampled_from(Status), by=st.sampled_from(SIDES))
    def decide(self, wanted: Status, by: frozenset[Side]) -> None:
        if self.current is None:
            return
        try:
            row = decide(self.current, wanted, by=by)
        except (Conflict, InvalidInput):
            return
        self._store("decide", by, row, admitted=False)

    @rule(wanted=st.sampled_from([Status.APPROVED, Status.REJECTED, Status.CANCELLED]), by=st.sampled_from(SIDES[1:3]))
    def answer(self, wanted: Status, by: frozenset[Side]) -> None:
        """The same, but likely to matter."""
        self.decide(wanted, by)

    def _store(self, did: str, by: frozenset[Side], row: Current, admitted: bool) -> None:
        self.current = row
        self.history.append(Entry(did, by, self.same_owner, admitted, row.status, row.asked_by))

    def steps(self) -> list[tuple[Entry | None, Entry]]:
        return list(zip([None, *self.history], self.history, strict=False))

    @invariant()
    def the_history_only_grows(self) -> None:
        assert self.history[: len(self.seen)] == self.seen
        self.seen = list(self.history)

    @invariant()
    def the_row_is_the_last_entry(self) -> None:
        if self.current is None:
            assert self.history == []
        else:
            assert self.current[:2] == (self.history[-1].status, self.history[-1].asked_by)
            assert self.current.asks == sum(entry.did == "ask" for entry in self.history)

    @invariant()
    def it_begins_with_a_request(self) -> None:
        assert not self.history or self.history[0].did == "ask"

    @invariant()
    def the_side_that_asked_never_approved_or_rejected(self) -> None:
        for _, entry in self.steps():
            if entry.did == "decide" and entry.status in (Status.APPROVED, Status.REJECTED):
                assert entry.sides - {entry.asked_by}

    @invariant()
    def only_the_side_that_asked_cancelled(self) -> None:
        for _, entry in self.steps():
            if entry.status is Status.CANCELLED:
                assert entry.asked_by in entry.sides

    @invariant()
    def nobody_decided_nothing(self) -> None:
        assert all(entry.sides for entry in self.history)

    @invariant()
    def a_decision_follows_what_it_decides(self) -> None:
        for before, entry in self.steps():
            if entry.did == "decide":
                assert before is not None
                needed = Status.APPROVED if entry.status is Status.REVOKED else Status.PENDING
                assert before.status is needed
                assert entry.asked_by is before.asked_by

    @invariant()
    def nothing_came_back_without_being_asked_for_again(self) -> None:
        for before, entry in self.steps():
            if before is not None and before.status in (Status.REJECTED, Status.CANCELLED, Status.REVOKED):
                assert entry.did == "ask"

    @invariant()
    def nothing_live_was_asked_for_again(self) -> None:
        for before, entry in self.steps():
            if entry.did == "ask" and before is not None:
                assert before.status not in (Status.PENDING, Status.APPROVED)

    @invariant()
    def approved_at_once_only_for_one_owner_or_by_the_benchmarks_policy(self) -> None:
        for _, entry in self.steps():
            if entry.did == "ask":
                by_policy = entry.admitted and entry.sides == {A}
                assert entry.status is (Status.APPROVED if entry.same_owner or by_policy else Status.PENDING)

    @invariant()
    def one_owner_never_waits_for_themselves(self) -> None:
        if self.same_owner and self.current is not None:
            assert self.current.status in (Status.APPROVED, Status.REVOKED)


QUIET = [HealthCheck.too_slow]
TestAssociationMachine = AssociationMachine.TestCase
TestAssociationMachine.settings = settings(
    max_examples=100, stateful_step_count=40, deadline=None, suppress_health_check=QUIET
)


@pytest.mark.long
class TestAssociationMachineLong(AssociationMachine.TestCase):  # type: ignore[misc,name-defined]
    settings = settings(max_examples=5000, stateful_step_count=60, deadline=None, suppress_health_check=QUIET)
