"""One server's HTTP: timeouts, the pinned certificate, the instance it must be, retries, and its problems as our errors.

httpx2 is imported by the first request.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from medperf.client.faults import not_medperf, raise_problem, unreachable, web_page, wrong_instance
from medperf.domain.addresses import is_loopback, split_url
from medperf.domain.errors import InvalidInput, ServerUnavailable
from medperf.domain.events import Emit, Note, ignore
from medperf.wire.headers import API_PREFIX, API_VERSION, IDEMPOTENCY, INSTANCE

if TYPE_CHECKING:
    import httpx2

    from medperf.client.network import Clock, Timeouts

TRIES = 3
BACKOFF_SECONDS = 0.1
#: As long as a request waits for a server that asks for it, all its waits together.
PATIENCE_SECONDS = 60.0
#: Waits that a person would wonder about are told.
TOLD_SECONDS = 1.0
#: A page of a listing has at most 2 MiB and one thing more. Read, an answer can take more than twenty times as much.
ANSWER_BYTES = 8 * 1024**2

Content = Callable[[], Iterator[bytes]]


@dataclass(frozen=True)
class Answer:
    """A 2xx answer, read whole. ``document`` is its JSON, None for 204."""

    status: int
    headers: Mapping[str, str]
    document: Any


class Transport:
    """Requests to one server.

    Args:
        base_url: e.g. ``https://localhost:8000``.
        token: bearer token; never sent over plain http beyond this machine.
        instance_id: the server must be this instance; None: any.
        verify: PEM file to trust exclusively; None: the system's authorities.
        timeouts: None: the defaults of `medperf.client.network.Timeouts`.
        transport: an httpx2 transport to use instead of the network (an in-process server).
        sleep: how to wait between tries; what it raises ends the request.
        emit: told when the server asks us to wait.

    Raises:
        InvalidInput: a bad URL, or http beyond this machine.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        instance_id: str | None = None,
        verify: Path | None = None,
        timeouts: Timeouts | None = None,
        transport: httpx2.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        emit: Emit = ignore,
    ) -> None:
        parts = split_url(base_url)
        if parts.scheme == "http" and not is_loopback(str(parts.hostname)):
            raise InvalidInput(
                "insecure_server", f"{base_url} would send your login unencrypted.", "Use an https:// address."
            )
        self.base_url = base_url.rstrip("/")
        self.instance_id = instance_id
        self._token = token
        self._verify = verify
        self._given_timeouts = timeouts
        self._transport = transport
        self.sleep = sleep
        self._emit = emit
        self._opened: tuple[httpx2.Client, Clock, Timeouts] | None = None

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        idempotency_key: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One JSON request.

        Args:
            path: below ``/api/v1``, e.g. ``/mlcubes``.
            params: None values are left out.
            body: JSON text.

        Raises:
            MedPerfError: the server's problem, as the class for its status, with its code, what and fix.
            ServerUnavailable: no answer, or none of a MedPerf server. Codes ``server_unavailable``, ``server_timeout`` and
                ``connection_lost`` leave open whether the server did what was asked.
            Conflict: ``wrong_instance``.
        """
        sent = dict(headers or {})
        if body is not None:
            sent["Content-Type"] = "application/json"
        if idempotency_key is not None:
            sent[IDEMPOTENCY] = idempotency_key
        repeatable = method == "GET" or idempotency_key is not None
        _, _, timeouts = self._open()
        for attempt in self._attempts(repeatable):
            with (
                attempt,
                self._exchange(
                    method, path, params=params, content=body, headers=sent, seconds=timeouts.total
                ) as response,
            ):
                return self._read(response)
        raise AssertionError("the last attempt returns or raises")

    def upload(self, path: str, *, content: Content, headers: Mapping[str, str]) -> Answer:
        """PATCH with a stream. Only where the server asks to wait it is sent again; ``content`` is called anew then. Raises as `request`."""
        for attempt in self._attempts(repeatable=False):
            with (
                attempt,
                self._exchange("PATCH", path, content=content, headers=dict(headers), seconds=None) as response,
            ):
                return self._read(response)
        raise AssertionError("the last attempt returns or raises")

    @contextlib.contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None, cancel: Any = None
    ) -> Iterator[httpx2.Response]:
        """GET something long: a checked 2xx answer whose body is still to be read. One try; errors while reading come out as httpx2's."""
        from medperf.client.network import PACE, Pace

        _, clock, timeouts = self._open()
        sent = dict(headers or {})
        with self._exchange("GET", path, headers=sent, seconds=timeouts.total, cancel=cancel) as response:
            if response.status_code >= 300 and response.status_code != 416:  # which the one who asked for a range knows
                self._read(response)
            self._check_instance(response)
            response.extensions[PACE] = Pace(clock, timeouts)
            yield response

    def close(self) -> None:
        """Close connections."""
        if self._opened is not None:
            self._opened[0].close()
            self._opened = None

    # -- one exchange ------------------------------------------------------------------------------------------------

    def _open(self) -> tuple[httpx2.Client, Clock, Timeouts]:
        if self._opened is None:
            import httpx2

            from medperf.client.network import AddressRule, Clock, Timeouts, open_client

            timeouts, clock = self._given_timeouts or Timeouts(), Clock()
            if self._transport is not None:
                client = httpx2.Client(transport=self._transport, timeout=timeouts.read, trust_env=False)
            else:
                client = open_client(
                    self.base_url, verify=self._verify, timeouts=timeouts, clock=clock, rule=AddressRule()
                )
            self._opened = client, clock, timeouts
        return self._opened

    @contextlib.contextmanager
    def _exchange(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        content: bytes | Content | None = None,
        headers: dict[str, str],
        seconds: float | None,
        cancel: Any = None,
    ) -> Iterator[httpx2.Response]:
        import httpx2

        client, clock, _ = self._open()
        headers = {"Accept": "application/json", "User-Agent": _user_agent(), **headers}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        if self.instance_id is not None:
            headers[INSTANCE] = self.instance_id
        query = {name: _parameter(name, value) for name, value in (params or {}).items() if value is not None}
        try:
            request = client.build_request(
                method,
                self.base_url + API_PREFIX + path,
                params=query or None,
                content=content() if callable(content) else content,
                headers=headers,
            )
        except httpx2.InvalidURL as error:
            raise InvalidInput("bad_url", f"{self.base_url} is no address: {error}.", "Check the address.") from error
        with clock.running(seconds, cancel):
            try:
                response = client.send(request, stream=True)
            except httpx2.TransportError as error:
                self._unreachable(error)
            try:
                yield response
            finally:
                response.close()

    def _attempts(self, repeatable: bool) -> Iterator[contextlib.AbstractContextManager[None]]:
        """Contexts, one for each try; one that lets an exception out ends the loop, one that swallows it starts the next."""
        patience = Patience(repeatable, self.sleep, self._told)
        while True:
            yield patience

    def _told(self, seconds: float) -> None:
        if seconds >= TOLD_SECONDS:
            self._emit(Note(f"{self.base_url} asks to wait: going on in {seconds:g} seconds.", level="warning"))

    def _read(self, response: httpx2.Response) -> Answer:
        """The whole answer, or the error it stands for."""
        import httpx2

        data = bytearray()
        try:
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > ANSWER_BYTES:
                    raise not_medperf(self.base_url, f"it answered with more than {ANSWER_BYTES:,} bytes")
        except httpx2.DecodingError as error:
            raise not_medperf(self.base_url, "its answer cannot be decoded") from error
        except httpx2.TransportError as error:
            self._unreachable(error)
        self._check_instance(response)
        document = _json(bytes(data), response.headers.get("content-type", ""))
        if response.status_code >= 300:
            raise_problem(self.base_url, response.status_code, response.headers, document)
        if response.status_code != 204 and document is None:
            raise not_medperf(self.base_url, "it answered with something else than JSON")
        return Answer(response.status_code, response.headers, document)

    def _check_instance(self, response: httpx2.Response) -> None:
        instance = response.headers.get(INSTANCE)
        if instance is None:
            if response.status_code < 300:
                if "html" in response.headers.get("content-type", "").lower():
                    raise web_page(self.base_url)
                raise not_medperf(self.base_url, f"its answer has no {INSTANCE} header")
        elif self.instance_id is not None and instance != self.instance_id:
            raise wrong_instance(self.base_url)

    def _unreachable(self, error: httpx2.TransportError) -> NoReturn:
        raise unreachable(self.base_url, error, pinned=self._verify) from error


class Patience(contextlib.AbstractContextManager[None]):
    """The tries of one request: swallows an error that is worth another try, after waiting as long as the server asks, within bounds."""

    def __init__(self, repeatable: bool, sleep: Callable[[float], None], told: Callable[[float], None]) -> None:
        self._repeatable, self._sleep, self._told = repeatable, sleep, told
        self._tries = 0
        self._left = PATIENCE_SECONDS

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self._tries += 1
        if not isinstance(error, ServerUnavailable):
            return False
        wait = self._wait(error)
        if wait is None:
            return False
        self._sleep(wait)
        return True

    def _wait(self, error: ServerUnavailable) -> float | None:
        asked = error.details.get("retry_after")
        if asked is not None:
            # 429 refused the request before doing anything, and says itself when to come back; 503 may not have.
            slower = error.details.get("status") == 429
            if not (slower or (self._repeatable and self._tries < TRIES)) or float(asked) > self._left:
                return None
            wait = max(float(asked), BACKOFF_SECONDS)
            self._left -= wait
            self._told(wait)
            return wait
        if self._repeatable and self._tries < TRIES and error.details.get("retry"):
            return float(BACKOFF_SECONDS * 3 ** (self._tries - 1))
        return None


def _json(data: bytes, content_type: str) -> Any:
    if "json" not in content_type.lower():
        return None
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


def _parameter(name: str, value: Any) -> Any:
    """A query parameter.

    Raises:
        InvalidInput: text from the command line that was no UTF-8.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise InvalidInput(
                "bad_encoding", f"The {name} {value!r} is not UTF-8 text.", "Give it in UTF-8."
            ) from error
    return str(value).lower() if isinstance(value, bool) else value


def _user_agent() -> str:
    from medperf import __version__

    return f"medperf/{__version__} (API {API_VERSION})"
