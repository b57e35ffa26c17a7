"""A disk that is full at any write, a store that cannot be written, and files too large for memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from medperf.domain.digests import Digest
from medperf.testing.hostile_http import Endless, HostileServer, head, parts, ranged, reply
from medperf.workspace.workspace import Workspace

from .downloading import CONTENT, DIGEST, downloader, refused

SIZE = len(CONTENT)

#: Fetch a file where a limit holds, and say what came of it and what is left.
CHILD = """
import json, resource, sys
from pathlib import Path
from medperf.client.downloads import Downloader
from medperf.domain.digests import Digest
from medperf.domain.errors import MedPerfError
from medperf.wire.models import FileRef
from medperf.workspace.workspace import Workspace

home, url, digest, size, how, largest = sys.argv[1:]
if int(largest) >= 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(largest), int(largest)))
answer = {"code": None}
with Workspace.open(Path(home)) as workspace:
    here = Downloader(workspace.store, sleep=lambda seconds: None)
    try:
        if how == "probe":
            here.probe(url)
        else:
            here.fetch(FileRef(digest=digest, size=int(size), urls=(url,)), name="demo")
    except MedPerfError as error:
        answer |= {"code": error.code, "what": error.what, "fix": error.fix}
store = Path(home, "store")
answer["left"] = sorted(path.name for path in store.rglob("*") if path.is_file())
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
answer["peak"] = int(status["VmHWM"].split()[0])
print(json.dumps(answer))
"""


def run(*arguments: object, before: tuple[str, ...] = ()) -> Any:
    """What a process with these arguments says."""
    command = [*before, sys.executable, "-c", CHILD, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def mounted(*options: str) -> tuple[str, ...]:
    """A command before the command, for which something is mounted somewhere."""
    assert shutil.which("bwrap")
    return ("bwrap", "--dev-bind", "/", "/", "--die-with-parent", *options, "--")


@pytest.mark.parametrize("how", ["fetch", "probe"])
@pytest.mark.parametrize("room", [100, 140, 200, 400])
def test_a_small_disk(tmp_path: Path, how: str, room: int) -> None:
    """``room`` KiB for everything; the file alone has 1,000. Whether its size is said before or not."""
    content = CONTENT * 20
    home = tmp_path / "w"
    home.mkdir()
    disk = mounted("--size", str(room * 1024), "--tmpfs", str(home))
    with HostileServer(reply(200, body=content)) as server:
        answer = run(home, server.url, DIGEST, len(content), how, -1, before=disk)
    assert answer["code"] == "disk_full", answer
    assert "MEDPERF_HOME" in answer["fix"]
    assert answer["left"] == []


def test_a_disk_that_fills_up_while_it_comes(tmp_path: Path) -> None:
    home = tmp_path / "w"
    home.mkdir()
    disk = mounted("--size", str(400 * 1024), "--tmpfs", str(home))
    chunks = parts(head(200, ("Transfer-Encoding", "chunked")), Endless(b"1000\r\n" + bytes(4096) + b"\r\n", 10_000))
    with HostileServer(chunks) as server:
        answer = run(home, server.url, DIGEST, 2**20, "probe", -1, before=disk)
    assert answer["code"] == "disk_full", answer
    assert answer["left"] == []


@pytest.mark.parametrize("how", ["fetch", "probe"])
def test_every_write_that_can_fail(tmp_path: Path, how: str) -> None:
    """A file may have so many bytes at most, from none to more than enough: the note, the partial file, the facts, in turn."""
    codes = []
    content = CONTENT * 20  # more than the workspace's facts need
    digest = Digest.of(content)
    with HostileServer(ranged(content)) as server:
        for largest in (0, 50, 4096, 40_000, 300_000, len(content) - 1, -1):
            answer = run(tmp_path / str(largest), f"{server.url}/f", digest, len(content), how, largest)
            codes.append(answer["code"])
            if answer["code"] is not None:
                # SQLite says of such a limit no more than that it could not write.
                assert answer["code"] in ("disk_full", "workspace_unwritable"), answer
                assert answer["fix"]
                assert set(answer["left"]) <= {digest.hex}, "whole, or not there"
            else:
                assert answer["left"] == [digest.hex]
    assert codes[0] is not None
    assert {"disk_full", None} <= set(codes)


@pytest.mark.parametrize("how", ["fetch", "probe"])
def test_a_store_that_cannot_be_written(tmp_path: Path, how: str) -> None:
    home = tmp_path / "w"
    with Workspace.open(home) as workspace:
        workspace.reports.save({})
        (home / "store").mkdir(mode=0o700)
    readonly = mounted("--ro-bind", str(home), str(home))
    with HostileServer(reply(200, body=CONTENT)) as server:
        answer = run(home, server.url, DIGEST, SIZE, how, -1, before=readonly)
        assert answer["code"] == "workspace_unwritable", answer
        assert server.requests == [], "found before anything is asked for"


@pytest.mark.parametrize("part", ["store/partial", "store"])
def test_a_part_of_the_store_that_cannot_be_written(tmp_path: Path, part: str) -> None:
    home = tmp_path / "w"
    (home / part).mkdir(parents=True)
    readonly = mounted("--ro-bind", str(home / part), str(home / part))
    with HostileServer(reply(200, body=CONTENT)) as server:
        answer = run(home, server.url, DIGEST, SIZE, "fetch", -1, before=readonly)
    assert answer["code"] == "workspace_unwritable", answer
    assert "MEDPERF_HOME" in answer["fix"]
    assert answer["left"] == []


def test_killed_between_being_sealed_and_renamed(tmp_path: Path) -> None:
    """An unfinished file that may not be written any more is made writable again. Without root's rights, which need no permission."""
    home = tmp_path / "w"
    with Workspace.open(home) as workspace:
        writer = workspace.store.partial(DIGEST, size=SIZE)
        assert writer is not None
        with writer:
            writer.write(CONTENT[: SIZE // 2])
    (home / "store" / "partial" / DIGEST.hex).chmod(0o400)
    ordinary = mounted("--unshare-user", "--uid", "1000", "--gid", "1000")
    with HostileServer(ranged(CONTENT)) as server:
        answer = run(home, server.url, DIGEST, SIZE, "fetch", -1, before=ordinary)
        assert [request.start for request in server.requests] == [SIZE // 2]
    assert (answer["code"], answer["left"]) == (None, [DIGEST.hex])


def test_a_size_that_no_disk_has(tmp_path: Path) -> None:
    """What a server announces is held against the disk before the first byte, and against the limit before that."""
    workspace = Workspace.open(tmp_path / "w")
    much = parts(head(200, ("Content-Length", str(2**60))) + CONTENT)
    with HostileServer(much) as server:
        here = downloader(workspace)
        refused(lambda: here.probe(server.url), "file_too_large", workspace)
        refused(lambda: here.probe(server.url, limit=2**61), "disk_full", workspace)


def peak_of(tmp_path: Path, size: int) -> int:
    """KiB that a process that probes so many bytes holds at most."""
    piece = os.urandom(2**20)
    stream = parts(head(200, ("Content-Length", str(size))), Endless(piece, size // len(piece)))
    with HostileServer(stream) as server:
        answer = run(tmp_path / str(size), server.url, DIGEST, 0, "probe", -1)
    assert answer["code"] is None, answer
    return int(answer["peak"])


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    assert peak_of(tmp_path, 64 * 2**20) < peak_of(tmp_path, 2**20) + 8 * 1024


@pytest.mark.long
def test_memory_of_a_gigabyte(tmp_path: Path) -> None:
    assert peak_of(tmp_path, 2**30) < peak_of(tmp_path, 2**20) + 8 * 1024
