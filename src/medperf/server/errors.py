"""From errors of the domain to ``application/problem+json``. This is the one place that knows HTTP statuses of errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from medperf.domain.errors import (
    Conflict,
    Forbidden,
    InvalidInput,
    MedPerfError,
    NotFound,
    ServerUnavailable,
    Unauthenticated,
)
from medperf.wire.headers import API_PREFIX
from medperf.wire.problems import MEDIA_TYPE


class TooLarge(InvalidInput):
    """The body or file exceeds a limit."""


class TooSlow(InvalidInput):
    """The body takes too long to come."""


class HeadersTooLarge(InvalidInput):
    """Too many headers."""


class WrongMediaType(InvalidInput):
    """The body is not what its route reads."""


class PreconditionRequired(MedPerfError):
    """A change without If-Match."""


class PreconditionFailed(Conflict):
    """If-Match names a version that is gone."""


class TooMany(MedPerfError):
    """Asked too often. ``details["retry_after"]`` is in seconds."""


class Gone(NotFound):
    """It was there, and will not come back."""


class StorageFull(ServerUnavailable):
    """The server's disk is full."""


def storage_full() -> StorageFull:
    """The error of a change that finds no room."""
    return StorageFull("storage_full", "The server's disk is full.", "Tell the server's admin.")


_ERRORS_READ = 1000
#: First match wins, so subclasses come first.
STATUS: tuple[tuple[type[MedPerfError], int], ...] = (
    (TooLarge, 413),
    (WrongMediaType, 415),
    (TooSlow, 408),
    (HeadersTooLarge, 431),
    (PreconditionFailed, 412),
    (PreconditionRequired, 428),
    (TooMany, 429),
    (StorageFull, 507),
    (InvalidInput, 400),
    (Unauthenticated, 401),
    (Forbidden, 403),
    (Gone, 410),
    (NotFound, 404),
    (Conflict, 409),
    (ServerUnavailable, 503),
)


def problem(
    status: int,
    code: str,
    what: str,
    fix: str = "",
    *,
    errors: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The one error shape (`medperf.wire.problems.Problem`)."""
    body = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": what,
        "fix": fix,
        "errors": [dict(entry) for entry in errors],
    }
    return Response(
        orjson.dumps(body, option=orjson.OPT_NON_STR_KEYS), status, media_type=MEDIA_TYPE, headers=dict(headers or {})
    )


def problem_of(error: MedPerfError) -> Response:
    """The answer to an error of the domain. An error with no status here is ours, and says nothing of itself."""
    status = next((number for kind, number in STATUS if isinstance(error, kind)), 500)
    if status == 500:
        return unexpected()
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 503 or "retry_after" in error.details:
        headers["Retry-After"] = str(error.details.get("retry_after", 1))
    return problem(
        status,
        error.code,
        _clean(error.what),
        _clean(error.fix),
        errors=error.details.get("errors", ()) or _refusals(error.details.get("refusals", ())),
        headers=headers,
    )


def _refusals(found: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    """All that `medperf.domain.eligibility.refuse` names, where there are several; ``field`` is the code of each."""
    if len(found) < 2:  # it is the error itself
        return []
    return [{"field": one["code"], "message": f"{one['what']} {one['fix']}"} for one in found]


def unexpected() -> Response:
    """The answer to a fault of ours: the traceback is in the log, not here."""
    return problem(
        500,
        "internal_error",
        "The server failed to answer this request.",
        "Try again; if it stays, tell the server's admin.",
    )


def too_many_errors(error: ValidationError) -> bool:
    """Whether to say what is wrong would take longer than to find it: a megabyte of unknown fields took more than a second."""
    return error.error_count() > _ERRORS_READ


def invalid_fields(error: ValidationError, *, label: str) -> InvalidInput:
    """A list of fields and what is wrong with each. What was given is not repeated: it may be a secret."""
    if too_many_errors(error):
        return InvalidInput(
            "invalid_fields",
            f"{label} has {error.error_count():,} faults: fields that are unknown or wrong.",
            "Send what the description of the API says.",
        )
    errors = [
        {"field": ".".join(str(part) for part in entry["loc"]), "message": entry["msg"].removeprefix("Value error, ")}
        for entry in error.errors(include_url=False, include_input=False, include_context=False)[:20]
    ]
    first = errors[0]
    where = f"{label}, field {first['field']!r}" if first["field"] else label
    more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
    return InvalidInput(
        "invalid_fields",
        _clean(f"{where}: {first['message']}{more}"),
        "Mend the fields listed in 'errors'.",
        details={"errors": errors},
    )


def install(app: FastAPI) -> None:
    """Give ``app`` the one error shape for everything that routing and handlers raise."""

    async def domain(_request: Request, error: Exception) -> Response:
        assert isinstance(error, MedPerfError)
        if not any(isinstance(error, kind) for kind, _ in STATUS):
            raise error
        return problem_of(error)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code, what, fix = _HTTP.get(error.status_code, ("http_error", str(error.detail), ""))
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(sorted(_methods(app, request)))
            what = f"This address knows {headers['Allow']}, not {_clean(request.method[:20])}."
        return problem(error.status_code, code, what, fix, headers=headers)

    async def validation(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [
            {"field": ".".join(str(part) for part in entry["loc"][1:]), "message": entry["msg"]}
            for entry in error.errors()
        ]
        return problem(
            400,
            "invalid_fields",
            "The address or a header of the request is not valid.",
            "See 'errors'.",
            errors=errors,
        )

    app.add_exception_handler(MedPerfError, domain)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, validation)


_HTTP = {
    404: (
        "no_such_route",
        "This server has no such address.",
        f"Its addresses are in {API_PREFIX}/openapi.json; an older server may lack a newer one's.",
    ),
    405: ("method_not_allowed", "", f"What each address knows is in {API_PREFIX}/openapi.json."),
}


def _methods(app: FastAPI, request: Request) -> set[str]:
    """All that is known at an address: it may have several routes."""
    found: set[str] = set()
    for route in app.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return found


def _clean(text: str) -> str:
    """Messages may quote what a client sent: lone surrogates have no UTF-8 form."""
    return text.encode("utf-8", "backslashreplace").decode()
