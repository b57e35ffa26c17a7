"""TLS before there is a connection: handshakes that do not end are counted, and end.

Uvicorn knows a client only once its handshake is done, so whoever never does one would be outside every limit of
`medperf.server.connection`. Here a socket counts from the moment it is accepted.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from medperf.server.connection import Connection


class Encrypted:
    """Makes the protocol of each accepted socket; for uvicorn's option ``http``, which then has no certificate itself. It crosses to
    worker processes, each of which reads the certificate.

    Args:
        protocol: what follows the handshake.
        handshake_seconds: from being accepted to the end of the handshake.
    """

    #: How long the other side may take to say that it has seen the end.
    goodbye_seconds = 5.0

    def __init__(
        self, cert: Path, key: Path, *, protocol: type[Connection] = Connection, handshake_seconds: float = 10.0
    ) -> None:
        self._cert, self._key, self._protocol = cert, key, protocol
        self._context: ssl.SSLContext | None = None
        self.handshake_seconds = handshake_seconds

    def __call__(self, **options: Any) -> asyncio.Protocol:
        """The protocol of one socket; ``options`` are for the one that follows."""
        if self._context is None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(self._cert, self._key)
        return _Arrival(self._context, self, self._protocol(**options))


class _Arrival(asyncio.Protocol):
    """A socket until its handshake is done. Uvicorn counts it with its connections, and tells it when the server ends."""

    def __init__(self, context: ssl.SSLContext, encrypted: Encrypted, connection: Connection) -> None:
        self._context, self._encrypted, self._connection = context, encrypted, connection
        self._handshake: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin the handshake, where there is room for one more."""
        plain = cast("asyncio.Transport", transport)
        self._connection.connections.add(self)  # type: ignore[arg-type] # all that is asked of them is `shutdown`
        accepted: socket.socket | None = None
        if self._connection.enter(plain):
            # Anew, from its socket: this transport has read nothing yet, and what it reads would be lost to the handshake.
            with suppress(OSError):
                accepted = socket.socket(fileno=os.dup(plain.get_extra_info("socket").fileno()))
        plain.abort()
        if accepted is None:
            self._end(gone=True)
        else:
            self._handshake = asyncio.ensure_future(self._shake(accepted))

    def shutdown(self) -> None:
        """The server ends; nothing was asked yet."""
        if self._handshake is not None:
            self._handshake.cancel()

    async def _shake(self, accepted: socket.socket) -> None:
        done = False
        try:
            accepted.setblocking(False)
            with suppress(OSError):  # it went away, took too long, or speaks no TLS
                await asyncio.get_running_loop().connect_accepted_socket(
                    lambda: self._connection,
                    accepted,
                    ssl=self._context,
                    ssl_handshake_timeout=self._encrypted.handshake_seconds,
                    ssl_shutdown_timeout=self._encrypted.goodbye_seconds,
                )
                done = True
        finally:
            self._end(gone=not done)

    def _end(self, *, gone: bool) -> None:
        self._connection.connections.discard(self)
        if gone:
            self._connection.leave()
