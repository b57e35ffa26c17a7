from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput, MedPerfError
from medperf.workspace.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "w")


def put(workspace: Workspace, *chunks: bytes) -> Digest:
    """Store a file, as a download does."""
    content = b"".join(chunks)
    writer = workspace.store.partial(Digest.of(content), size=len(content))
    assert writer is not None
    with writer:
        for chunk in chunks:
            writer.write(chunk)
        return writer.commit(Digest.of(content))


def files(workspace: Workspace) -> list[str]:
    return sorted(path.name for path in (workspace.path / "store").rglob("*") if path.is_file())


def test_a_file_lies_under_its_digest_and_cannot_be_written(workspace: Workspace) -> None:
    digest = put(workspace, b"ab", b"c")
    path = workspace.store.path(digest)
    assert digest == Digest.of(b"abc")
    assert path == workspace.path / "store" / "sha256" / digest.hex[:2] / digest.hex
    assert path.read_bytes() == b"abc"
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert put(workspace, b"abc") == digest
    assert files(workspace) == [digest.hex]
    assert workspace.usage()["store"] == 3


@given(chunks=st.lists(st.binary(max_size=300), max_size=5))
@settings(max_examples=15, deadline=None)
def test_any_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, chunks: list[bytes]) -> None:
    with Workspace.open(tmp_path_factory.getbasetemp() / "any") as workspace:
        digest = put(workspace, *chunks)
        path = workspace.store.path(digest)
        assert path is not None
        assert path.read_bytes() == b"".join(chunks)


def test_another_digest_than_expected_is_refused(workspace: Workspace) -> None:
    writer = workspace.store.partial(Digest.of(b"abd"))
    assert writer is not None
    with writer:
        writer.write(b"abc")
        with pytest.raises(InvalidInput) as error:
            writer.commit(Digest.of(b"abd"))
        writer.restart()
    assert error.value.code == "digest_mismatch"
    assert files(workspace) == []


def test_a_writer_can_begin_anew(workspace: Workspace) -> None:
    writer = workspace.store.partial(Digest.of(b"abc"))
    assert writer is not None
    with writer:
        writer.write(b"wrong and longer")
        writer.restart()
        assert writer.written == 0
        writer.write(b"abc")
        digest = writer.commit(Digest.of(b"abc"))
    path = workspace.store.path(digest)
    assert path is not None
    assert path.read_bytes() == b"abc"


def test_a_changed_file_is_found_and_removed(workspace: Workspace) -> None:
    digest = put(workspace, b"abc")
    path = workspace.store.path(digest)
    assert path is not None
    info = path.stat()
    path.chmod(0o600)
    path.write_bytes(b"abd")
    path.chmod(0o400)
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert workspace.store.path(digest) is None
    assert not path.exists()
    assert not workspace.store.verify(digest)


def test_a_touched_but_intact_file_stays(workspace: Workspace) -> None:
    digest = put(workspace, b"abc")
    path = workspace.store.path(digest)
    assert path is not None
    os.utime(path)
    assert workspace.store.path(digest) == path
    assert workspace.store.verify(digest)


def test_a_size_that_no_disk_has_is_refused_before_the_first_byte(workspace: Workspace) -> None:
    with pytest.raises(MedPerfError) as error:
        workspace.store.partial(Digest.of(b"abc"), size=2**60)
    assert error.value.code == "disk_full"
    assert f"{2**60:,} bytes are needed" in error.value.what
    assert "MEDPERF_HOME" in error.value.fix


FILLER = """
import sys
from pathlib import Path
from medperf.domain.digests import Digest
from medperf.domain.errors import MedPerfError
from medperf.workspace.workspace import Workspace
workspace = Workspace.open(Path(sys.argv[1]))
workspace.reports.save({})
try:
    with workspace.store.partial(Digest.of(b"all")) as writer:
        for _ in range(100):
            writer.write(b"x" * 100_000)
except MedPerfError as error:
    print(error.code, [path for path in (workspace.path / "store").rglob("*") if path.is_file()])
try:
    with workspace.steps.begin(Digest.of(b"k"), task="infer") as step:
        for number in range(100):
            (step.outputs / str(number)).write_bytes(b"x" * 50_000) if number < 30 else step.outputs.exists()
        step.seal({"x": "y" * 4_000_000})
except (MedPerfError, OSError) as error:
    print(getattr(error, "code", "errno"), list((workspace.path / "steps").iterdir()))
print(len(workspace.reports.ls()))
"""


def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    bwrap = ["bwrap", "--dev-bind", "/", "/", "--size", "4000000", "--tmpfs", str(disk)]
    done = subprocess.run(
        [*bwrap, sys.executable, "-c", FILLER, str(disk / "w")], capture_output=True, text=True, check=False
    )
    assert done.stdout.splitlines() == ["disk_full []", "disk_full []", "1"], done.stderr


def test_a_file_size_limit_is_a_full_disk_too(tmp_path: Path) -> None:
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))  # noqa: E731
    done = subprocess.run(
        [sys.executable, "-c", FILLER, str(tmp_path / "w")],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
    )
    assert done.stdout.splitlines() == ["disk_full []", "disk_full []", "1"], done.stderr
