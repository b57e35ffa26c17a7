"""Text that no header, query or address can carry is refused in words, before anything is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from medperf.client.client import MedPerfClient
from medperf.client.credentials import Credential, FileCredentialStore
from medperf.client.http import Transport
from medperf.client.profiles import Profile, find_certificate, set_profile
from medperf.domain.addresses import split_url
from medperf.domain.errors import InvalidInput, MedPerfError
from medperf.workspace.paths import home


@pytest.mark.parametrize(
    "url",
    [
        "https://\udcff",
        "https://" + "a" * 64,
        "https://" + "a." * 130,
        "https://ü" + "ü" * 80,
        "https://a\udcff/x",
        "https://x..ü",
    ],
)
def test_addresses_that_nobody_can_have(url: str) -> None:
    with pytest.raises(InvalidInput, match="no http"):
        split_url(url)


def test_a_name_beyond_ascii_is_fine() -> None:
    assert split_url("https://münchen.example:8000").port == 8000


def test_an_address_that_only_the_library_refuses() -> None:
    with pytest.raises(InvalidInput) as refused:
        MedPerfClient(Transport("https://\u2603.example")).server.get()
    assert refused.value.code == "bad_url"


def test_a_filter_that_is_no_utf8() -> None:
    client = MedPerfClient(Transport("http://127.0.0.1:9"))
    with pytest.raises(InvalidInput) as refused:
        list(client.mlcubes.list(name="a\udcff"))
    assert refused.value.code == "bad_encoding"


@pytest.mark.parametrize(
    "change",
    [
        {"token": "a\nb"},
        {"token": "ü"},
        {"token": 5},
        {"instance_id": "a\r\nX: y"},
        {"is_admin": "yes"},
        {"username": None},
    ],
    ids=repr,
)
def test_a_login_that_cannot_be_sent_is_damaged(tmp_path: Path, change: dict[str, object]) -> None:
    store = FileCredentialStore(tmp_path)
    store.set(
        "local", Credential("https://localhost:8000", "abc", datetime(2040, 1, 1, tzinfo=UTC), "me", False, "i-1")
    )
    assert store.get("local") is not None
    entries = json.loads(store.path.read_text())
    entries["local"].update(change)
    store.path.write_text(json.dumps(entries))
    with pytest.raises(MedPerfError) as damaged:
        store.get("local")
    assert damaged.value.code == "credentials_damaged"
    assert "medperf login" in damaged.value.fix


def test_a_home_of_nobody(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        home({"MEDPERF_HOME": "~nobody-of-this-name/x"})
    assert refused.value.code == "bad_home"
    with pytest.raises(InvalidInput) as missing:
        find_certificate(tmp_path, Profile(name="local"), given="~nobody-of-this-name/x", cwd=tmp_path)
    assert missing.value.code == "certificate_missing"
    with pytest.raises(InvalidInput) as wheels:
        set_profile(tmp_path, wheelhouse="~nobody-of-this-name/x")
    assert wheels.value.code == "wheelhouse_missing"
