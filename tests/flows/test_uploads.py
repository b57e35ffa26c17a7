"""Large files on bad networks: uploads and downloads that are cut, killed and continued."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medperf.client.client import MedPerfClient
from medperf.client.downloads import Downloader
from medperf.client.http import Transport
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput, NotFound, ServerUnavailable
from medperf.domain.events import Event, Progress
from medperf.wire.models import FileRef, TokenCreate
from medperf.workspace.workspace import Workspace

from .conftest import Command, RunningServer
from .cutting import CuttingProxy, Direction
from .uploading import CONTENT, PIECE, logged_in, make_pieces_small, shortly, upload


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    make_pieces_small(monkeypatch)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights.onnx"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def token(server: RunningServer) -> str:
    asking = MedPerfClient(Transport(server.url))
    found = asking.tokens.create(TokenCreate(username="admin", password="admin")).token
    asking.close()
    return found


@pytest.fixture
def direct(server: RunningServer, token: str) -> Iterator[MedPerfClient]:
    client = logged_in(server.url, token)
    yield client
    client.close()


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def places(seen: list[int]) -> list[int]:
    """Before, at and after every boundary."""
    return sorted({place + step for place in seen[:-1] for step in (0, 1, 200)} & set(range(seen[-1])))


def on_disk(server: RunningServer) -> list[str]:
    return sorted(path.name for path in (server.data / "assets").rglob("*") if path.is_file())


@pytest.mark.parametrize("direction", ["up", "down"])
def test_an_upload_that_is_cut_anywhere(
    server: RunningServer, direct: MedPerfClient, token: str, file: Path, direction: Direction
) -> None:
    """Every cut, of the request and of the answer: one asset with the same bytes, and nothing left behind."""

    def through(after: int | None) -> CuttingProxy:
        with CuttingProxy(port_of(server.url), direction=direction, after=after) as proxy:
            client = logged_in(proxy.url, token)
            made = upload(client, file)
            client.close()
        assert made.digest == Digest.of(CONTENT)
        assert [asset.id for asset in direct.assets.list(owner="me")] == [made.id]
        assert not direct.uploads.list()
        assert on_disk(server) == [Digest.of(CONTENT).hex]
        direct.assets.delete(made.id)
        return proxy

    whole = through(None)
    tried = places(whole.seen[direction])
    assert len(tried) > 8  # fewer where a busy machine hands several writes over at once
    for after in tried:
        assert through(after).cuts == 1, f"cut {direction} after {after} bytes"


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_download_that_is_cut_anywhere(
    server: RunningServer, direct: MedPerfClient, token: str, file: Path, tmp_path: Path, direction: Direction
) -> None:
    made = upload(direct, file)
    ref = FileRef(digest=made.digest, size=made.size, urls=(f"asset:{made.id}",))

    def through(after: int | None) -> CuttingProxy:
        with (
            CuttingProxy(port_of(server.url), direction=direction, after=after) as proxy,
            Workspace.open(tmp_path / f"{direction}-{after}") as workspace,
        ):
            client = logged_in(proxy.url, token)
            found = Downloader(workspace.store, api=client, sleep=shortly).fetch(ref, name="weights")
            assert found.path.read_bytes() == CONTENT
            client.close()
        return proxy

    whole = through(None)
    end = whole.seen[direction][-1]
    tried = places(whole.seen[direction]) if direction == "up" else range(0, end, max(1, end // 25))
    for after in tried:
        assert through(after).cuts == 1


def test_progress_shows_what_was_there_already(
    server: RunningServer, direct: MedPerfClient, token: str, file: Path
) -> None:
    key = "the-same-key"
    with CuttingProxy(port_of(server.url), after=3500) as proxy:
        client = logged_in(proxy.url, token)
        proxy.close()  # the network goes, and stays away
        with pytest.raises(ServerUnavailable):
            upload(client, file, idempotency_key=key)
        client.close()
    sent: list[int] = []

    def stop(event: Event) -> None:
        if isinstance(event, Progress):
            sent.append(event.done)
            if event.done > 2 * PIECE:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upload(direct, file, idempotency_key=key, emit=stop)
    assert sent[0] == 0
    events: list[Event] = []
    made = upload(direct, file, idempotency_key=key, emit=events.append)
    first, last = events[0], events[-1]
    assert isinstance(first, Progress)
    assert first.done >= 2 * PIECE
    assert last == Progress("Uploading weights.onnx", len(CONTENT), len(CONTENT))
    assert direct.assets.get(made.id).digest == Digest.of(CONTENT)


@pytest.mark.parametrize("change", ["shorter", "longer", "other bytes"])
def test_a_file_that_changes_while_it_is_read(direct: MedPerfClient, file: Path, change: str) -> None:
    def meddle(event: Event) -> None:
        if isinstance(event, Progress) and event.done == PIECE:
            new = {"shorter": CONTENT[: 2 * PIECE], "longer": CONTENT + b"x", "other bytes": CONTENT[:-1] + b"?"}[
                change
            ]
            with file.open("r+b") as stream:
                stream.truncate(len(new))
                stream.write(new)

    with pytest.raises(InvalidInput) as error:
        upload(direct, file, emit=meddle)
    assert error.value.code == "file_changed"
    assert list(direct.assets.list(owner="me")) == []
    assert not direct.uploads.list()


def test_an_upload_that_somebody_cancelled_is_told(direct: MedPerfClient, file: Path) -> None:
    def cancel(event: Event) -> None:
        if isinstance(event, Progress) and event.done == PIECE:
            for entry in direct.uploads.list():
                other.uploads.cancel(entry.id)

    other = logged_in(direct.transport.base_url)
    with pytest.raises(NotFound):
        upload(direct, file, emit=cancel)
    other.close()


# ------------------------------------------------------------------------------------------------------ the command line


def test_the_commands(online: Command, file: Path, tmp_path: Path) -> None:
    made = online("asset", "upload", file, "--format", "json")
    assert made.code == 0, made.err
    number = made.json["id"]
    assert online("asset", "view", number, "--format", "json").json["digest"] == Digest.of(CONTENT)
    got = online("asset", "download", number)
    assert (got.code, got.out) == (0, "Wrote weights.onnx.\n")
    assert Path("weights.onnx").read_bytes() == CONTENT
    assert online("asset", "download", number, "--format", "json").error["code"] == "file_exists"
    assert online("asset", "download", number, "-o", tmp_path / "copy").code == 0
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert "4,096 of" in online("asset", "quota").out
    assert online("asset", "delete", number).out == f"Deleted asset {number} (weights.onnx).\n"
    assert online("asset", "view", number).code == 1
    assert online("asset", "cancel", "x", "--format", "json").error["code"] == "bad_id"


def test_a_killed_command_is_continued_by_the_next(
    online: Command, server: RunningServer, home: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first process sent is not sent again; what it leaves can be seen and given up."""
    from medperf.client.assets import UploadsPart

    real, calls = UploadsPart.append, [0]

    def append(self: UploadsPart, upload_id: str, **settings: Any) -> int:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return real(self, upload_id, **settings)

    monkeypatch.setattr(UploadsPart, "append", append)
    assert online("asset", "upload", file).code == 130
    quota = online("asset", "quota", "--format", "json").json
    assert [entry["offset"] for entry in quota["unfinished"]] == [PIECE]
    done = online("asset", "upload", file, "--format", "json")
    assert done.code == 0, done.err
    assert calls[0] == 2 + 2, "three pieces in all, one of them not sent again"
    assert online("asset", "quota", "--format", "json").json["unfinished"] == []
    assert not list(home.glob("*/uploads/*"))
    other = online("asset", "upload", file, "--format", "json")
    assert other.json["id"] != done.json["id"], "a finished upload is not continued"


def test_a_submission_that_was_cut_uses_what_was_uploaded(
    online: Command, workflow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medperf.client.client import MLCubesPart

    folder = workflow.folder / "model" / "mlcube"
    assert online("mlcube", "package", folder).code == 0
    words = (
        "mlcube", "submit", "--name", "m", "--mlcube-file", folder / "deploy/mlcube.yaml",
        "--parameters-file", folder / "deploy/parameters.yaml",
    )  # fmt: skip

    def cut(*_: Any, **__: Any) -> Any:
        raise ServerUnavailable("connection_lost", "Cut.", "Try again.")

    with monkeypatch.context() as patched:
        patched.setattr(MLCubesPart, "create", cut)
        assert online(*words).code == 1
    before = online("asset", "ls", "--mine", "--format", "json").json["items"]
    assert before
    assert online(*words).code == 0
    assert online("asset", "ls", "--mine", "--format", "json").json["items"] == before
