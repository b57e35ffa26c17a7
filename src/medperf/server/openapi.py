"""The API's description: FastAPI's, plus the bodies that our own bounded reader takes."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from medperf.wire import models
from medperf.wire.problems import MEDIA_TYPE, Problem


def install(app: FastAPI) -> None:
    """Make ``app.openapi()`` complete; built when first asked for."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _build(app)
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign] # FastAPI's documented way to extend it


def _build(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    bodies: set[str] = set()
    failed = {
        "description": "What happened and what to do",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for path in schema["paths"].values():
        for operation in path.values():
            name = operation.pop("x-body", None)
            if name is not None:
                bodies.add(name)
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = failed
    wanted: list[tuple[type[BaseModel], Any]] = [(getattr(models, name), "validation") for name in sorted(bodies)]
    _, definitions = models_json_schema(
        [*wanted, (Problem, "serialization")], ref_template="#/components/schemas/{model}"
    )
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    for name, definition in definitions["$defs"].items():
        schemas.setdefault(name, definition)
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schema["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    schema["security"] = [{"token": []}]
    return schema
