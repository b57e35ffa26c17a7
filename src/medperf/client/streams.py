"""Receiving something long: size known before where possible, continued after a cut, never more than announced."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput, ServerUnavailable
from medperf.domain.events import Emit, Progress

if TYPE_CHECKING:
    import httpx2

#: Cuts in a row without a single new byte, and cuts altogether, after which we give up.
FRUITLESS_TRIES = 3
TRIES = 50
BACKOFF_SECONDS = 0.2
_SILENCE = ("connection_lost", "server_unavailable", "server_timeout")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")


class SinkWriter(Protocol):
    """Where bytes go; `medperf.workspace.store.StoreWriter` is one."""

    written: int

    def write(self, chunk: bytes) -> int:
        """Append."""

    def restart(self) -> None:
        """Forget what was written."""

    def commit(self, expected: Digest | None = None) -> Digest:
        """Keep the file, if it is the expected one."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Sink(Protocol):
    """What keeps files; `medperf.workspace.store.Store` is one."""

    def writer(self, *, size: int | None = None) -> SinkWriter:
        """A new file; ``size`` in bytes, if known."""

    def path(self, digest: Digest) -> Path | None:
        """A kept file."""


Open = Callable[[dict[str, str]], "contextlib.AbstractContextManager[httpx2.Response]"]


def receive(
    open_stream: Open,
    writer: SinkWriter,
    *,
    source: str,
    size: int | None,
    name: str,
    emit: Emit,
    sleep: Callable[[float], None],
    limit: int | None = None,
) -> None:
    """Write all of a stream.

    Args:
        open_stream: opens the body with extra headers (Range); raises errors of the domain for answers that are no success.
        source: how messages name it.
        size: bytes that must come, if known.
        limit: bytes that may come at most when ``size`` is not known.

    Raises:
        InvalidInput: ``size_mismatch``: it has another size, or more than ``limit``.
        ServerUnavailable: ``download_cut``.
    """
    _Reception(writer, source=source, size=size, limit=limit, name=name, emit=emit).run(open_stream, sleep)


class _Reception:
    """One file on its way."""

    def __init__(
        self, writer: SinkWriter, *, source: str, size: int | None, limit: int | None, name: str, emit: Emit
    ) -> None:
        self._writer = writer
        self._source = source
        self._size = size
        self._limit = limit
        self._emit = emit
        self._text = f"Downloading {name}"
        self._validator: str | None = None
        self._announced: int | None = None

    def run(self, open_stream: Open, sleep: Callable[[float], None]) -> None:
        import httpx2

        fruitless = 0
        problem: ServerUnavailable | None = None
        for _ in range(TRIES):
            before = self._writer.written
            try:
                with open_stream(self._headers()) as response:
                    self._begin(response)
                    for chunk in response.iter_raw():
                        self._take(chunk)
                if self._complete():
                    return
            except httpx2.TransportError:
                pass  # cut: go on from where it broke
            except ServerUnavailable as error:
                if not error.details.get("retry") and (before == 0 or error.code not in _SILENCE):
                    raise
                problem = error
            fruitless = fruitless + 1 if self._writer.written <= before else 0
            if fruitless >= FRUITLESS_TRIES:
                break
            sleep(BACKOFF_SECONDS * 3**fruitless)
        if problem is not None and self._writer.written == 0:
            raise problem
        total = self._total()
        of = f" of {total:,}" if total is not None else ""
        raise ServerUnavailable(
            "download_cut",
            f"The download of {self._source} was cut again and again: {self._writer.written:,}{of} bytes came.",
            "Check your network and try again.",
        )

    def _headers(self) -> dict[str, str]:
        # The bytes themselves, not a compression of them: sizes and ranges are about these.
        headers = {"Accept-Encoding": "identity", "Accept": "*/*"}
        done = self._writer.written
        if done and self._validator is None and self._size is None:
            self._writer.restart()  # neither digest nor ETag would tell that the rest belongs to another version
        elif done:
            headers["Range"] = f"bytes={done}-"
            if self._validator is not None:
                headers["If-Range"] = self._validator
        return headers

    def _begin(self, response: httpx2.Response) -> None:
        """Look at the headers: does it go on where we are, and is it as long as it must be?"""
        position = 0
        length = response.headers.get("content-length", "")
        total = int(length) if length.isdecimal() and len(length) < 19 else None
        if response.status_code == 206:
            found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            position = int(found[1]) if found else -1
            total = int(found[2]) if found and found[2] != "*" else None
        if position != self._writer.written:
            if position:
                raise ServerUnavailable(
                    "download_cut",
                    f"{self._source} answered with another part of the file than was asked for.",
                    "Try again later.",
                )
            self._writer.restart()
        etag = response.headers.get("etag", "")
        self._validator = etag if etag.startswith('"') else None
        self._announced = total
        if total is not None:
            self._check_size(total)
        self._emit(Progress(self._text, self._writer.written, self._total()))

    def _take(self, chunk: bytes) -> None:
        if not chunk:
            return
        self._check_at_most(self._writer.written + len(chunk))
        self._writer.write(chunk)
        self._emit(Progress(self._text, self._writer.written, self._total()))

    def _complete(self) -> bool:
        total = self._total()
        if total is None or self._writer.written == total:
            return True
        if self._announced is None:
            # It ended by closing the connection, so nothing tells a cut from a short file but the size we expect.
            raise InvalidInput(
                "download_truncated",
                f"{self._source} ended after {self._writer.written:,} of {total:,} bytes.",
                "The file is not whole there, or was replaced. Tell its owner if it stays so.",
            )
        return False

    def _total(self) -> int | None:
        return self._size if self._size is not None else self._announced

    def _check_size(self, total: int) -> None:
        if self._size is not None and total != self._size:
            raise InvalidInput(
                "size_mismatch",
                f"{self._source} has {total:,} bytes, but {self._size:,} were registered.",
                "The file was replaced after it was registered. Tell its owner.",
            )
        self._check_at_most(total)

    def _check_at_most(self, count: int) -> None:
        if self._size is not None and count > self._size:
            raise InvalidInput(
                "size_mismatch",
                f"{self._source} has more than the {self._size:,} bytes that were registered.",
                "The file was replaced after it was registered. Tell its owner.",
            )
        if self._limit is not None and count > self._limit:
            raise InvalidInput(
                "file_too_large", f"{self._source} has more than {self._limit:,} bytes.", "Use a smaller file."
            )
