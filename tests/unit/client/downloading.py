"""What the tests of downloads share: a file, its reference, and what a failed download may leave."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medperf.client.downloads import Downloader, Fetched
from medperf.client.network import Timeouts
from medperf.domain.digests import Digest
from medperf.domain.errors import MedPerfError
from medperf.testing.hostile_http import Answer, HostileServer
from medperf.wire.models import FileRef
from medperf.workspace.workspace import Workspace

CONTENT = bytes(range(256)) * 200
DIGEST = Digest.of(CONTENT)
#: Everything that waits for a network does so for a moment only.
QUICK = Timeouts(connect=0.5, read=0.2, write=0.5, total=0.5, window=0.2, rate=50_000)
PATIENT = Timeouts(connect=10.0, read=10.0, write=10.0, total=20.0, window=10.0)
UNFINISHED = ("download_cut", "download_slow", "interrupted")


def ref(*urls: str, content: bytes = CONTENT) -> FileRef:
    return FileRef(digest=Digest.of(content), size=len(content), urls=urls)


def downloader(workspace: Workspace, **settings: Any) -> Downloader:
    return Downloader(workspace.store, **({"sleep": lambda seconds: None, "timeouts": PATIENT} | settings))


def kept(workspace: Workspace) -> list[Path]:
    """Files of the store, unfinished ones included, notes about them not."""
    found = (workspace.path / "store").rglob("*")
    return [path for path in found if path.is_file() and path.suffix != ".json"]


def refused(call: Callable[[], object], code: str, workspace: Workspace) -> MedPerfError:
    """The call fails with this code, says what to do, and leaves nothing but what can be continued."""
    with pytest.raises(MedPerfError) as caught:
        call()
    error = caught.value
    assert error.code == code, str(error)
    assert error.fix
    left = [path for path in kept(workspace) if code not in UNFINISHED or path.parent.name != "partial"]
    assert left == []
    return error


@contextlib.contextmanager
def fresh() -> Iterator[Workspace]:
    """A workspace for one of many tries, where syncing costs nothing."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder, Workspace.open(Path(folder) / "w") as workspace:
        yield workspace


def tried(answer: Answer, workspace: Workspace, *, how: str = "fetch", **settings: Any) -> Fetched:
    """Fetch a server that gives this answer again and again, or probe it for at most a megabyte."""
    with HostileServer(answer) as server:
        here, url = downloader(workspace, **settings), f"{server.url}/f"
        return here.fetch(ref(url), name="demo") if how == "fetch" else here.probe(url, limit=1024**2)
