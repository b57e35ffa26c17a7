"""Fetching files from anywhere: by FileRef when the digest is known, by URL when a file is about to be registered.

At most five redirects, https beyond this machine, no credentials to anybody but our own server, no private addresses.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin

from medperf.client.streams import Sink, SinkWriter, receive
from medperf.domain import limits
from medperf.domain.addresses import is_address, is_loopback, split_url
from medperf.domain.digests import Digest
from medperf.domain.errors import Forbidden, InvalidInput, MedPerfError, NotFound, ServerUnavailable, Unauthenticated
from medperf.domain.events import Emit, ignore
from medperf.wire.models import FileRef

if TYPE_CHECKING:
    import threading

    import httpx2

    from medperf.client.client import MedPerfClient
    from medperf.client.network import Timeouts

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


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
        verify: PEM file to trust exclusively; None: the system's authorities.
    """

    def __init__(
        self,
        store: Sink,
        *,
        api: MedPerfClient | None = None,
        cancel: threading.Event | None = None,
        allow_private: bool = False,
        verify: Path | None = None,
        timeouts: Timeouts | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._api = api
        self._cancel = cancel
        self._allow_private = allow_private
        self._verify = verify
        self._timeouts = timeouts
        self._sleep = sleep

    def fetch(self, ref: FileRef, *, name: str, emit: Emit = ignore) -> Fetched:
        """The file of ``ref``: what is here already, or the first of its URLs that has it.

        Args:
            name: what messages and progress call it.

        Raises:
            InvalidInput: another size or digest than registered, or no URL at all.
            NotFound, Forbidden, ServerUnavailable: no URL works; the last one's reason. Nothing is left behind.
        """
        digest = Digest(ref.digest)
        here = self._store.path(digest)
        if here is not None:
            return Fetched(here, digest, ref.size)
        problem: MedPerfError = InvalidInput(
            "no_url", f"The {name} has no URL to fetch it from.", "Ask its owner for a URL."
        )
        for url in ref.urls:
            try:
                with self._store.writer(size=ref.size) as writer:
                    self._receive(url, writer, size=ref.size, name=name, emit=emit)
                    self._commit(writer, url, digest)
            except (InvalidInput, NotFound, Forbidden, ServerUnavailable, Unauthenticated) as error:
                problem = error
            else:
                return self._fetched(digest)
        raise problem

    def probe(self, url: str, *, emit: Emit = ignore) -> Fetched:
        """Fetch a URL to learn its digest and size.

        Raises:
            InvalidInput, NotFound, Forbidden, ServerUnavailable: it cannot be fetched. Nothing is left behind.
        """
        with self._store.writer() as writer:
            self._receive(url, writer, size=None, name=url.rpartition("/")[2].partition("?")[0] or url, emit=emit)
            digest = writer.commit()
        return self._fetched(digest)

    def _fetched(self, digest: Digest) -> Fetched:
        path = self._store.path(digest)
        if path is None:
            raise MedPerfError("file_lost", f"The file {digest.short} vanished right after its download.", "Try again.")
        return Fetched(path, digest, path.stat().st_size)

    def _commit(self, writer: SinkWriter, url: str, digest: Digest) -> None:
        try:
            writer.commit(digest)
        except InvalidInput as error:
            if error.code != "digest_mismatch":
                raise
            raise InvalidInput(
                error.code, f"{url} is not the file that was registered. {error.what}", error.fix
            ) from error

    def _receive(self, url: str, writer: SinkWriter, *, size: int | None, name: str, emit: Emit) -> None:
        scheme, _, rest = url.partition(":")
        if scheme.lower() == "asset":
            if self._api is None:
                raise Unauthenticated(
                    "not_logged_in", f"{url} is a file of the MedPerf server.", "Log in with: medperf login"
                )
            if not rest.isdecimal():
                raise InvalidInput(
                    "bad_url", f"{url[:200]!r} is no asset.", "Write it like asset:12; list them with: medperf asset ls"
                )
            self._api.assets.download(int(rest), writer, size=size, name=name, emit=emit, cancel=self._cancel)
            return
        limit = limits.ASSET_BYTES
        receive(
            lambda headers: self._open(url, headers),
            writer,
            source=url,
            size=size,
            name=name,
            emit=emit,
            sleep=self._sleep,
            limit=limit,
        )

    @contextlib.contextmanager
    def _open(self, url: str, headers: dict[str, str]) -> Iterator[httpx2.Response]:
        """Follow redirects to the file. Each hop is a client of its own, so nothing is carried from one host to the next."""
        from medperf import __version__

        local = is_loopback(str(split_url(url).hostname))
        place = url
        with contextlib.ExitStack() as stack:
            for _ in range(MAX_REDIRECTS + 1):
                self._check(place, source=url, local=local)
                response = stack.enter_context(
                    self._ask(place, headers | {"User-Agent": f"medperf/{__version__}"}, local=local)
                )
                if response.status_code not in _REDIRECTS:
                    _check_status(response.status_code, url)
                    yield response
                    return
                place = urljoin(place, response.headers.get("location", ""))
                stack.pop_all().close()
        raise InvalidInput(
            "too_many_redirects",
            f"{url} redirects more than {MAX_REDIRECTS} times.",
            "Give the URL of the file itself.",
        )

    def _check(self, place: str, *, source: str, local: bool) -> None:
        parts = split_url(place)
        here = is_loopback(str(parts.hostname))
        hop = "" if place == source else f" ({source} led there)"
        if parts.scheme != "https" and not here:
            raise InvalidInput(
                "insecure_url", f"{place} is not encrypted{hop}.", "Only https:// is followed beyond this machine."
            )
        from medperf.client.network import AddressRule

        # Addresses are refused here already, since behind a proxy it is the proxy that connects; names are judged where they are looked up.
        rule = AddressRule(private=self._allow_private, loopback=local)
        host = str(parts.hostname)
        if (here and not local and not self._allow_private) or (is_address(host) and not rule.allows(host, host)):
            raise _private(place, hop)

    @contextlib.contextmanager
    def _ask(self, place: str, headers: dict[str, str], *, local: bool) -> Iterator[httpx2.Response]:
        import httpx2

        from medperf.client.faults import unreachable
        from medperf.client.network import AddressRefused, AddressRule, Clock, Timeouts, open_client

        parts = split_url(place)
        origin = f"{parts.scheme}://{parts.netloc}"
        clock = Clock()
        rule = AddressRule(private=self._allow_private, loopback=local)
        timeouts = self._timeouts or Timeouts()
        with (
            open_client(place, verify=self._verify, timeouts=timeouts, clock=clock, rule=rule) as client,
            clock.running(None, self._cancel),
        ):
            try:
                response = client.send(client.build_request("GET", place, headers=headers), stream=True)
            except httpx2.InvalidURL as error:
                raise InvalidInput("bad_url", f"{place} is no address: {error}.", "Check the URL.") from error
            except AddressRefused as error:
                raise _private(place, f": {error.args[0]} is {error.args[1]}") from error
            except httpx2.TransportError as error:
                problem = unreachable(origin, error, pinned=self._verify)
                if problem.code == "not_medperf":
                    raise ServerUnavailable(
                        "url_failed", f"{origin} does not answer in HTTP.", "Check the URL."
                    ) from error
                fix = "Check the URL and your network."
                raise ServerUnavailable(problem.code, problem.what, fix, details=problem.details) from error
            try:
                yield response
            finally:
                response.close()


def _private(place: str, why: str) -> InvalidInput:
    return InvalidInput(
        "private_address",
        f"{place} leads into a private network{why}.",
        "Download the file yourself and give its local path, or use a public URL.",
    )


def _check_status(status: int, url: str) -> None:
    if status in (200, 206):
        return
    if status in (404, 410):
        raise NotFound("url_not_found", f"There is no file at {url} ({status}).", "Check the URL.")
    if status in (401, 403):
        raise Forbidden(
            "url_forbidden",
            f"{url} may not be read by everybody ({status}).",
            "Host the file where it can be read without a login.",
        )
    raise ServerUnavailable("url_failed", f"{url} answered {status}.", "Try again later, or check the URL.")
