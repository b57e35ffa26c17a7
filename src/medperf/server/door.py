"""The outermost layer: instance check, login lookup, body limit, log, and the answer when we fail."""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medperf import __version__
from medperf.domain.errors import MedPerfError, NotFound
from medperf.server.auth import Identity, hash_token, identify, wrong_instance
from medperf.server.bodies import ANONYMOUS_BYTES, Bounded, too_large
from medperf.server.context import ServerContext
from medperf.server.errors import HeadersTooLarge, WrongMediaType, problem_of, unexpected
from medperf.server.limiter import network_of
from medperf.wire import headers as names

#: Routes that stream their body and limit it themselves: method and beginning of the path.
STREAMED = ("PATCH", f"{names.API_PREFIX}/uploads/")
_TOKEN_LENGTH = 200
_HEADERS = 100
_OTHER_VERSION = re.compile(r"/api/(v[0-9]{1,9})(?:/|$)")
_VERSIONS = [
    (names.VERSION.lower().encode(), __version__.encode()),
    (names.API.lower().encode(), names.API_VERSION.encode()),
]


class Door:
    """ASGI middleware. It puts ``medperf.identity`` into the scope of every request."""

    def __init__(self, app: ASGIApp, *, context: ServerContext) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passage = _Passage(scope, receive, send, self._context)
        started = time.perf_counter()
        try:
            await self._pass(passage)
        except ClientDisconnect:
            passage.status = 499  # nobody is there to answer
        except Exception as error:  # noqa: BLE001 - the door: whatever happened, the client gets an answer and the log the traceback
            self._context.log.fault(error, request_id=passage.request_id, method=scope["method"], route=passage.route)
            if passage.status == 0:
                await unexpected()(scope, receive, passage.send)
        finally:
            passage.end()
            self._context.log.request(
                request_id=passage.request_id,
                method=scope["method"],
                route=passage.route,
                status=passage.status,
                milliseconds=(time.perf_counter() - started) * 1000,
                user=None if passage.identity is None else passage.identity.user_id,
            )

    async def _pass(self, passage: _Passage) -> None:
        scope = passage.scope
        try:
            passage.identity = await identify(self._context.database, passage.token_hash)
            scope["medperf.identity"] = passage.identity
            passage.check_rate()
            passage.check_instance()
            passage.check_version()
            passage.check_head()
            passage.bound_body()
        except MedPerfError as error:
            await problem_of(error)(scope, passage.receive, passage.send)
            return
        await self._app(scope, passage.receive, passage.send)


class _Passage:
    """One request on its way through the door."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, context: ServerContext) -> None:
        self.scope = scope
        self.status = 0
        self.identity: Identity | None = None
        self.request_id = secrets.token_hex(8)
        self._context = context
        self._receive = receive
        self._send = send
        self._headers = Headers(scope=scope)
        self._body: Bounded | None = None
        self.receive = receive

    @property
    def route(self) -> str:
        """The route's template, since a path may hold anything."""
        return str(getattr(self.scope.get("route"), "path", "-"))

    @property
    def token_hash(self) -> str | None:
        """Hash of the bearer token, None where none was sent."""
        scheme, _, token = self._headers.get("authorization", "").partition(" ")
        if not scheme:
            return None
        return hash_token(token.strip()[:_TOKEN_LENGTH] if scheme.lower() == "bearer" else "")

    def check_instance(self) -> None:
        """Refuse what was meant for another server."""
        wanted = self._headers.get(names.INSTANCE)
        if wanted is not None and self.identity is not None and wanted != self.identity.instance_id:
            raise wrong_instance()

    def check_rate(self) -> None:
        """Refuse whoever asks too often."""
        identity = self.identity
        if identity is not None and identity.user_id is not None:
            self._context.rates.take(identity.user_id, self.scope["method"])
        else:
            self._context.anonymous_rates.take(self._network, self.scope["method"])

    def check_version(self) -> None:
        """Refuse another version of the API by name: a plain 404 would not say what to do."""
        asked = _OTHER_VERSION.match(self.scope["path"])
        if asked is not None and asked[1] != names.API_VERSION:
            raise NotFound(
                "unsupported_api_version",
                f"This server (MedPerf {__version__}) speaks API {names.API_VERSION}, not {asked[1]}.",
                f"Use a MedPerf that speaks {names.API_VERSION}, or ask the server's admin to update it.",
            )

    def check_head(self) -> None:
        """Refuse what nobody reads: hundreds of headers, and a body in an encoding, which a few bytes could fill the memory with."""
        if len(self.scope["headers"]) > _HEADERS:
            raise HeadersTooLarge("too_many_headers", f"The request has more than {_HEADERS} headers.", "Send fewer.")
        encoding = self._headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            raise WrongMediaType(
                "wrong_encoding",
                f"The body is encoded ({encoding[:20]}); only plain bodies are read.",
                "Send it as it is.",
            )

    def bound_body(self) -> None:
        """Refuse a body that says itself that it is too long, and bound what comes."""
        if _is_streamed(self.scope):
            return
        settings, known = self._context.settings, self.identity is not None and self.identity.user_id is not None
        limit = settings.body_bytes if known else min(settings.body_bytes, ANONYMOUS_BYTES)
        length = self._headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > limit:
            raise too_large(limit)
        asker: object = self.identity.user_id if known and self.identity is not None else self._network
        self._body = Bounded(
            self._receive, self._context.bodies, asker=asker, limit=limit, seconds=settings.body_seconds
        )
        self.receive = self._body.receive

    @property
    def _network(self) -> str:
        return network_of((self.scope.get("client") or ("-",))[0])

    def end(self) -> None:
        """The request is answered."""
        if self._body is not None:
            self._body.end()

    async def send(self, message: Message) -> None:
        """Add the headers of every answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._extra()]
        await self._send(message)

    def _extra(self) -> list[tuple[bytes, Any]]:
        found = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"private, no-cache"), *_VERSIONS]
        if self.identity is not None:
            found.append((names.INSTANCE.lower().encode(), self.identity.instance_id.encode()))
        return found


def _is_streamed(scope: Scope) -> bool:
    method, path = STREAMED
    return scope["method"] == method and bool(scope["path"].startswith(path))
