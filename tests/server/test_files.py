"""Small files of the data folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from medperf.server.files import write_draft, write_whole


def test_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    target = tmp_path / "database.url"
    for content in (b"first", b"second"):
        write_whole(target, content)
        assert target.read_bytes() == content
    assert target.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_is_left_where_it_has_no_place(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "folder", b"a secret")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_drafts_of_killed_processes_go(tmp_path: Path) -> None:
    target = tmp_path / "database.url"
    ended = subprocess.Popen(["true"])
    ended.wait()
    killed = tmp_path / f".database.url.{ended.pid}.0123456789abcdef"
    killed.write_bytes(b"a secret")
    other = tmp_path / ".database.url.keep"
    other.write_bytes(b"somebody's own")
    ours = write_draft(target, b"under way")
    write_whole(target, b"content")
    assert sorted(tmp_path.iterdir()) == sorted([target, other, ours])
