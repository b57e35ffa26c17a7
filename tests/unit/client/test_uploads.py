"""How patient an upload is, before servers that are not at their best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medperf.client.client import MedPerfClient
from medperf.client.http import Transport
from medperf.client.sending import BUSY_TRIES, FRUITLESS_TRIES
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput, MedPerfError, ServerUnavailable

CONTENT = b"0123456789"
UPLOAD = {
    "id": "6b1e4c2a-7a52-4f0e-9d55-2f6c0b1d8e11",
    "name": "a",
    "digest": Digest.of(CONTENT),
    "size": len(CONTENT),
    "owner": {"id": 1, "name": "alice"},
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": "2026-01-08T00:00:00Z",
    "asset": None,
}
ASSET = {key: UPLOAD[key] for key in ("name", "digest", "size", "owner", "created_at")} | {"id": 7}


def problem(code: str) -> bytes:
    return json.dumps({"code": code, "detail": f"{code}.", "fix": ""}).encode()


class Script:
    """A server that answers the first PATCHes, or the first completions, as it is told."""

    def __init__(self, *, patches: Any = (), completions: Any = ()) -> None:
        self.patches, self.completions = list(patches), list(completions)
        self.offset = 0

    def __call__(self, handler: Any) -> None:
        completing = handler.path.endswith("/completion")
        refusals = self.patches if handler.command == "PATCH" else self.completions if completing else []
        headers = {"medperf_instance": "one", "content_type": "application/json"}
        if refusals:
            status, code, more = refusals.pop(0)
            if status == 0:
                handler.cut()
            else:
                handler.answer(status, problem(code), **headers, **more)
        elif handler.command == "PATCH":
            self.offset += len(handler.server.seen[-1].body)
            handler.answer(204, upload_offset=str(self.offset), medperf_instance="one", content_length="")
        elif completing:
            handler.answer(201, json.dumps(ASSET).encode(), **headers)
        else:
            handler.answer(200, json.dumps(UPLOAD | {"offset": self.offset}).encode(), **headers)


def upload(serve: Any, script: Script, folder: Path) -> tuple[Any, list[float]]:
    (folder / "a").write_bytes(CONTENT)
    waits: list[float] = []
    client = MedPerfClient(Transport(serve(script).url, sleep=waits.append))
    try:
        made = client.assets.upload(folder / "a", name="a", digest=Digest.of(CONTENT), size=len(CONTENT))
    except MedPerfError as error:
        made = error
    client.close()
    return made, waits


def test_it_waits_as_long_as_the_server_says(serve: Any, tmp_path: Path) -> None:
    busy = (503, "upload_busy", {"retry_after": "3"})
    made, waits = upload(serve, Script(patches=[busy, (429, "too_many", {"retry_after": "2"})]), tmp_path)
    assert made.id == 7
    assert waits == [3, 2]


def test_a_long_verification_is_waited_for(serve: Any, tmp_path: Path) -> None:
    verifying = (503, "upload_verifying", {"retry_after": "1"})
    made, waits = upload(serve, Script(completions=[verifying] * 40), tmp_path)
    assert made.id == 7
    assert waits == [1] * 40
    assert BUSY_TRIES >= 1000, "a large file takes minutes"


def test_cuts_without_progress_come_to_an_end(serve: Any, tmp_path: Path) -> None:
    cuts = [(0, "", {})]
    assert upload(serve, Script(patches=cuts * FRUITLESS_TRIES), tmp_path)[0].id == 7
    error, waits = upload(serve, Script(patches=cuts * (FRUITLESS_TRIES + 1)), tmp_path)
    assert isinstance(error, ServerUnavailable)
    assert error.code == "connection_lost"
    assert waits == sorted(waits)


@pytest.mark.parametrize(
    ("refusal", "code"),
    [
        ((507, "storage_full", {}), "storage_full"),
        ((413, "upload_too_large", {}), "upload_too_large"),
        ((404, "no_such_upload", {}), "no_such_upload"),
        ((401, "token_expired", {}), "token_expired"),
    ],
)
def test_what_waiting_does_not_mend_is_told_at_once(serve: Any, tmp_path: Path, refusal: Any, code: str) -> None:
    error, waits = upload(serve, Script(patches=[refusal]), tmp_path)
    assert error.code == code
    assert waits == []


def test_a_server_that_says_nothing_of_its_offset_is_none(serve: Any, tmp_path: Path) -> None:
    class Silent(Script):
        def __call__(self, handler: Any) -> None:
            if handler.command == "PATCH":
                handler.answer(204, medperf_instance="one", content_length="")
            else:
                super().__call__(handler)

    error, _ = upload(serve, Silent(), tmp_path)
    assert error.code == "not_medperf"


def test_a_file_that_cannot_be_read(serve: Any, tmp_path: Path) -> None:
    client = MedPerfClient(Transport(serve(Script()).url))
    with pytest.raises(InvalidInput) as error:
        client.assets.upload(tmp_path / "none", name="a", digest=Digest.of(b""), size=0)
    client.close()
    assert error.value.code == "file_unreadable"
