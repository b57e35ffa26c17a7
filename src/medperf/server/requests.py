"""Reading requests: bounded JSON into wire models, query parameters, If-Match. Each also describes itself for OpenAPI."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from medperf.domain.documents import load_json
from medperf.domain.errors import InvalidInput
from medperf.server.errors import PreconditionFailed, PreconditionRequired, WrongMediaType, invalid_fields
from medperf.wire import headers

T = TypeVar("T", bound=BaseModel)
_KEY = re.compile(r"[\x21-\x7e]{8,128}")


@dataclass(frozen=True, slots=True)
class Sent(Generic[T]):
    """A body that was read. ``content`` is what an idempotency key stands for; ``key`` is None where none was sent."""

    value: T
    content: bytes
    key: str | None


def body(model: type[T]) -> Callable[[Request], Awaitable[Sent[T]]]:
    """A dependency that reads a JSON body into ``model`` within the bounds of `load_json`.

    Raises:
        InvalidInput: no JSON, out of bounds, or fields that break the model (listed).
    """

    async def read(request: Request) -> Sent[T]:
        media_type = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
        if media_type != "application/json":
            raise WrongMediaType("wrong_media_type", "The body must be application/json.", "Send JSON.")
        raw = await request.body()
        document = load_json(raw, label="The body")
        return Sent(validated(model, document, label="The body"), raw, idempotency_key(request))

    return read


def validated(model: type[T], document: Any, *, label: str) -> T:
    """``document`` as ``model``.

    Raises:
        InvalidInput: with the list of fields.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise invalid_fields(error, label=label) from None


def query(model: type[T]) -> Callable[[Request], Awaitable[T]]:
    """A dependency that reads the query parameters into ``model``: unknown and repeated ones are refused."""

    async def read(request: Request) -> T:
        raw = request.scope["query_string"]
        given = (
            parse_qsl(raw.decode("latin-1"), keep_blank_values=True, errors="strict", max_num_fields=32) if raw else []
        )
        found = dict(given)
        if len(found) != len(given):
            raise InvalidInput("repeated_parameter", "A query parameter is given twice.", "Give each once.")
        unknown = sorted(set(found) - set(model.model_fields))
        if unknown:
            known = ", ".join(model.model_fields)
            raise InvalidInput(
                "unknown_parameter", f"The query parameter {unknown[0][:64]!r} is unknown here.", f"Known are: {known}."
            )
        return validated(model, found, label="The query")

    async def guarded(request: Request) -> T:
        try:
            return await read(request)
        except ValueError as error:
            raise InvalidInput(
                "bad_query", "The query cannot be read.", "Write it as name=value&name=value in UTF-8."
            ) from error

    return guarded


def idempotency_key(request: Request) -> str | None:
    """The Idempotency-Key header.

    Raises:
        InvalidInput: it has a wrong form.
    """
    key = request.headers.get(headers.IDEMPOTENCY)
    if key is not None and not _KEY.fullmatch(key):
        raise InvalidInput(
            "bad_idempotency_key",
            "The Idempotency-Key is not 8 to 128 visible ASCII characters.",
            "Send a random UUID.",
        )
    return key


async def if_match(request: Request) -> int:
    """The version a change is based on.

    Raises:
        PreconditionRequired: no If-Match.
        PreconditionFailed: it is no ETag that this server gave.
    """
    given = request.headers.get("if-match")
    if given is None:
        raise PreconditionRequired(
            "if_match_required", "A change needs the header If-Match.", "Send the ETag of what you read."
        )
    found = re.fullmatch(r'"([0-9]{1,18})"', given.strip())
    if found is None:
        raise stale()
    return int(found[1])


def stale() -> PreconditionFailed:
    """Somebody else changed it meanwhile."""
    return PreconditionFailed(
        "edited_meanwhile", "It was changed after you read it.", "Read it again and repeat your change."
    )


# -------------------------------------------------------------------------------------------------------------- OpenAPI


def describe_body(model: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads ``model``; the schema itself is added by `medperf.server.openapi`."""
    schema = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "x-body": model.__name__,
    }


def describe_query(model: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads its query with `query`."""
    properties = model.model_json_schema(ref_template="#/components/schemas/{model}")["properties"]
    return {
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": field.is_required(),
                "schema": properties[name],
                "description": field.description or "",
            }
            for name, field in model.model_fields.items()
        ]
    }
