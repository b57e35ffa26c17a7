"""Datasets and the egress journal of a workspace."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from medperf.domain.digests import Digest
from medperf.domain.disclosure import Exit
from medperf.domain.errors import Conflict, InvalidInput, NotFound
from medperf.workspace import database
from medperf.workspace.datasets import LocalDataset, Standing
from medperf.workspace.egress import Agreed, EgressEntry, Event
from medperf.workspace.workspace import Workspace

from .killed_datasets import FROM, ROOT, facts, make

SCRIPT = Path(__file__).with_name("killed_datasets.py")


def kill(folder: Path, scenario: str, *, first: int, step: int) -> int:
    command = [sys.executable, str(SCRIPT), str(folder), scenario, str(first), str(step)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("scenario", ["made", "continued", "removed"])
def test_killed_anywhere_a_dataset_is_whole_or_not_there(tmp_path: Path, scenario: str) -> None:
    assert kill(tmp_path, scenario, first=random.randint(1, 29), step=29) > 5


@pytest.mark.long
@pytest.mark.parametrize("scenario", ["made", "continued", "removed"])
def test_killed_at_a_third_of_all_lines(tmp_path: Path, scenario: str) -> None:
    assert kill(tmp_path, scenario, first=random.randint(1, 3), step=3) > 100


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "w")


def another(workspace: Workspace, uuid: str, name: str) -> LocalDataset:
    key = Digest.of(uuid.encode())
    folder = workspace.preparing.begin(key, keep=False)
    (folder.outputs / "output_path").mkdir()
    folder.finish({})
    return workspace.datasets.adopt(
        folder.folder, uuid=uuid, name=name, root=ROOT, salt=b"s" * 32, prepared_from=key, facts=facts(), index=b""
    )


class TestFinding:
    def test_by_name_by_the_servers_id_and_by_the_beginning_of_its_own(self, workspace: Workspace) -> None:
        one, two = another(workspace, "aaaa1111-0", "12"), another(workspace, "aaaa2222-0", "b")
        workspace.datasets.register(two.uuid, instance_id="i", registered=12)
        workspace.datasets.register(one.uuid, instance_id="other", registered=7)
        get = workspace.datasets.get
        assert get("12", instance_id="i").uuid == one.uuid, "a name comes first"
        assert get("b", instance_id="i").registered == {"i": 12}
        assert get("AAAA2", instance_id="i").uuid == two.uuid
        assert (get("b").standing("i"), get("b").standing("other")) == (Standing.SUBMITTED, Standing.LOCAL)
        with pytest.raises(InvalidInput, match="More than one"):
            get("aaaa")
        for unknown in ("7", "aaa", "", "nothing"):
            with pytest.raises(NotFound):
                get(unknown, instance_id="i")

    def test_names_and_records_are_there_once(self, workspace: Workspace) -> None:
        made = make(workspace)
        assert "salt" not in repr(made)
        with pytest.raises(Conflict, match="prepared by this MLCube already"):
            workspace.datasets.refuse_known("other", FROM)
        with pytest.raises(Conflict, match="named 'd'"):
            another(workspace, "aaaa1111-0", "d")
        assert [one.finished for one in workspace.preparing.ls()] == [True], "refused, and still there"

    def test_looking_makes_nothing(self, workspace: Workspace) -> None:
        assert workspace.datasets.ls() == workspace.preparing.ls() == workspace.egress.ls() == []
        assert workspace.datasets.index("x") is None
        assert not workspace.path.exists()


class TestEgress:
    def test_one_entry_for_a_key_and_all_that_became_of_it(self, workspace: Workspace) -> None:
        def leaving(text: bytes, instance: str = "i") -> EgressEntry:
            return workspace.egress.leaving(
                kind=Exit.STATISTICS, pending="egress:statistics", instance_id=instance, digest=Digest.of(text), payload=text,
                server="https://x", about="dataset 'd'", consent=Agreed.PERSON,
            )  # fmt: skip

        first, second = leaving(b'{"dataset":1}'), leaving(b'{"dataset":2}')
        workspace.egress.note(first.number, Event.UNANSWERED, "server_unreachable")
        again = leaving(b'{"dataset":1}')
        assert (again.number, again.key) == (first.number, first.key)
        assert leaving(b'{"dataset":1}', "j").number not in (first.number, second.number)
        assert [entry.number for entry in workspace.egress.ls(instance_id="i")] == [second.number, first.number]
        workspace.egress.settled(again, Event.ANSWERED)
        entry = workspace.egress.get(first.number)
        assert [event.event for event in entry.events] == ["sent", "unanswered", "sent", "answered"]
        assert (entry.outcome, entry.body["dataset"], entry.events[1].detail) == ("answered", 1, "server_unreachable")
        assert [one.key for one in workspace.pending.ls("i")] == [second.key]
        assert leaving(b'{"dataset":1}').number != first.number
        with pytest.raises(NotFound):
            workspace.egress.get(99)


def test_a_workspace_of_the_first_version_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(database, "MIGRATIONS", database.MIGRATIONS[:1])
        with Workspace.open(tmp_path / "w") as workspace:
            report = workspace.reports.save({"n": 1})
    with Workspace.open(tmp_path / "w") as workspace:
        assert workspace.reports.get(None).id == report
        assert workspace.datasets.ls() == []
        assert make(workspace).name == "d"
    connection = sqlite3.connect(tmp_path / "w" / "facts.db")
    assert connection.execute("PRAGMA user_version").fetchone() == (len(database.MIGRATIONS),)
    connection.close()
