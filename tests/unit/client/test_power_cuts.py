"""A login or profile that was said to be kept is on the disk, with its folder."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from medperf.client.credentials import Credential, FileCredentialStore
from medperf.client.profiles import set_profile
from medperf.testing.power import Disk


def test_a_login(tmp_path: Path) -> None:
    disk = Disk()
    store = FileCredentialStore(tmp_path / "deep" / "home")
    credential = Credential("https://localhost:8000", "token", datetime.now(UTC), "alice", False, "instance")
    with disk.watched():
        store.set("default", credential)
    assert disk.misses(store.path, below=tmp_path) is None


def test_a_profile(tmp_path: Path) -> None:
    disk = Disk()
    home = tmp_path / "deep" / "home"
    with disk.watched():
        set_profile(home, engine="sandbox")
    (path,) = [path for path in home.iterdir() if not path.name.startswith(".")]
    assert disk.misses(path, below=tmp_path) is None
