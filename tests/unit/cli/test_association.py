"""``medperf association``, ``inbox``, ``edit`` and ``deactivate``: what is passed on, and what is said."""

from __future__ import annotations

from typing import Any

import pytest

from medperf.domain.associations import Asset, AutoMode, Status
from medperf.domain.executions import ResultsVisibility
from medperf.flows.associations import Decided, Which
from medperf.flows.editing import AutoChoice, BenchmarkPolicy, Edited
from medperf.flows.inbox import Inbox, Waits
from medperf.flows.joining import Asked
from medperf.wire.associations import AssociationEventView, AssociationView
from medperf.wire.models import PartyRef

BENCH, MAKER = PartyRef(id=4, name="testbenchmarkowner"), PartyRef(id=5, name="testmodelowner")


def association(make: Any, **changes: Any) -> AssociationView:
    values: dict[str, Any] = {
        "id": 7,
        "benchmark": 1,
        "benchmark_name": "xrv",
        "benchmark_owner": BENCH,
        "kind": "model",
        "model": 4,
        "name": "resnet",
        "owner": MAKER,
        "status": "PENDING",
        "asked_by": "asset",
        "is_automatic": False,
        "priority": 0,
        "version": 1,
        "asked_at": make.now,
        "modified_at": make.now,
    }
    return AssociationView(**{**values, **changes})


def test_ls(shell: Any, make: Any) -> None:
    hidden = association(make, id=8, kind="dataset", model=None, dataset=2, name=None, owner=None, asked_by="benchmark")
    calls = shell.flow("associations.list_associations", [association(make), hidden])
    words = "-b 1 -m 4 --kind model --status pending --mine --newest --limit 3"
    out = shell.run("association", "ls", *words.split()).out
    assert calls[0][1] == {
        "benchmark": 1,
        "dataset": None,
        "model": 4,
        "kind": Asset.MODEL,
        "status": Status.PENDING,
        "mine": True,
        "waiting": False,
        "newest_first": True,
        "limit": 3,
    }
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "ID BENCHMARK KIND DATASET OR MODEL STATUS ASKED BY PRIORITY ASKED",
        "7 1 (xrv) model model 4 (resnet) PENDING testmodelowner 0 2026-03-01 09:30 UTC",
        "8 1 (xrv) dataset dataset 2 PENDING testbenchmarkowner - 2026-03-01 09:30 UTC",
    ]
    assert shell.run("association", "ls", "--waiting").out.endswith("Next: medperf association view 7\n")
    item = shell.run("association", "ls", "--format", "json").json()["items"][0]
    assert (item["id"], item["owner"]["name"]) == (7, "testmodelowner")
    assert not {"report", "events"} & set(item)
    shell.flow("associations.list_associations", [])
    assert "medperf mlcube associate" in shell.run("association", "ls").out


def test_view(shell: Any, make: Any) -> None:
    event = AssociationEventView(
        status="PENDING", side="asset", is_automatic=False, version=1, reason=None, at=make.now
    )
    calls = shell.flow("associations.find_association", association(make, events=(event,)))
    out = shell.run("association", "view", "-b", "1", "-m", "4").out
    assert calls[0][0][1] == Which(benchmark=1, model=4)
    assert out.splitlines() == [
        "association: 7",
        "benchmark: 1 (xrv)",
        "benchmark's owner: testbenchmarkowner",
        "model: 4 (resnet)",
        "model's owner: testmodelowner",
        "status: PENDING",
        "asked by: the model's owner",
        "asked: 2026-03-01 09:30 UTC",
        "priority: 0",
        "",
        "WHEN                  STATUS   BY                 REASON",
        "2026-03-01 09:30 UTC  PENDING  the model's owner  -",
        "testbenchmarkowner decides: medperf association approve 7",
        "or: medperf association reject 7",
    ]
    assert shell.run("association", "view", "7", "--format", "json").json()["events"][0]["side"] == "asset"
    for words in ((), ("7", "-m", "4"), ("-b", "1"), ("-b", "1", "-m", "4", "-d", "2")):
        assert shell.run("association", "view", *words).code == 2


@pytest.mark.parametrize(
    ("command", "status"),
    [("reject", "REJECTED"), ("cancel", "CANCELLED"), ("revoke", "REVOKED"), ("approve", "APPROVED")],
)
def test_decisions(shell: Any, make: Any, command: str, status: str) -> None:
    calls = shell.flow("associations.decide_association", Decided(association(make, status=status), already=False))
    out = shell.run("association", command, "7", "--reason", "so").out
    assert calls[0][0][1:] == (Which(id=7), Status(status))
    assert calls[0][1]["reason"] == "so"
    assert out == (
        f"Association 7 is {status}: model 4 (resnet) and benchmark 1 (xrv).\nNext: medperf association view 7\n"
    )
    shell.flow("associations.decide_association", Decided(association(make, status=status), already=True))
    assert f"{status} already: nothing was changed" in shell.run("association", command, "7").out
    assert shell.run("association", command, "7", "--format", "json").json()["already"] is True


def test_invite_and_associate(shell: Any, make: Any) -> None:
    calls = shell.flow("joining.invite", Asked(association(make, asked_by="benchmark"), already=False))
    assert shell.run("association", "invite", "-b", "1", "-m", "4").out == (
        "Asked: association 7, model 4 (resnet) and benchmark 1 (xrv). It is PENDING.\n"
        "testmodelowner approves it with: medperf association approve 7\n"
        "Next: medperf association view 7\n"
    )
    assert calls[0][0][1:] == (1,)
    assert calls[0][1] == {"dataset": None, "model": 4, "report": None}
    joined = association(make, status="APPROVED", is_automatic=True)
    calls = shell.flow("joining.associate_model", Asked(joined, already=False))
    out = shell.run("mlcube", "associate", "-b", "1", "-m", "4", "--no-cache", "-y", "--report", "3f").out
    assert out.startswith("Association 7 is APPROVED at once: ")
    assert calls[0][0][1:] == (1, 4)
    assert calls[0][1] == {"report": "3f", "no_cache": True, "yes": True}


def test_set_priority(shell: Any, make: Any) -> None:
    calls = shell.flow("associations.set_priority", Decided(association(make, priority=5), already=False))
    told = "Model 4 (resnet) in benchmark 1 (xrv) has the priority 5 now.\n"
    assert shell.run("association", "set_priority", "-b", "1", "-m", "4", "5").out.startswith(told)
    assert shell.run("association", "set_priority", "7", "5").out.startswith(told)
    shell.run("association", "set_priority", "7", "--priority", "-5")
    shell.run("association", "set_priority", "-b", "1", "-m", "4", "-p", "-5")
    pair = Which(benchmark=1, model=4)
    assert [call[0][1:] for call in calls] == [(pair, 5), (Which(id=7), 5), (Which(id=7), -5), (pair, -5)]
    for words in ((), ("7",), ("7", "5", "6"), ("-b", "1", "-m", "4"), ("-b", "1", "-m", "4", "7", "5")):
        assert shell.run("association", "set_priority", *words).code == 2


def test_inbox(shell: Any, make: Any) -> None:
    waits = Waits("review", "Metrics wait", ("result", "submit", "-r", "3"), make.now, id=3, benchmark=1)
    shell.flow("inbox.read_inbox", Inbox((waits,), more=True))
    out = shell.run("inbox", "--profile", "lab").out
    assert "medperf result submit -r 3 --profile lab\n" in out
    assert out.endswith("There is more; deal with these first.\n")
    document = shell.run("inbox", "--format", "json").json()
    assert (document["items"][0]["command"], document["items"][0]["kind"]) == ("medperf result submit -r 3", "review")
    shell.flow("inbox.read_inbox", Inbox((), more=False))
    assert shell.run("inbox").out == "Nothing waits for you.\n"


def test_edit(shell: Any, make: Any) -> None:
    calls = shell.flow("editing.edit_mlcube", Edited(make.mlcube(is_valid=False), ("is_valid",)))
    assert shell.run("mlcube", "edit", "1", "--invalid").out == (
        "MLCube 1 (my-prep-cube): Changed is_valid.\nIt is invalid: nothing new joins or runs with it.\n"
        "Next: medperf mlcube view 1\n"
    )
    assert calls[0][1] == {"name": None, "operation": False, "is_valid": False, "metadata": None}
    calls = shell.flow("editing.edit_benchmark", Edited(make.benchmark(), ()))
    words = "--auto-models-of alice --auto-models-of 9 --auto-datasets never --results-visibility owners"
    assert "Nothing was changed" in shell.run("benchmark", "edit", "1", *words.split()).out
    assert calls[0][1]["auto_models"] == AutoChoice(None, ("alice", "9"))
    assert calls[0][1]["auto_datasets"] == AutoChoice(AutoMode.NEVER)
    assert calls[0][1]["results_visibility"] is ResultsVisibility.OWNERS
    shell.flow("editing.deactivate_benchmark", Edited(make.benchmark(is_active=False), ("is_active",)))
    assert shell.run("benchmark", "deactivate", "1", "--format", "json").json()["changed"] == ["is_active"]


def test_submit_takes_the_policy(shell: Any) -> None:
    calls = shell.flow("benchmarks.submit_benchmark_from_folder", RuntimeError)
    shell.run("benchmark", "submit", "--from", "x", "--auto-models", "always", "--results-visibility", "accounts")
    assert calls[0][1]["policy"] == BenchmarkPolicy(AutoChoice(AutoMode.ALWAYS), None, ResultsVisibility.ACCOUNTS)
