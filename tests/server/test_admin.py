"""init, reset, serve and migrations."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from medperf.domain.errors import Conflict, InvalidInput, MedPerfError, UsageError
from medperf.server import admin, presence
from medperf.server.app import create_app
from medperf.server.schema import REVISION
from medperf.server.settings import Settings

from .conftest import CHEAP


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_development_server(tmp_path: Path) -> None:
    data = tmp_path / "a" / "server"
    report = admin.init(data, development=True, password_cost=CHEAP)
    assert (report.development, report.admin_username, report.url) == (True, "admin", "https://localhost:8000")
    assert report.certificate == data / "cert.crt"
    assert (mode(data), mode(data / "db.sqlite3"), mode(data / "cert.key")) == (0o700, 0o600, 0o600)
    context = ssl.create_default_context(cafile=data / "cert.crt")
    assert context.get_ca_certs()
    with pytest.raises(Conflict, match="already"):
        admin.init(data, development=True, password_cost=CHEAP)


def test_real_server(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        admin.init(tmp_path / "s", development=False)
    with pytest.raises(InvalidInput):
        admin.init(tmp_path / "s", development=False, admin_password="x")
    with pytest.raises(InvalidInput):
        admin.init(tmp_path / "s", development=False, admin_username="a b", admin_password="correct horse")
    report = admin.init(
        tmp_path / "s", development=False, admin_username="root", admin_password="correct horse", password_cost=CHEAP
    )
    assert (report.certificate, report.key) == (None, None)
    assert not (tmp_path / "s" / "cert.crt").exists()
    with pytest.raises(Conflict) as raised:
        admin.reset(tmp_path / "s", password_cost=CHEAP)
    assert raised.value.code == "not_development"
    forced = admin.reset(tmp_path / "s", force=True, password_cost=CHEAP)
    assert (forced.development, forced.admin_username) == (False, "root")
    assert forced.instance_id != report.instance_id


def test_the_certificate_comes_before_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in between, it is made again; the other way round it would serve without TLS."""

    def killed(_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(admin, "migrate", killed)
        with pytest.raises(KeyboardInterrupt):
            admin.init(tmp_path / "s", development=True, password_cost=CHEAP)
    assert (tmp_path / "s" / "cert.key").exists()
    assert admin.init(tmp_path / "s", development=True, password_cost=CHEAP).certificate is not None


def test_init_keeps_a_certificate_that_is_there(tmp_path: Path) -> None:
    data = tmp_path / "s"
    admin.init(data, development=True, password_cost=CHEAP)
    before = (data / "cert.crt").read_bytes()
    (data / "db.sqlite3").unlink()
    admin.init(data, development=True, password_cost=CHEAP)
    assert (data / "cert.crt").read_bytes() == before


@pytest.mark.parametrize(("revision", "code"), [("0000", "schema_older"), ("9999", "schema_newer")])
def test_other_schemas(tmp_path: Path, fresh_data: Path, revision: str, code: str) -> None:
    file = tmp_path / "db.sqlite3"
    file.write_bytes((fresh_data / "db.sqlite3").read_bytes())
    with closing(sqlite3.connect(file)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = ?", (revision,))
    with pytest.raises(MedPerfError) as raised:
        presence.check(presence.of_file(file), "there")
    assert raised.value.code == code
    if code == "schema_newer":
        with pytest.raises(MedPerfError):
            admin.prepare(tmp_path)


def test_missing_and_foreign_databases(tmp_path: Path) -> None:
    with pytest.raises(MedPerfError) as raised:
        presence.check(presence.of_file(tmp_path / "db.sqlite3"), "there")
    assert raised.value.code == "database_missing"
    (tmp_path / "db.sqlite3").write_bytes(b"not a database at all" * 100)
    with pytest.raises(MedPerfError) as raised:
        presence.check(presence.of_file(tmp_path / "db.sqlite3"), "there")
    assert raised.value.code == "bad_database"


def test_models_are_what_migrations_make(fresh_data: Path) -> None:
    """By Alembic's comparison, and by the very SQL, which also has the checks."""
    import sqlalchemy as sa
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    from medperf.server.tables import metadata

    def shape(connection: sa.Connection) -> dict[str, Any]:
        """Columns in their order; constraints in any."""
        query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT IN ('alembic_version', 'sqlite_sequence')"
        found: dict[str, Any] = {}
        for name, sql in connection.execute(sa.text(query)):
            sql = re.sub(
                r", (?=[a-z_]+ [A-Z])", ",\n", sql
            )  # SQLite writes a column that was added behind the last one
            lines = [line.strip().rstrip(",") for line in sql.splitlines() if line.strip(" \t)")]
            rules = {line for line in lines if line.startswith("CONSTRAINT")}
            found[name] = ([line for line in lines if line not in rules], rules)
        return found

    migrated = sa.create_engine(f"sqlite:///{fresh_data / 'db.sqlite3'}")
    made = sa.create_engine("sqlite://")
    with migrated.connect() as first, made.connect() as second:
        assert compare_metadata(MigrationContext.configure(first, opts={"compare_type": True}), metadata) == []
        metadata.create_all(second)
        assert shape(first) == shape(second)
    migrated.dispose()
    made.dispose()


def test_revision_is_the_newest_migration() -> None:
    from alembic.script import ScriptDirectory

    from medperf.server.migrate import migrations_config

    assert ScriptDirectory.from_config(migrations_config()).get_heads() == [REVISION]


def test_migration_keeps_a_copy(tmp_path: Path) -> None:
    """An older database (here: none of our tables yet) is copied, then migrated."""
    from medperf.server.migrate import backup

    admin.init(tmp_path, development=True, password_cost=CHEAP)
    copy = backup(tmp_path / "db.sqlite3", revision=REVISION)
    assert mode(copy) == 0o600
    presence.check(presence.of_file(copy), "there")
    assert admin.prepare(tmp_path) is None


class Running:
    """A server in a process of its own."""

    def __init__(self, data: Path, **options: Any) -> None:
        code = (
            "import json, sys\nfrom pathlib import Path\nfrom medperf.server import admin\n"
            "data, options = json.loads(sys.argv[1])\n"
            "if __name__ == '__main__':\n"
            "    admin.serve(Path(data), port=0, ready=lambda url, development: print(url, development, flush=True), **options)\n"
            "    print('ended', flush=True)\n"
        )
        script = data.parent / "serve_it.py"
        script.write_text(code)
        arguments = [sys.executable, str(script), json.dumps([str(data), options])]
        self.process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.url, _, self.development = self.process.stdout.readline().strip().partition(" ")

    def get(self, path: str, **options: Any) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10, **options) as answer:
            return json.load(answer)

    def stop(self, number: int) -> tuple[int, str, str]:
        os.kill(self.process.pid, number)
        out, err = self.process.communicate(timeout=30)
        return self.process.returncode, out, err


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGTERM, 1), (signal.SIGINT, 1), (signal.SIGTERM, 2)])
def test_serve_over_tls_and_stop(tmp_path: Path, fresh_data: Path, number: int, workers: int) -> None:
    data = tmp_path / "server"
    if number == signal.SIGTERM:  # else it is made on the way
        shutil.copytree(fresh_data, data)
    running = Running(data, development=True, workers=workers)
    try:
        assert running.url.startswith("https://127.0.0.1:")
        assert running.development == "True"
        context = ssl.create_default_context(cafile=data / "cert.crt")
        assert running.get("/api/v1/server", context=context)["development"] is True
    finally:
        assert running.stop(number) == (0, "ended\n", "")


def test_killed_server_starts_again(tmp_path: Path, fresh_data: Path) -> None:
    data = tmp_path / "server"
    shutil.copytree(fresh_data, data)
    for _ in range(2):
        running = Running(data, http=True)
        try:
            assert running.url.startswith("http://127.0.0.1:")
            assert running.get("/api/v1/server")["name"] == "MedPerf"
        finally:
            running.process.kill()
            running.process.communicate()


def test_port_in_use(fresh_data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(MedPerfError) as raised:
        admin.serve(fresh_data, port=taken.getsockname()[1])
    assert raised.value.code == "port_in_use"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"host": "0.0.0.0"}, "plain_http"),
        ({"host": "::"}, "plain_http"),
        ({"cert": Path("nowhere.crt")}, "missing_option"),
        ({"cert": Path("nowhere.crt"), "key": Path("nowhere.key")}, "bad_certificate"),
        ({"cert": Path("nowhere.crt"), "key": Path("nowhere.key"), "http": True}, "two_transports"),
        ({"host": "256.1.1.1", "behind_proxy": True}, "bad_address"),
    ],
)
def test_unsafe_ways_of_listening(tmp_path: Path, options: dict[str, Any], code: str) -> None:
    admin.init(tmp_path / "s", development=False, admin_password="correct horse", password_cost=CHEAP)
    with pytest.raises(MedPerfError) as raised:
        admin.serve(tmp_path / "s", **options)
    assert raised.value.code == code


def test_development_stays_on_loopback(fresh_data: Path) -> None:
    for options in ({}, {"behind_proxy": True}):
        with pytest.raises(UsageError) as raised:
            admin.serve(fresh_data, host="0.0.0.0", **options)
        assert raised.value.code == "development_server"


def test_serve_without_a_server(tmp_path: Path) -> None:
    with pytest.raises(MedPerfError) as raised:
        admin.serve(tmp_path / "nothing")
    assert raised.value.code == "database_missing"
    assert not (tmp_path / "nothing").exists()


def test_importing_the_server_does_no_work() -> None:
    """No disk, no network: the application can be built where its folder is not there yet."""
    from medperf.server.app import create_app
    from medperf.server.settings import Settings

    assert create_app(Settings(data=Path("/nonexistent"))).routes


def test_a_real_server_takes_no_short_password(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="at least 12"):
        admin.init(tmp_path / "s", development=False, admin_password="short", password_cost=CHEAP)
    assert not (tmp_path / "s").exists()
    admin.init(tmp_path / "s", development=False, admin_password="correct horse", password_cost=CHEAP)
    with TestClient(create_app(Settings(data=tmp_path / "s", password_cost=CHEAP))) as client:
        token = client.post("/api/v1/tokens", json={"username": "admin", "password": "correct horse"}).json()["token"]
        login = {"Authorization": f"Bearer {token}"}
        new = client.post("/api/v1/users", json={"username": "alice", "password": "test"}, headers=login)
        assert (new.status_code, new.json()["code"]) == (400, "weak_password")
        change = {"current": "correct horse", "new": "test"}
        assert client.post("/api/v1/me/password", json=change, headers=login).json()["code"] == "weak_password"
