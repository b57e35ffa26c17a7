"""``medperf dataset`` and ``medperf egress``: what they say, over a real server."""

from __future__ import annotations

import io
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from medperf.testing.workflows import Workflow, make_workflow

from .conftest import Answer, Command, RunningServer


@pytest.fixture(scope="module")
def benchmark(running_server: RunningServer, tmp_path_factory: pytest.TempPathFactory) -> RunningServer:
    """A server with benchmark 1, approved."""
    from medperf.cli.main import main

    folder = tmp_path_factory.mktemp("owner")
    workflow = make_workflow(folder / "flow")
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


class Owner:
    """The data owner's terminal: ``run`` answers every question with ``answer``."""

    def __init__(self, medperf: Command, monkeypatch: pytest.MonkeyPatch, workflow: Workflow) -> None:
        self._medperf = medperf
        self._monkeypatch = monkeypatch
        self.workflow = workflow

    def run(self, *words: str | Path | int, answer: str = "y") -> Answer:
        self._monkeypatch.setattr("sys.stdin", io.StringIO(f"{answer}\n" * 5))
        return self._medperf(*words)

    def ok(self, *words: str | Path | int) -> Answer:
        done = self.run(*words)
        assert done.code == 0, done.err
        return done

    def create(self, name: str, **options: Any) -> Answer:
        more = [word for key, value in options.items() for word in (f"--{key.replace('_', '-')}", str(value))]
        return self.ok(
            "dataset", "create", "-b", 1, "-d", self.workflow.data, "-l", self.workflow.labels, "--name", name, *more
        )  # fmt: skip


@pytest.fixture
def owner(benchmark: RunningServer, medperf: Command, monkeypatch: pytest.MonkeyPatch, workflow: Workflow) -> Owner:
    found = Owner(medperf, monkeypatch, workflow)
    found.ok("profile", "create", "there", "--server", benchmark.url)
    found.ok("profile", "activate", "there")
    found.ok("login", "-u", "testdataowner", "-p", "test")
    return found


def test_from_records_to_a_request(owner: Owner) -> None:
    made = owner.create("ward-7", description="Of 2024", location="Ward 7")
    assert "nothing left this machine" in made.out
    assert "Next: medperf dataset submit ward-7\n" in made.out
    assert owner.ok("egress", "ls").out == "Nothing left this site towards this server.\n"
    assert "not submitted" in owner.ok("dataset", "view", "ward-7").out

    submitted = owner.ok("dataset", "submit", "-d", "ward-7")
    assert '"Ward 7"' in submitted.err, "what goes is shown where the question is"
    assert "identity" in submitted.err
    number = int(submitted.out.split("Created dataset ")[1].split()[0])
    assert f"Next: medperf dataset associate -b 1 -d {number}\n" in submitted.out
    assert "knows it already" in owner.ok("dataset", "submit", "ward-7").out

    asked = owner.ok("dataset", "associate", "-b", 1, "-d", number)
    assert f"dataset {number} in benchmark 1 is PENDING." in asked.out
    assert "Next: medperf association view 1" in asked.out
    page = owner.ok("dataset", "view", number).out
    assert f"dataset: {number} (ward-7), here " in page
    assert "location: Ward 7" in page
    journal = owner.ok("egress", "ls", "--format", "json").json["items"]
    assert [entry["kind"] for entry in journal] == ["association", "statistics", "dataset_registration"]
    shown = owner.ok("egress", "view", journal[-1]["number"]).out
    assert "agreed by: person" in shown
    assert "location: Ward 7" in shown
    one = owner.ok("egress", "view", journal[-1]["number"], "--format", "json").json
    assert one["body"] == journal[-1]["body"]
    assert [event["event"] for event in one["events"]] == ["sent", "answered"]
    listed = owner.ok("egress", "ls", "--kind", "statistics")
    assert listed.out.count("\n") == 2
    assert owner.run("egress", "view", 999).code == 1


def test_no_answer_travels_with_salt_or_root(owner: Owner, home: Path) -> None:
    owner.create("secret-salt")
    (facts,) = home.rglob("facts.db")
    connection = sqlite3.connect(facts)
    salt, root, kept = connection.execute("SELECT salt, root, facts FROM datasets").fetchone()
    connection.close()
    secrets = (salt.hex(), root, root.removeprefix("sha256:"), json.loads(kept)["raw_root"])
    for words in (
        ("dataset", "view", "secret-salt", "--format", "json"),
        ("dataset", "view", "secret-salt", "--verbose"),
        ("dataset", "ls", "--format", "json"),
        ("dataset", "submit", "secret-salt", "--format", "json"),
        ("dataset", "edit", "secret-salt", "--site-label", "A", "--format", "json"),
    ):
        text = owner.ok(*words).out
        assert "secret-salt" in text
        assert not [secret for secret in secrets if secret in text], words


def test_check_names_what_changed(owner: Owner) -> None:
    answer = owner.create("checked").out
    assert "checked" in answer
    whole = owner.ok("dataset", "check", "checked", "--full").out
    assert whole.startswith("Unchanged: ")
    assert ", 0 read, " in owner.ok("dataset", "check", "checked").out
    folder = Path(owner.ok("dataset", "view", "checked", "--format", "json").json["local"]["folder"])
    (file,) = list(folder.rglob("case0.txt"))
    file.write_text("other")
    found = owner.run("dataset", "check", "checked")
    assert found.code == 1
    assert "case0.txt" in found.out
    document = owner.run("dataset", "check", "checked", "--format", "json")
    assert (document.code, document.json["unchanged"]) == (1, False)
    assert document.json["changes"][0]["kind"] == "changed"


def test_edit_deactivate_withdraw(owner: Owner) -> None:
    owner.create("edited")
    assert "Changed description" in owner.ok("dataset", "edit", "edited", "--description", "Another").out
    assert owner.run("dataset", "edit", "edited").code == 2
    number = owner.ok("dataset", "submit", "edited", "--format", "json").json["registered"]["id"]
    assert owner.run("dataset", "edit", number, "--description", "Third").code == 1
    label = owner.ok("dataset", "edit", number, "--site-label", "Hospital A", "--format", "json").json
    assert (label["changed"], label["registered"]["site_label"]) == (["site_label"], "Hospital A")
    assert "Nothing changed" in owner.ok("dataset", "edit", number, "--site-label", "Hospital A").out
    assert "It is inactive: no model runs on it." in owner.ok("dataset", "deactivate", "edited").out
    assert [one["name"] for one in owner.ok("dataset", "ls", "--inactive", "--format", "json").json["items"]] == [
        "edited"
    ]
    owner.ok("dataset", "edit", number, "--active")
    owner.ok("dataset", "associate", "edited", "-b", 1)
    gone = owner.ok("dataset", "withdraw", "edited", "--delete").out
    assert f"Withdrew dataset {number} (edited)" in gone
    assert "with benchmark 1 is CANCELLED." in gone
    assert f"The raw records are where they were: {owner.workflow.data}" in gone
    assert owner.ok("dataset", "ls", "--local").out == (
        "No datasets found. Prepare one with: medperf dataset create --help\n"
    )
    assert owner.workflow.data.is_dir()


def test_a_no_and_a_yes_that_does_not_count(owner: Owner) -> None:
    owner.create("refused")
    refused = owner.run("dataset", "submit", "refused", answer="n")
    assert refused.code == 1
    assert "you did not agree" in refused.err
    assert "--yes does not count" in owner.run("dataset", "submit", "refused", "--yes").err
    assert owner.ok("egress", "ls", "--format", "json").json["items"] == []
    twice = owner.run("dataset", "submit", "refused", "-d", "refused")
    assert (twice.code, "named twice" in twice.err) == (2, True)
    assert "No dataset is named" in owner.run("dataset", "submit").err
    both = owner.run("dataset", "create", "-b", 1, "-p", 1, "-d", "x", "-l", "y", "--name", "z")
    assert (both.code, "Exactly one of" in both.err) == (2, True)


def test_prepare_register_and_ask_in_one_command(owner: Owner) -> None:
    joined = owner.ok(
        "dataset", "create", "-b", 1, "-d", owner.workflow.data, "-l", owner.workflow.labels, "--name", "at-once", "--join",
    )  # fmt: skip
    assert "Created dataset " in joined.out
    assert "Next: medperf dataset submit" not in joined.out
    assert "in benchmark 1 is PENDING." in joined.out
    assert joined.err.count("Send exactly this?") == 3
    assert len(owner.ok("egress", "ls", "--format", "json").json["items"]) == 3
    alone = owner.run("dataset", "create", "-p", 1, "-d", "x", "-l", "y", "--name", "z", "--join")
    assert (alone.code, "--join needs a benchmark" in alone.err) == (2, True)
