"""Python loads this by itself where ``PYTHONPATH`` names its folder: it counts what the process does to files, databases and
connections, and ends it at one of these points.

KILL_AT: number of the point, from 1; 0: only count.
KILL_WITH: number of the signal.
KILL_LOG: the file in which each point becomes a line, before it happens.

The variables are taken away at once, so that the processes which this one starts are left alone.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

_AT = int(os.environ.pop("KILL_AT", "-1"))
_WITH = int(os.environ.pop("KILL_WITH", "9"))
_LOG = os.environ.pop("KILL_LOG", "")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_EVENTS = frozenset(
    [
        "os.rename",
        "os.remove",
        "os.mkdir",
        "os.rmdir",
        "os.link",
        "os.symlink",
        "os.truncate",
        "os.chmod",
        "os.chown",
        "os.fork",
        "os.posix_spawn",
        "subprocess.Popen",
        "fcntl.flock",
        "socket.connect",
        "socket.bind",
    ]
)


class _Points:
    def __init__(self) -> None:
        self.count = 0
        self.log = os.open(_LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.lock = threading.RLock()
        self.counted_streams = False
        self.real_fsync = os.fsync

    def reach(self, what: str) -> None:
        with self.lock:
            self.count += 1
            os.write(self.log, f"{self.count} {what}\n".encode(errors="backslashreplace"))
            if self.count == _AT:
                os.kill(os.getpid(), _WITH)

    def fsync(self, descriptor: Any) -> None:
        self.reach("fsync")
        self.real_fsync(descriptor)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            text = os.fsdecode(path) if isinstance(path, str | bytes) else ""
            if (
                text
                and isinstance(flags, int)
                and flags & _WRITING
                and not text.startswith(("/dev/", "/proc/", "/sys/"))
            ):
                self.reach(f"open {text}")
        elif event in _EVENTS:
            if event == "socket.connect":
                self.count_streams()
            self.reach(f"{event} {str(arguments[:2])[:200]}")

    def statement(self, text: str) -> None:
        words = " ".join(text.split())[:80]
        if not words.startswith(("SELECT", "PRAGMA")) or "=" in words.partition("WHERE")[0]:
            self.reach(f"sql {words}")

    def connect(self, *arguments: Any, **named: Any) -> Any:
        connection = _connect(*arguments, **named)
        connection.set_trace_callback(self.statement)
        return connection

    def count_streams(self) -> None:
        """What was sent, and what came back, of an encrypted connection. Its module is imported by now."""
        ssl = sys.modules.get("ssl")
        if ssl is None or self.counted_streams:
            return
        self.counted_streams = True

        def before(real: Callable[..., Any], name: str) -> Callable[..., Any]:
            def counted(*arguments: Any, **named: Any) -> Any:
                self.reach(name)
                return real(*arguments, **named)

            return counted

        def after(real: Callable[..., Any], name: str) -> Callable[..., Any]:
            def counted(*arguments: Any, **named: Any) -> Any:
                answer = real(*arguments, **named)
                self.reach(name)
                return answer

            return counted

        ssl.SSLSocket.send = before(ssl.SSLSocket.send, "send")
        ssl.SSLSocket.recv = after(ssl.SSLSocket.recv, "received")
        ssl.SSLSocket.recv_into = after(ssl.SSLSocket.recv_into, "received")


if _AT >= 0 and _LOG:
    import _sqlite3

    _points = _Points()
    _connect = _sqlite3.connect
    _sqlite3.connect = _points.connect
    os.fsync = _points.fsync
    sys.addaudithook(_points.audit)
