"""What goes wrong around a person: servers that are down, silent or another one; passwords; logins that ended."""

from __future__ import annotations

import json
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

from people import Person, Server, new_person

COMMANDS = [("login", "-u", "admin", "-p", "admin"), ("mlcube", "ls"), ("benchmark", "ls"), ("user", "ls")]


# ------------------------------------------------------------------------------------------------- the server is not there


def test_server_is_down(gone: Server) -> None:
    for words in COMMANDS:
        error = gone.person.error(*words, *gone.options)
        assert (error["exit"], error["code"]) == (1, "server_unavailable"), words
        assert str(gone.port) in error["what"]
        assert error["fix"]
    status = gone.person.medperf("status", *gone.options)
    assert status.code == 0, status.text
    assert "admin" in status.text


def test_server_never_answers(gone: Server) -> None:
    """A listener that takes connections and says nothing: the command gives up in bounded time."""
    with socket.create_server(("127.0.0.1", gone.port), backlog=16):
        error = gone.person.error("mlcube", "ls", *gone.options, timeout=180)  # its own bound is 60 s
    assert error["exit"] == 1
    assert error["code"] in ("server_timeout", "server_unavailable")
    assert error["fix"]


def test_ctrl_c_while_the_server_is_silent(gone: Server) -> None:
    with socket.create_server(("127.0.0.1", gone.port), backlog=16) as listener:
        asking = gone.person.start("mlcube", "ls", *gone.options)
        listener.settimeout(60)
        connection, _ = listener.accept()
        with connection:
            asking.interrupt()
            assert asking.end() == 130, asking.text
    assert "Traceback" not in asking.text


def test_something_without_tls_is_there(gone: Server) -> None:
    plain = gone.person.start("server", "start", "--http", "--data", str(gone.data), "--port", str(gone.port))
    try:
        plain.wait_for("listening on")
        error = gone.person.error("mlcube", "ls", *gone.options)
    finally:
        plain.stop()
    assert (error["exit"], error["code"]) == (1, "not_medperf"), error


def test_a_certificate_that_is_not_trusted(person: Person, server: Server, gone: Server) -> None:
    certificate = str(gone.data / "cert.crt")
    error = person.error("login", "-u", "admin", "-p", "admin", "--server", server.url, "--certificate", certificate)
    assert error["exit"] == 1
    assert "certificate" in f"{error['code']} {error['what']} {error['fix']}".lower()


# ------------------------------------------------------------------------------------------------------------- the login


def test_not_logged_in(person: Person, server: Server) -> None:
    error = person.error("mlcube", "ls", *server.options)
    assert (error["exit"], error["code"]) == (1, "not_logged_in")
    assert "medperf login" in error["fix"]


def test_wrong_password(person: Person, server: Server) -> None:
    for username, password in (("admin", "Tr0ub4dor&3"), ("nobody", "Tr0ub4dor&3"), ("admin'--", "Tr0ub4dor&3" * 20)):
        error = person.error("login", "-u", username, "-p", password, *server.options)
        assert error["exit"] == 1
        assert password not in json.dumps(error)
    assert person.error("mlcube", "ls", *server.options)["code"] == "not_logged_in"


def test_login_expired_on_the_server(person: Person, server: Server) -> None:
    server.log_in(person)
    with closing(sqlite3.connect(server.data / "db.sqlite3", timeout=60)) as database, database:
        (kind,) = database.execute("SELECT typeof(expires_at) FROM tokens").fetchone()
        past = 1 if kind in ("integer", "real") else "2001-01-01 00:00:00.000000"
        database.execute("UPDATE tokens SET expires_at = ?", (past,))
    error = person.error("mlcube", "ls", *server.options)
    assert error["exit"] == 1
    assert "medperf login" in error["fix"]
    server.log_in(person)
    assert person.medperf("mlcube", "ls", *server.options).code == 0


def test_account_was_disabled(person: Person, server: Server, tmp_path: Path) -> None:
    server.log_in(person)
    assert person.medperf("user", "add", "somebody", "-p", "secret-1", *server.options).code == 0
    second = new_person(tmp_path / "second")
    assert second.medperf("login", "-u", "somebody", "-p", "secret-1", *server.options).code == 0
    assert person.medperf("user", "disable", "somebody", *server.options).code == 0
    assert second.error("mlcube", "ls", *server.options)["exit"] == 1
    assert second.error("login", "-u", "somebody", "-p", "secret-1", *server.options)["exit"] == 1


def test_another_instance(person: Person, server: Server) -> None:
    """The server was reset while somebody was logged in: nothing is sent to the new one."""
    server.log_in(person)
    server.reset()
    error = person.error("mlcube", "ls", *server.options)
    assert error["exit"] == 1
    assert "medperf login" in error["fix"]
    assert "reset" in f"{error['what']} {error['fix']}", error
    server.log_in(person)
    assert person.medperf("mlcube", "ls", *server.options).code == 0
