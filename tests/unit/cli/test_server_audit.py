"""``medperf server audit``, on a real data folder."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest


def change(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "db.sqlite3")) as raw, raw:
        raw.execute(statement)


@pytest.fixture
def srv(shell: Any, tmp_path: Path) -> Path:
    assert shell.run("server", "init", "--data", "srv", "--development").code == 0
    return tmp_path / "srv"


def test_seal_verify_and_what_is_said_of_a_change(shell: Any, srv: Path) -> None:
    fresh = shell.run("server", "audit", "verify", "--data", "srv")
    assert (fresh.code, fresh.out) == (0, "Nothing was sealed yet.\nLater events, not sealed yet: 1.\n")
    sealed = shell.run("server", "audit", "seal", "--data", "srv")
    assert (sealed.code, sealed.out.splitlines()[0]) == (0, "Sealed events: 1.")
    head = sealed.out.split()[-1]
    whole = shell.run("server", "audit", "verify", "--data", "srv", "--head", head)
    assert whole.code == 0
    assert whole.out.splitlines()[:2] == [
        "The audit trail is whole up to event 1 (events: 1, checkpoints: 1).",
        f"Newest checkpoint: {head}",
    ]
    report = shell.run("server", "audit", "verify", "--data", "srv", "--format", "json").json()
    assert (report["ok"], report["head"], report["fault"]) == (True, head, None)
    change(srv, "UPDATE audit_events SET action = 'server.reset'")
    broken = shell.run("server", "audit", "verify", "--data", "srv")
    assert broken.code == 1
    assert "Error: Event 1 is not what was sealed in checkpoint 1" in broken.err
    assert broken.out == "The audit trail is not whole from its beginning on.\n"
    machine = shell.run("server", "audit", "verify", "--data", "srv", "--format", "json")
    assert (machine.code, machine.json()["fault"]["event"], machine.json()["fault"]["kind"]) == (1, 1, "event_changed")
    assert machine.error()["code"] == "audit_event_changed"


def test_how_far_a_broken_trail_is_whole(shell: Any, srv: Path) -> None:
    verify = ("server", "audit", "verify", "--data", "srv")
    assert shell.run("server", "audit", "seal", "--data", "srv").code == 0
    (srv / "audit_head.json").unlink()
    # Every checkpoint is whole, but this folder knows of none.
    assert shell.run(*verify).out == (
        "The audit trail is whole up to event 1 (events: 1, checkpoints: 1), no further.\n"
    )
    assert shell.run("server", "audit", "accept", "--data", "srv", "--yes").code == 0
    change(srv, "UPDATE audit_events SET action = 'server.reset' WHERE id = 2")
    broken = shell.run(*verify)
    assert (broken.code, "Error: Event 2" in broken.err) == (1, True)
    assert broken.out == "The audit trail is whole up to event 1 (events: 1, checkpoints: 1), no further.\n"


def test_a_lost_head_is_accepted_only_by_who_says_so(shell: Any, srv: Path) -> None:
    assert shell.run("server", "audit", "seal", "--data", "srv").code == 0
    key = shell.run("server", "audit", "key", "--data", "srv").out.strip()
    assert shell.run("server", "audit", "key", "--data", "srv", "--format", "json").json() == {"public_key": key}
    (srv / "audit_head.json").unlink()
    missing = shell.run("server", "audit", "seal", "--data", "srv")
    assert missing.code == 1
    assert "medperf server audit accept" in missing.err
    assert shell.run("server", "audit", "accept", "--data", "srv", stdin="n\n").code == 1
    assert shell.run("server", "audit", "accept", "--data", "srv").code == 1  # nobody answers
    accepted = shell.run("server", "audit", "accept", "--data", "srv", stdin="y\n")
    assert (accepted.code, accepted.out.splitlines()[-1]) == (0, "Now: checkpoint 2, up to event 2.")
    assert shell.run("server", "audit", "verify", "--data", "srv").code == 0
    assert shell.run("server", "audit", "accept", "--data", "srv", "--yes").code == 1


def test_no_server_there(shell: Any) -> None:
    for command in ("verify", "seal", "key"):
        answer = shell.run("server", "audit", command, "--data", "nowhere")
        assert (answer.code, "There is no MedPerf server in" in answer.err) == (1, True)


def test_erasing_an_account_asks_first(shell: Any) -> None:
    calls = shell.flow("accounts.erase_user", None)
    assert shell.run("user", "erase", "alice", stdin="n\n").code == 1
    assert shell.run("user", "erase", "alice").code == 1
    assert calls == []
