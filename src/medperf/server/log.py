"""The server's log: one JSON object per line. Requests by route, status and account id; never a query, header, body or address."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import orjson
import structlog

from medperf.server.settings import Settings


class ServerLog:
    """Opened by the lifespan; without `open` it drops everything. A file is appended to, so it can be rotated by copy and truncate.

    A line that cannot be written is lost, and nothing else: on a full disk requests that only read are still answered.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._file: Any = None
        self._logger: Any = None

    def open(self) -> None:
        """Start writing."""
        if not self._settings.log or self._file is not None:
            return
        descriptor = os.open(self._settings.log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._file = os.fdopen(descriptor, "ab", buffering=0)  # a line is lost or written, never kept for later
        self._logger = structlog.wrap_logger(
            structlog.BytesLogger(self._file),
            processors=[
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(serializer=_dumps),
            ],
            wrapper_class=structlog.BoundLogger,
            cache_logger_on_first_use=True,
        ).bind()

    def close(self) -> None:
        """Stop writing."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = self._logger = None

    def request(
        self, *, request_id: str, method: str, route: str, status: int, milliseconds: float, user: int | None
    ) -> None:
        """One answered request."""
        if self._logger is not None:
            with suppress(OSError):
                self._logger.info(
                    "request",
                    id=request_id,
                    method=method,
                    route=route,
                    status=status,
                    ms=round(milliseconds, 2),
                    user=user,
                )

    def fault(self, error: BaseException, *, request_id: str, method: str, route: str) -> None:
        """A fault of ours, with its traceback (code lines only; the database hides its parameters)."""
        if self._logger is not None:
            with suppress(OSError):
                self._logger.error("fault", id=request_id, method=method, route=route, exc_info=error)


def _dumps(value: Any, **_: Any) -> bytes:
    return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS)
