"""``medperf server``: a real server, made, started, asked, stopped and reset by the command line."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = "import sys; from medperf.cli.main import main; sys.exit(main())"


def test_init_and_reset(shell: Any, tmp_path: Path) -> None:
    answer = shell.run("server", "init", "--data", "srv", "--development")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out == (
        "Created server in srv with the admin account admin.\n"
        "Its password is admin. For development only: keep it on this machine.\n"
        "Next: medperf server start --data srv\n"
    )
    assert shell.run("server", "init", "--data", "srv", "--development").code == 1
    declined = shell.run("server", "reset", "--data", "srv", stdin="n\n")
    assert (declined.code, "Nothing was deleted." in declined.err) == (1, True)
    assert shell.run("server", "reset", "--data", "srv").code == 1  # nobody answers
    reset = shell.run("server", "reset", "--data", "srv", stdin="y\n")
    assert (reset.code, reset.out.splitlines()[-1]) == (0, "Next: medperf server seed --demo benchmark")
    before = shell.run("server", "reset", "--data", "srv", "--yes", "--format", "json").json()["instance_id"]
    assert shell.run("server", "reset", "--data", "srv", "--yes", "--format", "json").json()["instance_id"] != before


def test_a_real_server_asks_for_a_password_twice(shell: Any) -> None:
    assert shell.run("server", "init", "--data", "srv", stdin="one long pass phrase\nanother\n").code == 1
    answer = shell.run(
        "server", "init", "--data", "srv", "--username", "root", stdin="one long pass phrase\none long pass phrase\n"
    )
    assert answer.code == 0, answer.err
    assert "one long pass" not in answer.out + answer.err
    assert shell.run("server", "reset", "--data", "srv", "--yes").code == 1  # not for development
    reset = shell.run("server", "reset", "--data", "srv", "--yes", "--force")
    assert (reset.code, reset.out.splitlines()[-1]) == (0, "Next: medperf login")


@pytest.mark.parametrize("where", ["environment", "here", "home"])
def test_where_the_data_is(shell: Any, tmp_path: Path, where: str) -> None:
    folder = {"environment": tmp_path / "named", "here": tmp_path / "server", "home": tmp_path / "home" / "server"}[
        where
    ]
    if where == "environment":
        shell.monkeypatch.setenv("MEDPERF_SERVER_DATA", str(folder))
    if where == "here":
        folder.mkdir()
        (folder / "reset_db.sh").touch()
    assert shell.run("server", "init", "--development").code == 0
    assert (folder / "db.sqlite3").is_file()
    if where == "home":
        assert stat.S_IMODE(folder.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_server_says_where_it_listens_and_ends_with_0(tmp_path: Path, number: signal.Signals) -> None:
    environ = {**os.environ, "MEDPERF_HOME": str(tmp_path / "home")}
    words = ("server", "start", "--data", str(tmp_path / "srv"), "--port", "0", "--development")
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environ,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        url = process.stdout.readline().split()[4]
        assert url.startswith("https://localhost:")
        assert process.stdout.readline().startswith(f"Log in with: medperf --server {url} login")
        if number is signal.SIGINT:
            _log_in(url, tmp_path, environ)
    finally:
        process.send_signal(number)
    assert process.wait(timeout=30) == 0
    assert process.stderr.read() == ""
    process.stdout.close()
    process.stderr.close()


def _log_in(url: str, cwd: Path, environ: dict[str, str]) -> None:
    """The account that started the server logs in from another folder, without naming a certificate."""
    run = [sys.executable, "-c", PROGRAM, "--server", url]
    login = subprocess.run(
        [*run, "login"], input="admin\nadmin\n", capture_output=True, text=True, check=False, cwd=cwd, env=environ
    )
    assert login.returncode == 0, login.stderr
    users = subprocess.run(
        [*run, "--format", "json", "user", "ls"], capture_output=True, text=True, check=False, cwd=cwd, env=environ
    )
    assert [user["username"] for user in json.loads(users.stdout)["items"]] == ["admin"]


def test_a_database_with_a_password_is_not_taken_from_the_command_line(shell: Any, tmp_path: Path) -> None:
    address = "postgresql://u:p4ssword@localhost/d"
    done = shell.run("server", "init", "--development", "--data", "s", "--database", address)
    assert done.code == 2, done.err
    assert "MEDPERF_DATABASE" in done.err
    assert "p4ssword" not in done.out + done.err
    assert not (tmp_path / "s").exists()


def test_an_address_of_a_database_that_is_none(shell: Any) -> None:
    done = shell.run("server", "init", "--development", "--data", "s", "--database", "mysql://h/d")
    assert done.code == 2
    assert "postgresql://" in done.err


@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_server_on_postgresql(shell: Any, tmp_path: Path, how: str) -> None:
    """A password that the database wants is asked for once, remembered, and shown nowhere; reset finds the database by itself."""
    from medperf.testing.postgres import Cluster

    secret = "p4ss/w@rd"
    cluster = Cluster()
    (cluster.folder / "data" / "pg_hba.conf").write_text("local all medperf trust\nlocal all all scram-sha-256\n")
    cluster.start()
    try:
        cluster.execute(f"CREATE ROLE owner LOGIN PASSWORD '{secret}'", "CREATE DATABASE d OWNER owner")
        address = cluster.url("d", user="owner")
        if how == "environment":
            address = address.replace("owner@", "owner:p4ss%2Fw%40rd@")
        given = {"option": ("--database", address), "environment": ()}[how]
        if how == "environment":
            shell.monkeypatch.setenv("MEDPERF_DATABASE", address)
        answers = secret + "\n" if how == "option" else ""
        made = shell.run("server", "init", "--development", "--data", "s", *given, stdin=answers)
        assert made.code == 0, made.err
        assert secret not in made.out + made.err
        file = tmp_path / "s" / "database.url"
        assert file.stat().st_mode & 0o777 == 0o600
        assert not (tmp_path / "s" / "db.sqlite3").exists()
        shell.monkeypatch.delenv("MEDPERF_DATABASE", raising=False)
        reset = shell.run("server", "reset", "--yes", "--data", "s")
        assert reset.code == 0, reset.err
        assert cluster.fetch("SELECT action FROM audit_events", database="d") == [("server.reset",)]
    finally:
        cluster.stop()
