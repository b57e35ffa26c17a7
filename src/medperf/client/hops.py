"""From a URL to the file behind it: redirects, and who may be asked at each hop.

Each hop is a client of its own, so nothing (cookies, credentials, a connection) is carried from one host to the next; one clock runs over
all of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urljoin

from medperf.domain.addresses import is_address, is_loopback, literal, split_url
from medperf.domain.errors import Forbidden, InvalidInput, NotFound, ServerUnavailable

if TYPE_CHECKING:
    import threading

    import httpx2

    from medperf.client.network import Clock, Timeouts

MAX_REDIRECTS = 5
#: Longest URL that is followed; signed ones are longer than what may be registered.
URL_LENGTH = 8192
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"https": 443, "http": 80}


class Hops:
    """How URLs are opened.

    Args:
        private: URLs may lead to any address.
        loopback: a URL may name this machine (and then stays free to).
        verify: PEM file to trust exclusively; None: the system's authorities.
        cancel: set when the person pressed Ctrl-C.
    """

    def __init__(
        self,
        *,
        private: bool,
        loopback: bool,
        verify: Path | None,
        timeouts: Timeouts | None,
        cancel: threading.Event | None,
    ) -> None:
        self._private = private
        self._loopback = loopback
        self._verify = verify
        self._timeouts = timeouts
        self._cancel = cancel

    @contextlib.contextmanager
    def open(self, url: str, headers: dict[str, str]) -> Iterator[httpx2.Response]:
        """The answer with the file (200, 206 or 416), its body still to be read.

        Raises:
            InvalidInput: ``bad_url``, ``url_credentials``, ``insecure_url``, ``private_address``, ``too_many_redirects``.
            NotFound, Forbidden, ServerUnavailable: what the last hop says.
            Interrupted: Ctrl-C.
        """
        from medperf import __version__
        from medperf.client.network import PACE, Clock, Pace, Timeouts

        clock, timeouts = Clock(), self._timeouts or Timeouts()
        local = is_loopback(str(split_url(url).hostname))
        sent = headers | {"User-Agent": f"medperf/{__version__}"}
        place = url
        with clock.running(timeouts.total, self._cancel):
            for _ in range(MAX_REDIRECTS + 1):
                parts = self._check(place, source=url, local=local)
                with self._ask(place, parts, sent, local=local, clock=clock, timeouts=timeouts) as response:
                    if response.status_code not in _REDIRECTS:
                        _check_status(response.status_code, url)
                        response.extensions[PACE] = Pace(clock, timeouts)
                        yield response
                        return
                    place = _next(place, response.headers.get("location", ""))
        raise InvalidInput(
            "too_many_redirects",
            f"{shown(url)} redirects more than {MAX_REDIRECTS} times.",
            "Give the URL of the file itself.",
        )

    def _check(self, place: str, *, source: str, local: bool) -> SplitResult:
        hop = "" if place == source else f" ({shown(source)} led there)"
        try:
            if len(place) > URL_LENGTH:
                raise InvalidInput("bad_url", f"{shown(place)} is too long for a URL.", "Use a shorter one.")
            parts = split_url(place)
        except InvalidInput as error:
            raise InvalidInput(error.code, error.what + hop, error.fix) from error
        host = _ascii(str(parts.hostname))
        here = is_loopback(host)
        if parts.scheme != "https" and not here:
            raise InvalidInput(
                "insecure_url",
                f"{shown(place)} is not encrypted{hop}.",
                "Only https:// is followed beyond this machine.",
            )
        from medperf.client.network import AddressRule

        # Addresses are refused here already, since behind a proxy it is the proxy that connects; names are judged where they are looked up.
        rule = AddressRule(private=self._private, loopback=local and self._loopback)
        address = literal(host)
        refused = here and not rule.loopback and not rule.private
        if refused or (address is not None and not rule.allows(host, address)):
            raise _private_address(place, hop)
        return parts

    @contextlib.contextmanager
    def _ask(
        self,
        place: str,
        parts: SplitResult,
        headers: dict[str, str],
        *,
        local: bool,
        clock: Clock,
        timeouts: Timeouts,
    ) -> Iterator[httpx2.Response]:
        import httpx2

        from medperf.client.network import AddressRefused, AddressRule, open_client

        rule = AddressRule(private=self._private, loopback=local)
        with open_client(place, verify=self._verify, timeouts=timeouts, clock=clock, rule=rule) as client:
            try:
                request = client.build_request("GET", place, headers=headers)
                if not _same_place(request.url, parts):
                    raise httpx2.InvalidURL("it can be read in two ways")
                response = client.send(request, stream=True)
            except (httpx2.InvalidURL, UnicodeError) as error:
                raise InvalidInput("bad_url", f"{shown(place)} is no address: {error}.", "Check the URL.") from error
            except AddressRefused as error:
                raise _private_address(place, f": {error.args[0]} is {error.args[1]}") from error
            except httpx2.TransportError as error:
                raise self._unreachable(parts, error) from error
            try:
                yield response
            finally:
                response.close()

    def _unreachable(self, parts: SplitResult, error: httpx2.TransportError) -> ServerUnavailable:
        import httpx2

        from medperf.client.faults import unreachable

        origin = f"{parts.scheme}://{parts.netloc}"
        problem = unreachable(origin, error, pinned=self._verify)
        if problem.code == "not_medperf" or (
            isinstance(error, httpx2.RemoteProtocolError) and "disconnected" not in str(error).lower()
        ):
            return ServerUnavailable(
                "url_failed", f"{origin} does not answer in HTTP that can be understood.", "Check the URL."
            )
        fix = "Check the URL and your network."
        if problem.code == "certificate_untrusted":
            fix = "Check the URL and the host's certificate, or download the file yourself and give its local path."
        if isinstance(error, httpx2.ProxyError):
            fix = "Check the proxy that HTTPS_PROXY names, or name the host in NO_PROXY."
        return ServerUnavailable(problem.code, problem.what, fix, details=problem.details)


def shown(url: str) -> str:
    """A URL for messages: not endless, and without its query where that is long (signatures are)."""
    head, mark, query = url.partition("?")
    return head[:300] + ("..." if len(head) > 300 else "") + (mark + query if len(query) <= 40 else "?...")


def _next(place: str, location: str) -> str:
    """Where a redirect leads."""
    try:
        target = urljoin(place, location)
    except ValueError:
        target = ""
    if not location or not target:
        raise ServerUnavailable(
            "url_failed", f"{shown(place)} redirects, but does not say where to.", "Check the URL, or tell its owner."
        )
    return target


def _ascii(host: str) -> str:
    try:
        return host if host.isascii() else host.encode("idna").decode()
    except UnicodeError:
        return host


def _same_place(url: httpx2.URL, parts: SplitResult) -> bool:
    """Whether the client understood the very host and port that were checked."""
    wanted = _ascii(str(parts.hostname)).rstrip(".").lower()
    found = url.raw_host.decode("ascii", "replace").rstrip(".").lower().strip("[]")
    same = found == wanted or (literal(wanted) is not None and literal(found) == literal(wanted))
    if not str(parts.hostname).isascii():
        same = not is_address(found) or literal(wanted) == literal(found)  # two ways to write one name in ASCII
    port = _PORTS[parts.scheme]
    return same and url.scheme == parts.scheme and (url.port or port) == (parts.port or port)


def _private_address(place: str, why: str) -> InvalidInput:
    return InvalidInput(
        "private_address",
        f"{shown(place)} leads into a private network{why}.",
        "Download the file yourself and give its local path, or use a public URL.",
    )


def _check_status(status: int, url: str) -> None:
    if status in (200, 206, 416):
        return
    if status in (404, 410):
        raise NotFound("url_not_found", f"There is no file at {shown(url)} ({status}).", "Check the URL.")
    if status in (401, 403):
        raise Forbidden(
            "url_forbidden",
            f"{shown(url)} may not be read by everybody ({status}).",
            "Host the file where it can be read without a login.",
        )
    raise ServerUnavailable("url_failed", f"{shown(url)} answered {status}.", "Try again later, or check the URL.")
