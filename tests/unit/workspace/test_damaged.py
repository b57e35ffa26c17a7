"""Damaged local state: each kind is named, with the way back; nothing more is lost, and the way back works."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import shlex
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from medperf.cli.main import main
from medperf.client import private
from medperf.domain.digests import Digest
from medperf.domain.errors import MedPerfError
from medperf.workspace import database
from medperf.workspace.files import scratch, sweep_scratch
from medperf.workspace.paths import home
from medperf.workspace.workspace import Workspace

KEY = Digest.of(b"the step")


def filled(folder: Path) -> Path:
    """A workspace with a report in it; returns its database."""
    with Workspace.open(folder) as workspace:
        for number in range(50):
            workspace.reports.save({"metrics": {"AUC": number}, "text": "x" * 4000})
    return folder / "facts.db"


def _wrong_tables(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE reports")


def _version(number: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute(f"PRAGMA user_version = {number}")

    return change


def _truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2 + 100)


def _holed(path: Path) -> None:
    with path.open("r+b") as stream:
        for page in range(2, 40):
            stream.seek(page * 4096)
            stream.write(os.urandom(4096))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "garbage": lambda path: path.write_bytes(os.urandom(10_000)),
    "text": lambda path: path.write_text("not a database, but a text that is long enough to be one\n" * 100),
    "truncated": _truncated,
    "holed": _holed,
    "tables": _wrong_tables,
    "negative version": _version(-3),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_database_is_named_and_put_aside(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "my home" / "w"  # a space: the command that is told must be quoted
    path = filled(folder)
    DAMAGES[damage](path)
    with Workspace.open(folder) as workspace:
        with pytest.raises(MedPerfError) as error:
            workspace.check()
        assert error.value.code == "workspace_damaged"
        with contextlib.suppress(MedPerfError):  # what is still readable may be read; it never ends otherwise
            workspace.reports.ls()
    told = error.value.fix.partition(": ")[2].partition(" - ")[0]
    assert shlex.split(told)[:2] == ["mv", str(folder)]
    subprocess.run(shlex.split(told), check=True)
    assert filled(folder).exists()
    with Workspace.open(folder) as workspace:
        workspace.check()
        assert len(workspace.reports.ls()) == 50
    assert len(list(folder.parent.iterdir())) == 2, "what was damaged is kept"


def test_an_empty_database_begins_anew(tmp_path: Path) -> None:
    path = filled(tmp_path / "w")
    path.write_bytes(b"")
    with Workspace.open(tmp_path / "w") as workspace:
        workspace.reports.save({"metrics": {}})
        workspace.check()


def test_a_newer_workspace_is_left_alone(tmp_path: Path) -> None:
    path = filled(tmp_path / "w")
    _version(99)(path)
    before = path.read_bytes()
    with Workspace.open(tmp_path / "w") as workspace, pytest.raises(MedPerfError) as error:
        workspace.check()
    assert error.value.code == "workspace_too_new"
    assert path.read_bytes() == before


@pytest.mark.parametrize("what", ["folder", "link", "pipe"])
def test_something_else_in_the_place_of_the_database(tmp_path: Path, what: str) -> None:
    folder = tmp_path / "w"
    folder.mkdir()
    place = folder / "facts.db"
    {
        "folder": lambda: place.mkdir(),
        "link": lambda: place.symlink_to(place),
        "pipe": lambda: os.mkfifo(place),
    }[what]()
    with Workspace.open(folder) as workspace, pytest.raises(MedPerfError) as error:
        workspace.reports.save({})
    assert error.value.code in ("workspace_unwritable", "workspace_damaged")
    assert error.value.fix


def test_a_database_that_another_keeps_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    path = filled(tmp_path / "w")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with Workspace.open(tmp_path / "w") as workspace, pytest.raises(MedPerfError) as error:
            workspace.reports.save({})
    assert error.value.code == "workspace_busy"


def test_a_process_that_stopped_while_it_opened_the_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock would otherwise be waited for without end and without a word."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.2)
    filled(tmp_path / "w")
    with (tmp_path / "w" / "facts.lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with Workspace.open(tmp_path / "w") as workspace, pytest.raises(MedPerfError) as error:
            workspace.reports.ls()
    assert error.value.code == "workspace_busy"


# --------------------------------------------------------------------------------------------------------------- commands


def medperf(folder: Path, *words: str, **environ: str) -> tuple[int, str]:
    """A command line with this home, in this process."""
    before, text = dict(os.environ), io.StringIO()
    try:
        os.environ.update({"MEDPERF_HOME": str(folder), "HOME": str(folder.parent)} | environ)
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            code = main(words)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return code, text.getvalue()


SPOILT: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "garbage": lambda path: path.write_bytes(os.urandom(300)),
    "nested": lambda path: path.write_text("x = " + "[" * 100_000),
    "deep": lambda path: path.write_text("[" * 100_000),
    "list": lambda path: path.write_text("[1]"),
    "huge": lambda path: path.write_bytes(b" " * (private.MAX_BYTES + 1)),
    "pipe": lambda path: (path.unlink(), os.mkfifo(path)),
    "folder": lambda path: (path.unlink(), path.mkdir()),
    "link in a circle": lambda path: (path.unlink(), path.symlink_to(path)),
    "open to others": lambda path: path.chmod(0o644),
}


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A home with a profile and somebody's login."""
    folder = tmp_path / "home"
    assert medperf(folder, "profile", "create", "other", "--server", "https://medperf.example.org")[0] == 0
    login = {
        "server": "https://localhost:8000",
        "token": "t" * 40,
        "expires_at": "2999-01-01T00:00:00+00:00",
        "username": "admin",
        "is_admin": True,
        "instance_id": "i",
    }
    private.write_private(folder / "credentials.json", json.dumps({"local": login}).encode())
    return folder


@pytest.mark.parametrize("how", SPOILT)
def test_spoilt_logins(there: Path, how: str) -> None:
    path = there / "credentials.json"
    SPOILT[how](path)
    server = ("--server", "http://localhost:9")
    for words in (("mlcube", "ls", *server), ("logout", *server), ("asset", "ls", *server)):
        code, text = medperf(there, *words)
        assert code == 1, (words, text)
        assert str(path) in text
        assert "rm " in text or "chmod 600" in text
    assert medperf(there, "profile", "ls")[0] == 0
    code, text = medperf(there, "status", *server)
    assert code == 0
    assert str(path) in text
    code, text = medperf(there, "doctor", *server)
    assert code == 1
    assert str(path) in text
    # The way back that was told.
    if how == "open to others":
        path.chmod(0o600)
    else:
        subprocess.run(["rm", "-r", str(path)], check=True)
    code, text = medperf(there, "mlcube", "ls", *server)
    assert code == 1
    assert "medperf login" in text or "cannot be reached" in text


@pytest.mark.parametrize("how", sorted(set(SPOILT) - {"empty", "list", "open to others"}))  # those are good settings
def test_spoilt_settings(there: Path, how: str) -> None:
    path = there / "config.toml"
    SPOILT[how](path)
    for words in (
        ("profile", "ls"),
        ("status",),
        ("mlcube", "ls"),
        ("profile", "create", "new", "--server", "https://a.b"),
    ):
        code, text = medperf(there, *words)
        assert code == 1, (words, text)
        assert str(path) in text
        assert "mv " in text
    subprocess.run(["mv", str(path), f"{path}.damaged"], check=True)
    assert medperf(there, "profile", "ls")[0] == 0


def test_a_lock_that_is_kept(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private, "LOCK_SECONDS", 0.2)
    with (there / ".config.toml.lock").open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        code, text = medperf(there, "profile", "activate", "other")
    assert code == 1
    assert "locked" in text
    assert medperf(there, "profile", "activate", "other")[0] == 0


def test_home_is_not_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    assert home({"HOME": str(tmp_path)}) == tmp_path / ".medperf"
    assert home({"HOME": ""}) == home({}) == Path(pwd.getpwuid(os.geteuid()).pw_dir) / ".medperf"

    def nobody(number: int) -> pwd.struct_passwd:
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(MedPerfError) as error:
        home({})
    assert error.value.code == "no_home"
    assert "MEDPERF_HOME" in error.value.fix


# ---------------------------------------------------------------------------------------------------------------- scratch


def test_what_a_dead_process_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    dead = tmp_path / "medperf-999999-1-00000000-aaaaaaaa"
    (dead / "inner").mkdir(parents=True)
    others = [tmp_path / "medperf-notes", tmp_path / "medperf-1-2", tmp_path / "else"]
    for other in others:
        other.mkdir()
    with scratch(tmp_path) as mine:
        sweep_scratch(tmp_path)
        assert mine.is_dir()
        assert mine.stat().st_mode & 0o777 == 0o700
        assert not dead.exists()
    assert not mine.exists()
    assert all(other.exists() for other in others)
