"""A proxy that ends one connection at one byte, and lets everything else pass."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Literal

Direction = Literal["up", "down"]


class CuttingProxy:
    """Listens on loopback before a server there.

    Args:
        port: the server's.
        direction: whose bytes are counted: ``up`` the client's, ``down`` the server's; over all connections together.
        after: the connection that would carry byte number ``after`` ends before it; None: none does.

    Attributes:
        seen: how many bytes had passed in each direction after every read: where a cut is worth trying.
    """

    def __init__(self, port: int, *, direction: Direction = "up", after: int | None = None) -> None:
        self.cuts = 0
        self.seen: dict[Direction, list[int]] = {"up": [0], "down": [0]}
        self._port = port
        self._direction = direction
        self._after = after
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def close(self) -> None:
        for opened in (self._listener, *self._sockets):
            _end(opened)
        for thread in self._threads:
            thread.join(10)
        for opened in (self._listener, *self._sockets):
            opened.close()

    def __enter__(self) -> CuttingProxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            for opened in (client, server):
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [client, server]
            self._start(self._pump, client, server, "up")
            self._start(self._pump, server, client, "down")

    def _pump(self, source: socket.socket, target: socket.socket, direction: Direction) -> None:
        try:
            while data := source.recv(65536):
                data, cut = self._allowed(data, direction)
                if data:
                    target.sendall(data)
                if cut:
                    break
        except OSError:
            pass
        finally:
            _end(source)
            _end(target)

    def _allowed(self, data: bytes, direction: Direction) -> tuple[bytes, bool]:
        with self._lock:
            passed = self.seen[direction][-1]
            cut = (
                self._after is not None
                and direction == self._direction
                and not self.cuts
                and passed + len(data) > self._after
            )
            if cut:
                assert self._after is not None
                data = data[: self._after - passed]
                self.cuts += 1
            self.seen[direction].append(passed + len(data))
            return data, cut


def _end(opened: socket.socket) -> None:
    with contextlib.suppress(OSError):
        opened.shutdown(socket.SHUT_RDWR)
