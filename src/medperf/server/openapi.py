"""The API's description: what FastAPI finds in the signatures, and what our own readers and refusals add, found in the same signatures.

``docs/reference/openapi.json`` is made from it, and a test compares both.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from medperf.server import authz, requests
from medperf.server.examples import EXAMPLES
from medperf.server.routing import PlainRoute
from medperf.wire import headers
from medperf.wire.problems import MEDIA_TYPE, Problem

#: ``openapi_extra`` of a route: statuses of refusals that its signature does not show.
MORE = "x-more-statuses"
_SCHEMAS = "#/components/schemas/{model}"
_INSTANCE = {"description": "Which server answered.", "required": True, "schema": {"type": "string", "format": "uuid"}}
_ALWAYS = {
    headers.INSTANCE: _INSTANCE,
    headers.VERSION: {"description": "The server's version.", "required": True, "schema": {"type": "string"}},
    headers.API: {"description": "The API that it speaks.", "required": True, "schema": {"const": headers.API_VERSION}},
}
_RETRY_AFTER = {
    "description": "Seconds to wait before the same is asked again.",
    "schema": {"type": "integer", "minimum": 1},
}
_ETAG = {
    "description": "The version that If-Match names in a change.",
    "required": True,
    "schema": {"type": "string", "pattern": '^"[0-9]+"$'},
}
_HEADERS: dict[int, dict[str, Any]] = {
    401: {"WWW-Authenticate": {"required": True, "schema": {"type": "string", "const": "Bearer"}}},
    429: {"Retry-After": _RETRY_AFTER | {"required": True}},
    503: {"Retry-After": _RETRY_AFTER | {"required": True}},
}
_MEANS = {
    400: "Something in the request is not as this page says, or breaks a rule across fields.",
    401: "No login, or one that has ended.",
    403: "This account may not do that.",
    404: "Not there, or hidden from this account.",
    408: "The body took too long to come.",
    409: "It does not fit what is there, or was meant for another server.",
    410: "It was there, and will not come back.",
    412: "Changed since If-Match was read.",
    413: "Too large, or no room left for this owner.",
    415: "The body is not of the media type that is read here, or is encoded.",
    416: "The range is outside of the file.",
    428: "A change needs If-Match.",
    429: "Too many requests.",
    431: "Too many headers.",
    500: "A fault of the server.",
    503: "Busy, or not now.",
    507: "The server's disk is full.",
}
DESCRIPTION = """The central service of MedPerf: metadata only.

Errors are `application/problem+json` with `code` (never changes its meaning), `detail` (what happened) and `fix` (what to do); a `code`, field,
parameter, route or enumeration value may be added at any time, so read over what you do not know. Listings are pages: ask again with
`after` set to the `next` of the page before, until it is null. Every answer names the server in `Medperf-Instance`; any request may send
it back, and is refused with 409 by another server, or by one that was reset."""


def install(app: FastAPI) -> None:
    """Make ``app.openapi()`` complete; built when first asked for."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = describe(app)
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign] # FastAPI's documented way to extend it


def describe(app: FastAPI) -> dict[str, Any]:
    """The whole document."""
    schema = get_openapi(
        title=app.title,
        version=headers.API_VERSION,
        description=DESCRIPTION,
        routes=app.routes,
        openapi_version="3.1.0",
    )
    routes = [route for route in app.routes if isinstance(route, PlainRoute)]
    bodies = {model for route in routes if (model := _body(route)) is not None}
    wanted: list[tuple[type[BaseModel], Any]] = [
        *((model, "validation") for model in sorted(bodies, key=lambda model: model.__name__)),
        (Problem, "serialization"),
    ]
    _, definitions = models_json_schema(wanted, ref_template=_SCHEMAS)
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    schemas |= definitions["$defs"]
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    for name, examples in EXAMPLES.items():
        schemas[name]["examples"] = examples
    for route in routes:
        for method in _methods(route):
            operation = schema["paths"][route.path_format][method.lower()]
            _complete(operation, route, method, schemas)
    for route in routes:
        _link(schema["paths"], route, routes)
    schema["components"]["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer", "description": "The token of POST /tokens."}
    }
    schema["components"]["responses"] = {_name(status): _problem(status) for status in _MEANS}
    schema["servers"] = [{"url": "/"}]
    schema["paths"] = dict(sorted(schema["paths"].items()))
    schema["components"]["schemas"] = dict(sorted(schemas.items()))
    return schema


def _complete(operation: dict[str, Any], route: PlainRoute, method: str, schemas: dict[str, Any]) -> None:
    operation.pop("x-body", None)
    operation["operationId"] = route.name
    more = operation.pop(MORE, ())
    public = authz.visitor in _calls(route)
    operation["security"] = [] if public else [{"token": []}]
    parameters = operation.setdefault("parameters", [])
    parameters += _headers(route, method)
    for parameter in parameters:
        if parameter["in"] == "path":
            parameter["schema"].pop("title", None)
    responses = operation["responses"]
    responses.pop("422", None)
    responses.pop("default", None)
    for response in responses.values():
        response.setdefault("headers", {}).update(_ALWAYS)
        reference = response.get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
        properties = schemas.get(reference.rpartition("/")[2], {}).get("properties", {})
        if properties.get("version", {}).get("type") == "integer":
            response["headers"]["ETag"] = _ETAG
    for status in sorted({*_statuses(route, method, public=public), *more}):
        responses[str(status)] = {"$ref": f"#/components/responses/{_name(status)}"}


def _link(paths: dict[str, Any], route: PlainRoute, routes: list[PlainRoute]) -> None:
    """From what was made or changed to all that can be done with it."""
    made = "POST" in _methods(route) and route.status_code == HTTPStatus.CREATED and "{" not in route.path
    one = route.path.endswith("_id}") and _methods(route) & {"GET", "PATCH"}
    if not made and not one:
        return
    base = route.path if made else route.path.rpartition("/")[0]
    kept = {} if made else {name: f"$request.path.{name}" for name in _path_names(base)}
    links = {}
    for other in routes:
        names = _path_names(other.path.removeprefix(base))
        if other.path.startswith(f"{base}/{{") and len(names) == 1:
            parameters = kept | {names[0]: "$response.body#/id"}
            if requests.if_match in _calls(other) and "ETag" in _first(paths, route)["headers"]:
                parameters["header.If-Match"] = "$response.header.ETag"
            links[other.name] = {"operationId": other.name, "parameters": parameters}
    if links:
        _first(paths, route)["links"] = links


def _first(paths: dict[str, Any], route: PlainRoute) -> dict[str, Any]:
    """The answer of a success."""
    (method,) = _methods(route)
    found: dict[str, Any] = paths[route.path_format][method.lower()]["responses"][str(route.status_code or 200)]
    return found


def _methods(route: PlainRoute) -> set[str]:
    return route.methods or set()


def _path_names(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)


def _statuses(route: PlainRoute, method: str, *, public: bool) -> Iterator[int]:
    """The refusals that a signature shows."""
    yield from (400, 409, 413, 429, 431, 500, 503)
    if not public:
        yield from (401, 403)
    if "{" in route.path:
        yield 404
    if "requestBody" in (route.openapi_extra or {}):
        yield from (401, 408)
    if requests.if_match in _calls(route):
        yield from (412, 428)
    if method not in ("GET", "HEAD"):
        yield from (415, 507)


def _headers(route: PlainRoute, method: str) -> Iterator[dict[str, Any]]:
    """The headers that are read, besides those of every request."""
    if requests.if_match in _calls(route):
        yield {
            "name": "If-Match",
            "in": "header",
            "required": True,
            "description": "The ETag of what the change is based on.",
            "schema": {"type": "string", "pattern": '^"[0-9]{1,18}"$', "examples": ['"1"']},
        }
    if method == "POST" and getattr(_reader(route), "idempotent", False):
        yield {
            "name": headers.IDEMPOTENCY,
            "in": "header",
            "required": False,
            "description": "The same key with the same body gives the first answer again and does nothing else; with another body it is refused.",
            "schema": {"type": "string", "pattern": "^[!-~]{8,128}$", "minLength": 8, "maxLength": 128},
        }


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": _MEANS[status],
        "headers": _ALWAYS | {headers.INSTANCE: _INSTANCE | {"required": False}} | _HEADERS.get(status, {}),
        "content": {MEDIA_TYPE: {"schema": {"$ref": _SCHEMAS.format(model="Problem")}}},
    }


def _name(status: int) -> str:
    return HTTPStatus(status).phrase.title().replace(" ", "").replace("-", "")


def _calls(route: PlainRoute) -> set[Any]:
    return {dependency.call for dependency in route.dependant.dependencies}


def _reader(route: PlainRoute) -> Any:
    """What reads the route's JSON body, if something does."""
    return next((call for call in _calls(route) if hasattr(call, "model")), None)


def _body(route: PlainRoute) -> type[BaseModel] | None:
    model: type[BaseModel] | None = getattr(_reader(route), "model", None)
    return model
