"""The server killed while it starts and while it writes: it starts again, and what it said was done is there."""

from __future__ import annotations

import contextlib
import random
import signal
import sqlite3
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import playing
import pytest
from kills import HOOK, home_of, inside
from people import MEDPERF, Person, new_person

from medperf.client.client import MedPerfClient
from medperf.client.credentials import FileCredentialStore
from medperf.client.http import Transport
from medperf.domain.errors import ServerUnavailable
from medperf.flows.files import digest_file
from medperf.wire.models import UserCreate

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("kills-server")]
REQUESTS = 12
STARTS, WRITES = 10, 30  # kills in the long run


class Serving:
    """A server process on a data folder, with the kill hook, and somebody who writes to it."""

    def __init__(self, person: Person, data: Path, log: Path, kill_at: int) -> None:
        self.person, self.data, self.log = person, data, log
        log.unlink(missing_ok=True)
        hooked = {
            "PYTHONPATH": str(HOOK),
            "PYTHONDONTWRITEBYTECODE": "1",
            "KILL_AT": str(kill_at),
            "KILL_LOG": str(log),
        }
        words = ["server", "start", "--development", "--data", str(data), "--port", "0"]
        self.process = playing.Background([str(MEDPERF), *words], environ=person.environ | hooked, cwd=person.home)

    @property
    def points(self) -> int:
        return len(self.log.read_text().splitlines())

    def options(self) -> tuple[str, ...]:
        self.process.wait_for("listening on")
        url = next(word for word in self.process.text.split() if word.startswith("https://"))
        return ("--server", url, "--certificate", str(self.data / "cert.crt"))

    def client(self) -> MedPerfClient:
        options = self.options()
        done = inside(self.person, "login", "-u", "admin", "-p", "admin", *options)
        assert done.code == 0, done.text
        found = FileCredentialStore(home_of(self.person)).get("local")
        assert found is not None
        return MedPerfClient(
            Transport(options[1], token=found.token, instance_id=found.instance_id, verify=Path(options[3]))
        )

    def content(self, asset: int) -> bytes:
        options = self.options()
        found = FileCredentialStore(home_of(self.person)).get("local")
        assert found is not None
        request = urllib.request.Request(
            f"{options[1]}/api/v1/assets/{asset}/content", headers={"Authorization": f"Bearer {found.token}"}
        )
        trusted = ssl.create_default_context(cafile=options[3])
        with urllib.request.urlopen(request, context=trusted, timeout=60) as answer:
            whole: bytes = answer.read()
        return whole

    def write(self, client: MedPerfClient, names: Iterator[str]) -> list[str]:
        """Make accounts and files until the server is gone; what it said was done."""
        heard: list[str] = []
        try:
            for name in names:
                file = self.person.home / name
                file.write_bytes(name.encode() * 500)
                digest, size = digest_file(file)
                client.users.create(UserCreate(username=name, password="Secret-1234"), idempotency_key=f"key-of-{name}")
                client.assets.upload(file, name=name, digest=digest, size=size)
                heard.append(name)
        except ServerUnavailable:
            pass
        return heard


def whole(data: Path) -> None:
    """The database is there entirely, or not at all."""
    if (data / "db.sqlite3").exists():
        with closing(sqlite3.connect(data / "db.sqlite3", timeout=60)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def killed_while_starting(folder: Path, point: int) -> int:
    """On an empty folder. Returns the points passed."""
    serving = Serving(new_person(folder / "home"), folder / "data", folder / "points", point)
    ended = threading.Event()
    threading.Thread(target=lambda: (serving.process.process.wait(), ended.set()), daemon=True).start()
    if point:
        assert ended.wait(120)
        assert serving.process.end() == -signal.SIGKILL, serving.process.text
        whole(folder / "data")
        again = Serving(serving.person, folder / "data", folder / "points", 0)
    else:
        serving.process.wait_for("listening on")
        again = serving
    try:
        again.client().close()
    finally:
        again.process.stop()
    assert {path.name for path in (folder / "data").iterdir()} <= _KNOWN, list((folder / "data").iterdir())
    return again.points


def killed_while_writing(folder: Path, point: Callable[[int], int]) -> None:
    """While requests come, at the ``point``-th of what the first dozen of them do."""
    person = new_person(folder / "home")
    assert inside(person, "server", "init", "--development", "--data", str(folder / "data")).code == 0
    first = Serving(person, folder / "data", folder / "points", 0)
    try:
        client = first.client()
        before = first.points
        first.write(client, iter([f"zero{n}" for n in range(REQUESTS)]))
        client.close()
    finally:
        first.process.stop()
    total = first.points - before
    serving = Serving(person, folder / "data", folder / "points", before + point(total))
    heard: list[str] = []
    try:
        # At its first points it may be gone before the login is answered.
        with contextlib.suppress(AssertionError):
            client = serving.client()
            heard = serving.write(client, iter([f"one{n}" for n in range(REQUESTS * 20)]))
            client.close()
    finally:
        code = serving.process.end()
    assert code == -signal.SIGKILL, serving.process.text
    whole(folder / "data")
    again = Serving(person, folder / "data", folder / "points", 0)
    try:
        client = again.client()
        users = [user.username for user in client.users.list() if user.username.startswith("one")]
        assets = {asset.name: asset for asset in client.assets.list() if asset.name.startswith("one")}
        # What was answered is there; of what was not, at most the one request that was under way.
        for found in (users, assets):
            assert set(heard) <= set(found)
            assert len(found) <= len(heard) + 1
        for name, asset in assets.items():
            assert again.content(asset.id) == (person.home / name).read_bytes()
        assert again.write(client, iter(["last"])) == ["last"]
        client.close()
    finally:
        again.process.stop()
    assert {path.name for path in (folder / "data").iterdir()} <= _KNOWN, list((folder / "data").iterdir())


_KNOWN = {"db.sqlite3", "db.sqlite3-wal", "db.sqlite3-shm", "cert.crt", "cert.key", "server.log", "assets"} | {
    "audit.lock",
    "audit.key",
    "audit_head.json",
}


def test_killed_once_while_starting(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    total = killed_while_starting(tmp_path / "whole", 0)
    point = random.randint(1, total)
    killed_while_starting(tmp_path / f"at-{point}", point)
    record_property("kills", 1)


def test_killed_once_while_writing(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    killed_while_writing(tmp_path / "run", lambda total: random.Random(seed).randint(1, total))
    record_property("kills", 1)


@pytest.mark.long
def test_killed_again_and_again_while_starting(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    total = killed_while_starting(tmp_path / "whole", 0)
    for index in range(STARTS):
        point = random.randint(1 + total * index // STARTS, max(total * (index + 1) // STARTS, 1))
        killed_while_starting(tmp_path / f"{index}-at-{point}", point)
    record_property("kills", STARTS)


@pytest.mark.long
@pytest.mark.parametrize("share", range(WRITES))
def test_killed_again_and_again_while_writing(
    tmp_path: Path, share: int, record_property: Callable[[str, object], None]
) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")

    def point(total: int) -> int:
        return random.Random(seed).randint(1 + total * share // WRITES, max(total * (share + 1) // WRITES, 1))

    killed_while_writing(tmp_path / "run", point)
    record_property("kills", 1)
