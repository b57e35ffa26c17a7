"""The outermost layer: instance check, login lookup, body limit, log, and the answer when we fail."""

from __future__ import annotations

import secrets
import time
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from medperf.domain.errors import MedPerfError
from medperf.server.auth import Identity, hash_token, identify, wrong_instance
from medperf.server.context import ServerContext
from medperf.server.errors import TooLarge, problem_of, unexpected
from medperf.wire import headers as names

#: Routes that stream their body and limit it themselves.
STREAMED = frozenset({("POST", f"{names.API_PREFIX}/assets")})
_TOKEN_LENGTH = 200


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
            passage.check_instance()
            passage.check_length()
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
        self._receive = receive
        self._send = send
        self._headers = Headers(scope=scope)
        self._limit = None if (scope["method"], scope["path"]) in STREAMED else context.settings.body_bytes
        self._received = 0

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

    def check_length(self) -> None:
        """Refuse a body that says itself that it is too long."""
        length = self._headers.get("content-length", "")
        if self._limit is not None and length.isdecimal() and int(length[:20]) > self._limit:
            raise _too_large(self._limit)

    async def receive(self) -> Message:
        """The next piece of the body, counted."""
        message = await self._receive()
        if self._limit is not None and message["type"] == "http.request":
            self._received += len(message.get("body", b""))
            if self._received > self._limit:
                raise _too_large(self._limit)
        return message

    async def send(self, message: Message) -> None:
        """Add the headers of every answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._extra()]
        await self._send(message)

    def _extra(self) -> list[tuple[bytes, Any]]:
        found = [(b"x-content-type-options", b"nosniff"), (b"cache-control", b"private, no-cache")]
        if self.identity is not None:
            found.append((names.INSTANCE.lower().encode(), self.identity.instance_id.encode()))
        return found


def _too_large(limit: int) -> TooLarge:
    return TooLarge(
        "body_too_large", f"The body has more than {limit:,} bytes.", "Send less; files go to POST /assets."
    )
