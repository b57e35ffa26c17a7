"""What a server has acknowledged is on the disk, bytes and names, so that a power cut right after the answer takes nothing away."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from medperf.domain.digests import Digest
from medperf.server import admin
from medperf.server.location import PostgresURL, remember
from medperf.server.settings import Settings
from medperf.testing.power import Disk

from .conftest import CHEAP, World, problem


def asset_of(world: World, content: bytes) -> Path:
    name = Digest.of(content).removeprefix("sha256:")
    (found,) = world.settings.assets.rglob(name)
    return found


def incoming_of(world: World, upload: str) -> Path:
    (found,) = world.settings.assets.rglob(upload)
    return found


@pytest.mark.parametrize("content", [b"", b"bytes"])
def test_a_file_that_became_an_asset(world: World, content: bytes) -> None:
    disk = Disk()
    with disk.watched():
        world.admin.upload(content)
    assert disk.misses(asset_of(world, content), below=world.settings.data) is None


def test_a_piece(world: World) -> None:
    upload = world.admin.announce(b"two pieces").json()["id"]
    disk = Disk()
    with disk.watched():
        assert world.admin.send_piece(upload, 0, b"two").status_code == 204
        assert disk.misses(incoming_of(world, upload), below=world.settings.data) is None
        assert world.admin.send_piece(upload, 3, b" pieces").status_code == 204
        assert disk.misses(incoming_of(world, upload), below=world.settings.data) is None


def test_what_a_killed_server_wrote_last(world: World) -> None:
    """The bytes are all there, and none of them was synced; nor are the folders that it made."""
    content = b"written by a server that was killed"
    upload = world.admin.announce(content).json()["id"]
    instance = world.client.get("/api/v1/server").json()["instance_id"]
    left = world.settings.assets / instance / "incoming" / upload
    left.parent.mkdir(parents=True)
    left.write_bytes(content)
    left.chmod(0o600)
    disk = Disk()
    with disk.watched():
        assert world.admin.post(f"/uploads/{upload}/completion").status_code == 201
    assert disk.misses(asset_of(world, content), below=world.settings.data) is None


def test_what_the_disk_refused_is_sent_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed fsync the system may have dropped what it could not write: nothing of that piece counts."""
    upload = world.admin.announce(b"two pieces").json()["id"]
    assert world.admin.send_piece(upload, 0, b"two").status_code == 204

    def broken(_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        assert world.admin.send_piece(upload, 3, b" pieces").status_code == 500
    assert world.admin.get(f"/uploads/{upload}").json()["offset"] == 3
    problem(world.admin.send_piece(upload, 10, b""), 409, "wrong_offset")
    assert world.admin.send_piece(upload, 3, b" pieces").status_code == 204
    assert world.admin.post(f"/uploads/{upload}/completion").status_code == 201


@pytest.mark.parametrize("folder", ["server", "srv/medperf/server"])
def test_a_server_that_was_made(tmp_path: Path, folder: str) -> None:
    data = tmp_path / folder
    disk = Disk()
    with disk.watched():
        admin.init(data, development=True, password_cost=CHEAP)
    assert {path.name for path in data.iterdir()} == {"cert.crt", "cert.key", "db.sqlite3"}
    for path in data.iterdir():
        assert disk.misses(path, below=tmp_path, content=path.suffix != ".sqlite3") is None


def test_where_the_database_is(settings: Settings) -> None:
    disk = Disk()
    with disk.watched():
        remember(settings, PostgresURL.parse("postgresql://medperf@localhost/medperf"))
    assert disk.misses(settings.database_url_file, below=settings.data) is None
