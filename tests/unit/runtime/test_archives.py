"""Archives: deterministic packing, safe unpacking."""

from __future__ import annotations

import gzip
import io
import os
import resource
import signal
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from medperf.domain.errors import InvalidInput
from medperf.domain.events import Event, Progress
from medperf.runtime.archives import ArchiveLimits, pack_folder, unpack


def make_folder(folder: Path) -> Path:
    (folder / "sub" / "empty").mkdir(parents=True)
    (folder / "b.txt").write_text("b")
    (folder / "sub" / "a b=ü.txt").write_text("a")
    (folder / "tool.sh").write_text("#!/bin/sh\n")
    (folder / "tool.sh").chmod(0o755)
    return folder


def member(
    name: str, content: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = link
    info.size = len(content) if kind == tarfile.REGTYPE else 0
    return info, content


def write(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def test_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = make_folder(tmp_path / "one"), make_folder(tmp_path / "two")
    os.utime(second / "b.txt", (1, 1))
    (second / "b.txt").chmod(0o600)
    (second / "__pycache__").mkdir()
    (second / "__pycache__" / "x.pyc").write_text("junk")
    (second / "._b.txt").write_text("junk")
    (second / ".DS_Store").write_text("junk")
    assert pack_folder(first, tmp_path / "1.tar.gz") == pack_folder(second, tmp_path / "2.tar.gz")
    assert (tmp_path / "1.tar.gz").read_bytes() == (tmp_path / "2.tar.gz").read_bytes()


def test_round_trip(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source")
    digest, size = pack_folder(source, tmp_path / "p.tar.gz")
    unpack(tmp_path / "p.tar.gz", tmp_path / "out")
    assert (tmp_path / "out" / "sub" / "a b=ü.txt").read_text() == "a"
    assert (tmp_path / "out" / "sub" / "empty").is_dir()
    assert (tmp_path / "out" / "tool.sh").stat().st_mode & 0o100
    assert pack_folder(tmp_path / "out", tmp_path / "again.tar.gz") == (digest, size)


def test_packing_refuses_links_and_leaves_nothing(tmp_path: Path) -> None:
    source = make_folder(tmp_path / "source")
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput, match="symbolic link"):
        pack_folder(source, tmp_path / "p.tar.gz")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_kinds_are_told_by_content(tmp_path: Path, mode: str) -> None:
    archive = write(tmp_path / "strange.bin", member("./a/b.txt"), mode=mode)
    unpack(archive, tmp_path / "out")
    assert (tmp_path / "out" / "a" / "b.txt").read_text() == "x"


def test_what_macos_adds_is_dropped(tmp_path: Path) -> None:
    archive = write(
        tmp_path / "a.tgz", member("._a"), member("a"), member("__MACOSX/x"), member("d/._y"), member(".DS_Store")
    )
    unpack(archive, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["a"]


@pytest.mark.parametrize("keep", [0, 1, 10, 100, -1, -9, -20])
def test_truncated_archives(tmp_path: Path, keep: int) -> None:
    archive = write(tmp_path / "a.tar.gz", member("a", os.urandom(5000)), member("b", os.urandom(5000)))
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(InvalidInput):
        unpack(archive, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    archive = write(tmp_path / "a.tar.gz", member("a", os.urandom(5000)))
    content = bytearray(archive.read_bytes())
    content[2000] ^= 1
    archive.write_bytes(bytes(content))
    with pytest.raises(InvalidInput):
        unpack(archive, tmp_path / "out")


@pytest.mark.parametrize("limits", [ArchiveLimits(entries=2), ArchiveLimits(bytes=100)])
def test_limits(tmp_path: Path, limits: ArchiveLimits) -> None:
    archive = write(tmp_path / "a.tar.gz", *(member(f"f{number}", b"x" * 60) for number in range(3)))
    with pytest.raises(InvalidInput, match="more than"):
        unpack(archive, tmp_path / "out", limits=limits)


def header(name: str, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.SOLARIS_XHDTYPE])
def test_headers_are_never_read_whole_into_memory(tmp_path: Path, kind: bytes) -> None:
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=9) as file:
        file.write(member("good")[0].tobuf() + b"x".ljust(512, b"\0") + header("x", 48 * 1024**2, kind))
        for _ in range(48):
            file.write(b"1" * 1024**2)  # also what makes older tarfiles search for hours
        file.write(header("y", 0, tarfile.REGTYPE) + bytes(1024))
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput, match="headers of more than"):
            unpack(tmp_path / "a.tar.gz", tmp_path / "out")
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024**2
    finally:
        tracemalloc.stop()


def test_a_chain_of_headers_is_refused(tmp_path: Path) -> None:
    one = header("x", 512, tarfile.XHDTYPE) + b"11 path=ab\n".ljust(512, b"\0")
    (tmp_path / "a.tar").write_bytes(one * 50 + header("y", 0, tarfile.REGTYPE) + bytes(1024))
    with pytest.raises(InvalidInput, match="same header twice"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_implied_folders_count(tmp_path: Path) -> None:
    archive = write(tmp_path / "a.tar.gz", *(member("/".join([str(number)] * 60)) for number in range(3)))
    with pytest.raises(InvalidInput, match="more than 100 entries"):
        unpack(archive, tmp_path / "out", limits=ArchiveLimits(entries=100))


def test_what_no_package_holds_is_not_unpacked(tmp_path: Path) -> None:
    """A folder's identity leaves these out: what is in them must not be there to run."""
    names = ("__pycache__/infer.cpython-311.pyc", "sub/.git/config", "sub/._x", "__MACOSX/x", "infer.py")
    unpack(write(tmp_path / "a.tar.gz", *map(member, names)), tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["infer.py"]


def test_a_full_disk_is_not_the_archives_fault(tmp_path: Path) -> None:
    archive = write(tmp_path / "a.tar.gz", member("a", os.urandom(100_000)))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            unpack(archive, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_an_existing_folder_is_never_touched(tmp_path: Path) -> None:
    archive = write(tmp_path / "a.tar.gz", member("a"))
    (tmp_path / "out").mkdir()
    with pytest.raises(InvalidInput, match="exists"):
        unpack(archive, tmp_path / "out")


def test_long_work_tells_how_far_it_is(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for number in range(3):
        (tmp_path / "source" / f"{number}.bin").write_bytes(os.urandom(1024**2) * 20)
    events: list[Event] = []
    pack_folder(tmp_path / "source", tmp_path / "a.tar.gz", emit=events.append)
    unpack(tmp_path / "a.tar.gz", tmp_path / "out", emit=events.append)
    assert {event.text for event in events if isinstance(event, Progress)} == {"Packing source", "Unpacking a.tar.gz"}
