"""``medperf organisation``: what is passed on, and what is said."""

from __future__ import annotations

from typing import Any

import pytest

from medperf.domain.permissions import Right
from medperf.flows.benchmarks import BenchmarkSubmission
from medperf.wire.models import PartyRef
from medperf.wire.organisations import InvitationAnswered, InvitationView, MemberView, OrganisationView

HOSPITAL = PartyRef(id=5, name="Hospital A", kind="organisation")


@pytest.fixture
def organisation(make: Any) -> OrganisationView:
    return OrganisationView(
        id=5, name="Hospital A", rights=tuple(Right), version=1, created_at=make.now, modified_at=make.now
    )


@pytest.fixture
def invitation(make: Any) -> InvitationView:
    return InvitationView(
        id=7, organisation=HOSPITAL, username="alice", rights=("operate",), created_at=make.now, expires_at=make.now
    )


@pytest.fixture
def member(make: Any) -> MemberView:
    times = {"created_at": make.now, "modified_at": make.now}
    return MemberView(id=3, username="alice", is_active=True, rights=("operate", "release"), **times)


def test_create_and_look(shell: Any, organisation: OrganisationView) -> None:
    shell.flow("organisations.create_organisation", organisation)
    assert shell.run("organisation", "create", "Hospital A").out == (
        "Created organisation 5 (Hospital A).\nNext: medperf organisation invite 5 USERNAME\n"
    )
    shell.flow("organisations.list_organisations", [organisation])
    assert "manage, operate, release" in shell.run("organisation", "ls").out
    listed = shell.run("organisation", "ls", "--format", "json").json()["items"]
    assert listed[0]["rights"] == ["manage", "operate", "release"]
    shell.flow("organisations.list_organisations", [])
    assert "medperf organisation create" in shell.run("organisation", "ls").out
    calls = shell.flow("organisations.find_organisation", organisation)
    assert "name: Hospital A" in shell.run("organisation", "view", "hospital a").out
    assert calls[0][0][1] == "hospital a"
    shell.flow("organisations.rename_organisation", organisation)
    assert shell.run("organisation", "rename", "5", "Hospital A").out == "Organisation 5 is now Hospital A.\n"


def test_invite(shell: Any, invitation: InvitationView) -> None:
    calls = shell.flow("organisations.invite", invitation)
    assert shell.run("organisation", "invite", "5", "alice").out == (
        "Invited alice to Hospital A (operate): 7\nThey accept it with: medperf organisation accept 7\n"
        "Next: medperf organisation invitations 5\n"
    )
    shell.run("organisation", "invite", "5", "alice", "--manage", "--release")
    assert [call[0][3] for call in calls] == [[], [Right.MANAGE, Right.RELEASE]]
    calls = shell.flow("organisations.list_invitations", [invitation])
    out = shell.run("organisation", "invitations").out
    assert out.endswith("Next: medperf organisation accept 7\n")
    assert "Next" not in shell.run("organisation", "invitations", "5").out
    assert [call[0][1] for call in calls] == [None, "5"]
    shell.flow("organisations.list_invitations", [])
    assert shell.run("organisation", "invitations").out == "No open invitations.\n"
    calls = shell.flow("organisations.cancel_invitation", None)
    assert shell.run("organisation", "cancel-invitation", "5", "7").out == "Cancelled invitation 7.\n"
    assert calls[0][0][1:] == ("5", 7)


def test_answer(shell: Any) -> None:
    accepted = InvitationAnswered(organisation=HOSPITAL, accepted=True, rights=("operate",))
    calls = shell.flow("organisations.answer_invitation", accepted)
    assert shell.run("organisation", "accept", "7").out == (
        "You belong to Hospital A now (operate).\nNext: medperf organisation view 5\n"
    )
    declined = InvitationAnswered(organisation=HOSPITAL, accepted=False, rights=())
    assert calls[0][1] == {"accept": True}
    calls = shell.flow("organisations.answer_invitation", declined)
    assert shell.run("organisation", "decline", "7").out == "You declined the invitation to Hospital A.\n"
    assert calls[0][1] == {"accept": False}
    assert shell.run("organisation", "accept", "seven").code == 2


def test_members(shell: Any, member: MemberView, organisation: OrganisationView) -> None:
    shell.flow("organisations.list_members", [member])
    assert "operate, release" in shell.run("organisation", "members", "5").out
    calls = shell.flow("organisations.set_rights", member)
    out = shell.run("organisation", "set-rights", "5", "alice", "--release", "--operate").out
    assert out == "The rights of alice are now: operate, release.\n"
    assert calls[0][0][1:] == ("5", "alice", [Right.OPERATE, Right.RELEASE])
    shell.flow("organisations.remove_member", member)
    assert shell.run("organisation", "remove", "5", "alice").out == "Removed alice.\n"
    shell.flow("organisations.leave_organisation", organisation)
    assert shell.run("organisation", "leave", "5").out == "You left Hospital A.\n"


def test_owner_is_passed_on(shell: Any, make: Any) -> None:
    calls = shell.flow("mlcubes.submit_mlcube", make.mlcube())
    shell.run("mlcube", "submit", "-n", "a", "-m", "mlcube.yaml", "--owner", "Hospital A")
    assert calls[0][0][1].owner == "Hospital A"
    calls = shell.flow("benchmarks.submit_benchmark_from_folder", RuntimeError)
    shell.run("benchmark", "submit", "--from", "x", "--owner", "5")
    assert calls[0][1]["owner"] == "5"
    calls = shell.flow("benchmarks.submit_benchmark", RuntimeError)
    shell.run("benchmark", "submit", "-n", "b", "--demo-url", "d", "-p", "1", "-m", "2", "-e", "3", "--owner", "5")
    assert isinstance(calls[0][0][1], BenchmarkSubmission)
    assert calls[0][0][1].owner == "5"
