"""Servers that lie, stall, trickle or lead elsewhere: the right code, in bounded time, and nothing left behind."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from medperf.client.network import Timeouts
from medperf.testing.hostile_http import (
    Answer,
    Endless,
    HostileServer,
    Reset,
    Stall,
    Trickle,
    chunked,
    head,
    parts,
    ranged,
    redirect,
    reply,
)
from medperf.workspace.workspace import Workspace

from .downloading import CONTENT, DIGEST, QUICK, downloader, kept, ref, refused, tried

SIZE = len(CONTENT)
LENGTH = ("Content-Length", str(SIZE))
CHUNKED = ("Transfer-Encoding", "chunked")
SECONDS = 10.0  # on a machine that does much else; each takes about one


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "w")


def range_of(start: int, end: int, total: object) -> tuple[str, str]:
    return "Content-Range", f"bytes {start}-{end}/{total}"


#: name: (answer, code of fetch, code of probe); None: the file comes.
ANSWERS: dict[str, tuple[Answer, str | None, str | None]] = {
    # -- lengths
    "a negative length": (parts(head(200, ("Content-Length", "-5")) + CONTENT), "url_failed", "url_failed"),
    "a length that is no number": (parts(head(200, ("Content-Length", "x")) + CONTENT), "url_failed", "url_failed"),
    "two lengths": (parts(head(200, LENGTH, ("Content-Length", "7")) + CONTENT), "url_failed", "url_failed"),
    "one length twice": (parts(head(200, LENGTH, LENGTH) + CONTENT), None, None),
    "too small a length": (
        parts(head(200, ("Content-Length", str(SIZE - 1))) + CONTENT),
        "size_mismatch",
        "another file",
    ),
    "too large a length": (parts(head(200, ("Content-Length", str(SIZE + 1))) + CONTENT), "size_mismatch", "download_cut"),
    "a length beyond all": (parts(head(200, ("Content-Length", "9" * 18)) + CONTENT), "size_mismatch", "file_too_large"),
    "no length": (parts(head(200) + CONTENT), None, "size_unknown"),
    "truncated, no length": (parts(head(200) + CONTENT[:9]), "download_truncated", "size_unknown"),
    "truncated": (parts(head(200, LENGTH) + CONTENT[:9]), "download_cut", "download_cut"),
    "more than said": (parts(head(200, LENGTH) + CONTENT + b"more"), None, None),
    "more than registered, no length": (parts(head(200) + CONTENT + b"x"), "size_mismatch", "size_unknown"),
    # -- chunks
    "chunks": (chunked(CONTENT[:100], CONTENT[100:]), None, None),
    "too many chunks": (chunked(CONTENT, b"x"), "size_mismatch", "another file"),
    "chunks without an end": (chunked(CONTENT, end=b""), None, "download_cut"),
    "a chunk that is shorter than it says": (parts(head(200, CHUNKED) + b"ff\r\nhi\r\n0\r\n\r\n"), "download_cut", "download_cut"),
    "a chunk of a size that is none": (parts(head(200, CHUNKED) + b"zz\r\nhi\r\n0\r\n\r\n"), "download_cut", "download_cut"),
    "an endless chunk header": (parts(head(200, CHUNKED) + b"5;", Endless(b"a" * 4096, 100)), "download_cut", "download_cut"),
    "chunks and a length": (
        parts(head(200, LENGTH, CHUNKED) + b"5\r\nhello\r\n0\r\n\r\n"),
        "download_truncated",
        "another file",
    ),
    "endless": (parts(head(200, CHUNKED), Endless(b"1000\r\n" + b"a" * 4096 + b"\r\n", 10**6)), "size_mismatch", "file_too_large"),
    # -- encodings
    "a compression nobody asked for": (reply(200, ("Content-Encoding", "gzip"), body=b"\x1f\x8b" + CONTENT[2:]), "digest_mismatch", "url_encoded"),
    "the bytes, called a compression": (reply(200, ("Content-Encoding", "br"), body=CONTENT), None, "url_encoded"),
    # -- ranges
    "a part that nobody asked for": (
        parts(head(206, ("Content-Length", "9"), range_of(5, 13, SIZE)) + CONTENT[5:14]),
        "download_changed",
        "download_changed",
    ),
    "a part without a range": (parts(head(206, LENGTH) + CONTENT), "download_changed", "download_changed"),
    "all of it as a part": (parts(head(206, LENGTH, range_of(0, SIZE - 1, SIZE)) + CONTENT), None, None),
    "a part beyond the end": (parts(head(206, LENGTH, range_of(0, SIZE, SIZE)) + CONTENT), "download_changed", "download_changed"),
    "a part of something else": (parts(head(206, LENGTH, range_of(0, SIZE - 1, SIZE + 1)) + CONTENT), "size_mismatch", "download_cut"),
    "no such range": (reply(416), "download_changed", "download_changed"),
    # -- what is no HTTP
    "another protocol": (parts(b"SSH-2.0-OpenSSH_9\r\n"), "connection_lost", "connection_lost"),
    "another version": (parts(b"\0\0\x12\4\0\0\0\0\0"), "url_failed", "url_failed"),
    "nothing": (parts(), "connection_lost", "connection_lost"),
    "a reset": (parts(Reset()), "connection_lost", "connection_lost"),
    "a NUL in a header": (parts(b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n" + CONTENT), "url_failed", "url_failed"),
    "a header without end": (parts(b"HTTP/1.1 200 OK\r\nX: ", Endless(b"a" * 4096, 10**5)), "url_failed", "url_failed"),
    "headers without end": (parts(b"HTTP/1.1 200 OK\r\n", Endless(b"X: y\r\n" * 500, 10**5)), "url_failed", "url_failed"),
    "hints without end": (parts(Endless(b"HTTP/1.1 103 Early\r\n\r\n" * 100, 10**6)), "server_timeout", "server_timeout"),
    # -- slowness
    "silence": (parts(Stall()), "server_timeout", "server_timeout"),
    "a head that trickles": (parts(Trickle(head(200, LENGTH), 0.05)), "server_timeout", "server_timeout"),
    "silence after the head": (parts(head(200, LENGTH), Stall()), "download_slow", "download_slow"),
    "silence in the middle": (parts(head(200, LENGTH) + CONTENT[:99], Stall()), "download_slow", "download_slow"),
    "a body that trickles": (parts(head(200, LENGTH), Trickle(CONTENT, 0.01)), "download_slow", "download_slow"),
    "chunk headers that trickle": (parts(head(200, CHUNKED), Trickle(b"5;" + b"a" * 9999, 0.01)), "download_slow", "download_slow"),
    # -- statuses
    "a busy server": (reply(503, ("Retry-After", "1")), "url_failed", "url_failed"),
    "a status that is none": (parts(b"HTTP/1.1 999 X\r\n\r\n"), "url_failed", "url_failed"),
    "gone": (reply(410), "url_not_found", "url_not_found"),
    "a login": (reply(401, ("WWW-Authenticate", "Basic")), "url_forbidden", "url_forbidden"),
}  # fmt: skip


@pytest.mark.parametrize("how", ["fetch", "probe"])
@pytest.mark.parametrize("name", ANSWERS)
def test_answers(workspace: Workspace, name: str, how: str) -> None:
    answer, *codes = ANSWERS[name]
    code = codes[how == "probe"]
    waits = {"timeouts": QUICK} if code in ("server_timeout", "download_slow") else {}
    began = time.monotonic()
    if code is None:
        found = tried(answer, workspace, how=how)
        assert (found.digest, found.path.read_bytes()) == (DIGEST, CONTENT)
    elif code == "another file":
        other = tried(answer, workspace, how=how)
        assert kept(workspace) == [other.path], "a file of unknown digest is what the server says it is"
    else:
        refused(lambda: tried(answer, workspace, how=how, **waits), code, workspace)
    assert time.monotonic() - began < SECONDS


def test_the_time_a_download_may_take_grows_with_its_size(workspace: Workspace) -> None:
    """More than the window, but steadily: it is waited for."""
    steady = parts(head(200, LENGTH), *(Trickle(CONTENT[at : at + 1], 0.03) for at in range(20)), CONTENT[20:])
    patient = Timeouts(read=0.5, total=0.5, window=0.3, rate=10.0)
    assert tried(steady, workspace, timeouts=patient)


class TestRedirects:
    def chain(self, length: int) -> list[Answer]:
        statuses = (301, 302, 303, 307, 308)
        return [*(redirect(f"/{at}", statuses[at % 5]) for at in range(length)), reply(200, body=CONTENT)]

    def test_five_are_followed_and_six_are_not(self, workspace: Workspace) -> None:
        with HostileServer(*self.chain(6)) as server:
            refused(lambda: downloader(workspace).probe(server.url), "too_many_redirects", workspace)
            assert len(server.requests) == 6
        with HostileServer(*self.chain(5)) as server:
            assert downloader(workspace).probe(server.url).digest == DIGEST

    def test_one_clock_runs_over_all_of_them(self, workspace: Workspace) -> None:
        slow = parts(Trickle(head(302, ("Location", "/"), ("Content-Length", "0")), 0.01))
        with HostileServer(slow) as server:
            here = downloader(workspace, timeouts=QUICK)
            refused(lambda: here.probe(server.url), "server_timeout", workspace)
            assert len(server.requests) < 3

    @pytest.mark.parametrize(
        ("target", "code"),
        [
            ("", "url_failed"),
            ("http://[::1", "url_failed"),
            ("/", "too_many_redirects"),
            ("http://example.org/x", "insecure_url"),
            ("//10.0.0.1/x", "insecure_url"),
            ("file:///etc/passwd", "bad_url"),
            ("ftp://example.org/x", "bad_url"),
            ("data:text/plain,x", "bad_url"),
            ("asset:1", "bad_url"),
            ("javascript:x", "bad_url"),
            ("http://127.0.0.1:99999/", "bad_url"),
            ("https://example.org/" + "a" * 9000, "bad_url"),
            ("https://u:p@example.org/x", "url_credentials"),
            ("https://example.org\\@10.0.0.1/", "url_credentials"),
            ("https://10.0.0.1/", "private_address"),
            ("https://172.31.255.255/", "private_address"),
            ("https://192.168.1.1/", "private_address"),
            ("https://100.64.0.1/", "private_address"),
            ("https://169.254.169.254/latest/meta-data", "private_address"),
            ("https://0.0.0.0/", "private_address"),
            ("https://[::]/", "private_address"),
            ("https://[fe80::1]/", "private_address"),
            ("https://[fd00::1]/", "private_address"),
            ("https://[fec0::1]/", "private_address"),
            ("https://[::ffff:10.0.0.1]/", "private_address"),
            ("https://[::ffff:169.254.169.254]/", "private_address"),
            ("https://[::10.0.0.1]/", "private_address"),
            ("https://[64:ff9b::a9fe:a9fe]/", "private_address"),
            ("https://[2002:a9fe:a9fe::]/", "private_address"),
            ("https://2852039166/", "private_address"),
            ("https://0xa9fea9fe/", "private_address"),
            ("https://0xa9.0xfe.0xa9.0xfe/", "private_address"),
            ("https://0251.0376.0251.0376/", "private_address"),
            ("https://169.254.43518/", "private_address"),
            ("https://10.1/", "private_address"),
            ("https://0/", "private_address"),
            ("https://\uff11\uff10.0.0.1/", "private_address"),
        ],
    )
    def test_where_none_leads(self, workspace: Workspace, target: str, code: str) -> None:
        quoted = target.encode().decode("latin-1")
        with HostileServer(redirect(quoted)) as server:
            error = refused(lambda: downloader(workspace).probe(f"{server.url}/f"), code, workspace)
            assert server.url in error.what, "whoever led there is named"
            assert len(error.what) < 800

    def test_a_private_address_is_never_asked(self, workspace: Workspace) -> None:
        """From outside: the first URL does not name this machine, so no redirect may."""
        hidden = downloader(workspace, allow_loopback=False)
        with HostileServer(reply(200, body=CONTENT)) as server:
            for url in (server.url, server.url.replace("127.0.0.1", "localhost")):
                refused(lambda url=url: hidden.fetch(ref(url), name="demo"), "private_address", workspace)  # type: ignore[misc]
            assert server.requests == []
            assert downloader(workspace, allow_loopback=False, allow_private=True).fetch(ref(server.url), name="demo")

    def test_nothing_is_carried_to_another_place(self, workspace: Workspace) -> None:
        with HostileServer(reply(200, body=CONTENT)) as last:
            target = last.url.replace("127.0.0.1", "localhost") + "/x"
            cookies = (("Set-Cookie", "a=b"), ("Set-Cookie", "c=d; Domain=localhost; Path=/"))
            with HostileServer(redirect(target, 307, *cookies)) as first:
                downloader(workspace).probe(f"{first.url}/?secret=1")
                own = {name for name, _ in first.requests[0].headers}
            assert {name for name, _ in last.requests[0].headers} == own
            assert own == {"host", "accept", "accept-encoding", "connection", "user-agent"}

    def test_signatures_are_not_shown(self, workspace: Workspace) -> None:
        with HostileServer(redirect("https://10.0.0.1/x?signature=" + "s" * 99)) as server:
            error = refused(lambda: downloader(workspace).probe(server.url), "private_address", workspace)
        assert "sss" not in error.what


class TestSeveralURLs:
    def test_the_first_that_has_it(self, workspace: Workspace) -> None:
        wrong = reply(200, body=CONTENT[::-1])
        with (
            HostileServer(wrong) as one,
            HostileServer(reply(404)) as two,
            HostileServer(reply(200, body=CONTENT)) as three,
        ):
            found = downloader(workspace).fetch(ref(one.url, two.url, "https://10.0.0.1/f", three.url), name="demo")
            assert found.digest == DIGEST
            assert [len(server.requests) for server in (one, two, three)] == [1, 1, 1]
        assert kept(workspace) == [found.path]

    def test_none_has_it(self, workspace: Workspace) -> None:
        with HostileServer(reply(200, body=CONTENT[::-1])) as one, HostileServer(reply(404)) as two:
            error = refused(
                lambda: downloader(workspace).fetch(ref(one.url, two.url), name="demo"), "url_not_found", workspace
            )
            assert one.url in error.what
            assert [entry["code"] for entry in error.details["tried"]] == ["digest_mismatch", "url_not_found"]

    def test_a_bad_beginning_does_not_spoil_a_good_host(self, workspace: Workspace) -> None:
        """The first host sends the first half of something else; the second is asked to go on, then for all of it."""
        bad = parts(head(200, LENGTH) + CONTENT[::-1][: SIZE // 2])
        with HostileServer(bad) as one, HostileServer(ranged(CONTENT, etag=None)) as two:
            assert downloader(workspace).fetch(ref(one.url, two.url), name="demo").digest == DIGEST
            assert [request.start for request in two.requests] == [SIZE // 2, 0]

    def test_a_known_hash_is_checked_before_anything_is_kept(self, workspace: Workspace) -> None:
        with HostileServer(reply(200, body=CONTENT[::-1])) as server:
            here = downloader(workspace)
            refused(lambda: here.probe(server.url, expected=DIGEST), "digest_mismatch", workspace)
