"""A task's output, drained as fast as it comes and kept within a limit: its beginning and its end."""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path

_MARK = 80


class CappedLog:
    """Writes the first half of the limit straight to the file, so that it can be watched, and the last half at the end."""

    def __init__(self, path: Path, limit: int) -> None:
        self._head = max(limit // 2, 0)
        self._tail = max(limit - self._head - _MARK, 0)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        self._last: deque[bytes] = deque()
        self._held = 0
        self.dropped = 0

    def write(self, data: bytes) -> None:
        """Take what the task wrote."""
        if self._head:
            os.write(self._file, data[: self._head])
            data, self._head = data[self._head :], max(self._head - len(data), 0)
        if not data:
            return
        self._last.append(data)
        self._held += len(data)
        while self._last and self._held - len(self._last[0]) >= self._tail:
            gone = len(self._last.popleft())
            self._held -= gone
            self.dropped += gone

    def close(self) -> bool:
        """Write the end; returns whether anything was left out."""
        rest = b"".join(self._last)
        if len(rest) > self._tail:
            self.dropped += len(rest) - self._tail
            rest = rest[len(rest) - self._tail :]
        if self.dropped:
            os.write(self._file, f"\n[... {self.dropped} bytes were left out here ...]\n".encode()[:_MARK])
        os.write(self._file, rest)
        os.close(self._file)
        self._last.clear()
        return self.dropped > 0
