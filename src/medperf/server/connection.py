"""One connection: uvicorn's, with an end for clients that are silent, dribble, or send headers for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class Connection(HttpToolsProtocol):
    """Uvicorn bounds neither the headers of a request nor the time that a client takes for them or for its body."""

    #: From the connection, or a request's first byte, to the end of its headers.
    head_seconds = 20.0
    #: Between two pieces of a body, while we wait for one.
    body_seconds = 60.0
    head_bytes = 64 * 1024

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._expecting = self._in_head = True
        self._head = 0
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait."""
        super().connection_made(transport)
        self._deadline = self.loop.time() + self.head_seconds
        self._timer = self.loop.call_later(self.head_seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any more."""
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def data_received(self, data: bytes) -> None:
        """What came; headers that do not end are refused."""
        in_head = self._in_head
        super().data_received(data)
        if in_head and self._in_head:
            self._head += len(data)
            if self._head > self.head_bytes:
                self.transport.abort()
                return
        if self._expecting and self._timer is None:
            self._timer = self.loop.call_later(self._deadline - self.loop.time(), self._look)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._expecting = self._in_head = True
        self._head = 0
        self._deadline = self.loop.time() + self.head_seconds

    def on_headers_complete(self) -> None:
        """Its body may follow."""
        super().on_headers_complete()
        self._in_head = False
        self._deadline = self.loop.time() + self.body_seconds

    def on_body(self, body: bytes) -> None:
        """It goes on."""
        super().on_body(body)
        self._deadline = self.loop.time() + self.body_seconds

    def on_message_complete(self) -> None:
        """All of it is here."""
        super().on_message_complete()
        self._expecting = False

    def _look(self) -> None:
        self._timer = None
        if not self._expecting or self.transport.is_closing():
            return
        now = self.loop.time()
        if self.flow.read_paused:  # it is we who are slow
            self._deadline = now + self.body_seconds
        if now >= self._deadline:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(self._deadline - now, self._look)
