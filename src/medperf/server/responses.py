"""Answers: rows, serialised once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

#: Stored JSON, put into an answer without reading it again.
raw_json = orjson.Fragment


def dumps(value: Any) -> bytes:
    """JSON bytes."""
    return orjson.dumps(value)


def dump_text(value: Any) -> str:
    """JSON text for a column: sorted keys."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(value), status, media_type="application/json", headers=headers)


def versioned(view: dict[str, Any], *, status: int = 200) -> Response:
    """One thing with its version as ETag."""
    return answer(view, status=status, headers=etag(view))


def etag(view: Mapping[str, Any]) -> dict[str, str]:
    """The ETag header of a thing with a version."""
    return {"ETag": f'"{view["version"]}"'}
