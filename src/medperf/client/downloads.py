"""Fetching files from anywhere: by FileRef when the digest is known, by URL when a file is about to be registered.

At most five redirects, https beyond this machine, no credentials to anybody but our own server, no private addresses; continued where an
earlier try stopped.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from medperf.client.hops import Hops, shown
from medperf.client.streams import Sink, SinkWriter, receive
from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.errors import (
    Forbidden,
    Interrupted,
    InvalidInput,
    MedPerfError,
    NotFound,
    ServerUnavailable,
    Unauthenticated,
)
from medperf.domain.events import Emit, Progress, ignore
from medperf.domain.numbers import whole_number
from medperf.wire.models import FileRef

if TYPE_CHECKING:
    import threading

    from medperf.client.client import MedPerfClient
    from medperf.client.network import Timeouts

_WAIT_SECONDS = 0.1
_NEXT_URL = (InvalidInput, NotFound, Forbidden, ServerUnavailable, Unauthenticated)


@dataclass(frozen=True)
class Fetched:
    """A file that is in the store now. ``size`` in bytes."""

    path: Path
    digest: Digest
    size: int


class Downloader:
    """Fetches into one store.

    Args:
        store: keeps the files, e.g. a workspace's ``store``.
        api: our server, for ``asset:ID``; only there our login is shown.
        cancel: set when the person pressed Ctrl-C.
        allow_private: policy of the site: URLs may lead into its own network.
        allow_loopback: URLs may name this machine; not for those that somebody elsewhere wrote.
        verify: PEM file to trust exclusively; None: the system's authorities.
    """

    def __init__(
        self,
        store: Sink,
        *,
        api: MedPerfClient | None = None,
        cancel: threading.Event | None = None,
        allow_private: bool = False,
        allow_loopback: bool = True,
        verify: Path | None = None,
        timeouts: Timeouts | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._api = api
        self._cancel = cancel
        self._sleep = sleep
        self._hops = Hops(
            private=allow_private, loopback=allow_loopback, verify=verify, timeouts=timeouts, cancel=cancel
        )

    def fetch(self, ref: FileRef, *, name: str, emit: Emit = ignore) -> Fetched:
        """The file of ``ref``: what is here already, or the first of its URLs that has it.

        What came before a cut stays (never seen as the file), and the next call goes on from there. While another process fetches the
        same digest, this one waits for it.

        Args:
            name: what messages and progress call it.

        Raises:
            InvalidInput: another size or digest than registered, or no URL at all.
            NotFound, Forbidden, ServerUnavailable: no URL works; the last one's reason, all of them in ``details["tried"]``.
            MedPerfError: ``disk_full``, ``workspace_unwritable``.
        """
        digest = Digest(ref.digest)
        with self._partial(digest, digest=digest, size=ref.size, name=name, emit=emit) as writer:
            if writer is None:
                return self._fetched(digest)
            problems: list[tuple[str, MedPerfError]] = []
            for url in ref.urls:
                try:
                    self._exactly(url, writer, digest, size=ref.size, name=name, emit=emit)
                except _NEXT_URL as error:
                    problems.append((url, error))
                else:
                    return self._fetched(digest)
        raise _all_failed(name, problems)

    def probe(
        self, url: str, *, expected: Digest | None = None, limit: int = limits.ASSET_BYTES, emit: Emit = ignore
    ) -> Fetched:
        """Fetch a URL to learn its digest and size.

        Args:
            expected: refuse any other digest.
            limit: bytes it may have at most.

        Raises:
            InvalidInput, NotFound, Forbidden, ServerUnavailable: it cannot be fetched, or is not what was expected.
            MedPerfError: ``disk_full``, ``workspace_unwritable``.
        """
        name = _last_part(url)
        key = expected or Digest.of(b"url\0" + url.encode(errors="surrogateescape"))
        with self._partial(key, digest=expected, size=None, name=name, emit=emit) as writer:
            if writer is None:
                assert expected is not None, "only a known digest is found in the store"
                return self._fetched(expected)
            if expected is not None:
                self._exactly(url, writer, expected, size=None, limit=limit, name=name, emit=emit)
                return self._fetched(expected)
            try:
                self._receive(url, writer, size=None, limit=limit, digest_known=False, name=name, emit=emit)
            except BaseException as error:
                if isinstance(error, InvalidInput) or "etag" not in writer.origin:
                    writer.restart()  # nobody could continue it
                raise
            digest = writer.commit()
        return self._fetched(digest)

    def _fetched(self, digest: Digest) -> Fetched:
        path = self._store.path(digest)
        if path is None:
            raise MedPerfError("file_lost", f"The file {digest.short} vanished right after its download.", "Try again.")
        return Fetched(path, digest, path.stat().st_size)

    @contextlib.contextmanager
    def _partial(
        self, key: Digest, *, digest: Digest | None, size: int | None, name: str, emit: Emit
    ) -> Iterator[SinkWriter | None]:
        """Hold the partial file; None when ``digest`` is in the store, perhaps because somebody else fetched it meanwhile."""

        def observe(done: int) -> None:
            self._check_cancelled()
            emit(Progress(f"Checking what is here of {name}", done, size))

        while digest is None or self._store.path(digest) is None:
            writer = self._store.partial(key, size=size, observe=observe)
            if writer is None:
                self._check_cancelled()
                done = self._store.partial_bytes(key)
                emit(Progress(f"Waiting for another process that downloads {name}", done, size))
                if self._cancel is None:
                    self._sleep(_WAIT_SECONDS)
                else:
                    self._cancel.wait(_WAIT_SECONDS)
                continue
            with writer:
                # Once more: whoever held it may have finished between our two looks.
                if digest is not None and self._store.path(digest) is not None:
                    writer.drop()
                    break
                yield writer
                return
        yield None

    def _check_cancelled(self) -> None:
        if self._cancel is not None and self._cancel.is_set():
            raise Interrupted

    def _exactly(
        self,
        url: str,
        writer: SinkWriter,
        digest: Digest,
        *,
        size: int | None,
        name: str,
        emit: Emit,
        limit: int = limits.ASSET_BYTES,
    ) -> None:
        """Receive and keep the file with this digest.

        What was put together from several answers may be wrong by its earlier parts: then it is fetched once more, from its first byte,
        before this URL is blamed.
        """
        for again in (True, False):
            before = writer.written
            try:
                answers = self._receive(url, writer, size=size, limit=limit, digest_known=True, name=name, emit=emit)
            except InvalidInput:
                if writer.written != before:
                    writer.restart()
                raise
            try:
                writer.commit(digest)
            except InvalidInput as error:
                writer.restart()
                if again and (before or answers > 1):
                    continue
                what = f"{shown(url)} is not the file that was registered. {error.what}"
                raise InvalidInput(error.code, what, error.fix) from error
            return

    def _receive(
        self,
        url: str,
        writer: SinkWriter,
        *,
        size: int | None,
        limit: int,
        digest_known: bool,
        name: str,
        emit: Emit,
    ) -> int:
        scheme, _, rest = url.partition(":")
        if scheme.lower() != "asset":
            return receive(
                lambda headers: self._hops.open(url, headers),
                writer,
                source=url,
                size=size,
                limit=limit,
                digest_known=digest_known,
                name=name,
                emit=emit,
                sleep=self._sleep,
            )
        if self._api is None:
            raise Unauthenticated(
                "not_logged_in", f"{shown(url)} is a file of the MedPerf server.", "Log in with: medperf login"
            )
        asset_id = whole_number(rest)
        if asset_id is None:
            raise InvalidInput(
                "bad_url", f"{url[:200]!r} is no asset.", "Write it like asset:12; list them with: medperf asset ls"
            )
        return self._api.assets.download(
            asset_id,
            writer,
            size=size,
            limit=limit,
            digest_known=digest_known,
            name=name,
            emit=emit,
            cancel=self._cancel,
        )


def _last_part(url: str) -> str:
    """What a person calls the file behind a URL."""
    return url.partition("?")[0].rstrip("/").rpartition("/")[2][:100] or url[:100]


def _all_failed(name: str, problems: list[tuple[str, MedPerfError]]) -> MedPerfError:
    """The last problem, and that the other URLs did no better."""
    if not problems:
        return InvalidInput("no_url", f"The {name} has no URL to fetch it from.", "Ask its owner for a URL.")
    last = problems[-1][1]
    if len(problems) > 1:
        others = ", ".join(f"{shown(url)} ({error.code})" for url, error in problems[:-1])
        last.what = f"{last.what} No other URL of the {name} has it either: {others}."
        last.details["tried"] = [{"url": url, "code": error.code} for url, error in problems]
    return last
