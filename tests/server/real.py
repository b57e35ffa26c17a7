"""A real server on a port of its own, in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import uvicorn

from medperf.server.app import create_app
from medperf.server.connection import Connection
from medperf.server.settings import Settings


@contextlib.contextmanager
def serving(settings: Settings, **options: Any) -> Iterator[str]:
    """Serve with uvicorn as `medperf server start` does; yields its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        config = uvicorn.Config(
            create_app(settings),
            http=Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            **options,
        )
        server = uvicorn.Server(config)
        started = threading.Event()
        original = server.startup

        async def startup(sockets: list[socket.socket] | None = None) -> None:
            await original(sockets)
            started.set()

        server.startup = startup  # to know when
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        assert started.wait(30), "the server did not start"
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(30)
