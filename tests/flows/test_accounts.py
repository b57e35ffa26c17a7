"""Accounts from the command line, against a real server."""

from __future__ import annotations

import io
import sqlite3
from contextlib import closing

import pytest

from .conftest import Command, RunningServer


def test_a_server_that_is_not_for_development_is_never_seeded(medperf: Command, server: RunningServer) -> None:
    (database,) = server.data.glob("*.sqlite3")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE settings SET development = 0")
    try:
        answer = medperf("server", "seed", "--demo", "benchmark", "--server", server.url, "--format", "json")
        assert answer.code == 1
        assert answer.error["code"] == "not_development"
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("SELECT count(*) FROM users").fetchone() == (1,), "the admin alone"
    finally:
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute("UPDATE settings SET development = 1")


def test_passwd_asks_and_changes(online: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("test\nbetter one\nother one\n"))
    assert online("passwd", "--format", "json").error["code"] == "passwords_differ"
    monkeypatch.setattr("sys.stdin", io.StringIO("wrong\nbetter one\nbetter one\n"))
    assert online("passwd").code == 1
    monkeypatch.setattr("sys.stdin", io.StringIO("test\nbetter one\nbetter one\n"))
    changed = online("passwd")
    assert changed.code == 0, changed.err
    assert "better one" not in changed.out + changed.err
    assert online("login", "-u", "testbenchmarkowner", "-p", "test").code == 1
    assert online("login", "-u", "testbenchmarkowner", "-p", "better one").code == 0


def test_users_are_an_admins_matter(online: Command) -> None:
    assert online("user", "ls", "--format", "json").error["code"] == "admin_only"
    assert online("login", "-u", "admin", "-p", "admin").code == 0
    assert online("user", "add", "alice", "-p", "secret words", "--format", "json").json["username"] == "alice"
    assert "alice" in online("user", "ls").out
    short = online("user", "add", "bob", "-p", "abc")
    assert (short.code, "String" in short.err) == (1, False)
    assert "Error: This cannot be sent: password: it must have at least 4 characters." in short.err
    for nobody in ("al", "\u0663", "9" * 5000):  # neither a name nor a number of an account
        assert online("user", "disable", nobody).code == 1
    assert online("user", "disable", "alice").code == 0
    assert online("login", "-u", "alice", "-p", "secret words").code == 1
