"""Receiving something long: size known before, continued after a cut (by a later command too), never more than announced, never too slow."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput, ServerUnavailable
from medperf.domain.events import Emit, Progress

if TYPE_CHECKING:
    import httpx2

#: Cuts in a row without a single new byte, times that it fell silent or came too slowly, and cuts altogether, after which we give up.
FRUITLESS_TRIES = 3
SILENT_TRIES = 5
TRIES = 50
BACKOFF_SECONDS = 0.2
#: Most bytes of a file whose length nobody says before it comes.
UNANNOUNCED_BYTES = 1024**3
_SILENCE = ("connection_lost", "server_unavailable", "server_timeout")
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


class SinkWriter(Protocol):
    """Where bytes go, which outlive it; `medperf.workspace.partials.PartialWriter` is one."""

    written: int
    origin: dict[str, str]

    def expect(self, size: int) -> None:
        """So many bytes will come in all; raises where there is no room."""

    def note(self, origin: Mapping[str, str]) -> None:
        """Remember what the bytes come from; said before the first of them is written."""

    def write(self, chunk: bytes) -> int:
        """Append."""

    def restart(self) -> None:
        """Forget what was written."""

    def commit(self, expected: Digest | None = None) -> Digest:
        """Keep the file, if it is the expected one."""

    def drop(self) -> None:
        """Leave nothing behind."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Sink(Protocol):
    """What keeps files; `medperf.workspace.store.Store` is one."""

    def partial(
        self, key: Digest, *, size: int | None = None, observe: Callable[[int], None] | None = None
    ) -> SinkWriter | None:
        """The file being downloaded under this key; None while another process has it."""

    def partial_bytes(self, key: Digest) -> int:
        """How far it is."""

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
    digest_known: bool | None = None,
) -> int:
    """Write all of a stream, after what ``writer`` has of it already.

    Args:
        open_stream: opens the body with extra headers (Range); raises errors of the domain for answers that are no success (416 is none
            here). Where the response's extensions hold a `medperf.client.network.Pace`, it is told what comes.
        source: how messages name it, and how a later download knows that the bytes are of the same place.
        size: bytes that must come, if known.
        limit: bytes that may come at most when ``size`` is not known.
        digest_known: somebody checks the digest afterwards, so that bytes of which nothing else says that they fit may be continued;
            None: where ``size`` is known.

    Returns:
        how many answers the bytes come from; more than 1: parts of different versions of a file may have come together.

    Raises:
        InvalidInput: ``size_mismatch``, ``file_too_large``, ``download_truncated``, ``size_unknown`` or ``url_encoded``.
        ServerUnavailable: ``download_cut``, ``download_slow``, ``download_changed``, or what ``open_stream`` says.
    """
    known = size is not None if digest_known is None else digest_known
    reception = _Reception(writer, source=source, size=size, limit=limit, digest_known=known, name=name, emit=emit)
    reception.run(open_stream, sleep)
    return reception.answers


class _Changed(Exception):
    """What comes now does not continue what came before."""


class _Reception:
    """One file on its way."""

    def __init__(
        self,
        writer: SinkWriter,
        *,
        source: str,
        size: int | None,
        limit: int | None,
        digest_known: bool,
        name: str,
        emit: Emit,
    ) -> None:
        self.answers = 1 if writer.written else 0
        self._writer = writer
        self._source = source
        self._size = size
        self._limit = limit
        self._digest_known = digest_known
        self._emit = emit
        self._text = f"Downloading {name}"
        same = writer.origin.get("source") == source
        self._validator = writer.origin.get("etag") if same else None
        self._announced: int | None = None

    def run(self, open_stream: Open, sleep: Callable[[float], None]) -> None:
        if self._size is not None and self._writer.written == self._size and self._size:
            return  # all came, and what asked for it was killed before it could say so
        import httpx2

        fruitless = silent = changed = 0
        problem: ServerUnavailable | None = None
        for _ in range(TRIES):
            before = self._writer.written
            try:
                with open_stream(self._headers()) as response:
                    self._receive(response)
                if self._complete():
                    return
            except _Changed:
                changed += 1
                self._restart()
            except httpx2.TransportError as error:  # cut: go on from where it broke
                if self._size is not None and self._writer.written == self._size:
                    return  # only the end of what it was wrapped in is missing
                silent += isinstance(error, httpx2.TimeoutException)
            except ServerUnavailable as error:
                silent += error.code == "server_timeout"
                if not error.details.get("retry") and (before == 0 or error.code not in _SILENCE):
                    raise
                problem = error
            fruitless = fruitless + 1 if self._writer.written <= before else 0
            if fruitless >= FRUITLESS_TRIES or silent >= SILENT_TRIES or changed >= FRUITLESS_TRIES:
                break
            sleep(BACKOFF_SECONDS * 3**fruitless)
        if changed >= FRUITLESS_TRIES:
            raise ServerUnavailable(
                "download_changed",
                f"{self._source} answers with other parts of a file than were asked for, or changes all the time.",
                "Try again later, or tell its owner.",
            )
        if problem is not None and self._writer.written == 0:
            raise problem
        raise self._given_up(slow=silent > 0)

    def _given_up(self, *, slow: bool) -> ServerUnavailable:
        total = self._total()
        came = f"{self._writer.written:,}{f' of {total:,}' if total is not None else ''} bytes came"
        fix = "Check your network and run the same command again: it goes on from there."
        if slow:
            return ServerUnavailable("download_slow", f"{self._source} falls silent, or is too slow: {came}.", fix)
        return ServerUnavailable(
            "download_cut", f"The download of {self._source} was cut again and again: {came}.", fix
        )

    def _restart(self) -> None:
        self._writer.restart()
        self._validator = None
        self._announced = None
        self.answers = 0

    def _headers(self) -> dict[str, str]:
        # The bytes themselves, not a compression of them: sizes and ranges are about these.
        headers = {"Accept-Encoding": "identity", "Accept": "*/*"}
        done = self._writer.written
        if done and self._validator is None and not self._digest_known:
            self._restart()  # neither digest nor ETag would tell that the rest belongs to another version
        elif done:
            headers["Range"] = f"bytes={done}-"
            if self._validator is not None:
                headers["If-Range"] = self._validator
        return headers

    def _receive(self, response: httpx2.Response) -> None:
        from medperf.client.network import PACE

        pace = response.extensions.get(PACE)
        if pace is not None:
            pace.start()
        self._begin(response)
        for chunk in response.iter_raw():
            if chunk:
                self._take(chunk)
                if pace is not None:
                    pace.came(len(chunk))

    def _begin(self, response: httpx2.Response) -> None:
        """Look at the headers: does it go on where we are, and is it as long as it must be?"""
        etag = response.headers.get("etag", "")
        validator = etag if etag.startswith('"') and len(etag) <= 256 else None
        if response.status_code == 416:
            raise _Changed
        if response.status_code == 206:
            position, total = _range(response)
            contradicts = _contradict(self._announced, total) or (position and _contradict(self._validator, validator))
            if position != self._writer.written or contradicts:
                raise _Changed
        else:
            total = _length(response)
        self._check_encoding(response)
        self._check_announced(response, total)
        if response.status_code != 206:
            self._restart()  # only now: what is here is not given up for something that cannot be it
        if total is not None:
            self._writer.expect(total)
        if self._writer.written and self._writer.origin.get("source") != self._source:
            self._writer.note({})  # of two places from here on
        elif validator is not None or not self._writer.written:
            self._writer.note({"source": self._source} | ({"etag": validator} if validator else {}))
        self._validator = validator or self._validator
        self._announced = total if total is not None else self._announced
        self.answers += 1
        self._emit(Progress(self._text, self._writer.written, self._total()))

    def _check_encoding(self, response: httpx2.Response) -> None:
        """A compression that nobody asked for is stored as it comes, which fits where the digest says so, or where the file is one."""
        encoding = response.headers.get("content-encoding", "identity").strip().lower()
        path = self._source.partition("?")[0].partition("#")[0].lower()
        if encoding in ("", "identity") or self._digest_known or path.endswith((".gz", ".tgz")):
            return
        raise InvalidInput(
            "url_encoded",
            f"{self._source} answers with {encoding[:40]!r} encoding, though the bytes themselves were asked for.",
            "Host the file where it is served as it is, or download it yourself and give its local path.",
        )

    def _check_announced(self, response: httpx2.Response, total: int | None) -> None:
        if total is not None:
            self._check_size(total)
        elif self._size is None and "transfer-encoding" not in response.headers:
            raise InvalidInput(
                "size_unknown",
                f"{self._source} does not say how long the file is, so a part of it could be taken for all.",
                "Host the file where its size is said (Content-Length), or download it yourself and give its local path.",
            )

    def _take(self, chunk: bytes) -> None:
        self._check_at_most(self._writer.written + len(chunk), announced=self._total() is not None)
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
        self._check_at_most(total, announced=True)

    def _check_at_most(self, count: int, *, announced: bool) -> None:
        if self._size is not None and count > self._size:
            raise InvalidInput(
                "size_mismatch",
                f"{self._source} has more than the {self._size:,} bytes that were registered.",
                "The file was replaced after it was registered. Tell its owner.",
            )
        limit = self._limit
        if not announced:
            limit = UNANNOUNCED_BYTES if limit is None else min(limit, UNANNOUNCED_BYTES)
        if limit is not None and count > limit:
            raise InvalidInput(
                "file_too_large", f"{self._source} has more than {limit:,} bytes.", "Use a smaller file."
            )


def _contradict(known: object, said: object) -> bool:
    return known is not None and said is not None and known != said


def _length(response: httpx2.Response) -> int | None:
    """What Content-Length says, where it counts: bytes."""
    length = response.headers.get("content-length", "")
    if "transfer-encoding" in response.headers or not (length.isdecimal() and length.isascii() and len(length) <= 20):
        return None
    return int(length)


def _range(response: httpx2.Response) -> tuple[int, int | None]:
    """First byte (-1: not understood) and total size that Content-Range says."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if found is None:
        return -1, None
    total = int(found[3]) if found[3] != "*" else None
    if int(found[2]) < int(found[1]) or (total is not None and int(found[2]) >= total):
        return -1, None
    return int(found[1]), total
