"""Further processes that read small files; see `medperf.runtime.hashworker`."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self, TypeVar

from medperf.runtime import hashworker
from medperf.runtime.hashworker import HEADER, LENGTH, OK, SMALL_BYTES, Trouble, hash_names, unpacked

_AHEAD = 6  # batches that a process has before it answered: it never waits for the next. Their answers fit into a pipe.
_PROGRAM = str(Path(hashworker.__file__))
T = TypeVar("T")
#: What to call it, and the batch as `medperf.runtime.hashworker.batch` writes it.
Work = tuple[T, bytes]


class Helpers:
    """Processes beside this one. Starting them takes a while, so that is done as soon as it is known that there is much to do.

    None outlives the context; one that dies leaves its work to this process.
    """

    def __init__(self) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, count: int) -> None:
        """Have ``count`` of them, or as many as can be had."""
        while len(self._processes) < count:
            process = _start()
            if process is None:
                return
            self._processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):  # it still held something for a dead process
                        pipe.close()

    def share(self, work: Iterable[Work[T]]) -> Iterator[tuple[T, bytes | Trouble]]:
        """Each piece of work with its rows, in any order. Without helpers this process does it all."""
        buffer = bytearray(SMALL_BYTES)
        if not self._processes:
            yield from ((name, alone(batch, buffer)) for name, batch in work)
            return
        waiting = deque(work)
        answers: queue.SimpleQueue[tuple[T, bytes | Trouble] | None] = queue.SimpleQueue()
        threads = [
            threading.Thread(target=_drive, args=(process, waiting, answers), daemon=True, name="medperf-hash")
            for process in self._processes
        ]
        try:
            for thread in threads:
                thread.start()
            for _ in threads:
                while (answer := answers.get()) is not None:
                    yield answer
        finally:
            waiting.clear()
            for process in self._processes:
                process.kill()  # whoever waits for its answer waits no longer
            for thread in threads:
                thread.join()


def _next(waiting: deque[Work[T]]) -> Work[T] | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _start() -> subprocess.Popen[bytes] | None:
    """None where no further process can be had. It sees no Ctrl-C of its own: it ends when its input does."""
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", _PROGRAM],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError:
        return None


def _drive(
    process: subprocess.Popen[bytes],
    waiting: deque[Work[T]],
    answers: queue.SimpleQueue[tuple[T, bytes | Trouble] | None],
) -> None:
    """Give one process its work and take its answers. If it dies, what it had is done here."""
    ahead: list[Work[T]] = []
    buffer, alive = bytearray(SMALL_BYTES), True
    while True:
        while len(ahead) < _AHEAD and (piece := _next(waiting)) is not None:
            ahead.append(piece)
            alive = alive and _give(process, piece[1])
        if not ahead:
            break
        name, batch = ahead.pop(0)
        answer = _take(process) if alive else None
        if answer is None:
            alive = False
            answer = alone(batch, buffer)
        answers.put((name, answer))
    answers.put(None)


def _give(process: subprocess.Popen[bytes], batch: bytes) -> bool:
    """False: it died."""
    try:
        if process.stdin is not None:
            process.stdin.write(batch)
            process.stdin.flush()
    except (OSError, ValueError):
        return False
    return True


def _take(process: subprocess.Popen[bytes]) -> bytes | Trouble | None:
    """None: it died."""
    pipe = process.stdout
    try:
        head = pipe.read(HEADER.size) if pipe is not None else b""
        if pipe is None or len(head) < HEADER.size:
            return None
        kind, count, error = HEADER.unpack(head)
        if kind != OK:
            return Trouble(kind, count, error)
        rows = pipe.read(count)
    except (OSError, ValueError):
        return None
    return rows if len(rows) == count else None


def alone(batch: bytes, buffer: bytearray) -> bytes | Trouble:
    """The rows of a batch, read by this process."""
    try:
        return hash_names(*unpacked(batch[LENGTH.size :]), buffer)
    except Trouble as trouble:
        return trouble
