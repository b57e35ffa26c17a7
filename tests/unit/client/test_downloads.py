from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from medperf.client.downloads import Downloader
from medperf.client.network import AddressRule, Timeouts
from medperf.domain.digests import Digest
from medperf.domain.errors import (
    Forbidden,
    Interrupted,
    InvalidInput,
    MedPerfError,
    NotFound,
    ServerUnavailable,
    Unauthenticated,
)
from medperf.domain.events import Event, Progress
from medperf.wire.models import FileRef
from medperf.workspace.workspace import Workspace

CONTENT = bytes(range(256)) * 2000
DIGEST = Digest.of(CONTENT)
HALF = len(CONTENT) // 2


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace.open(tmp_path / "w")


def ref(*urls: str, digest: str = DIGEST, size: int = len(CONTENT)) -> FileRef:
    return FileRef(digest=digest, size=size, urls=urls)


def downloader(workspace: Workspace, **settings: Any) -> Downloader:
    return Downloader(workspace.store, sleep=lambda seconds: None, **settings)


def whole(handler: Any) -> None:
    handler.answer(200, CONTENT)


def refused(call: Any, kind: type[MedPerfError], code: str, workspace: Workspace) -> MedPerfError:
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.code == code, str(caught.value)
    assert caught.value.fix
    kept = [path for path in (workspace.path / "store").rglob("*") if path.is_file()]
    # What came before a cut stays, to be continued, and is not taken for a file; anything else leaves nothing.
    unfinished = {"download_cut", "download_slow", "interrupted"}
    assert [path for path in kept if code not in unfinished or path.parent.name != "partial"] == []
    return caught.value


class TestWhole:
    def test_a_file_is_fetched_once(self, serve: Any, workspace: Workspace) -> None:
        server = serve(whole)
        events: list[Event] = []
        found = downloader(workspace).fetch(ref(server.url + "/a.tar.gz"), name="demo", emit=events.append)
        assert (found.digest, found.size, found.path.read_bytes()) == (DIGEST, len(CONTENT), CONTENT)
        assert isinstance(events[-1], Progress)
        assert (events[0], events[-1]) == (
            Progress("Downloading demo", 0, len(CONTENT)),
            Progress("Downloading demo", len(CONTENT), len(CONTENT)),
        )
        assert downloader(workspace).fetch(ref(server.url + "/a.tar.gz"), name="demo") == found
        assert len(server.seen) == 1
        assert server.seen[0].headers["accept-encoding"] == "identity"
        assert "authorization" not in server.seen[0].headers

    def test_an_unknown_file_is_probed(self, serve: Any, workspace: Workspace) -> None:
        for headers in ({}, {"content_encoding": "x-gzip"}):
            server = serve(lambda handler, headers=headers: handler.answer(200, CONTENT, **headers))
            found = downloader(workspace).probe(server.url + "/a.tar.gz?x=1")
            assert (found.digest, found.size) == (DIGEST, len(CONTENT))

    def test_the_next_url_is_tried(self, serve: Any, workspace: Workspace) -> None:
        gone, wrong, good = (
            serve(lambda handler: handler.answer(404)),
            serve(lambda handler: handler.answer(200, b"x")),
            serve(whole),
        )
        found = downloader(workspace).fetch(ref(gone.url, wrong.url, good.url), name="demo")
        assert found.digest == DIGEST
        assert len(gone.seen) == len(wrong.seen) == len(good.seen) == 1

    def test_over_tls_with_a_certificate_of_its_own(self, serve: Any, workspace: Workspace, certificates: Any) -> None:
        server = serve(whole, tls=True)
        refused(lambda: downloader(workspace).probe(server.url), ServerUnavailable, "certificate_untrusted", workspace)
        assert downloader(workspace, verify=certificates.own).probe(server.url).digest == DIGEST


class TestWrong:
    @pytest.mark.parametrize(
        ("status", "kind", "code"),
        [
            (404, NotFound, "url_not_found"),
            (410, NotFound, "url_not_found"),
            (403, Forbidden, "url_forbidden"),
            (401, Forbidden, "url_forbidden"),
            (500, ServerUnavailable, "url_failed"),
            (204, ServerUnavailable, "url_failed"),
        ],
    )
    def test_refusals(self, serve: Any, workspace: Workspace, status: int, kind: type[MedPerfError], code: str) -> None:
        server = serve(lambda handler: handler.answer(status))
        refused(lambda: downloader(workspace).fetch(ref(server.url), name="demo"), kind, code, workspace)
        refused(lambda: downloader(workspace).probe(server.url), kind, code, workspace)
        assert len(server.seen) == 2

    def test_another_file_of_the_same_size(self, serve: Any, workspace: Workspace) -> None:
        server = serve(lambda handler: handler.answer(200, CONTENT[::-1]))
        error = refused(
            lambda: downloader(workspace).fetch(ref(server.url), name="demo"),
            InvalidInput,
            "digest_mismatch",
            workspace,
        )
        assert server.url in error.what
        assert DIGEST in error.what

    @pytest.mark.parametrize("body", [CONTENT + b"x", CONTENT[:-1]])
    def test_another_size_is_found_before_reading(self, serve: Any, workspace: Workspace, body: bytes) -> None:
        server = serve(lambda handler: handler.answer(200, body))
        error = refused(
            lambda: downloader(workspace).fetch(ref(server.url), name="demo"), InvalidInput, "size_mismatch", workspace
        )
        assert f"{len(body):,}" in error.what

    @pytest.mark.parametrize(
        ("body", "code"), [(CONTENT + b"x", "size_mismatch"), (CONTENT[:-1], "download_truncated")]
    )
    def test_another_size_without_content_length(
        self, serve: Any, workspace: Workspace, body: bytes, code: str
    ) -> None:
        server = serve(lambda handler: handler.answer(200, body, content_length="", connection="close"))
        refused(lambda: downloader(workspace).fetch(ref(server.url), name="demo"), InvalidInput, code, workspace)

    def test_more_than_is_wanted_is_not_read(self, serve: Any, workspace: Workspace) -> None:
        server = serve(whole)
        refused(lambda: downloader(workspace).probe(server.url, limit=1000), InvalidInput, "file_too_large", workspace)

    def test_a_file_of_unknown_length_is_not_probed(self, serve: Any, workspace: Workspace) -> None:
        server = serve(lambda handler: handler.answer(200, CONTENT, content_length="", connection="close"))
        refused(lambda: downloader(workspace).probe(server.url), InvalidInput, "size_unknown", workspace)

    def test_no_url_at_all(self, workspace: Workspace) -> None:
        refused(lambda: downloader(workspace).fetch(ref(), name="demo"), InvalidInput, "no_url", workspace)

    @pytest.mark.parametrize(
        ("url", "code"),
        [
            ("file:///etc/passwd", "bad_url"),
            ("ftp://x/y", "bad_url"),
            ("https://u:p@localhost/x", "url_credentials"),
            ("asset:x", "bad_url"),
        ],
    )
    def test_what_is_no_url(self, workspace: Workspace, url: str, code: str) -> None:
        api: Any = object()
        refused(lambda: downloader(workspace, api=api).probe(url), InvalidInput, code, workspace)

    def test_an_asset_needs_a_login(self, workspace: Workspace) -> None:
        refused(lambda: downloader(workspace).probe("asset:1"), Unauthenticated, "not_logged_in", workspace)

    def test_nobody_there(self, workspace: Workspace) -> None:
        error = refused(
            lambda: downloader(workspace).probe("http://127.0.0.1:9/x"),
            ServerUnavailable,
            "server_unavailable",
            workspace,
        )
        assert "medperf server" not in error.fix


class TestCuts:
    def cutting(self, pieces: int, *, ranges: bool = True, etag: str = '"v1"') -> Any:
        """Sends one of ``pieces`` pieces at a time, then cuts."""
        step = -(-len(CONTENT) // pieces)

        def behave(handler: Any) -> None:
            asked = handler.headers.get("range")
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges else 0
            headers = {"content_length": str(len(CONTENT) - start), "etag": etag}
            if start:
                headers["content_range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
            end = start + step if ranges else (len(CONTENT) if len(handler.server.seen) > pieces else step)
            handler.answer(206 if start else 200, CONTENT[start:end], **headers)
            if end < len(CONTENT):
                handler.cut()

        return behave

    def test_a_download_goes_on_where_it_was_cut(self, serve: Any, workspace: Workspace) -> None:
        server = serve(self.cutting(6))
        assert downloader(workspace).fetch(ref(server.url), name="demo").digest == DIGEST
        starts = [seen.headers.get("range", "bytes=0-") for seen in server.seen]
        assert len(starts) == 6
        assert len(set(starts)) == 6
        assert {seen.headers.get("if-range") for seen in server.seen[1:]} == {'"v1"'}

    @pytest.mark.parametrize("probe", [False, True])
    def test_a_server_without_ranges_starts_anew(self, serve: Any, workspace: Workspace, probe: bool) -> None:
        server = serve(self.cutting(2, ranges=False, etag=""))
        fetch = downloader(workspace)
        found = fetch.probe(server.url) if probe else fetch.fetch(ref(server.url), name="demo")
        assert found.digest == DIGEST
        assert (
            "range" in server.seen[-1].headers
        ) is not probe  # without ETag or digest nothing tells that the rest fits

    def test_probing_goes_on_with_the_same_version_only(self, serve: Any, workspace: Workspace) -> None:
        server = serve(self.cutting(3))
        assert downloader(workspace).probe(server.url).digest == DIGEST
        assert server.seen[1].headers["if-range"] == '"v1"'

    def test_cuts_without_progress_end_it(self, serve: Any, workspace: Workspace) -> None:
        def behave(handler: Any) -> None:
            handler.answer(
                200, CONTENT[:HALF] if len(handler.server.seen) == 1 else b"", content_length=str(len(CONTENT))
            )
            handler.cut()

        server = serve(behave)
        error = refused(
            lambda: downloader(workspace).fetch(ref(server.url), name="demo"),
            ServerUnavailable,
            "download_cut",
            workspace,
        )
        assert "cut again and again" in error.what
        assert len(server.seen) == 4

    def test_another_part_than_asked_for(self, serve: Any, workspace: Workspace) -> None:
        def behave(handler: Any) -> None:
            if "range" not in handler.headers:
                handler.answer(200, CONTENT[:HALF], content_length=str(len(CONTENT)))
                handler.cut()
            handler.answer(206, CONTENT[5:], content_range=f"bytes 5-{len(CONTENT) - 1}/{len(CONTENT)}")

        refused(
            lambda: downloader(workspace).fetch(ref(serve(behave).url), name="demo"),
            ServerUnavailable,
            "download_changed",
            workspace,
        )

    def test_a_server_that_falls_silent(self, serve: Any, workspace: Workspace) -> None:
        def behave(handler: Any) -> None:
            handler.answer(200, CONTENT[:HALF], content_length=str(len(CONTENT)))
            handler.wfile.flush()
            handler.server.released.wait(20)

        fetch = downloader(workspace, timeouts=Timeouts(read=0.1))
        refused(lambda: fetch.fetch(ref(serve(behave).url), name="demo"), ServerUnavailable, "download_slow", workspace)

    def test_ctrl_c_is_noticed_while_nothing_comes(self, serve: Any, workspace: Workspace) -> None:
        cancel = threading.Event()

        def behave(handler: Any) -> None:
            handler.answer(200, CONTENT[:HALF], content_length=str(len(CONTENT)))
            handler.wfile.flush()
            cancel.set()
            handler.server.released.wait(20)

        refused(
            lambda: downloader(workspace, cancel=cancel).fetch(ref(serve(behave).url), name="demo"),
            Interrupted,
            "interrupted",
            workspace,
        )


class TestRedirects:
    def chain(self, length: int) -> Any:
        def behave(handler: Any) -> None:
            number = int(handler.path.strip("/") or 0)
            if number < length:
                handler.answer((301, 302, 303, 307, 308)[number % 5], location=f"/{number + 1}")
            else:
                handler.answer(200, CONTENT)

        return behave

    def test_five_are_followed_six_are_not(self, serve: Any, workspace: Workspace) -> None:
        refused(
            lambda: downloader(workspace).probe(serve(self.chain(6)).url), InvalidInput, "too_many_redirects", workspace
        )
        assert downloader(workspace).probe(serve(self.chain(5)).url).digest == DIGEST

    @pytest.mark.parametrize(
        ("target", "code"),
        [
            ("http://example.org/x", "insecure_url"),
            ("file:///etc/passwd", "bad_url"),
            ("https://u:p@localhost/x", "url_credentials"),
            ("https://10.0.0.1/x", "private_address"),
            ("https://169.254.169.254/latest", "private_address"),
            ("https://[fd00::1]/x", "private_address"),
            ("https://[::ffff:10.0.0.1]/x", "private_address"),
            ("https://0.0.0.0/x", "private_address"),
        ],
    )
    def test_where_none_leads(self, serve: Any, workspace: Workspace, target: str, code: str) -> None:
        server = serve(lambda handler: handler.answer(302, location=target))
        refused(lambda: downloader(workspace).probe(server.url), InvalidInput, code, workspace)

    def test_nothing_is_carried_to_another_host(self, serve: Any, workspace: Workspace) -> None:
        last = serve(whole)
        first = serve(
            lambda handler: handler.answer(
                302, location=last.url.replace("127.0.0.1", "localhost") + "/x", set_cookie="a=b"
            )
        )
        downloader(workspace).probe(first.url)
        assert {"cookie", "authorization", "referer"}.isdisjoint(last.seen[0].headers)


class TestAddresses:
    @pytest.mark.parametrize(
        "url", ["https://10.1.2.3/x", "https://192.168.0.1/x", "https://100.64.0.1/x", "https://[fe80::1]/x"]
    )
    def test_private_addresses_are_refused(self, workspace: Workspace, url: str) -> None:
        refused(lambda: downloader(workspace).probe(url), InvalidInput, "private_address", workspace)

    def test_a_name_is_judged_by_its_address(
        self, serve: Any, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, certificates: Any
    ) -> None:
        server = serve(whole, tls=True)
        monkeypatch.setattr("socket.getaddrinfo", lambda host, port, **_: [(2, 1, 6, "", ("127.0.0.1", port))])
        url = f"https://files.example.org:{server.server_port}/x"
        error = refused(
            lambda: downloader(workspace, verify=certificates.own).probe(url),
            InvalidInput,
            "private_address",
            workspace,
        )
        assert "127.0.0.1" in error.what
        assert server.seen == []

    def test_a_proxy_is_no_way_round(self, serve: Any, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        proxy = serve(lambda handler: handler.answer(200))
        monkeypatch.setenv("https_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")
        refused(lambda: downloader(workspace).probe("https://10.1.2.3/x"), InvalidInput, "private_address", workspace)
        assert proxy.seen == []

    def test_the_rule(self) -> None:
        public = AddressRule(private=False, loopback=False)
        assert public.allows("x", "93.184.216.34")
        assert public.allows("x", "2606:2800:220:1::1")
        for address in (
            "127.0.0.1",
            "::1",
            "10.0.0.1",
            "172.16.0.1",
            "169.254.1.1",
            "0.0.0.0",
            "224.0.0.1",
            "::",
            "fe80::1%eth0",
            "::ffff:127.0.0.1",
        ):
            assert not public.allows("x", address), address
        assert AddressRule(private=False, loopback=True).allows("x", "::ffff:127.0.0.1")
        assert AddressRule(private=False, loopback=False, trusted=frozenset({"proxy"})).allows("proxy", "10.0.0.1")
        assert AddressRule().allows("x", "10.0.0.1")
        for address in ("64:ff9b::a00:1", "64:ff9b:1::1", "::10.0.0.1", "fec0::1", "2002:a00:1::", "2001:0:a00:1::"):
            assert not public.allows("x", address), address
        assert public.allows("x", "64:ff9b::5db8:d822"), "behind a translator every public address looks like this"
