"""All traffic of the three journeys, as bytes: from a workflow to a leaderboard, from a model to its results, from raw records to what was
released. What leaves a site is the closed list, shown before it goes and kept in the journal; nothing of its records is in any request.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sqlite3
from base64 import b64encode, urlsafe_b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from medperf.cli.main import main
from medperf.domain.disclosure import RULES, Exit
from medperf.domain.executions import AttemptState
from medperf.flows.egress import lines_of
from medperf.flows.running import RunRequest, run_models
from medperf.testing.workflows import Workflow, make_workflow
from medperf.workspace.egress import Agreed, EgressEntry

from .conftest import RunningServer
from .dataset_site import Person, open_site
from .running_site import EVALUATE
from .traffic import Relay, Request, connections_seen, held, parsed, violations

PATIENTS = ("Erika_Mustermann_1957", "Jürgen-Weiß-NHS-485-777", "Siegfried_Öztürk_MRN00918273")
FINDING = "Karzinom-T3-kanarie"
WARD = "Kinderklinik-Sankt-Verborgen"
#: It prints all that it sees, as a careless model would; the one called beta fails.
INFER = """
import sys
for path in sorted(data_path.rglob("*")):
    print("reading", path, path.read_bytes() if path.is_file() else "")
if NAME == "beta" and any("Mustermann" in path.name for path in data_path.rglob("*")):
    sys.exit(3)
names = sorted(path.name for path in data_path.rglob("*") if path.is_file())
(output_path / "predictions.json").write_text(json.dumps({"by": NAME, "names": names, "act": None, "seen": []}))
"""
PEOPLE = {"benchmark": "testbenchmarkowner", "model": "testmodelowner", "data": "testdataowner", "admin": "admin"}


@dataclass
class Journeys:
    """What was recorded."""

    requests: list[Request]
    journal: list[EgressEntry]
    journals_of_others: list[EgressEntry]
    secrets: dict[str, str]
    homes: dict[str, str]
    said: str
    connected: list[Any]
    ports: set[int]

    def of(self, who: str) -> list[Request]:
        return [request for request in self.requests if request.who == who]


@dataclass
class Stage:
    """Everybody has a home of their own, and the same server, behind the relay."""

    relay: Relay
    folder: Path
    patch: pytest.MonkeyPatch
    capture: Callable[[], tuple[str, str]]
    said: list[str] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=dict)

    def enter(self, who: str) -> None:
        self.relay.who = who
        self.patch.setenv("MEDPERF_HOME", str(self.folder / f"home of {who}"))

    def __call__(self, who: str, *words: Any, code: int = 0) -> str:
        """A command line; every question is answered with yes."""
        self.enter(who)
        self.patch.setattr("sys.stdin", io.StringIO("y\n" * 20))
        self.capture()
        done = main([str(word) for word in words])
        out, err = self.capture()
        self.said.append(f"{out}{err}")
        assert done == code, (words, done, out, err)
        return out

    def login(self, who: str) -> None:
        password = "admin" if who == "admin" else "test"
        for words in (
            ("profile", "create", "here", "--server", self.relay.url),
            ("profile", "activate", "here"),
            *([("server", "seed", "--demo", "benchmark", "--server", self.relay.url)] if who == "admin" else []),
            ("login", "-u", PEOPLE[who], "-p", password),
        ):
            self(who, *words)


def puppet(workflow: Workflow, name: str) -> None:
    workflow.replace_task("model", "infer", f"NAME = {name!r}\n{INFER.strip()}")


def owner_of_benchmark(stage: Stage) -> None:
    """From a workflow to a benchmark that an admin approves."""
    flow = make_workflow(stage.folder / "bench")
    puppet(flow, "reference")
    flow.replace_task("metrics", "evaluate", EVALUATE)
    stage("benchmark", "benchmark", "submit", "--from", flow.folder, "--name", "bmk")
    stage("admin", "inbox")
    stage("admin", "benchmark", "approve", 1)
    stage("benchmark", "benchmark", "view", 1)


def owner_of_models(stage: Stage) -> None:
    """Two models, tested with the benchmark and approved in it; one of them was invited."""
    for number, name in ((4, "alpha"), (5, "beta")):
        flow = make_workflow(stage.folder / name)
        puppet(flow, name)
        cube = flow.model.parent
        stage("model", "test", "run", "-b", 1, "-m", cube)
        stage("model", "mlcube", "package", cube)
        files = ("--mlcube-file", cube / "deploy/mlcube.yaml", "--parameters-file", cube / "deploy/parameters.yaml")
        stage("model", "mlcube", "submit", "--name", name, *files)
        if name == "alpha":
            stage("model", "mlcube", "associate", "-b", 1, "-m", number)
            stage("benchmark", "inbox")
            stage("benchmark", "association", "ls")
            stage("benchmark", "association", "approve", "-b", 1, "-m", number, "--reason", "Welcome")
            stage("benchmark", "association", "set_priority", "-b", 1, "-m", number, 10)
        else:
            stage("benchmark", "association", "invite", "-b", 1, "-m", number)
            stage("model", "inbox")
            stage("model", "association", "approve", "-b", 1, "-m", number)


def records(folder: Path) -> tuple[Path, Path]:
    """What a hospital has."""
    data, labels = folder / WARD / "Aufnahmen", folder / WARD / "Befunde"
    data.mkdir(parents=True)
    labels.mkdir()
    for number, patient in enumerate(PATIENTS):
        (data / f"{patient}.dat").write_text(f"{patient}: {FINDING} {number}")
    table = "".join(f"{patient}.dat,{FINDING}\n" for patient in PATIENTS)
    (labels / "Befundliste-kanarie.csv").write_text(table)
    return data, labels


def owner_of_data(stage: Stage) -> None:
    """From raw records to what was released, and everything else that a data owner can say."""
    data, labels = records(stage.folder)
    there = ("-b", 1, "-d", "chest")
    words = ("--name", "chest", "--description", "Of 2024", "--location", "Berlin", "--site-label", "Site A")
    stage("data", "dataset", "create", "-b", 1, "-d", data, "-l", labels, *words)
    stage("data", "dataset", "submit", "chest")
    stage("data", "dataset", "associate", "chest", "-b", 1)
    stage("data", "association", "cancel", "-b", 1, "-d", 1)
    stage("benchmark", "association", "invite", "-b", 1, "-d", 1)
    stage("data", "inbox")
    stage("data", "association", "approve", "-b", 1, "-d", 1, "--reason", "Gladly")
    stage("data", "dataset", "edit", "chest", "--site-label", "Site B")
    stage("data", "dataset", "check", "chest", "--full")
    stage("data", "model", "accept", 4)
    stage("data", "run", *there, "--dry-run")
    stage("data", "run", *there, code=1)  # beta fails
    stage.secrets |= secrets_of(stage.folder)
    stage("data", "inbox")
    stage("data", "result", "ls")
    stage("data", "result", "submit", *there, "-m", 4)
    stage("data", "result", "withhold", *there, "-m", 2, "--reason", "In doubt")
    stage("data", "result", "ls")
    stage("data", "result", "view", 1)
    stage("model", "result", "ls")
    stage("benchmark", "benchmark", "results", 1)
    stage("benchmark", "benchmark", "leaderboard", 1)
    stage("data", "result", "retract", 1, "--reason", "Wrong parameters")
    again_with_signs_of_life(stage)
    stage("data", "result", "submit", *there, "-m", 4)
    stage("data", "storage", "ls")
    stage("data", "egress", "ls")
    stage.secrets |= secrets_of(stage.folder)
    stage("data", "dataset", "withdraw", "chest")
    stage("data", "logout")


def again_with_signs_of_life(stage: Stage) -> None:
    """What ``medperf run -m 4 --no-cache --reason`` does, with a sign of life more often than each minute."""
    stage.enter("data")
    person = Person()
    request = RunRequest(
        benchmark=1, dataset="chest", models=(4,), no_cache=True, reason="With other parameters", full_check=True
    )
    with open_site(person) as site:
        report = run_models(site, request, heartbeat_seconds=0.05)
    assert [one.state for one in report.outcomes] == [AttemptState.COMPLETED]
    stage.said += person.asked


def secrets_of(folder: Path) -> dict[str, str]:
    """What never leaves the data owner's site, which is the current one."""
    found = {
        str(folder): "a path of the site",
        WARD: "a folder of records",
        FINDING: "a finding",
        "kanarie": "a label file",
    }
    found |= dict.fromkeys(PATIENTS, "a patient") | {"Aufnahmen": "a folder", "Befund": "a folder", "reading ": "a log"}
    with open_site() as site:
        (dataset,) = site.workspace.datasets.ls()
        salt = dataset.salt
        forms = (salt.hex(), b64encode(salt).decode().rstrip("="), urlsafe_b64encode(salt).decode().rstrip("="))
        found |= dict.fromkeys(forms, "the salt")
        roots = {dataset.root, dataset.facts.raw_root, *dataset.facts.identities.values()}
        found |= {root.removeprefix("sha256:"): "a root" for root in roots}
        with closing(sqlite3.connect(site.workspace.path / "facts.db")) as database:
            for (origin,) in database.execute("SELECT prepared_from FROM datasets"):
                found[origin.removeprefix("sha256:")] = "what it was prepared from"
            for key, outputs in database.execute("SELECT key, outputs FROM steps"):
                found |= dict.fromkeys(re.findall("[0-9a-f]{64}", f"{key} {outputs}"), "a step's key or output")
        files = [
            path
            for top in (folder / WARD, dataset.folder)
            for path in top.rglob("*")
            if path.is_file() and path.stat().st_size
        ]
        assert len(files) >= 8
        found |= {hashlib.sha256(path.read_bytes()).hexdigest(): f"the digest of {path.name}" for path in files}
    assert all(len(secret) > 5 for secret in found)
    return found


def journal_of(stage: Stage, who: str) -> list[EgressEntry]:
    stage.enter(who)
    with open_site() as site:
        return site.workspace.egress.ls()


@pytest.fixture(scope="module")
def journeys(
    running_server: RunningServer, tmp_path_factory: pytest.TempPathFactory, capfd_of_module: Any
) -> Iterator[Journeys]:
    running_server.reset()
    folder = tmp_path_factory.mktemp("traffic")
    port = int(running_server.url.rpartition(":")[2])
    relay = Relay(port)
    with pytest.MonkeyPatch.context() as patch, connections_seen() as connected:
        for name in [key for key in os.environ if key.startswith("MEDPERF_")]:
            patch.delenv(name)
        patch.chdir(folder)
        stage = Stage(relay, folder, patch, capfd_of_module)
        for who in ("admin", "benchmark", "model", "data"):
            stage.login(who)
        owner_of_benchmark(stage)
        owner_of_models(stage)
        owner_of_data(stage)
        stage("benchmark", "benchmark", "results", 1)
        seen = list(connected)
        journals = {who: journal_of(stage, who) for who in PEOPLE}
        yield Journeys(
            relay.requests(),
            journals["data"],
            [entry for who, entries in journals.items() if who != "data" for entry in entries],
            stage.secrets,
            {who: str(folder / f"home of {who}") for who in PEOPLE},
            "\n".join(stage.said),
            seen,
            {port, relay.port},
        )
    relay.close()


@pytest.fixture(scope="module")
def capfd_of_module() -> Iterator[Callable[[], tuple[str, str]]]:
    """`capfd` for fixtures that live longer than a test."""
    out, err = io.StringIO(), io.StringIO()

    def read() -> tuple[str, str]:
        said = out.getvalue(), err.getvalue()
        for stream in (out, err):
            stream.seek(0)
            stream.truncate()
        return said

    with redirect_stdout(out), redirect_stderr(err):
        yield read


def test_what_leaves_the_site_is_on_the_list_and_in_the_journal(journeys: Journeys) -> None:
    assert violations(journeys.of("data"), journeys.journal, journeys.secrets) == []


def test_the_journey_went_through_every_exit(journeys: Journeys) -> None:
    assert {entry.kind for entry in journeys.journal} == set(Exit)
    states = [entry.body["state"] for entry in journeys.journal if entry.kind is Exit.ATTEMPT_STATE]
    assert Counter(states) >= Counter({"RUNNING": 4, "COMPLETED": 3, "FAILED": 1})


def test_whatever_went_was_shown(journeys: Journeys) -> None:
    """Every field with its value; of what follows a run that was agreed to, the fields."""
    for entry in journeys.journal:
        rule = RULES[entry.kind]
        if entry.kind is Exit.ATTEMPT_STATE:
            assert f"{rule.says} ({', '.join(rule.names)})" in journeys.said
        elif entry.consent is not Agreed.AUTOMATIC:
            for name, value in lines_of(entry.body):
                assert f"{name}: {json.dumps(value, ensure_ascii=False)}" in journeys.said, (entry.kind, name)


def test_nothing_of_the_site_is_in_any_request(journeys: Journeys) -> None:
    assert held(journeys.requests, journeys.secrets) == []
    assert held(journeys.requests, {home: f"the home of {who}" for who, home in journeys.homes.items()}) == []


def test_nobody_else_is_spoken_to(journeys: Journeys) -> None:
    """Only the server, by its address."""
    there = {("127.0.0.1", port) for port in journeys.ports}
    assert {tuple(one[:2]) if isinstance(one, tuple) else one for one in journeys.connected} - there - {
        "127.0.0.1"
    } == set()


#: What the owners of benchmarks and models send: none of it is about data of a site.
OTHERS = {
    "POST /tokens", "POST /users", "POST /uploads", "PATCH /uploads/{}", "POST /uploads/{}/completion", "POST /mlcubes",
    "POST /benchmarks", "POST /benchmarks/{}/decision", "POST /associations", "POST /associations/{}/decision",
    "PATCH /associations/{}", "POST /benchmarks/{}/invitations",
}  # fmt: skip


def test_owners_of_benchmarks_and_models_say_nothing_of_data(journeys: Journeys) -> None:
    others = [request for request in journeys.requests if request.who != "data"]
    changing = [request for request in others if request.method not in ("GET", "HEAD")]
    assert {request.label for request in changing} <= OTHERS
    assert not any(request.body for request in others if request.method in ("GET", "HEAD"))
    for request in changing:
        if request.label == "POST /associations":
            assert set(request.document) == {"uuid", "benchmark", "model", "report"}
    assert journeys.journals_of_others == []


# ---------------------------------------------------------------------------------------- whether it would be found


def tampered(journeys: Journeys, label: str, **changes: Any) -> Request:
    """One of the recorded requests with other fields."""
    found = next(request for request in journeys.of("data") if request.label == label)
    body = json.dumps(found.document | changes).encode()
    return replace(found, body=body, raw=found.raw + body)


@pytest.mark.parametrize(
    ("label", "changes"),
    [
        ("POST /datasets", {"note": "x"}),
        ("POST /datasets", {"description": "another text"}),
        ("POST /executions", {"log": "x"}),
        ("PATCH /executions/{}/attempts/{}", {"message": "x"}),
        ("PATCH /executions/{}/attempts/{}", {"state": "INTERRUPTED"}),
        ("POST /executions/{}/release", {"metrics": {"mean_score": 0.75}}),
        ("PUT /datasets/{}/statistics", {"statistics": {"cases": 4}}),
        ("POST /tokens", {"host": "x"}),
    ],
)
def test_another_body_is_found(journeys: Journeys, label: str, changes: dict[str, Any]) -> None:
    assert violations([*journeys.of("data"), tampered(journeys, label, **changes)], journeys.journal, {}) != []


def test_a_secret_is_found_however_it_is_written(journeys: Journeys) -> None:
    def post(body: bytes) -> bytes:
        return b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    for raw in (
        b"GET /api/v1/mlcubes?name=J%C3%BCrgen HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /api/v1/mlcubes HTTP/1.1\r\nHost: a\r\nX: J\xc3\xbcrgen\r\n\r\n",
        post(b'{"a": "J\\u00fcrgen"}'),
        post("Ju\u0308rgen".encode()),
    ):
        assert len(held(parsed("data", raw), {"J\u00fcrgen": "a patient"})) == 1, raw


def test_what_never_went_but_is_in_the_journal_is_found(journeys: Journeys) -> None:
    requests = [request for request in journeys.of("data") if request.label != "POST /datasets"]
    assert len(violations(requests, journeys.journal, {})) == 1


def test_a_request_that_is_no_exit_is_found(journeys: Journeys) -> None:
    for method, path in (("POST", "/uploads"), ("PATCH", "/uploads/{}"), ("POST", "/mlcubes"), ("GET", "/mlcubes")):
        request = Request("data", b"", method, f"/api/v1{path}", {"user-agent": "medperf/1"}, b"{}")
        assert len(violations([request], [], {})) == 1, path
    assert set(RULES) == set(Exit)
