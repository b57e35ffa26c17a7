"""Archives made to harm: refused, with nothing left and little spent; odd ones that are whole are taken."""

from __future__ import annotations

import gzip
import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.runtime.archives import ArchiveLimits, pack_folder, unpack
from medperf.runtime.images.unpack import unpack_wheel
from medperf.runtime.manifests.files import folder_identity
from medperf.testing.hostile import ARCHIVES, GOOD_ARCHIVES, WHEELS, bomb
from medperf.testing.hostile.archives import FOLDER, Maker, header, member, repeated
from medperf.testing.hostile.wheels import wheel

MIB = 1024**2
Unpack = Callable[[Path, Path], object]


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def written_bytes() -> int:
    """What this process has written so far, to files and elsewhere."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("wchar:"))


@pytest.mark.parametrize("make", ARCHIVES.values(), ids=ARCHIVES)
def test_hostile_archives_leave_nothing(tmp_path: Path, make: Maker) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(make())
    before, started = written_bytes(), time.process_time()
    with pytest.raises(InvalidInput) as caught:
        unpack(archive, tmp_path / "out")
    assert caught.value.code == "bad_archive"
    assert "a.tar.gz" in caught.value.what
    assert caught.value.fix
    assert len(caught.value.what) < 500
    assert caught.value.what.isprintable()
    assert names(tmp_path) == ["a.tar.gz"]
    assert written_bytes() - before < 300 * MIB
    assert time.process_time() - started < 4


def test_one_large_file_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(bomb())
    before = written_bytes()
    with pytest.raises(InvalidInput, match="times its size"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    assert written_bytes() - before < 1000


@pytest.mark.parametrize("name", GOOD_ARCHIVES)
def test_odd_archives_that_are_whole(tmp_path: Path, name: str) -> None:
    make, files = GOOD_ARCHIVES[name]
    (tmp_path / "a.tar.gz").write_bytes(make())
    unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    found = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert {str(path.relative_to(tmp_path / "out")) for path in found} == files
    assert {path.stat().st_mode & 0o7777 for path in found} <= {0o644, 0o755}
    assert all(path.stat().st_mtime > 10**9 for path in found), "times are those of the unpacking"
    assert folder_identity(tmp_path / "out")


@pytest.mark.parametrize("make", WHEELS.values(), ids=WHEELS)
def test_hostile_wheels(tmp_path: Path, make: Maker) -> None:
    (tmp_path / "bad-1.0-py3-none-any.whl").write_bytes(make())
    (tmp_path / "deep" / "site").mkdir(parents=True)
    before, started = written_bytes(), time.process_time()
    with pytest.raises(InvalidInput) as caught:
        unpack_wheel(tmp_path / "bad-1.0-py3-none-any.whl", tmp_path / "deep" / "site")
    assert caught.value.code == "bad_wheel"
    assert "bad-1.0-py3-none-any.whl" in caught.value.what
    assert names(tmp_path) == ["bad-1.0-py3-none-any.whl", "deep"]
    assert names(tmp_path / "deep") == ["site"]
    assert written_bytes() - before < 10 * MIB
    assert time.process_time() - started < 2


LIMITED = """
import resource, sys
from pathlib import Path
from medperf.domain.errors import InvalidInput
from medperf.runtime.archives import unpack
from medperf.runtime.images.unpack import unpack_wheel
import hashlib, shutil, tarfile, zipfile
resource.setrlimit(resource.RLIMIT_AS, (400 * 1024**2,) * 2)
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        if path.suffix == ".whl":
            unpack_wheel(path, Path(sys.argv[2]))
        else:
            unpack(path, Path(sys.argv[2]) / "out")
    except InvalidInput:
        continue
    sys.exit(f"{path} was taken")
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) // 1024)
"""


def test_memory_is_bounded(tmp_path: Path) -> None:
    """All of them in one process that may have 400 MiB of addresses; it reports the most that it used, in MiB."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    for folder, ending in ((ARCHIVES, "tar.gz"), (WHEELS, "whl")):
        for number, make in enumerate(folder.values()):
            (tmp_path / "in" / f"{number}.{ending}").write_bytes(make())
    command = [sys.executable, "-c", LIMITED, str(tmp_path / "in"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout) < 200


def test_an_archive_that_changes_after_it_was_checked(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(gzip.compress(member("a") + bytes(1024)))
    digest = Digest.of(archive.read_bytes())
    unpack(archive, tmp_path / "good", digest=digest)
    archive.write_bytes(gzip.compress(member("b") + bytes(1024)))
    with pytest.raises(InvalidInput, match="changed after it was checked"):
        unpack(archive, tmp_path / "out", digest=digest)
    assert not (tmp_path / "out").exists()


def test_an_archive_that_grows_while_it_is_read(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    archive.write_bytes(member("a", os.urandom(40 * MIB)) + bytes(1024))

    def grow(_: object) -> None:
        with archive.open("ab") as file:
            file.write(bytes(MIB))

    with pytest.raises(InvalidInput, match="changed after it was checked"):
        unpack(archive, tmp_path / "out", emit=grow)
    assert names(tmp_path) == ["a.tar"]


def test_no_room_is_said_before_the_disk_is_full(tmp_path: Path) -> None:
    """Honest as far as anybody can tell, but larger than the disk."""
    size = 1 << 50
    head = header("large", b"\x80" + size.to_bytes(11, "big"))
    (tmp_path / "a.tar").write_bytes(head + bytes(1024))
    before = written_bytes()
    with pytest.raises(OSError, match="No space left"):
        unpack(tmp_path / "a.tar", tmp_path / "out", limits=ArchiveLimits(bytes=1 << 60, ratio=1 << 60))
    assert written_bytes() - before < 1000
    assert names(tmp_path) == ["a.tar"]


def entries(count: int) -> bytes:
    """A small file that names the same folder ``count`` times (in thousands)."""
    return repeated(b"", header("a", kind=FOLDER, mode=0o755) * 1000, count // 1000, bytes(1024))


def test_too_many_entries(tmp_path: Path) -> None:
    (tmp_path / "a.tar.gz").write_bytes(entries(30_000))
    with pytest.raises(InvalidInput, match="more than 20,000 entries"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out", limits=ArchiveLimits(entries=20_000))


@pytest.mark.long
def test_a_million_entries(tmp_path: Path) -> None:
    """Refused at the limit; up to it, different ones are taken, in bounded memory."""
    (tmp_path / "a.tar.gz").write_bytes(entries(1_001_000))
    with pytest.raises(InvalidInput, match=r"entries|times its size"):
        unpack(tmp_path / "a.tar.gz", tmp_path / "out")
    with gzip.open(tmp_path / "b.tar.gz", "wb", compresslevel=1) as file:
        for number in range(999_000):
            file.write(header(f"d{number // 1000}/{number}"))
        file.write(bytes(1024))
    unpack(tmp_path / "b.tar.gz", tmp_path / "out")
    assert sum(len(files) for _, _, files in os.walk(tmp_path / "out")) == 999_000


# --------------------------------------------------------------------------------------------------------------- at random

SEEDS = [make() for make in (*ARCHIVES.values(), *(good for good, _ in GOOD_ARCHIVES.values())) if len(make()) < 20_000]
WHEEL_SEEDS = [data for data in (make() for make in WHEELS.values()) if len(data) < 20_000]
WHEEL_SEEDS += [wheel(("a/b.py", b"x" * 500), ("c.txt", b"y"))]


@st.composite
def mutated(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A seed, unpacked or not, with bytes changed, cut out or repeated."""
    data = draw(st.sampled_from(seeds))
    repack = False
    if data.startswith(b"\x1f\x8b") and draw(st.booleans()):
        try:
            data, repack = gzip.decompress(data), True
        except (OSError, EOFError):
            repack = False
    for _ in range(draw(st.integers(0, 5))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        to = draw(st.integers(at, min(len(data), at + 600)))
        new = draw(st.one_of(st.binary(max_size=12), st.just(data[at:to] * 2), st.just(bytes(to - at))))
        data = data[:at] + new + data[to:]
    if draw(st.booleans()):
        data = mended(data)
    return gzip.compress(data, 1) if repack else data


def mended(data: bytes) -> bytes:
    """With right checksums wherever a header seems to be, so that what comes after them is reached."""
    raw = bytearray(data)
    for start in range(0, len(raw) - 511, 512):
        if raw[start + 257 : start + 262] == b"ustar":
            raw[start + 148 : start + 156] = b" " * 8
            raw[start + 148 : start + 156] = b"%06o\0 " % sum(raw[start : start + 512])
    return bytes(raw)


def try_one(folder: Path, data: bytes, work: Unpack) -> None:
    """It is taken or refused with `InvalidInput`, soon; nothing comes to lie outside or beside."""
    archive, out = folder / "a.tar.gz", folder / "inner" / "out"
    archive.write_bytes(data)
    out.parent.mkdir(exist_ok=True)
    started = time.process_time()
    try:
        work(archive, out)
    except InvalidInput:
        assert names(out.parent) in ([], ["out"])  # a wheel's site-packages is its caller's
    assert time.process_time() - started < 3
    assert names(folder) == ["a.tar.gz", "inner"]
    assert not any(path.is_symlink() for path in out.rglob("*"))
    subprocess.run(["rm", "-rf", str(out)], check=True)


def unpack_tar(archive: Path, out: Path) -> None:
    """It takes what it takes whole: what lies there can be packed again."""
    unpack(archive, out)
    pack_folder(out, out.parent / "again.tar.gz")
    unpack(out.parent / "again.tar.gz", out.parent / "again")
    assert folder_identity(out) == folder_identity(out.parent / "again")
    subprocess.run(["rm", "-rf", str(out.parent / "again"), str(out.parent / "again.tar.gz")], check=True)


def unpack_zip(archive: Path, out: Path) -> None:
    out.mkdir()
    unpack_wheel(archive, out)


fuzzed = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(data=mutated(SEEDS))
@settings(fuzzed, max_examples=100)
def test_mutated_archives(tmp_path: Path, data: bytes) -> None:
    try_one(tmp_path, data, unpack_tar)


@given(data=mutated(WHEEL_SEEDS))
@settings(fuzzed, max_examples=100)
def test_mutated_wheels(tmp_path: Path, data: bytes) -> None:
    try_one(tmp_path, data, unpack_zip)


@pytest.mark.long
@given(data=mutated(SEEDS) | st.binary(max_size=2000))
@settings(fuzzed, max_examples=5000)
def test_many_mutated_archives(tmp_path: Path, data: bytes) -> None:
    try_one(tmp_path, data, unpack_tar)


@pytest.mark.long
@given(data=mutated(WHEEL_SEEDS) | st.binary(max_size=2000))
@settings(fuzzed, max_examples=5000)
def test_many_mutated_wheels(tmp_path: Path, data: bytes) -> None:
    try_one(tmp_path, data, unpack_zip)


parts = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="/\\"), min_size=1, max_size=8
)
trees = st.dictionaries(st.lists(parts, min_size=1, max_size=3).map("/".join), st.binary(max_size=2000), max_size=6)


@given(tree=trees)
@example(tree={"c:drive": b""})
@example(tree={"a" * 120 + "/" + "b" * 120: b"long", "\u60a3\u8005/\u00e9": b"x" * 512, "-rf": b""})
@settings(fuzzed, max_examples=40)
def test_what_is_packed_is_unpacked(tmp_path: Path, tree: dict[str, bytes]) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    for folder in (source, out):
        subprocess.run(["rm", "-rf", str(folder)], check=True)
    source.mkdir()
    for name, content in tree.items():
        path = source / name
        if "." in name.split("/") or ".." in name.split("/"):
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
    try:
        digest, _ = pack_folder(source, tmp_path / "a.tar.gz")
    except InvalidInput:  # names that no package can have, or the same name twice
        return
    unpack(tmp_path / "a.tar.gz", out, digest=digest)
    assert folder_identity(out) == folder_identity(source)
    assert pack_folder(out, tmp_path / "a.tar.gz")[0] == digest
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "a.tar.gz").read_bytes())) as archive:
        assert all(one.isreg() or one.isdir() for one in archive)
