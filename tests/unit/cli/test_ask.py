from __future__ import annotations

import io
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from medperf.cli.ask import Terminal
from medperf.cli.draw import Drawer
from medperf.cli.signals import Signals
from medperf.domain.disclosure import Exit
from medperf.domain.errors import InvalidInput
from medperf.flows.egress import shown


def asked(text: str | None) -> tuple[Terminal, io.StringIO]:
    err = io.StringIO()
    stdin = io.StringIO(text) if text is not None else None
    return Terminal(stdin, err, drawer=Drawer(err), signals=Signals()), err


def test_a_script_pipes_one_line_per_question() -> None:
    ask, err = asked("alice\r\n pass word \ny\n\n")
    assert ask.text("username: ") == "alice"
    assert ask.secret("password") == " pass word "
    assert ask.confirm("Delete it?") is True
    assert ask.confirm("Delete it?", default=True) is True
    assert err.getvalue().startswith("username: \npassword: \nDelete it? [y/N]: \nDelete it? [Y/n]: ")


@pytest.mark.parametrize("text", ["", None])
def test_an_ended_input_is_an_error_that_names_the_question(text: str | None) -> None:
    for question in ("text", "secret", "confirm"):
        ask, _ = asked(text)
        with pytest.raises(InvalidInput, match="username"):
            getattr(ask, question)("username: ")


def test_what_others_named_hides_nothing_of_a_question() -> None:
    """A benchmark's owner names its metrics: no name may move the cursor over what a person is about to release."""
    names = ("AUC\x9b1A\x9b2K", "AUC\u202e", "AUC\x1b[1A\x1b[2K", "AUC\u2028mean", "AUC\rmean", "AUC\x85")
    for name in names:
        document = {"metrics": {"patients": 3, name: 0.5}}
        ask, err = asked("y\nx\nx\n")
        assert ask.confirm(shown(Exit.METRICS, document, server="https://there", about="a run"))
        said = err.getvalue()
        assert "\n  metrics.patients: 3\n" in said
        assert [letter for letter in said if not letter.isprintable() and letter != "\n"] == []
        ask.text(name)
        ask.secret(name)
        assert name not in err.getvalue()


def test_neither_yes_nor_no() -> None:
    ask, _ = asked("maybe\nperhaps\nwho knows\n")
    with pytest.raises(InvalidInput, match="no yes or no"):
        ask.confirm("Delete it?")


PROGRAM = """
import sys
from medperf.cli.session import Session
session = Session.of_process({})
print("got", session.ask.text("username: "), session.ask.secret("password: "))
"""


def test_a_terminal_hides_the_password() -> None:
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=child,
        stdout=subprocess.PIPE,
        stderr=child,
        text=True,
        start_new_session=True,
    )
    os.close(child)
    shown = _until(parent, b"username: ")
    os.write(parent, b"alice\n")
    shown += _until(parent, b"password: ")
    os.write(parent, b"hunter2\n")
    out, _ = process.communicate(timeout=30)
    assert out == "got alice hunter2\n"
    assert b"hunter2" not in shown + _rest(parent)
    os.close(parent)


def _until(parent: int, wanted: bytes) -> bytes:
    seen = b""
    while wanted not in seen:
        seen += os.read(parent, 1024)
    return seen


def _rest(parent: int) -> bytes:
    os.set_blocking(parent, False)
    try:
        return os.read(parent, 4096)
    except OSError:
        return b""


def test_login_without_anybody_ends(shell: Any) -> None:
    shell.flow("accounts.login", lambda site, **_: site.ask.text("username: "))
    answer = shell.run("login")
    assert answer.code == 1
    assert "'username'" in answer.err
    assert "What to do: " in answer.err
