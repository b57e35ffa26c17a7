"""The table of rules: complete, readable, and with reasons that say what to do."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medperf.domain import limits
from medperf.domain.errors import Conflict, InvalidInput
from medperf.domain.organisations import check_still_managed, checked_name, name_key
from medperf.domain.permissions import (
    EVERY_RIGHT,
    RULES,
    Action,
    Right,
    Standing,
    Who,
    decide,
    decide_all,
    decide_early,
)

STANDINGS = st.builds(
    Standing,
    account=st.booleans(),
    is_admin=st.booleans(),
    rights=st.frozensets(st.sampled_from(Right)),
    personal=st.booleans(),
    published=st.booleans(),
    addressed=st.booleans(),
    unmanaged=st.booleans(),
    asked=st.frozensets(st.sampled_from(Right)),
    benchmark=st.frozensets(st.sampled_from(Right)),
    model=st.frozensets(st.sampled_from(Right)),
)


def everything() -> Iterator[Standing]:
    """Every standing of somebody with an account; what they hold elsewhere, one party at a time."""
    rights = [frozenset(found) for size in range(4) for found in itertools.combinations(Right, size)]
    for held, *flags in itertools.product(rights, *([(False, True)] * 4)):
        admin, published, addressed, unmanaged = flags
        here = Standing(is_admin=admin, rights=held, published=published, addressed=addressed, unmanaged=unmanaged)
        yield here
        yield from (replace(here, **{party: some}) for party in ("asked", "benchmark", "model") for some in rights[1:])


def test_every_action_has_a_rule() -> None:
    assert list(RULES) == list(Action)
    assert {who for rule in RULES.values() for who in rule.may} == set(Who)
    assert all(rule.says and rule.may for rule in RULES.values())


@pytest.mark.parametrize("action", Action)
def test_every_refusal_says_what_to_do(action: Action) -> None:
    for standing in (Standing(account=False), *everything()):
        verdict = decide(action, standing)
        if verdict.allowed:
            assert (verdict.code, verdict.reason, verdict.fix) == ("", "", "")
        else:
            assert verdict.code.islower()
            assert verdict.reason.endswith(".")
            assert verdict.fix


@given(st.sampled_from(Action), STANDINGS)
def test_without_an_account_one_may_look_and_log_in(action: Action, standing: Standing) -> None:
    if not standing.account:
        assert decide(action, standing).allowed == (action in (Action.SERVER_READ, Action.TOKEN_CREATE))


@given(st.sampled_from(Action), STANDINGS)
def test_an_early_no_is_no(action: Action, standing: Standing) -> None:
    early = decide_early(action, standing)
    if not early.allowed:
        assert early == decide(action, standing)


@given(st.lists(st.sampled_from(Action), max_size=4), STANDINGS)
def test_all_or_the_first_refusal(actions: list[Action], standing: Standing) -> None:
    refusals = [verdict for action in actions if not (verdict := decide(action, standing)).allowed]
    assert decide_all(actions, standing) == (refusals[0] if refusals else decide(Action.SERVER_READ, standing))


@given(st.sampled_from(Action), STANDINGS)
def test_more_rights_never_take_away(action: Action, standing: Standing) -> None:
    """But for decisions about what is one's own."""
    more = replace(standing, rights=EVERY_RIGHT)
    if action is not Action.BENCHMARK_DECIDE and decide(action, standing).allowed:
        assert decide(action, more).allowed


def test_the_meaning_of_the_rights() -> None:
    """What each right alone opens, of what belongs to an organisation and is not published."""
    nothing = {action for action in Action if decide(action, Standing()).allowed}
    opened = {
        right: {action.value for action in Action if decide(action, Standing(rights=frozenset({right}))).allowed}
        - {action.value for action in nothing}
        for right in Right
    }
    read = {"mlcube.read", "benchmark.read", "asset.read", "asset.read_content", "organisation.read", "member.list"}
    read |= {"dataset.read", "association.read", "execution.read", "result.read"}
    assert opened[Right.RELEASE] == read | {"result.release", "result.withhold", "result.retract"}
    assert opened[Right.OPERATE] == read | {
        "mlcube.register",
        "mlcube.edit",
        "benchmark.register",
        "benchmark.edit",
        "asset.upload",
        "asset.delete",
        "dataset.register",
        "dataset.edit",
        "association.ask",
        "association.cancel",
        "execution.register",
        "execution.report",
    }
    assert opened[Right.MANAGE] == read | {
        "mlcube.set_validity",
        "benchmark.set_validity",
        "benchmark.set_activity",
        "benchmark.set_visibility",
        "organisation.rename",
        "member.set_rights",
        "member.remove",
        "invitation.send",
        "invitation.list",
        "invitation.cancel",
        "dataset.set_validity",
        "dataset.set_activity",
        "association.cancel",
        "association.revoke",
        "association.set_policy",
    }


def opened_by(standing: Standing) -> set[str]:
    """What a standing opens beyond an account, and what an account opens."""
    return {
        action.value for action in Action if decide(action, standing).allowed and not decide(action, Standing()).allowed
    }


def test_what_the_other_parties_open() -> None:
    """A dataset, an association, an execution and a result are between two or three owners."""
    for right in Right:
        held = frozenset({right})
        manages = right is Right.MANAGE
        decisions = {"association.decide", "association.revoke"} if manages else set()
        assert opened_by(Standing(asked=held)) == {"association.read"} | decisions
        order = {"association.set_priority"} if manages else set()
        assert opened_by(Standing(benchmark=held)) == {"dataset.read", "execution.read", "result.read"} | order
        assert opened_by(Standing(model=held)) == {"execution.read", "result.read"}
    published = {"mlcube.read", "benchmark.read", "asset.read", "asset.read_content", "association.read", "result.read"}
    assert opened_by(Standing(published=True)) == published


@given(STANDINGS)
def test_the_side_that_asked_never_approves(standing: Standing) -> None:
    """Whatever else they are, admins too: it takes the right to manage for the side that was asked."""
    verdict = decide(Action.ASSOCIATION_DECIDE, standing)
    assert verdict.allowed == (standing.account and Right.MANAGE in standing.asked)


@given(STANDINGS)
def test_statistics_are_for_owner_admin_and_the_benchmarks_asked(standing: Standing) -> None:
    allowed = decide(Action.DATASET_READ, standing).allowed
    seen = bool(standing.rights or standing.benchmark or standing.is_admin)
    assert allowed == (standing.account and seen)


@given(STANDINGS)
def test_who_reads_results(standing: Standing) -> None:
    """Being an admin is no reason."""
    seen = standing.rights or standing.benchmark or standing.model or standing.published
    assert decide(Action.RESULT_READ, standing).allowed == (standing.account and bool(seen))


@given(st.sampled_from([Action.RESULT_RELEASE, Action.RESULT_WITHHOLD, Action.RESULT_RETRACT]), STANDINGS)
def test_only_who_may_release_for_the_data_decides_about_results(action: Action, standing: Standing) -> None:
    assert decide(action, standing).allowed == (standing.account and Right.RELEASE in standing.rights)


def test_refusals_name_the_party_whose_right_is_missing() -> None:
    other = frozenset({Right.OPERATE})
    verdict = decide(Action.ASSOCIATION_DECIDE, Standing(asked=other))
    assert (verdict.code, "manage for the side that was asked" in verdict.reason) == ("missing_right", True)
    verdict = decide(Action.ASSOCIATION_DECIDE, Standing(rights=EVERY_RIGHT))
    assert (verdict.code, "cancel" in verdict.fix) == ("other_side_decides", True)
    verdict = decide(Action.ASSOCIATION_SET_PRIORITY, Standing(rights=EVERY_RIGHT))
    assert (verdict.code, "benchmark's owner" in verdict.reason) == ("not_owner", True)
    verdict = decide(Action.ASSOCIATION_SET_PRIORITY, Standing(benchmark=other))
    assert (verdict.code, "owner of its benchmark" in verdict.reason) == ("missing_right", True)
    verdict = decide(Action.ASSOCIATION_REVOKE, Standing(asked=other))
    assert verdict.code == "missing_right"


@given(STANDINGS)
def test_nobody_decides_about_their_own(standing: Standing) -> None:
    verdict = decide(Action.BENCHMARK_DECIDE, standing)
    assert verdict.allowed == (standing.account and standing.is_admin and not standing.is_member)


@given(STANDINGS)
def test_an_admin_is_no_owner(standing: Standing) -> None:
    """Being an admin registers, edits, uploads, deletes, releases and reads bytes of nobody's."""
    if not standing.is_member and not standing.published:
        for action in (
            Action.MLCUBE_EDIT,
            Action.BENCHMARK_EDIT,
            Action.BENCHMARK_SET_ACTIVITY,
            Action.ASSET_READ_CONTENT,
            Action.ASSET_DELETE,
            Action.ASSET_UPLOAD,
            Action.ORGANISATION_RENAME,
            Action.DATASET_EDIT,
            Action.DATASET_REGISTER,
            Action.DATASET_SET_ACTIVITY,
            Action.ASSOCIATION_ASK,
            Action.ASSOCIATION_CANCEL,
            Action.EXECUTION_REGISTER,
            Action.EXECUTION_REPORT,
            Action.RESULT_RELEASE,
            Action.RESULT_WITHHOLD,
            Action.RESULT_RETRACT,
        ):
            assert not decide(action, standing).allowed


def test_reasons_tell_a_member_which_right_is_missing() -> None:
    verdict = decide(Action.MLCUBE_EDIT, Standing(rights=frozenset({Right.RELEASE, Right.MANAGE})))
    assert verdict.code == "missing_right"
    assert "operate" in verdict.reason
    assert "manage, release" in verdict.reason
    assert verdict.fix == "Ask a manager of the organisation."
    ours = Standing(rights=frozenset({Right.RELEASE}), organisation="Hospital A")
    assert decide(Action.MLCUBE_EDIT, ours).fix.endswith("; see: medperf organisation members 'Hospital A'")
    assert decide(Action.MLCUBE_EDIT, Standing()).code == "not_owner"
    assert decide(Action.USER_LIST, Standing()).code == "admin_only"
    assert decide(Action.USER_LIST, Standing(account=False)).code == "login_required"


@pytest.mark.parametrize(
    ("one", "other"), [("Hospital A", "hospital  a"), ("Straße", "STRASSE"), ("ﬁne", "FINE"), ("A\u0308rzte", "Ärzte")]
)
def test_names_that_look_alike_are_one(one: str, other: str) -> None:
    assert name_key(one) == name_key(other)


@given(st.text(max_size=200))
def test_a_name_that_is_taken_is_settled(name: str) -> None:
    try:
        kept = checked_name(name)
    except InvalidInput:
        return
    assert checked_name(kept) == kept
    assert name_key(kept) == name_key(name_key(kept))
    assert 1 <= len(kept) <= limits.NAME_LENGTH
    assert not kept.isdecimal()
    assert len(name_key(kept)) <= 4 * limits.NAME_LENGTH


def test_the_page_says_the_limits() -> None:
    page = Path(__file__).parents[3] / "docs" / "concepts" / "organisations.md"
    rows = re.findall(r"^\| ([a-z ,]+) \| (\d+) \|$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert [int(number) for _, number in rows] == [
        limits.ORGANISATIONS_PER_USER,
        limits.ORGANISATION_MEMBERS,
        limits.ORGANISATION_INVITATIONS,
    ]
    assert f"waits {limits.INVITATION_DAYS} days" in page.read_text(encoding="utf-8")


def test_the_last_manager() -> None:
    check_still_managed(1, doing="leave it")
    with pytest.raises(Conflict, match="cannot leave it"):
        check_still_managed(0, doing="leave it")
