"""A proxy between somebody and a server that cuts the line at a byte, and stays away until it is mended."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from typing import Literal

When = Literal["before", "after"]


@dataclass
class Line:
    """Passes everything on to ``port`` of this machine.

    Attributes:
        sent: bytes that came from the client.
        cut_at: with the piece that reaches so many bytes the line is cut; None: never.
        when: whether that piece still reaches the server.
    """

    port: int
    sent: int = 0
    cut_at: int | None = None
    when: When = "before"
    is_cut: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: set[socket.socket] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=32)
        self.here: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def mend(self) -> None:
        """Pass everything on again, and count anew."""
        with self._lock:
            self.sent, self.cut_at, self.is_cut = 0, None, False

    def close(self) -> None:
        """No more of it."""
        self._listener.close()
        self._cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.is_cut:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self.port))
                with self._lock:
                    self._open |= {client, server}
                threading.Thread(target=self._upwards, args=(client, server), daemon=True).start()
                threading.Thread(target=self._downwards, args=(server, client), daemon=True).start()

    def _upwards(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(65536):
                with self._lock:
                    self.sent += len(piece)
                    self.is_cut = self.is_cut or (self.cut_at is not None and self.sent >= self.cut_at)
                if self.is_cut:
                    if self.when == "after":
                        server.sendall(piece)
                        server.settimeout(1)  # a piece of something larger has no answer of its own
                        server.recv(1)
                    break
                server.sendall(piece)
        self._end(client, server)

    def _downwards(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := server.recv(65536, socket.MSG_PEEK):
                if self.is_cut:
                    return  # nobody hears the answer
                server.recv(len(piece))
                client.sendall(piece)
        if not self.is_cut:
            self._end(client, server)

    def _end(self, *both: socket.socket) -> None:
        if self.is_cut:
            self._cut()
        for one in both:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _cut(self) -> None:
        with self._lock:
            found, self._open = self._open, set()
        for one in found:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
