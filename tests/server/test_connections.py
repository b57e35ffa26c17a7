"""Clients that are silent, dribble or never end: the connection ends, and nothing is kept for them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from medperf.server.connection import Connection

HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
SHORT = 0.25


class Hurried(Connection):
    head_seconds = body_seconds = SHORT


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers how many bytes came."""
    if scope["path"] == "/flood":
        await flood(send)
        return
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size, more = size + len(message["body"]), message["more_body"]
    text = str(size).encode()
    headers = [(b"content-length", str(len(text)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": text})


flooded = threading.Event()


async def flood(send: Any) -> None:
    """Answers far more than any buffer holds, and says when that is over."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(2000):
        await send({"type": "http.response.body", "body": bytes(64 * 1024), "more_body": True})
    flooded.set()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(echo, http=Hurried, loop="uvloop", ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield listener.getsockname()[1]
    server.should_exit = True
    thread.join()


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        yield client


def ended(client: socket.socket) -> bool:
    try:
        return client.recv(1000) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize(
    "first", [b"", b"POST / HT", b"POST / HTTP/1.1\r\nHost: x\r\n", HEAD % 10, HEAD % 10 + b"part"]
)
def test_who_stops_in_the_middle_is_dropped(port: int, first: bytes) -> None:
    with connected(port) as client:
        client.sendall(first)
        assert ended(client)


def test_a_head_has_one_deadline_however_it_dribbles(port: int) -> None:
    with connected(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        client.settimeout(SHORT / 5)
        for _ in range(100):
            try:
                client.sendall(b"X: y\r\n")
                if client.recv(1000) == b"":
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
    raise AssertionError("a head without end was waited for")


@pytest.mark.parametrize("piece", [b"X: yyyyyyyyyyyy\r\n" * 4000, b"X" * 60_000])
def test_headers_without_end_are_refused(port: int, piece: bytes) -> None:
    with connected(port) as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        with pytest.raises(ConnectionError):
            client.sendall(piece * 1000)


def test_a_slow_body_that_goes_on_is_taken(port: int) -> None:
    with connected(port) as client:
        client.sendall(HEAD % 10)
        client.settimeout(SHORT / 2)
        for _ in range(9):
            client.sendall(b"x")
            with pytest.raises(TimeoutError):
                client.recv(1000)
        client.settimeout(10)
        client.sendall(b"x")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_requests_follow_each_other_on_one_connection(port: int) -> None:
    with connected(port) as client:
        for _ in range(3):
            client.sendall(HEAD % 3 + b"abc")
            answer = b""
            while not answer.endswith(b"\r\n3"):
                piece = client.recv(1000)
                assert piece
                answer += piece


def test_who_does_not_read_the_answer_is_dropped(port: int) -> None:
    with connected(port) as client:
        client.sendall(b"GET /flood HTTP/1.1\r\nHost: x\r\n\r\n")
        assert flooded.wait(10), "the answer waits for ever"


def test_requests_that_do_not_wait_for_answers_are_few(port: int) -> None:
    request = HEAD % 0
    with connected(port) as client:
        client.sendall(request * 10)
        answers = b""
        while answers.count(b"\r\n\r\n0") < 10:
            piece = client.recv(1000)
            assert piece
            answers += piece
    with connected(port) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(request * 1000)
        answers = b""
        with contextlib.suppress(ConnectionError):
            while piece := client.recv(65536):
                answers += piece
        assert answers.count(b"\r\n\r\n0") < 100
