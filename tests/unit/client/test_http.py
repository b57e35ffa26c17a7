from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from medperf import __version__
from medperf.client.client import MedPerfClient
from medperf.client.faults import unreachable
from medperf.client.http import Transport
from medperf.client.network import Timeouts
from medperf.domain.errors import (
    Conflict,
    Forbidden,
    Interrupted,
    InvalidInput,
    MedPerfError,
    NotFound,
    ServerUnavailable,
    Unauthenticated,
)

INSTANCE = "one"
Raw = Callable[[Callable[[socket.socket], None]], str]


def ok(handler: Any, document: object = None) -> None:
    handler.answer(
        200, json.dumps(document or {"x": 1}).encode(), content_type="application/json", medperf_instance=INSTANCE
    )


def problem(
    handler: Any, status: int, code: str = "some_code", *, fix: str = "Do this.", errors: object = (), **headers: str
) -> None:
    body = {"title": "T", "status": status, "code": code, "detail": "What happened.", "fix": fix, "errors": errors}
    handler.answer(
        status, json.dumps(body).encode(), content_type="application/problem+json", medperf_instance=INSTANCE, **headers
    )


@pytest.fixture
def connect() -> Iterator[Callable[..., Transport]]:
    opened: list[Transport] = []

    def make(url: str, **settings: Any) -> Transport:
        waits: list[float] = []
        transport = Transport(url, sleep=waits.append, **settings)
        transport.waits = waits  # type: ignore[attr-defined]
        opened.append(transport)
        return transport

    yield make
    for transport in opened:
        transport.close()


Connect = Callable[..., Any]


def failure(call: Callable[[], object], kind: type[MedPerfError] = ServerUnavailable) -> MedPerfError:
    with pytest.raises(kind) as caught:
        call()
    assert caught.value.fix
    return caught.value


def test_what_is_sent(serve: Any, connect: Connect) -> None:
    server = serve(ok)
    transport = connect(server.url + "/", token="secret", instance_id=INSTANCE)
    assert transport.request(
        "POST", "/mlcubes", params={"a": None, "b": True, "c": 3}, body=b"{}", idempotency_key="k" * 8
    ).document == {"x": 1}
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.body) == ("POST", "/api/v1/mlcubes?b=true&c=3", b"{}")
    assert seen.headers["authorization"] == "Bearer secret"
    assert seen.headers["medperf-instance"] == INSTANCE
    assert seen.headers["idempotency-key"] == "k" * 8
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["user-agent"].startswith("medperf/")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidInput),
        (401, Unauthenticated),
        (403, Forbidden),
        (404, NotFound),
        (409, Conflict),
        (412, Conflict),
        (413, InvalidInput),
        (422, InvalidInput),
        (428, Conflict),
        (429, ServerUnavailable),
        (500, ServerUnavailable),
        (503, ServerUnavailable),
    ],
)
def test_problems_become_our_errors(serve: Any, connect: Connect, status: int, kind: type[MedPerfError]) -> None:
    server = serve(lambda handler: problem(handler, status, errors=[{"field": "name", "message": "too long"}]))
    error = failure(lambda: connect(server.url).request("GET", "/x"), kind)
    assert (error.code, error.fix) == ("some_code", "Do this.")
    assert error.what == "What happened. name: too long."
    assert error.details["errors"] == [{"field": "name", "message": "too long"}]
    assert len(server.seen) == 1


class TestInstance:
    def test_another_instance_is_refused(self, serve: Any, connect: Connect) -> None:
        for behave in (
            ok,
            lambda handler: problem(handler, 404),
            lambda handler: problem(handler, 409, "wrong_instance"),
        ):
            error = failure(
                lambda behave=behave: connect(serve(behave).url, instance_id="two").request("GET", "/x"), Conflict
            )  # type: ignore[misc]
            assert error.code == "wrong_instance"
            assert "medperf login" in error.fix

    @pytest.mark.parametrize(
        "answer",
        [
            {"status": 200, "body": b"<html>", "content_type": "text/html"},
            {"status": 200, "body": b"{}", "content_type": "application/json"},
            {"status": 200, "body": b"{", "content_type": "application/json", "medperf_instance": INSTANCE},
            {"status": 404, "body": b"<html>", "content_type": "text/html"},
            {"status": 404, "body": b"[]", "content_type": "application/json"},
            {"status": 302, "location": "https://evil.example.org/"},
            {
                "status": 200,
                "body": b"x",
                "content_encoding": "gzip",
                "content_type": "application/json",
                "medperf_instance": INSTANCE,
            },
        ],
    )
    def test_what_is_no_medperf_server_is_named_so(self, serve: Any, connect: Connect, answer: dict[str, Any]) -> None:
        server = serve(lambda handler: handler.answer(**answer))
        error = failure(lambda: connect(server.url, token="secret").request("GET", "/x"))
        assert error.code == "not_medperf"
        assert "--server" in error.fix
        assert len(server.seen) == 1

    def test_a_proxy_in_front_of_a_dead_server(self, serve: Any, connect: Connect) -> None:
        server = serve(lambda handler: handler.answer(502, b"<html>", content_type="text/html"))
        assert failure(lambda: connect(server.url).request("GET", "/x")).code == "server_unavailable"


class TestRetries:
    def cut_first(self, times: int) -> Callable[[Any], None]:
        def behave(handler: Any) -> None:
            if len(handler.server.seen) <= times:
                handler.cut()
            else:
                ok(handler)

        return behave

    @pytest.mark.parametrize(("method", "key"), [("GET", None), ("POST", "k" * 8)])
    def test_what_may_be_repeated_is_tried_three_times(
        self, serve: Any, connect: Connect, method: str, key: str | None
    ) -> None:
        server = serve(self.cut_first(2))
        transport = connect(server.url)
        assert transport.request(method, "/x", body=b"{}" if key else None, idempotency_key=key).document == {"x": 1}
        assert [seen.headers.get("idempotency-key") for seen in server.seen] == [key] * 3
        assert transport.waits == pytest.approx([0.1, 0.3])
        again = serve(self.cut_first(3))
        assert failure(lambda: connect(again.url).request(method, "/x", idempotency_key=key)).code == "connection_lost"
        assert len(again.seen) == 3

    @pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
    def test_what_may_not_be_repeated_is_tried_once(self, serve: Any, connect: Connect, method: str) -> None:
        server = serve(self.cut_first(1))
        assert failure(lambda: connect(server.url).request(method, "/x", body=b"{}")).code == "connection_lost"
        assert len(server.seen) == 1

    def test_an_upload_is_sent_whole_again(self, serve: Any, connect: Connect) -> None:
        def behave(handler: Any) -> None:
            if len(handler.server.seen) == 1:
                problem(handler, 429, "slow_down", retry_after="1")
            else:
                ok(handler)

        server = serve(behave)
        transport = connect(server.url)
        transport.upload("/uploads/1", content=lambda: iter([b"abc", b"def"]), headers={"Content-Length": "6"})
        assert [seen.body for seen in server.seen] == [b"abcdef"] * 2
        assert "transfer-encoding" not in server.seen[0].headers

    @pytest.mark.parametrize(
        ("status", "method", "tries"), [(429, "GET", 5), (429, "POST", 5), (503, "GET", 3), (503, "POST", 1)]
    )
    def test_retry_after_is_honoured(self, serve: Any, connect: Connect, status: int, method: str, tries: int) -> None:
        server = serve(lambda handler: problem(handler, status, "slow_down", retry_after="15"))
        told: list[Any] = []
        transport = connect(server.url, emit=told.append)
        assert failure(lambda: transport.request(method, "/x")).code == "slow_down"
        assert len(server.seen) == tries
        assert transport.waits == [15.0] * (tries - 1)
        assert [note.text for note in told] == [f"{server.url} asks to wait: going on in 15 seconds."] * (tries - 1)

    def test_a_wait_that_is_broken_off_ends_the_request(self, serve: Any, connect: Connect) -> None:
        server = serve(lambda handler: problem(handler, 429, "slow_down", retry_after="5"))

        def interrupted(_seconds: float) -> None:
            raise Interrupted

        transport = Transport(server.url, sleep=interrupted)
        with pytest.raises(Interrupted), contextlib.closing(transport):
            transport.request("GET", "/x")
        assert len(server.seen) == 1

    def test_a_long_retry_after_is_not_waited_for(self, serve: Any, connect: Connect) -> None:
        server = serve(lambda handler: problem(handler, 429, "slow_down", retry_after="3600"))
        transport = connect(server.url)
        failure(lambda: transport.request("GET", "/x"))
        assert transport.waits == []


class TestVersions:
    """What does not fit is said plainly, with what to do."""

    def ask(self, serve: Any, connect: Connect, behave: Any) -> MedPerfError:
        return failure(lambda: connect(serve(behave).url, token="t").request("GET", "/x"))

    @pytest.mark.parametrize("code", ["no_such_route", "method_not_allowed", "unknown_parameter", "invalid_fields"])
    def test_an_older_server(self, serve: Any, connect: Connect, code: str) -> None:
        errors = [{"field": "colour", "message": "Extra inputs are not permitted"}] if code == "invalid_fields" else []
        old = {"medperf_version": "0.0.9", "errors": errors}
        error = self.ask(serve, connect, lambda handler: problem(handler, 404, code, **old))
        assert error.code == "server_too_old"
        assert "MedPerf 0.0.9" in error.what
        assert f"MedPerf {__version__}" in error.what
        assert "pip install medperf==0.0.9" in error.fix

    def test_a_server_of_the_same_version_is_not_called_old(self, serve: Any, connect: Connect) -> None:
        server = serve(lambda handler: problem(handler, 400, "unknown_parameter", medperf_version=__version__))
        assert failure(lambda: connect(server.url).request("GET", "/x"), InvalidInput).code == "unknown_parameter"

    def test_another_version_of_the_api(self, serve: Any, connect: Connect) -> None:
        error = self.ask(serve, connect, lambda handler: problem(handler, 404, "unsupported_api_version"))
        assert (error.code, error.what, error.fix) == ("unsupported_api_version", "What happened.", "Do this.")

    @pytest.mark.parametrize(
        ("version", "code"), [("99.1", "server_too_new"), (__version__, "not_medperf"), ("", "not_medperf")]
    )
    def test_an_unknown_value_of_a_newer_server(self, serve: Any, connect: Connect, version: str, code: str) -> None:
        view = {"id": 1, "name": "x", "kind": "judge", "state": "OPERATION"}

        def behave(handler: Any) -> None:
            handler.answer(
                200,
                json.dumps(view).encode(),
                content_type="application/json",
                medperf_instance=INSTANCE,
                medperf_version=version,
            )

        error = failure(lambda: MedPerfClient(connect(serve(behave).url)).mlcubes.get(1))
        assert error.code == code
        assert "kind" in error.what
        if code == "server_too_new":
            assert "MedPerf 99.1" in error.what
            assert "pip install -U medperf" in error.fix

    @pytest.mark.parametrize("status", [200, 403, 404, 511])
    def test_a_web_page(self, serve: Any, connect: Connect, status: int) -> None:
        error = self.ask(serve, connect, lambda handler: handler.answer(status, b"<html>", content_type="text/html"))
        if status < 500:
            assert error.code == "not_medperf"
            assert "web page" in error.what
        else:
            assert error.code == "server_unavailable"

    def test_a_redirection_is_named_and_not_followed(self, serve: Any, connect: Connect) -> None:
        error = self.ask(serve, connect, lambda handler: handler.answer(302, location="https://login.hotel.example/"))
        assert error.code == "not_medperf"
        assert "https://login.hotel.example/" in error.what


class TestFaults:
    def test_nobody_there(self, connect: Connect) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        transport = connect(f"https://localhost:{port}")
        error = failure(lambda: transport.request("GET", "/x"))
        assert error.code == "server_unavailable"
        assert "refused" in error.what
        assert "medperf server start" in error.fix
        assert transport.waits == []

    @pytest.mark.parametrize(
        ("server", "cause", "again"),
        [
            ("https://localhost:8000", ConnectionRefusedError(111, "Connection refused"), False),
            ("https://127.0.0.1:8000", ConnectionResetError(104, "Connection reset by peer"), True),
            ("https://api.example.org", ConnectionRefusedError(111, "Connection refused"), True),
        ],
    )
    def test_only_a_refusal_of_this_machine_is_final(self, server: str, cause: OSError, again: bool) -> None:
        error = httpx2.ConnectError("no")
        error.__cause__ = cause
        assert unreachable(server, error, pinned=None).details == {"retry": again}

    def test_an_unknown_name(self, connect: Connect) -> None:
        error = failure(lambda: connect("https://nowhere.invalid").request("GET", "/x"))
        assert error.code == "server_unavailable"
        assert "nowhere.invalid" in error.what

    def test_a_server_that_says_nothing(self, raw: Raw, connect: Connect) -> None:
        place = raw(lambda connection: connection.recv(1 << 20) and threading.Event().wait(20) and None)
        transport = connect(f"http://{place}", timeouts=Timeouts(read=0.1))
        assert failure(lambda: transport.request("GET", "/x")).code == "server_timeout"
        assert transport.waits == []

    @pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n"])
    def test_a_server_that_trickles(self, raw: Raw, connect: Connect, start: bytes) -> None:
        ended = threading.Event()

        def talk(connection: socket.socket) -> None:
            connection.recv(1 << 20)
            connection.sendall(start)
            letter = b"H" if not start else b"x"
            while not ended.wait(0.02):
                connection.sendall(letter)

        transport = connect(f"http://{raw(talk)}", timeouts=Timeouts(read=5, total=0.3))
        began = time.monotonic()
        error = failure(lambda: transport.request("GET", "/x"))
        ended.set()
        assert error.code in ("server_timeout", "not_medperf", "connection_lost")
        assert time.monotonic() - began < 2

    @pytest.mark.parametrize("said", [b"SSH-2.0-x\r\n", b"\0\1\2\3\r\n\r\n"])
    def test_what_is_no_http(self, raw: Raw, connect: Connect, said: bytes) -> None:
        place = raw(lambda connection: (connection.recv(1 << 20), connection.sendall(said))[1])
        assert failure(lambda: connect(f"http://{place}").request("GET", "/x")).code in (
            "not_medperf",
            "connection_lost",
        )
        error = failure(lambda: connect(f"https://{place}").request("GET", "/x"))
        assert error.code in ("not_medperf", "tls_failed", "connection_lost")

    def test_https_to_an_http_server_and_back(self, serve: Any, connect: Connect, certificates: Any) -> None:
        plain, secure = serve(ok), serve(ok, tls=True)
        error = failure(
            lambda: connect(plain.url.replace("http:", "https:"), verify=certificates.own).request("GET", "/x")
        )
        assert error.code == "not_medperf"
        assert "http://" in error.what
        error = failure(lambda: connect(secure.url.replace("https:", "http:")).request("GET", "/x"))
        assert error.code == "connection_lost"
        assert "https://" in error.what

    def test_an_answer_without_end_is_cut(self, serve: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("medperf.client.http.ANSWER_BYTES", 1000)
        server = serve(
            lambda handler: handler.answer(200, b"x" * 5000, content_type="application/json", medperf_instance=INSTANCE)
        )
        assert failure(lambda: connect(server.url).request("GET", "/x")).code == "not_medperf"


class TestCertificates:
    def test_a_pinned_certificate_is_the_only_one_trusted(
        self, serve: Any, connect: Connect, certificates: Any
    ) -> None:
        server = serve(ok, tls=True)
        assert connect(server.url, verify=certificates.own).request("GET", "/x").document == {"x": 1}
        for other in (certificates.other, None):
            transport = connect(server.url, verify=other, token="secret")
            error = failure(lambda transport=transport: transport.request("GET", "/x"))  # type: ignore[misc]
            assert error.code == "certificate_untrusted"
            assert "--certificate" in error.fix
            assert transport.waits == []
        assert len(server.seen) == 1

    def test_a_certificate_for_another_name_is_refused(self, serve: Any, connect: Connect, certificates: Any) -> None:
        server = serve(ok, tls=True)
        url = server.url.replace("127.0.0.1", "127.0.0.2")
        with pytest.raises(ServerUnavailable):
            connect(url, verify=certificates.own).request("GET", "/x")

    @pytest.mark.parametrize(
        "content", [None, b"", b"no pem", b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"]
    )
    def test_a_file_that_is_no_certificate_is_said_so(
        self, tmp_path: Path, connect: Connect, content: bytes | None
    ) -> None:
        path = tmp_path / "c.pem"
        if content is not None:
            path.write_bytes(content)
        error = failure(lambda: connect("https://127.0.0.1:1", verify=path).request("GET", "/x"), MedPerfError)
        assert error.code == "bad_certificate"

    @pytest.mark.parametrize(
        ("url", "code"),
        [("http://api.example.org", "insecure_server"), ("api", "bad_url"), ("https://u:p@x", "url_credentials")],
    )
    def test_a_login_is_never_sent_in_the_clear(self, url: str, code: str) -> None:
        with pytest.raises(InvalidInput) as error:
            Transport(url, token="secret")
        assert error.value.code == code


def test_a_proxy_of_the_environment_is_used_beyond_this_machine(
    serve: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = serve(lambda handler: handler.answer(407))
    monkeypatch.setenv("https_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    error = failure(lambda: connect("https://api.example.org", token="secret").request("GET", "/x"))
    assert error.code == "server_unavailable"
    assert {(seen.method, seen.path, seen.headers.get("authorization")) for seen in proxy.seen} == {
        ("CONNECT", "api.example.org:443", None)
    }
    asked = len(proxy.seen)
    local = serve(ok, tls=False)
    connect(local.url).request("GET", "/x")
    assert (len(local.seen), len(proxy.seen)) == (1, asked)
