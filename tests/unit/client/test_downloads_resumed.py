"""Downloads that were cut, by the network or by a kill, go on where they stopped; two at once do not collide."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from medperf.client.client import MedPerfClient
from medperf.client.http import Transport
from medperf.domain.digests import Digest
from medperf.domain.errors import Interrupted, MedPerfError, ServerUnavailable
from medperf.domain.events import Event, Progress
from medperf.testing.hostile_http import (
    Call,
    CuttingProxy,
    HostileServer,
    Part,
    Request,
    Stall,
    head,
    parts,
    ranged,
    reply,
)
from medperf.wire.models import FileRef
from medperf.workspace.partials import KEEP_SECONDS
from medperf.workspace.workspace import Workspace

from .downloading import CONTENT, DIGEST, PATIENT, downloader, fresh, kept, ref, refused

SIZE = len(CONTENT)
HALF = SIZE // 2
PIECE = 4096


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    with Workspace.open(tmp_path / "w") as opened:
        yield opened


def cut_once(workspace: Workspace, url: str, *, how: str = "fetch") -> None:
    """A command that fails because all the server sends is cut."""
    here = downloader(workspace)
    with pytest.raises(ServerUnavailable) as caught:
        here.fetch(ref(url), name="demo") if how == "fetch" else here.probe(url)
    assert caught.value.code == "download_cut"
    assert "same command again" in caught.value.fix


def half_then_nothing(content: bytes = CONTENT, etag: str | None = '"v1"') -> Any:
    """The first request gets one half; all others get a head and are cut."""

    def answer(request: Request) -> Iterator[Part]:
        yield from ranged(content, etag=etag, cut=0 if request.start else len(content) // 2)(request)

    return answer


class TestCuts:
    @pytest.mark.parametrize("etag", ['"v1"', None, 'W/"weak"'])
    def test_at_every_chunk(self, etag: str | None) -> None:
        """One command is cut after each possible number of pieces; the next one has the rest."""
        for cut in range(0, SIZE, PIECE):
            with fresh() as workspace, HostileServer(ranged(CONTENT, etag=etag, cut=cut), parts()) as server:
                here = downloader(workspace)
                with pytest.raises(ServerUnavailable):
                    here.fetch(ref(server.url), name="demo")
                assert workspace.store.path(DIGEST) is None
                with HostileServer(ranged(CONTENT, etag=etag)) as later:
                    found = here.fetch(ref(later.url), name="demo")
                assert found.path.read_bytes() == CONTENT
                assert [request.start for request in later.requests] == [cut]
                assert kept(workspace) == [found.path]

    def test_within_one_command(self, workspace: Workspace) -> None:
        events: list[Event] = []
        with HostileServer(ranged(CONTENT, cut=PIECE)) as server:
            found = downloader(workspace).fetch(ref(server.url), name="demo", emit=events.append)
            assert found.path.read_bytes() == CONTENT
            assert [request.start for request in server.requests] == list(range(0, SIZE, PIECE))
            assert {request.header("if-range") for request in server.requests[1:]} == {'"v1"'}
        done = [event.done for event in events if isinstance(event, Progress)]
        assert done == sorted(done), "nothing is counted twice"

    def test_progress_begins_with_what_is_here(self, workspace: Workspace) -> None:
        with HostileServer(half_then_nothing()) as server:
            cut_once(workspace, server.url)
        events: list[Event] = []
        with HostileServer(ranged(CONTENT)) as server:
            downloader(workspace).fetch(ref(server.url), name="demo", emit=events.append)
        assert events[:2] == [
            Progress("Checking what is here of demo", HALF, SIZE),
            Progress("Downloading demo", HALF, SIZE),
        ]

    def test_all_came_but_the_end(self, workspace: Workspace) -> None:
        """Killed between the last byte and the rename: nothing is asked for again."""
        writer = workspace.store.partial(DIGEST, size=SIZE)
        assert writer is not None
        with writer:
            writer.write(CONTENT)
        with HostileServer(reply(500)) as server:
            assert downloader(workspace).fetch(ref(server.url), name="demo").digest == DIGEST
            assert server.requests == []

    @pytest.mark.parametrize("damage", ["other bytes", "longer", "zeros"])
    def test_what_is_here_is_damaged(self, workspace: Workspace, damage: str) -> None:
        """A power loss may leave anything in an unfinished file."""
        with HostileServer(half_then_nothing()) as server:
            cut_once(workspace, server.url)
        (path,) = kept(workspace)
        path.write_bytes({"other bytes": b"?" * HALF, "longer": b"?" * SIZE * 2, "zeros": bytes(SIZE)}[damage])
        with HostileServer(ranged(CONTENT)) as server:
            found = downloader(workspace).fetch(ref(server.url), name="demo")
            assert found.path.read_bytes() == CONTENT
        assert kept(workspace) == [found.path]

    @pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"source": 1}', b"\xff" * 99])
    def test_the_note_beside_it_is_damaged(self, workspace: Workspace, note: bytes) -> None:
        with HostileServer(half_then_nothing(), ranged(CONTENT, cut=0), ranged(CONTENT, cut=0), ranged(CONTENT, cut=0), ranged(CONTENT)) as server:  # fmt: skip
            cut_once(workspace, f"{server.url}/f", how="probe")
            kept(workspace)[0].with_suffix(".json").write_bytes(note)
            assert downloader(workspace).probe(f"{server.url}/f").digest == DIGEST
            assert server.requests[-1].start == 0, "nothing says what those bytes are of"


class TestChanged:
    OTHER = CONTENT[::-1]

    @pytest.mark.parametrize("how", ["fetch", "probe"])
    def test_between_two_commands(self, workspace: Workspace, how: str) -> None:
        """The ETag tells: what was there is forgotten."""
        first = half_then_nothing(self.OTHER, '"old"')
        with HostileServer(
            first, *[ranged(self.OTHER, etag='"old"', cut=0)] * 3, ranged(CONTENT, etag='"new"')
        ) as server:
            cut_once(workspace, f"{server.url}/f", how=how)
            here = downloader(workspace)
            found = here.fetch(ref(f"{server.url}/f"), name="x") if how == "fetch" else here.probe(f"{server.url}/f")
            assert found.path.read_bytes() == CONTENT
            assert server.requests[-1].header("if-range") == '"old"'

    def test_between_two_reads_without_an_etag(self, workspace: Workspace) -> None:
        """Nothing but the digest tells: it is read once more from its first byte."""
        with HostileServer(ranged(self.OTHER, etag=None, cut=HALF), ranged(CONTENT, etag=None)) as server:
            assert downloader(workspace).fetch(ref(server.url), name="demo").digest == DIGEST
            assert [request.start for request in server.requests] == [0, HALF, 0]

    def test_again_and_again(self, workspace: Workspace) -> None:
        def moody(request: Request) -> Iterator[Part]:
            etag = f'"{len(server.requests)}"'
            length = ("Content-Length", str(SIZE - request.start))
            found = ("Content-Range", f"bytes {request.start}-{SIZE - 1}/{SIZE}")
            yield head(206 if request.start else 200, length, ("ETag", etag), *([found] if request.start else []))
            yield CONTENT[:PIECE]

        with HostileServer(moody) as server:
            refused(lambda: downloader(workspace).probe(server.url), "download_changed", workspace)

    def test_another_total_than_before(self, workspace: Workspace) -> None:
        longer = CONTENT + b"more"
        with HostileServer(ranged(CONTENT, cut=HALF), ranged(longer, etag='"v1"'), ranged(longer)) as server:
            assert downloader(workspace).probe(server.url).size == len(longer)
            assert [request.start for request in server.requests] == [0, HALF, 0]

    def test_probing_without_an_etag_begins_anew_and_keeps_nothing(self, workspace: Workspace) -> None:
        with HostileServer(half_then_nothing(etag=None)) as server:
            cut_once(workspace, f"{server.url}/f", how="probe")
            assert kept(workspace) == []

    def test_probing_goes_on_with_the_next_command(self, workspace: Workspace) -> None:
        with HostileServer(half_then_nothing(), *[ranged(CONTENT, cut=0)] * 3, ranged(CONTENT)) as server:
            cut_once(workspace, f"{server.url}/f", how="probe")
            assert downloader(workspace).probe(f"{server.url}/f").digest == DIGEST
            assert server.requests[-1].start == HALF
            assert server.requests[-1].header("if-range") == '"v1"'


CHILD = """
import sys
from pathlib import Path
from medperf.client.downloads import Downloader
from medperf.wire.models import FileRef
from medperf.workspace.workspace import Workspace
with Workspace.open(Path(sys.argv[1])) as workspace:
    ref = FileRef(digest=sys.argv[3], size=int(sys.argv[4]), urls=(sys.argv[2],))
    print(Downloader(workspace.store).fetch(ref, name="demo").digest)
"""


def child(workspace: Workspace, url: str) -> subprocess.Popen[str]:
    """A process that fetches the file."""
    command = [sys.executable, "-c", CHILD, str(workspace.path), url, str(DIGEST), str(SIZE)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


class TestProcesses:
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_a_killed_one_is_continued(self, workspace: Workspace, number: signal.Signals) -> None:
        sent = threading.Event()
        stalled = ranged(CONTENT, cut=HALF, then=Stall())

        def first(request: Request) -> Iterator[Part]:
            yield from list(stalled(request))[:-1]
            yield Call(sent.set)
            yield Stall()

        with HostileServer(first, ranged(CONTENT)) as server:
            with child(workspace, server.url) as killed:
                assert sent.wait(30)
                while workspace.store.partial_bytes(DIGEST) < HALF:
                    assert killed.poll() is None
                killed.send_signal(number)
            assert workspace.store.path(DIGEST) is None
            with child(workspace, server.url) as next_one:
                assert next_one.communicate(timeout=60)[0].strip() == DIGEST
            assert [request.start for request in server.requests] == [0, HALF]
        assert [path.name for path in kept(workspace)] == [DIGEST.hex]

    def test_two_at_once_download_it_once(self, workspace: Workspace) -> None:
        with HostileServer(reply(200, body=CONTENT)) as server:
            both = [child(workspace, server.url) for _ in range(2)]
            for process in both:
                with process:
                    assert process.communicate(timeout=60)[0].strip() == DIGEST
            assert len(server.requests) == 1

    def test_one_waits_for_the_other_and_says_so(self, workspace: Workspace) -> None:
        go_on, waited = threading.Event(), threading.Event()

        def slow(request: Request) -> Iterator[Part]:
            yield head(200, ("Content-Length", str(SIZE))) + CONTENT[:HALF]
            yield Call(lambda: go_on.wait(30))
            yield CONTENT[HALF:]

        def watch(event: Event) -> None:
            if (
                isinstance(event, Progress)
                and event.text.startswith("Waiting for another process")
                and event.done == HALF
            ):
                waited.set()

        with HostileServer(slow) as server, ThreadPoolExecutor(2) as pool:
            fetch = downloader(workspace).fetch
            one = pool.submit(fetch, ref(server.url), name="demo")
            while workspace.store.partial_bytes(DIGEST) < HALF:
                assert not one.done()
            two = pool.submit(fetch, ref(server.url), name="demo", emit=watch)
            assert waited.wait(30)
            go_on.set()
            assert one.result(30) == two.result(30)
            assert len(server.requests) == 1

    def test_the_one_that_waits_takes_over(self, workspace: Workspace) -> None:
        """The first is interrupted; the second continues what came."""
        cancel, waiting = threading.Event(), threading.Event()

        def first(request: Request) -> Iterator[Part]:
            yield head(200, ("Content-Length", str(SIZE))) + CONTENT[:HALF]
            yield Call(lambda: waiting.wait(30))
            yield Call(cancel.set)
            yield Stall()

        with HostileServer(first, ranged(CONTENT)) as server, ThreadPoolExecutor(2) as pool:
            one = pool.submit(downloader(workspace, cancel=cancel).fetch, ref(server.url), name="demo")
            while workspace.store.partial_bytes(DIGEST) < HALF:
                assert not one.done()
            emit = lambda event: waiting.set() if "Waiting" in event.text else None  # noqa: E731
            two = pool.submit(downloader(workspace).fetch, ref(server.url), name="demo", emit=emit)
            assert isinstance(one.exception(30), Interrupted)
            assert two.result(30).digest == DIGEST
            assert [request.start for request in server.requests] == [0, HALF]

    def test_ctrl_c_ends_waiting(self, workspace: Workspace) -> None:
        held = workspace.store.partial(DIGEST, size=SIZE)
        assert held is not None
        cancel = threading.Event()
        with held:
            here = downloader(workspace, cancel=cancel)
            with pytest.raises(Interrupted):
                here.fetch(ref("http://127.0.0.1:9"), name="demo", emit=lambda event: cancel.set())

    def test_ctrl_c_keeps_what_came(self, workspace: Workspace) -> None:
        cancel = threading.Event()
        half = head(200, ("Content-Length", str(SIZE))) + CONTENT[:HALF]

        def watch(event: Event) -> None:
            if isinstance(event, Progress) and event.done == HALF:
                cancel.set()

        with HostileServer(parts(half, Stall()), ranged(CONTENT)) as server:
            with pytest.raises(Interrupted):
                downloader(workspace, cancel=cancel).fetch(ref(server.url), name="demo", emit=watch)
            assert downloader(workspace).fetch(ref(server.url), name="demo").digest == DIGEST
            assert server.requests[-1].start == HALF


class TestLeftovers:
    def unfinished(self, workspace: Workspace) -> Path:
        with HostileServer(half_then_nothing()) as server:
            cut_once(workspace, server.url)
        (path,) = kept(workspace)
        return path

    def test_are_counted_and_seen_by_nobody(self, workspace: Workspace) -> None:
        path = self.unfinished(workspace)
        assert workspace.store.path(DIGEST) is None
        usage = workspace.usage()
        assert usage["downloads"] >= HALF
        assert usage["store"] == 0
        assert path.stat().st_mode & 0o077 == 0

    def test_go_after_a_week(self, workspace: Workspace) -> None:
        path = self.unfinished(workspace)
        workspace.sweep()
        assert path.exists()
        for moved in (-KEEP_SECONDS - 60, KEEP_SECONDS + 60):  # long ago, or by a clock that was wrong
            path = path if path.exists() else self.unfinished(workspace)
            when = path.stat().st_mtime + moved
            os.utime(path, (when, when))
            assert workspace.sweep() == 1
            assert list(path.parent.iterdir()) == []

    def test_that_somebody_fills_stay(self, workspace: Workspace) -> None:
        path = self.unfinished(workspace)
        os.utime(path, (0, 0))
        held = workspace.store.partial(DIGEST)
        assert held is not None
        with held:
            assert workspace.sweep() == 0
            assert path.exists()

    def test_that_vanish_between_being_opened_and_locked(
        self, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Another process finished or swept it in that instant: it is made anew, not written to where nobody finds it."""
        path = self.unfinished(workspace)
        real = fcntl.flock

        def late(descriptor: int, operation: int) -> None:
            path.unlink(missing_ok=True)
            monkeypatch.setattr("fcntl.flock", real)
            real(descriptor, operation)

        monkeypatch.setattr("fcntl.flock", late)
        held = workspace.store.partial(DIGEST)
        assert held is not None
        with held:
            assert held.written == 0
            held.write(CONTENT)
            held.commit(DIGEST)
        assert workspace.store.path(DIGEST) is not None

    def test_a_link_in_their_place_is_not_followed(self, workspace: Workspace, tmp_path: Path) -> None:
        victim = tmp_path / "victim"
        victim.write_bytes(b"precious")
        path = self.unfinished(workspace)
        path.unlink()
        path.symlink_to(victim)
        with HostileServer(ranged(CONTENT)) as server, pytest.raises(MedPerfError):
            downloader(workspace).fetch(ref(server.url), name="demo")
        assert victim.read_bytes() == b"precious"


class TestOurServer:
    """The same for files of the MedPerf server, through something that cuts connections."""

    @pytest.fixture
    def asset(self, real_server: Any, tmp_path: Path) -> Any:
        content = os.urandom(200_000)
        path = tmp_path / "file"
        path.write_bytes(content)
        client = real_server.login("admin", "admin")
        made = client.assets.upload(path, name="file", digest=Digest.of(content), size=len(content))
        return real_server, client.transport, made.id, content

    @contextlib.contextmanager
    def through(self, asset: Any, port: int) -> Iterator[MedPerfClient]:
        server, transport, *_ = asset
        client = MedPerfClient(
            Transport(
                f"https://localhost:{port}",
                token=transport._token,
                instance_id=transport.instance_id,
                verify=server.certificate,
                timeouts=PATIENT,
                sleep=lambda seconds: None,
            )
        )
        yield client
        client.close()

    def test_cut_here_and_there(self, asset: Any) -> None:
        server, _, number, content = asset
        target = ("127.0.0.1", urlsplit(server.url).port)
        wanted = FileRef(digest=Digest.of(content), size=len(content), urls=(f"asset:{number}",))
        for budget in range(10_000, 200_000, 20_000):
            # Enough for the handshake and the head; then so many bytes, then nothing more.
            with fresh() as workspace:
                with (
                    CuttingProxy(target, budget, 0) as proxy,
                    self.through(asset, proxy.port) as api,
                    pytest.raises(ServerUnavailable),
                ):
                    downloader(workspace, api=api).fetch(wanted, name="demo")
                had = workspace.store.partial_bytes(Digest(wanted.digest))
                assert had or budget < 20_000
                events: list[Event] = []
                with CuttingProxy(target, None) as whole, self.through(asset, whole.port) as api:
                    found = downloader(workspace, api=api).fetch(wanted, name="demo", emit=events.append)
                assert found.path.read_bytes() == content
                assert Progress("Downloading demo", had, len(content)) in events, "it went on, and did not begin anew"
