"""The one error shape of the API: ``application/problem+json`` (RFC 9457) with our ``code`` and ``fix``."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """What happened and what to do. ``errors`` lists fields: ``{"field": "name", "message": "..."}``."""

    model_config = ConfigDict(extra="ignore")

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    fix: str = ""
    errors: list[dict[str, Any]] = Field(default_factory=list)
