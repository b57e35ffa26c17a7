"""One connection: uvicorn's, with an end for clients that are silent, dribble, or send headers for ever."""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from collections import Counter
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import get_remote_addr

from medperf.server.errors import problem
from medperf.server.limiter import network_of

_PROBLEM = bytes(
    problem(431, "too_many_headers", "The address and the headers are too long.", "Send fewer or shorter ones.").body
)
_TOO_LONG = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/problem+json\r\nconnection: close\r\n"
    b"content-length: %d\r\n\r\n%s" % (len(_PROBLEM), _PROBLEM)
)
#: Files that may be open besides connections and what they read and write: the database, the log, ...
_OTHER_FILES = 128
_FILES_WANTED = 65_536


def raise_file_limit() -> None:
    """As many open files as the system lets us have; processes that are started from here have the same."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES_WANTED if hard == resource.RLIM_INFINITY else min(_FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class Connection(HttpToolsProtocol):
    """Uvicorn bounds neither the headers of a request nor the time that a client takes for them, for its body, or to read the answer,
    nor how many connections there are.
    """

    #: From the connection, or a request's first byte, to the end of its headers.
    head_seconds = 20.0
    #: Between two pieces of a body, while we wait for one; and for some of an answer to be read, while it cannot be sent.
    body_seconds = 60.0
    head_bytes = 64 * 1024
    #: A body that takes longer than the grace comes at least this fast, over all of its time.
    body_grace_seconds = 120.0
    body_bytes_per_second = 1024
    #: Of a body's framing without a byte of the body: its trailers are kept by uvicorn, and may have no end.
    framing_bytes = 64 * 1024
    #: Requests that came before the answer to an earlier one. Thousands fit into one read, and each costs as if it came alone.
    waiting_requests = 16
    #: What is read of a body after its refusal.
    unwanted_bytes = 8 * 1024**2

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        #: Connections of each network; all connections of a server share it as they share uvicorn's state.
        self._networks: Counter[str] = vars(options["server_state"]).setdefault("networks", Counter())
        self._network: str | None = None
        self._expecting = self._in_head = True
        self._head = self._body = self._unwanted = self._framing = 0
        self._deadline = self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        """Begin to wait; or end it, where there are too many: a file that cannot be opened stops everybody."""
        super().connection_made(transport)
        if self._network is None and not self.enter(transport):
            transport.abort()
            return
        self._deadline = self.loop.time() + self.head_seconds
        self._timer = self.loop.call_later(self.head_seconds, self._look)

    def enter(self, transport: asyncio.Transport) -> bool:
        """Count it, from the moment that it is accepted; False where there are too many. It is among ``connections`` already."""
        client = get_remote_addr(transport)
        network = self._network = network_of(client[0]) if client else "-"
        self._networks[network] += 1
        most = self.most_connections()
        # A quarter for one network, so that idle connections of one machine keep nobody out. A proxy here speaks for many.
        return len(self.connections) <= most and (self._networks[network] <= most // 4 or _is_here(network))

    def leave(self) -> None:
        """Count it no more."""
        if self._network is not None:
            self._networks[self._network] -= 1
            if not self._networks[self._network]:
                del self._networks[self._network]
            self._network = None

    @staticmethod
    def most_connections() -> int:
        """Each may have one file open besides itself."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        soft = _FILES_WANTED if soft == resource.RLIM_INFINITY else soft
        return max((soft - _OTHER_FILES) // 2, 16)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        super().connection_lost(exc)
        self.leave()
        self._read_again()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def data_received(self, data: bytes) -> None:
        """What came; headers that do not end are refused."""
        in_head, in_body = self._in_head, self._expecting and not self._in_head
        if in_body:
            self._framing += len(data)  # until `on_body` says that some of it was body
        super().data_received(data)
        if in_body and self._expecting and not self._in_head and self._framing > self.framing_bytes:
            self.transport.abort()
            return
        if in_head and self._in_head:
            self._head += len(data)
            if self._head > self.head_bytes:
                self.transport.write(_TOO_LONG)
                self.transport.close()
                return
        if self._expecting and self._timer is None:
            self._timer = self.loop.call_later(self._deadline - self.loop.time(), self._look)

    def on_message_begin(self) -> None:
        """A request begins."""
        if len(self.pipeline) >= self.waiting_requests:
            self.transport.abort()
            raise ConnectionAbortedError("too many requests wait behind another")  # ends the parsing of what came
        super().on_message_begin()
        self._expecting = self._in_head = True
        self._head = 0
        self._deadline = self.loop.time() + self.head_seconds

    def on_headers_complete(self) -> None:
        """Its body may follow."""
        super().on_headers_complete()
        self._in_head = False
        self._body = self._unwanted = self._framing = 0
        self._began = self.loop.time()
        self._deadline = self._began + self.body_seconds

    def on_body(self, body: bytes) -> None:
        """It goes on."""
        super().on_body(body)
        self._body += len(body)
        self._framing = 0
        self._deadline = self.loop.time() + self.body_seconds
        if self.cycle is not None and self.cycle.response_complete:
            # It was refused, and comes all the same: some is read, so that the answer is; not all of it.
            self._unwanted += len(body)
            if self._unwanted > self.unwanted_bytes:
                self.transport.abort()

    def on_message_complete(self) -> None:
        """All of it is here."""
        super().on_message_complete()
        self._expecting = False

    def pause_writing(self) -> None:
        """The client does not read what we have for it."""
        super().pause_writing()
        if self._unread is None:
            self._unread = self.loop.call_later(self.body_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        self._read_again()
        super().resume_writing()

    def _read_again(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _look(self) -> None:
        self._timer = None
        if not self._expecting or self.transport.is_closing():
            return
        now = self.loop.time()
        if self.flow.read_paused:  # it is we who are slow
            self._deadline = now + self.body_seconds
        elif (
            not self._in_head and now > self._began + self.body_grace_seconds + self._body / self.body_bytes_per_second
        ):
            self.transport.abort()
            return
        if now >= self._deadline:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(self._deadline - now, self._look)


def _is_here(network: str) -> bool:
    """Whether it is this machine."""
    try:
        return network == "::/64" or ipaddress.ip_address(network).is_loopback
    except ValueError:
        return False
