"""HTTP servers on loopback that answer exactly what a test says, byte by byte: lies, cuts, silence, bytes that trickle.

::

    with HostileServer(reply(302, ("Location", "/file")), ranged(content, cut=1000)) as server:
        ...  # the first request is redirected; each later one gets at most 1000 bytes of what it asked for
"""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

_HEAD_BYTES = 64 * 1024
_RANGE = re.compile(r"bytes=(\d+)-")
#: Said in every honest answer, since there is one answer a connection: a client must not send its next request into one that ends.
_LAST = ("Connection", "close")


@dataclass(frozen=True)
class Request:
    """What a server was asked."""

    target: str
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str | None:
        """The first header of this name (lower case)."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def start(self) -> int:
        """First byte asked for by ``Range``."""
        found = _RANGE.fullmatch(self.header("range") or "")
        return int(found[1]) if found else 0


@dataclass(frozen=True)
class Trickle:
    """Bytes sent one by one."""

    data: bytes
    seconds: float


@dataclass(frozen=True)
class Stall:
    """Nothing more, until the client goes away or the server is closed."""


@dataclass(frozen=True)
class Reset:
    """The connection is reset instead of closed."""


@dataclass(frozen=True)
class Call:
    """Something is done in between, e.g. an event is set."""

    function: Callable[[], object]


@dataclass(frozen=True)
class Endless:
    """``data`` again and again, ``count`` times, without being built in memory."""

    data: bytes
    count: int


Part = bytes | Trickle | Stall | Reset | Call | Endless
Answer = Callable[[Request], Iterable[Part]]


class _Listener:
    """Listens on a free port of loopback and serves each connection in a thread of its own; leaving the context ends them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            opened = [self._listener, *self._open]
        for one in opened:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        raise NotImplementedError


class HostileServer(_Listener):
    """One server. Answers are used up one per request; the last one stays.

    Attributes:
        requests: what was asked, in order.
        sent: bytes that left, heads included.
    """

    def __init__(self, *answers: Answer, tls: ssl.SSLContext | None = None) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self.sent = 0
        self._answers = list(answers)
        self._tls = tls
        self._closed = threading.Event()

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        super().__exit__(kind, error, trace)

    def _serve(self, connection: socket.socket) -> None:
        raw = connection
        with self._lock:
            self._open.add(raw)
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(raw, server_side=True)
            request = _read(connection)
            if request is None:
                return
            with self._lock:
                self.requests.append(request)
                answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            for part in answer(request):
                self._send(connection, part)
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._open.discard(raw)
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _send(self, connection: socket.socket, part: Part) -> None:
        match part:
            case bytes():
                self._all(connection, part)
            case Endless(data, count):
                for _ in range(count):
                    self._all(connection, data)
            case Trickle(data, seconds):
                for byte in data:
                    self._all(connection, bytes([byte]))
                    if self._closed.wait(seconds):
                        raise OSError("closed")
            case Stall():
                # The client says nothing more: this returns when it goes away, or when `__exit__` ends the connection.
                connection.recv(1)
            case Reset():
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.close()
            case Call(function):
                function()

    def _all(self, connection: socket.socket, data: bytes) -> None:
        connection.sendall(data)
        with self._lock:
            self.sent += len(data)


def _read(connection: socket.socket) -> Request | None:
    head = b""
    while b"\r\n\r\n" not in head:
        more = connection.recv(4096)
        if not more or len(head) > _HEAD_BYTES:
            return None
        head += more
        if head[0] == 0x16:  # the client begins with TLS, which this server does not speak
            return Request("", ())
    first, *lines = head.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Request(first.split(" ")[1], tuple((name.strip().lower(), value.strip()) for name, _, value in pairs))


def head(status: int, *headers: tuple[str, str]) -> bytes:
    """Status line and headers as given, nothing added."""
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def parts(*sent: Part) -> Answer:
    """These parts, whatever was asked."""
    return lambda _: sent


def reply(status: int, *headers: tuple[str, str], body: bytes = b"") -> Answer:
    """A whole answer with a true Content-Length."""
    return parts(head(status, ("Content-Length", str(len(body))), _LAST, *headers) + body)


def redirect(location: str, status: int = 302, *headers: tuple[str, str]) -> Answer:
    """Elsewhere."""
    return reply(status, ("Location", location), *headers)


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n", headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """A body whose length is not said before."""
    body = b"".join(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks)
    return parts(head(200, ("Transfer-Encoding", "chunked"), _LAST, *headers) + body + end)


def ranged(content: bytes, *, etag: str | None = '"v1"', cut: int | None = None, then: Part | None = None) -> Answer:
    """A server that understands ranges.

    Args:
        etag: of the content; None: it names none.
        cut: ends the connection after so many bytes of body; None: sends all that is asked for.
        then: what comes instead of ending it, e.g. `Stall`.
    """

    def answer(request: Request) -> Iterable[Part]:
        start = request.start
        if request.header("if-range") not in (None, etag):
            start = 0
        named: tuple[tuple[str, str], ...] = (("ETag", etag),) if etag else ()
        body = content[start:]
        sent = body if cut is None else body[:cut]
        if start:
            named += (("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"),)
        yield head(206 if start else 200, ("Content-Length", str(len(body))), _LAST, *named) + sent
        if then is not None and len(sent) < len(body):
            yield then

    return answer


class CuttingProxy(_Listener):
    """Stands between a client and a real server and ends each connection after so many bytes of answer.

    Args:
        target: host and port of the server.
        budgets: bytes of each connection in turn; the last one stays; None: all.
    """

    def __init__(self, target: tuple[str, int], *budgets: int | None) -> None:
        super().__init__()
        self.connections = 0
        self._target = target
        self._budgets = list(budgets)

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self.connections += 1
            left = self._budgets.pop(0) if len(self._budgets) > 1 else self._budgets[0]
        try:
            with connection, socket.create_connection(self._target) as server:
                with self._lock:
                    self._open |= {connection, server}
                threading.Thread(target=_pour, args=(connection, server), daemon=True).start()
                while data := server.recv(65536):
                    if left is not None:
                        data, left = data[:left], left - len(data[:left])
                    connection.sendall(data)
                    if left == 0:
                        break
                with self._lock:
                    self._open -= {connection, server}
                for one in (connection, server):
                    one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def _pour(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass
