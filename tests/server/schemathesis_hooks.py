"""What schemathesis must know of the API that its description cannot say. Read by the program, in a process of its own."""

from __future__ import annotations

import json
import os
import urllib.request
from typing import Any

import schemathesis

BASE = os.environ["MEDPERF_TEST_URL"]


@schemathesis.serializer("application/offset+octet-stream")
def pieces(_context: Any, value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.auth(refresh_interval=None)
class Login:
    """The login of the account that the test names. Logging out ends the login that asks: each time another one."""

    shared: str | None = None

    def get(self, case: Any, _context: Any) -> str | None:
        if "MEDPERF_TEST_USER" not in os.environ:
            return None
        if case.operation.label == "DELETE /api/v1/tokens/current":
            return log_in()
        Login.shared = Login.shared or log_in()
        return Login.shared

    def set(self, case: Any, data: str | None, _context: Any) -> None:
        if data is not None:
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


def log_in() -> str:
    body = {"username": os.environ["MEDPERF_TEST_USER"], "password": os.environ["MEDPERF_TEST_PASSWORD"]}
    request = urllib.request.Request(
        f"{BASE}/api/v1/tokens", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return str(json.load(answer)["token"])


#: Refusals of what has not the shape that the description gives.
SHAPE = frozenset(
    [
        "invalid_fields",
        "bad_json",
        "bad_id",
        "unknown_parameter",
        "repeated_parameter",
        "bad_query",
        "bad_idempotency_key",
        "bad_offset",
    ]
)


@schemathesis.check
def refusals_are_described(_context: Any, response: Any, case: Any) -> None:
    """What is refused for its shape was not in the shape that the description gives."""
    if response.status_code == 400 and case.meta is not None and case.meta.generation.mode.is_positive:
        code = response.json()["code"]
        if any(said in response.json()["detail"] for said in ("The name of the organisation", ": The reason ")):
            return  # what a letter is, a pattern cannot say
        assert code not in SHAPE, f"a request as described is refused with {code}: {response.text}"
