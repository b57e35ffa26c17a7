"""Clients that never finish their TLS handshake: they count as connections, and end."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from medperf.server.arrival import Encrypted
from medperf.server.certificate import make_certificate
from medperf.server.connection import Connection

from .test_connections import echo, ended

SHORT = 0.4
MOST = 6


class Few(Connection):
    """Has room for few connections."""

    @staticmethod
    def most_connections() -> int:
        return MOST


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.crt", folder / "cert.key"
    make_certificate(cert, key, ["localhost", "127.0.0.1"])
    return cert, key


@contextlib.contextmanager
def serving(encrypted: Encrypted, *, loop: str = "uvloop") -> Iterator[tuple[str, int]]:
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(echo, http=encrypted, loop=loop, ws="none", lifespan="off", log_config=None)  # type: ignore[arg-type] # called as a class is
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield listener.getsockname()
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def shake(address: tuple[str, int], cert: Path) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(cert))
    return context.wrap_socket(socket.create_connection(address, timeout=10), server_hostname="localhost")


def ask(client: ssl.SSLSocket) -> bytes:
    client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
    answer = b""
    while not answer.endswith(b"\r\n3"):
        piece = client.recv(1000)
        assert piece
        answer += piece
    return answer


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_requests_go_through(files: tuple[Path, Path], loop: str) -> None:
    with serving(Encrypted(*files), loop=loop) as address:
        for _ in range(20):
            with shake(address, files[0]) as client:
                assert ask(client).startswith(b"HTTP/1.1 200")
                assert ask(client).startswith(b"HTTP/1.1 200")


def test_what_comes_with_the_handshake_is_not_lost(files: tuple[Path, Path]) -> None:
    """The client's last words of the handshake and its request in one piece."""
    with serving(Encrypted(*files)) as address:
        context = ssl.create_default_context(cafile=str(files[0]))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        with socket.create_connection(address, timeout=10) as plain:
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    incoming.write(plain.recv(65536))
            tls.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            plain.sendall(outgoing.read())
            answer = b""
            while not answer.endswith(b"\r\n3"):
                incoming.write(plain.recv(65536))
                with contextlib.suppress(ssl.SSLWantReadError):
                    answer += tls.read(65536)


@pytest.mark.parametrize("first", [b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n"])
def test_a_handshake_that_does_not_end_is_ended(files: tuple[Path, Path], first: bytes) -> None:
    with serving(Encrypted(*files, handshake_seconds=SHORT)) as address:
        begun = time.monotonic()
        with socket.create_connection(address, timeout=10) as client:
            client.sendall(first)
            while True:
                try:
                    if client.recv(1000) == b"":
                        break
                except ConnectionResetError:
                    break
        assert time.monotonic() - begun < 5
        with shake(address, files[0]) as client:
            assert ask(client)


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_nothing_is_kept_of_them(files: tuple[Path, Path], loop: str) -> None:
    with serving(Encrypted(*files, handshake_seconds=SHORT), loop=loop) as address:
        before = open_files()
        for number in range(4):
            several = [socket.create_connection(address, timeout=10) for _ in range(20)]
            for client in several:
                client.sendall(b"\x16\x03" if number % 2 else b"nothing of the kind\r\n\r\n")
            while not all(map(ended, several)):
                pass
            for client in several:
                client.close()
            with shake(address, files[0]) as client:
                assert ask(client)
        assert open_files() < before + 20


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_handshakes_count_as_connections(files: tuple[Path, Path]) -> None:
    with (
        serving(Encrypted(*files, protocol=Few, handshake_seconds=SHORT * 5)) as address,
        contextlib.ExitStack() as stack,
    ):
        idle = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(MOST)]
        # As many as there is room for: the next is dropped at once, not after the time of a handshake.
        begun = time.monotonic()
        late = stack.enter_context(socket.create_connection(address, timeout=10))
        assert ended(late)
        assert time.monotonic() - begun < SHORT * 4
        # They all end, and leave the room to somebody who has something to say.
        assert all(ended(client) for client in idle)
        for _ in range(MOST * 2):
            with shake(address, files[0]) as client:
                assert ask(client)


def test_a_server_that_ends_does_not_wait_for_handshakes(files: tuple[Path, Path]) -> None:
    with contextlib.ExitStack() as stack:
        with serving(Encrypted(*files)) as address:
            for _ in range(3):
                stack.enter_context(socket.create_connection(address, timeout=10))
            with shake(address, files[0]) as client:
                assert ask(client)
            begun = time.monotonic()
        assert time.monotonic() - begun < 5
