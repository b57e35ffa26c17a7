"""Routes whose handlers are called directly.

FastAPI's own solver also knows classes, generators, scopes and caches, which cost a fifth of a request. Here a dependency is
``async def f(request)``, and they run in the order of the signature: the actor first, so that nothing is read for who may not ask.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from medperf.domain import limits
from medperf.domain.errors import InvalidInput
from medperf.wire.headers import API_PREFIX

_UUID_LENGTH = 36
_Read = Callable[[Request], Awaitable[Any]]


class PlainRoute(APIRoute):
    """A route of ours. Its path parameters are ids: whole numbers, or UUIDs where the handler says so."""

    def __init__(self, path: str, *arguments: Any, **options: Any) -> None:
        super().__init__(path, *arguments, **options)
        self._beginning = path.partition("{")[0]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As ever, but most of what does not match is seen without asking for the path's parts."""
        if not scope["path"].startswith(self._beginning):
            return Match.NONE, {}
        return super().matches(scope)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler with its values, read in the order of its signature."""
        dependencies = {entry.name: entry.call for entry in self.dependant.dependencies}
        paths = {
            field.name: _path_uuid if field.field_info.annotation is UUID else _path_id
            for field in self.dependant.path_params
        }
        readers: list[tuple[str, _Read]] = []
        for name in inspect.signature(self.endpoint).parameters:
            if name in dependencies:
                call = dependencies[name]
                assert inspect.iscoroutinefunction(call), f"{name} of {self.path} is no async function"
                assert len(inspect.signature(call).parameters) == 1, (
                    f"{name} of {self.path} takes more than the request"
                )
                readers.append((name, call))
            elif name in paths:
                readers.append((name, paths[name](name)))
            else:
                assert name == self.dependant.request_param_name, f"{name} of {self.path} comes from nowhere"
                readers.append((name, _itself))
        endpoint = self.endpoint

        async def handle(request: Request) -> Response:
            answer: Response = await endpoint(**{name: await read(request) for name, read in readers})
            return answer

        return handle


def router(tag: str) -> APIRouter:
    """A noun's router."""
    return APIRouter(prefix=API_PREFIX, tags=[tag], route_class=PlainRoute)


async def _itself(request: Request) -> Request:
    return request


def _path_uuid(name: str) -> _Read:
    async def read(request: Request) -> UUID:
        text = request.path_params[name]
        try:
            if len(text) == _UUID_LENGTH:
                return UUID(text)
        except ValueError:
            pass
        raise InvalidInput("bad_id", f"The address has {text[:40]!r} where an id belongs.", "Ids of uploads are UUIDs.")

    return read


def _path_id(name: str) -> _Read:
    async def read(request: Request) -> int:
        text = request.path_params[name]
        if not (text.isascii() and text.isdecimal() and len(text) <= 10 and 0 < int(text) <= limits.ID_MAX):
            raise InvalidInput(
                "bad_id",
                f"The address has {text[:40]!r} where an id belongs.",
                f"Ids are whole numbers from 1 to {limits.ID_MAX}.",
            )
        return int(text)

    return read
