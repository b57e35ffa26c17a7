"""What leaves a data owner's site, over a real wire: registration, statistics, association, withdrawal."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from typing import Any

import pytest

from medperf.cli.main import main
from medperf.domain.disclosure import Exit
from medperf.domain.errors import Forbidden, InvalidInput, MedPerfError, ServerUnavailable
from medperf.domain.identity import commitment
from medperf.flows import associations
from medperf.flows.datasets import (
    associate_dataset,
    create_dataset,
    list_datasets,
    submit_dataset,
    view_dataset,
    withdraw_dataset,
)
from medperf.flows.egress import list_egress, send
from medperf.flows.site import Site
from medperf.testing.workflows import Workflow, make_workflow
from medperf.wire.datasets import DatasetCreate
from medperf.workspace.datasets import Standing

from .conftest import Command, RunningServer
from .cutting import CuttingProxy
from .dataset_site import Person, Told, open_site, request

SECRETS = (b"case0", b"record", b"labels.csv", b"/flow/", b"/mock/")


class Recorder(CuttingProxy):
    """Keeps what the client says; ``deaf``: answers to requests with a body that holds it are lost, and the connection with them."""

    def __init__(self, port: int) -> None:
        super().__init__(port)
        self.said = b""
        self.deaf: bytes | None = None

    def _allowed(self, data: bytes, direction: Any) -> tuple[bytes, bool]:
        if direction == "up":
            self.said += data
            return data, False
        if self.deaf is not None and self.deaf in self.said:
            return b"", True
        return data, False

    def changes(self) -> list[tuple[str, dict[str, Any]]]:
        """Method and path, and body, of all requests that change something; logging in aside."""
        found = []
        for match in re.finditer(rb"(POST|PUT|PATCH|DELETE) (/\S+) HTTP/1.1\r\n(.*?)\r\n\r\n", self.said, re.DOTALL):
            length = re.search(rb"(?i)content-length: (\d+)", match[3])
            body = self.said[match.end() : match.end() + (int(length[1]) if length else 0)]
            if b"tokens" not in match[2]:
                found.append((f"{match[1].decode()} {match[2].decode()}", json.loads(body or b"{}")))
        return found


STATISTICS = """
names = [path.stem for path in data_path.rglob("*") if path.is_file()]
output_path.write_text(json.dumps({"cases": len(names), **{name: 1 for name in names if not name.startswith("case")}}))
"""


@pytest.fixture(scope="module")
def benchmark(running_server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """A server with benchmark 1, approved, whose preparator says too much where a record has another name than the demo data's."""
    folder = tmp_path_factory.mktemp("owner")
    workflow = make_workflow(folder / "flow")
    workflow.replace_task("prep", "statistics", STATISTICS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDPERF_HOME", str(folder / "home"))
        running_server.reset()
        for words in (
            ["profile", "create", "here", "--server", running_server.url],
            ["profile", "activate", "here"],
            ["server", "seed", "--demo", "benchmark", "--server", running_server.url],
            ["login", "-u", "testbenchmarkowner", "-p", "test"],
            ["benchmark", "submit", "--from", str(workflow.folder), "--name", "bmk"],
            ["login", "-u", "admin", "-p", "admin"],
            ["benchmark", "approve", "1"],
        ):
            assert main(words) == 0, words
    return running_server


@pytest.fixture
def wire(benchmark: RunningServer, medperf: Command) -> Iterator[Recorder]:
    """Between the data owner's site and the server."""
    with Recorder(int(benchmark.url.rpartition(":")[2])) as proxy:
        assert medperf("profile", "create", "there", "--server", proxy.url).code == 0
        assert medperf("profile", "activate", "there").code == 0
        assert medperf("login", "-u", "testdataowner", "-p", "test").code == 0
        proxy.said = b""
        yield proxy


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of this test's dataset: the server is that of all tests here."""
    return str(request.node.name)[5:60]


def created(site: Site, workflow: Workflow, name: str) -> str:
    return create_dataset(site, request(workflow, name=name, benchmark=1, location="Ward 7")).dataset.uuid


def policy(site: Site, text: str) -> None:
    path = site.workspace.path / "policy.toml"
    path.write_text(text)
    path.chmod(0o600)


def test_only_what_was_shown_leaves_and_all_of_it_is_kept(wire: Recorder, workflow: Workflow, name: str) -> None:
    person = Person()
    with open_site(person) as site:
        uuid = created(site, workflow, name)
        assert wire.changes() == []
        assert person.asked == []
        submitted = submit_dataset(site, name)
        association = associate_dataset(site, name, 1)
        withdrawn = withdraw_dataset(site, name)
        journal = list_egress(site)[::-1]
        dataset = submitted.dataset
        assert submitted.registered.identity == commitment(dataset.salt, dataset.root)
        assert submitted.registered.statistics == {"cases": 3}
        assert (association.status, [one.status for one in withdrawn.ended]) == ("PENDING", ["CANCELLED"])
        assert withdrawn.registered is not None
        assert not withdrawn.registered.is_active
        assert [one.standing for one in list_datasets(site) if one.local] == [Standing.SUBMITTED]
        assert view_dataset(site, str(submitted.registered.id)).local.uuid == dataset.uuid  # type: ignore[union-attr]
    sent = wire.changes()
    assert [what.partition("/")[0].strip() + "/" + what.rpartition("/")[2] for what, _ in sent] == [
        "POST/datasets", "PUT/statistics", "POST/associations", f"PATCH/{submitted.registered.id}", "POST/decision",
    ]  # fmt: skip
    addressed = [{}, {}, {}, {"dataset": submitted.registered.id}, {"association": association.id}]
    assert [entry.body for entry in journal] == [
        {**there, **body} for there, (_, body) in zip(addressed, sent, strict=True)
    ]
    assert {entry.outcome for entry in journal} == {"answered"}
    assert [entry.consent for entry in journal] == [*["person"] * 4, "automatic"]
    assert len(person.asked) == 4
    for entry, question in zip(journal[:-1], person.asked, strict=True):
        for field, value in entry.body.items():
            assert field in question
            assert isinstance(value, dict) or json.dumps(value, ensure_ascii=False) in question
    for secret in (
        *SECRETS,
        dataset.salt,
        dataset.salt.hex().encode(),
        dataset.root.encode(),
        dataset.root.hex.encode(),
    ):
        assert secret not in wire.said
    assert dataset.facts.raw_root.encode() not in wire.said
    assert uuid == dataset.uuid


def test_a_no_sends_nothing(wire: Recorder, workflow: Workflow, name: str) -> None:
    with open_site(Person(yes=False)) as site:
        created(site, workflow, name)
        with pytest.raises(Forbidden, match="did not agree"):
            submit_dataset(site, name)
        with pytest.raises(Forbidden, match="--yes does not count"):
            submit_dataset(site, name, yes=True)
        assert list_egress(site) == []
        assert site.workspace.pending.ls(site.credential().instance_id) == []
        with pytest.raises(InvalidInput, match="does not know the dataset"):
            associate_dataset(site, name, 1)
    assert wire.changes() == []


def test_policy_may_speak_for_a_person(wire: Recorder, workflow: Workflow, name: str) -> None:
    person, told = Person(yes=False), Told()
    with open_site(person, told) as site:
        created(site, workflow, name)
        policy(site, '[release]\nregistration = "automatic"\n')
        with pytest.raises(Forbidden, match="did not agree"):  # to the statistics: of those it says nothing
            submit_dataset(site, name)
        policy(site, '[release]\nregistration = "automatic"\nstatistics = "automatic"\n')
        assert submit_dataset(site, name, yes=True).registered.statistics == {"cases": 3}
        assert submit_dataset(site, name).already
        assert [entry.consent for entry in list_egress(site)] == ["policy", "policy"]
        assert '"Ward 7"' in told.text
    assert len(wire.changes()) == 2


def test_a_lost_answer_is_asked_for_again_under_the_same_key(wire: Recorder, workflow: Workflow, name: str) -> None:
    person = Person()
    with open_site(person) as site:
        created(site, workflow, name)
        wire.deaf = b"POST /"
        site.cancel.wait = lambda timeout=None: False  # type: ignore[method-assign,assignment] # no pause between tries
        with pytest.raises(ServerUnavailable):
            submit_dataset(site, name)
        assert [event.event for event in list_egress(site)[0].events] == ["sent", "unanswered"]
        assert view_dataset(site, name, local=True).standing is Standing.LOCAL
        wire.deaf = None
    with open_site(person) as site:
        first = submit_dataset(site, name)
        assert [entry.kind for entry in list_egress(site)] == ["statistics", "dataset_registration"]
        assert [event.event for event in list_egress(site)[1].events] == ["sent", "unanswered", "sent", "answered"]
        assert len(person.asked) == 2, "what was agreed to once is not asked for again"
        assert [one.registered.id for one in list_datasets(site, name=name) if one.registered] == [first.registered.id]


def test_what_is_not_on_the_list_never_goes(wire: Recorder, workflow: Workflow, name: str) -> None:
    class Wider(DatasetCreate):
        file_names: str = "case0.txt"

    with open_site() as site:
        body = Wider(
            uuid="12345678-1234-5678-1234-567812345678",  # type: ignore[arg-type]
            name="a",
            site_label="b",
            preparator=1,
            identity="sha256:" + "0" * 64,
        )
        with pytest.raises(InvalidInput) as error:
            send(site, Exit.DATASET_REGISTRATION, body, site.api.datasets.create, about="a test")
        assert error.value.code == "not_disclosed"
        assert list_egress(site) == []
    assert wire.changes() == []


def test_changed_data_are_neither_registered_nor_associated(wire: Recorder, workflow: Workflow, name: str) -> None:
    with open_site() as site:
        created(site, workflow, name)
        file = view_dataset(site, name, local=True).local.data / "case0.txt"  # type: ignore[union-attr]
        before = file.read_text()
        file.write_text("other")
        with pytest.raises(InvalidInput, match=r"case0\.txt was changed"):
            submit_dataset(site, name)
        file.write_text(before)
        submit_dataset(site, name)
        file.write_text("other")
        with pytest.raises(InvalidInput, match=r"case0\.txt was changed"):
            associate_dataset(site, name, 1)
    assert len(wire.changes()) == 2


def test_statistics_outside_the_benchmarks_contract_make_no_dataset(
    wire: Recorder, workflow: Workflow, name: str
) -> None:
    (workflow.data / "Doe.txt").write_text("x")
    with open_site() as site:
        with pytest.raises(InvalidInput) as error:
            created(site, workflow, name)
        assert error.value.code == "statistics_contract"
        assert list_datasets(site, local=True) == []
    assert wire.changes() == []


def test_the_journal_only_grows_and_keeps_refusals(
    wire: Recorder, workflow: Workflow, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_site() as site:
        created(site, workflow, name)
        submit_dataset(site, name)
        associate_dataset(site, name, 1)
        # As another machine of this owner would, whose request was under way when this one looked.
        monkeypatch.setattr(associations, "find_pair", lambda *_, **__: None)
        with pytest.raises(MedPerfError) as error:
            associate_dataset(site, name, 1)
        newest = list_egress(site, limit=1)[0]
        assert (newest.outcome, newest.events[-1].detail) == ("refused", error.value.code)
        assert site.workspace.pending.ls(site.credential().instance_id) == []
        facts = site.workspace.path / "facts.db"
    connection = sqlite3.connect(facts)
    for table in ("egress", "egress_events"):
        for statement in (f"DELETE FROM {table}", f"UPDATE {table} SET at = ''"):
            with pytest.raises(sqlite3.DatabaseError, match="append-only"):
                connection.execute(statement)
    connection.close()


def test_a_name_that_is_looked_for_stays(wire: Recorder, workflow: Workflow, name: str) -> None:
    """It may be of a dataset that was never registered."""
    with open_site(Person()) as site:
        created(site, workflow, name)
        for mine in (True, False):
            assert [one.name for one in list_datasets(site, mine=mine, name=name)] == [name]
            assert list_datasets(site, mine=mine, name="another") == []
    assert b"GET /api/v1/datasets" in wire.said
    assert name.encode() not in wire.said
