"""Identity of data on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medperf.domain.errors import InvalidInput
from medperf.runtime.hashing import data_identity


def make_data(folder: Path) -> dict[str, Path]:
    (folder / "data" / "empty").mkdir(parents=True)
    (folder / "labels").mkdir()
    (folder / "data" / "large.bin").write_bytes(b"x" * 3_000_000)
    (folder / "data" / "a.txt").write_text("a")
    (folder / "labels" / "l.csv").write_text("l")
    return {"data": folder / "data", "labels": folder / "labels"}


def test_place_and_times_do_not_matter(tmp_path: Path) -> None:
    one, two = make_data(tmp_path / "one"), make_data(tmp_path / "two")
    os.utime(two["data"] / "a.txt", (1, 1))
    assert data_identity(one).root == data_identity(two).root
    assert data_identity(one).files == 3


@pytest.mark.parametrize("change", ["content", "name", "labels", "empty", "role"])
def test_everything_else_matters(tmp_path: Path, change: str) -> None:
    paths = make_data(tmp_path)
    before = data_identity(paths).root
    if change == "content":
        (paths["data"] / "a.txt").write_text("b")
    elif change == "name":
        (paths["data"] / "a.txt").rename(paths["data"] / "b.txt")
    elif change == "labels":
        (paths["labels"] / "l.csv").write_text("m")
    elif change == "empty":
        (paths["data"] / "empty").rmdir()
    else:
        paths = {"data": paths["labels"], "labels": paths["data"]}
    assert data_identity(paths).root != before


def test_an_index_saves_reading_and_misses_nothing(tmp_path: Path) -> None:
    paths = make_data(tmp_path)
    first = data_identity(paths)
    again = data_identity(paths, index=first.index)
    assert (again.root, again.hashed, first.hashed) == (first.root, 0, 3)
    info = (paths["data"] / "a.txt").stat()
    (paths["data"] / "a.txt").write_text("b")
    os.utime(paths["data"] / "a.txt", ns=(info.st_atime_ns, info.st_mtime_ns))  # the ctime still tells
    changed = data_identity(paths, index=first.index)
    assert changed.root != first.root
    assert changed.hashed == 1


@pytest.mark.parametrize("kind", ["link", "pipe", "missing"])
def test_only_plain_files(tmp_path: Path, kind: str) -> None:
    paths = make_data(tmp_path)
    if kind == "link":
        (paths["data"] / "link").symlink_to("a.txt")
    elif kind == "pipe":
        os.mkfifo(paths["data"] / "pipe")
    else:
        paths["extra"] = tmp_path / "nowhere"
    with pytest.raises(InvalidInput):
        data_identity(paths)
