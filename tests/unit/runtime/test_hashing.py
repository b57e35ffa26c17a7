"""Identity of data on disk."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest

from medperf.domain.errors import Interrupted, InvalidInput
from medperf.domain.events import Event, Progress
from medperf.domain.identity import DataEntry, identity_root
from medperf.runtime import hashing, hashpool, hashworker
from medperf.runtime.hashindex import DataIndex
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


def many(folder: Path, *, files: int = 3000) -> dict[str, Path]:
    """Enough small files, in several folders and with a large one among them, that further processes read some."""
    for number in range(files):
        place = folder / "data" / str(number % 7)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"f{number}.txt").write_text(f"content {number}")
    (folder / "data" / "large.bin").write_bytes(b"x" * 3_000_000)
    (folder / "data" / "odd \udcff\nname.txt").write_text("odd")
    (folder / "data" / "U\u0308.txt").write_text("decomposed")
    return {"data": folder / "data"}


class TestManyFiles:
    def test_the_same_identity_as_one_file_after_the_other(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paths = many(tmp_path)
        shared = data_identity(paths)
        monkeypatch.setattr(hashing, "_MANY", 10**9)
        alone = data_identity(paths)
        assert (shared.root, shared.files, shared.bytes) == (alone.root, alone.files, alone.bytes)
        assert dict(shared.index) == dict(alone.index)

    def test_reference(self, tmp_path: Path) -> None:
        """Against the definition, without any of the quick ways."""
        paths = many(tmp_path, files=100)
        entries = [
            DataEntry(
                f"data/{path.relative_to(paths['data'])}", path.stat().st_size, sha256(path.read_bytes()).hexdigest()
            )
            for path in paths["data"].rglob("*")
            if path.is_file()
        ]
        assert data_identity(paths).root == identity_root(reversed(entries))

    def test_a_helper_that_dies_leaves_its_work_to_us(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        paths = many(tmp_path)
        right = data_identity(paths).root
        program = tmp_path / "dies.py"
        program.write_text("import sys; sys.stdin.buffer.read(100); sys.stdout.write('half')")
        monkeypatch.setattr(hashpool, "_PROGRAM", str(program))
        assert data_identity(paths).root == right
        monkeypatch.setattr(hashpool.sys, "executable", str(tmp_path / "nowhere"))
        assert data_identity(paths).root == right

    def test_no_helper_outlives_a_refusal(self, tmp_path: Path) -> None:
        paths = many(tmp_path)
        (paths["data"] / "3" / "secret").mkdir()
        os.mkfifo(paths["data"] / "3" / "secret" / "pipe")
        with pytest.raises(InvalidInput, match="special file"):
            data_identity(paths)

        def stop(event: Event) -> None:
            raise Interrupted

        (paths["data"] / "3" / "secret" / "pipe").unlink()
        with pytest.raises(Interrupted):
            data_identity(paths, emit=stop)
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        assert not [pid for pid in children if b"hashworker" in Path(f"/proc/{pid}/cmdline").read_bytes()]

    def test_an_unreadable_file_among_many_is_named(self, tmp_path: Path) -> None:
        paths = many(tmp_path)
        listed = hashworker.batch(os.fspath(paths["data"] / "1"), ["f1.txt", "gone.txt"])
        answer = hashpool.alone(listed, bytearray(hashworker.SMALL_BYTES))
        assert isinstance(answer, hashworker.Trouble)
        assert (answer.kind, answer.position) == (hashworker.UNREADABLE, 1)

    def test_progress_is_told(self, tmp_path: Path) -> None:
        told: list[Event] = []
        data_identity(many(tmp_path), emit=told.append)
        assert {event.unit for event in told if isinstance(event, Progress)} == {"files", "bytes"}


class TestIndex:
    def test_kept_as_bytes(self, tmp_path: Path) -> None:
        found = data_identity(make_data(tmp_path))
        again = DataIndex.load(found.index.dump())
        assert (again.root, dict(again), again.empty) == (found.root, dict(found.index), frozenset({"data/empty"}))
        assert again.digest("data/a.txt") == sha256(b"a").hexdigest()
        assert again.digest("data/none") is None

    @pytest.mark.parametrize("damage", [b"", b"other", slice(0, -1), slice(0, 60)])
    def test_damage_is_told(self, tmp_path: Path, damage: bytes | slice) -> None:
        data = data_identity(make_data(tmp_path)).index.dump()
        with pytest.raises(InvalidInput, match="damaged"):
            DataIndex.load(data[damage] if isinstance(damage, slice) else damage)

    def test_a_part_is_what_it_is_alone(self, tmp_path: Path) -> None:
        paths = make_data(tmp_path)
        index = data_identity(paths).index
        for role, path in paths.items():
            assert index.part(role) == data_identity({"output": path}).root

    @pytest.mark.parametrize("change", ["added", "removed", "empty folder", "folder filled"])
    def test_nothing_is_overlooked(self, tmp_path: Path, change: str) -> None:
        paths = make_data(tmp_path)
        known = data_identity(paths).index
        if change == "added":
            (paths["data"] / "new").write_text("")
        elif change == "removed":
            (paths["data"] / "a.txt").unlink()
        elif change == "empty folder":
            (paths["labels"] / "folder").mkdir()
        else:
            (paths["data"] / "empty" / "file").write_text("")
        found = data_identity(paths, index=known)
        assert found.root != known.root
        assert found.root == data_identity(paths).root
