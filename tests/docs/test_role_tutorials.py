"""The pages of the model owner, the data owner and of all three: their own command blocks, in order, in real shells against a real server."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import playing
import pytest

TUTORIALS = playing.ROOT / "docs" / "tutorials"
pytestmark = [pytest.mark.xdist_group("port-8000"), pytest.mark.timeout(1200)]

Terminals = dict[str, playing.Terminal]


class Page:
    """Plays a page; ``seen``: what each block printed, by its first line."""

    def __init__(self, name: str, terminals: Terminals) -> None:
        self.path = TUTORIALS / name
        self.main, self.terminals = terminals["main"], terminals
        self.seen: dict[str, str] = {}
        self.typed: list[str] = []

    def play(self, *, since: str | None = None, until: str | None = None) -> None:
        """The blocks between two lines of the page; all of them where none is given."""
        lines = self.path.read_text(encoding="utf-8").splitlines()
        first = lines.index(since) if since is not None else 0
        last = lines.index(until) if until is not None else len(lines)
        for block in playing.blocks(self.path, languages=("bash",)):
            if not first <= block.line <= last:
                continue
            text = block.text.replace("make setup", "scripts/setup.sh server")  # the tests need no more
            self.typed += [line for line in text.splitlines() if line.startswith("medperf ")]
            if block.terminal != "main":
                self.terminals[block.terminal].leave_running(text, until=r"listening on https://localhost:8000")
                continue
            answer = self.main.run(text, types=block.types)
            assert answer.code == 0, f"{self.path.name}:{block.line}\n{text}\n---\n{answer.text}"
            self.seen[text.split("\n")[0].split(" \\")[0]] = answer.text

    def ask(self, words: str) -> Any:
        """A command's answer for programs, of whoever is logged in."""
        answer = self.main.run(f"medperf {words} --format json")
        assert answer.code == 0, answer.text
        return json.loads(answer.text)


def test_the_model_owners_page(checkout: Path, port: int, home: Path, terminals: Terminals) -> None:
    page, decision = Page("model_owner.md", terminals), "## 6. The benchmark's owner says yes"
    page.play(until=decision)
    assert "Created mlcube 4 (my-linear-model)" in page.seen["medperf mlcube submit"]
    assert "Send it? [y/N]: y" in page.seen["medperf mlcube associate -b 1 -m 4"]
    (association,) = page.ask("association ls")["items"]
    assert (association["status"], association["model"], association["asked_by"]) == ("PENDING", 4, "asset")
    # The model is another one than the reference model: it measures something else.
    tested = page.ask("test view")["metrics"]
    reference = page.ask("benchmark view 1")["report"]["metrics"]
    assert tested["AUC.Atelectasis"] != reference["AUC"]["Atelectasis"]
    page.play(since=decision)
    assert "is APPROVED" in page.seen["medperf login --username testbenchmarkowner --password test"]
    assert "No results found" in page.seen["medperf login --username testmodelowner --password test"]
    assert "is REVOKED" in next(text for name, text in page.seen.items() if "association revoke" in name)
    assert not (checkout / "medperf_tutorial").exists()
    assert not (home / ".medperf" / "localhost_8000").exists()


def test_the_data_owners_page(checkout: Path, port: int, home: Path, terminals: Terminals) -> None:
    page = Page("data_owner.md", terminals)
    page.play()
    seen = page.seen
    created = seen["medperf dataset create -b 1"]
    assert "nothing left this machine" in created
    assert "Created dataset 1 (hospital-2024)" in seen["medperf dataset submit -d hospital-2024"]
    assert seen["medperf dataset submit -d hospital-2024"].count("Send exactly this? [y/N]: y") == 2
    plan = seen["medperf run -b 1 -d 1 --dry-run"]
    assert "xrv_linear" in plan
    ran = seen["medperf run -b 1 -d 1"]
    assert ran.count("COMPLETED") >= 2, ran
    assert "AUC" in seen["medperf result ls"]
    final = seen["medperf result ls --mine"]
    assert re.search(r"xrv_linear", final), final
    assert "unweighted" in final
    assert "metrics" in final  # the journal
    assert "Unchanged: 62 files" in seen["medperf dataset check hospital-2024"]
    assert "Withdrew dataset 1" in seen["medperf dataset withdraw hospital-2024 --delete"]
    assert not (checkout / "medperf_tutorial").exists()
    assert not (home / ".medperf" / "localhost_8000").exists()


def test_three_roles_in_twelve_commands(checkout: Path, port: int, home: Path, terminals: Terminals) -> None:
    for terminal in terminals.values():
        terminal.run("source .venv/bin/activate")
    page, middle = Page("three_roles.md", terminals), "That was twelve commands. Who ranks?"
    page.play(until=middle)
    assert len(page.typed) == 12, page.typed
    found = page.ask("result ls --mine")["items"]
    assert {(one["model"], one["state"]) for one in found} == {(2, "released"), (4, "released")}
    page.play(since=middle)
    assert "xrv_linear" in page.seen["medperf benchmark leaderboard 1"]
    assert not (checkout / "medperf_tutorial").exists()
