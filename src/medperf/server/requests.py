"""Reading requests: bounded JSON into wire models, query parameters, If-Match. Each also describes itself for OpenAPI."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from medperf.domain.documents import load_json
from medperf.domain.errors import InvalidInput
from medperf.server.errors import (
    PreconditionFailed,
    PreconditionRequired,
    WrongMediaType,
    invalid_fields,
    too_many_errors,
)
from medperf.server.responses import dumps
from medperf.wire import headers

T = TypeVar("T", bound=BaseModel)
_TAGS = re.compile(r'\s*(\*|(W/)?"[^"]*"(\s*,\s*(W/)?"[^"]*")*)\s*')
_LONG = 32 * 1024
_KEY = re.compile(r"[\x21-\x7e]{8,128}")


@dataclass(frozen=True, slots=True)
class Sent(Generic[T]):
    """A body that was read. ``content`` is what an idempotency key stands for; ``key`` is None where none was sent."""

    value: T
    content: bytes
    key: str | None


def body(model: type[T], *, idempotent: bool = True) -> Callable[[Request], Awaitable[Sent[T]]]:
    """A dependency that reads a JSON body into ``model`` within the bounds of `load_json`.

    Args:
        idempotent: the route honours an Idempotency-Key.

    Raises:
        InvalidInput: no JSON, out of bounds, or fields that break the model (listed).
    """

    async def read(request: Request) -> Sent[T]:
        media_type = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
        if media_type != "application/json":
            raise WrongMediaType("wrong_media_type", "The body must be application/json.", "Send JSON.")
        raw = await request.body()
        if len(raw) > _LONG:  # it would keep others waiting for as long as it takes to read
            async with request.app.state.context.reading:  # one at a time: what it becomes takes many times its memory
                return await asyncio.to_thread(sent, request, raw)
        return sent(request, raw)

    def sent(request: Request, raw: bytes) -> Sent[T]:
        document = load_json(raw, label="The body")
        return Sent(strictly(model, document, label="The body"), raw, idempotency_key(request))

    # For the API's description.
    read.model, read.idempotent = model, idempotent  # type: ignore[attr-defined] # a function may hold attributes
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


def strictly(model: type[T], document: Any, *, label: str) -> T:
    """As `validated`, but nothing is taken for another type: false is no number, and "1" is none either.

    Only pydantic's own reader is strict as JSON is, where a list may be a tuple and a text a time.
    """
    try:
        return model.model_validate_json(dumps(document), strict=True)
    except ValidationError as error:
        if not _whole(document, error):
            raise invalid_fields(error, label=label) from None
    return strictly(model, document, label=label)


def _whole(document: Any, error: ValidationError) -> bool:
    """JSON has one kind of number: what is written 4.0 becomes 4 where a whole number belongs. Returns whether there was one."""
    found = False
    if too_many_errors(error):
        return False
    for entry in error.errors(include_url=False, include_context=False):
        if entry["type"] == "int_type" and _is_whole(entry["input"]):
            *path, last = entry["loc"]
            holder = document
            with suppress(LookupError, TypeError):  # a place that only pydantic knows
                for step in path:
                    holder = holder[step]
                holder[last] = int(entry["input"])
                found = True
    return found


def _is_whole(value: Any) -> bool:
    # Beyond 64 bits there is no whole number that anything here takes.
    return isinstance(value, float) and abs(value) < 2**63 and value.is_integer()


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
        InvalidInput: it is no ETag.
        PreconditionFailed: it is none that this server gave.
    """
    given = request.headers.get("if-match")
    if given is None:
        raise PreconditionRequired(
            "if_match_required", "A change needs the header If-Match.", "Send the ETag of what you read."
        )
    if not _TAGS.fullmatch(given):
        raise InvalidInput("bad_if_match", "If-Match is no ETag.", "Send the ETag of what you read, in its quotes.")
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


def _given(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter that is there: null cannot be said in a query."""
    found = {name: value for name, value in schema.items() if name not in ("anyOf", "title", "description")}
    if found.get("default", "") is None:
        del found["default"]
    kind: dict[str, Any]
    (kind,) = [entry for entry in schema.get("anyOf", [{}]) if entry.get("type") != "null"]
    if "$ref" in kind:
        kind = definitions[kind["$ref"].rpartition("/")[2]]
        kind = {name: value for name, value in kind.items() if name not in ("title", "description")}
    return kind | found


def describe_query(model: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` of a route that reads its query with `query`."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    properties = {name: _given(entry, schema.get("$defs", {})) for name, entry in schema["properties"].items()}
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
