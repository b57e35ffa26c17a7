"""Ctrl-C, SIGTERM and a closed terminal: the first asks, the second ends at once."""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, Self

MESSAGE = b"\nStopping; what is finished is kept. Press Ctrl-C again to stop at once.\n"


class Signals:
    """Installed while a command runs (in the main thread) and taken away after it."""

    def __init__(self) -> None:
        self._cancel: threading.Event | None = None
        self._quiet = False
        self._asking = False
        self._asked = False
        self._count = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:  # nohup
                    continue
                self._before[number] = signal.signal(number, self.receive)
        return self

    def __exit__(self, *unused: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    @contextlib.contextmanager
    def watch(self, cancel: threading.Event | None, *, quiet: bool = False) -> Iterator[None]:
        """While inside, the first signal sets ``cancel``, so that the flow stops its containers and raises `Interrupted`."""
        self._cancel, self._quiet, self._asked = cancel, quiet, False
        try:
            yield
        finally:
            self._cancel = None

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """While somebody is asked, Ctrl-C ends at once: nothing runs, and a line that never comes cannot be cancelled."""
        self._asking = True
        try:
            yield
        finally:
            self._asking = False

    def receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - as Python calls it
        """The handler.

        Raises:
            KeyboardInterrupt: nothing was asked to stop gently, or it was asked before.
        """
        self._count += 1
        if self._count > 2:
            os._exit(130)
        if self._cancel is None or self._asking or self._asked or self._cancel.is_set():
            raise KeyboardInterrupt
        self._asked = True
        # Not from here: the main thread may be waiting for this very event, holding its lock, and would wait for itself.
        # A `threading.Thread` takes locks of its own to start, so the bare kind it is.
        _thread.start_new_thread(self._cancel.set, ())
        if not self._quiet:
            with contextlib.suppress(OSError):
                os.write(2, MESSAGE)
