"""A small file, a client that waits shortly, and pieces that are small enough to be cut."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from medperf.client import sending
from medperf.client.client import MedPerfClient
from medperf.client.http import Transport
from medperf.domain.digests import Digest
from medperf.wire.models import TokenCreate

CONTENT = bytes(range(256)) * 16
PIECE = 1500
_idle = threading.Event()


def shortly(seconds: float) -> None:
    """How a client waits in tests."""
    _idle.wait(min(seconds, 0.005))


def make_pieces_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "PIECE", PIECE)
    monkeypatch.setattr(sending, "CHUNK", 500)


def logged_in(url: str, token: str = "") -> MedPerfClient:
    if not token:
        asking = MedPerfClient(Transport(url))
        token = asking.tokens.create(TokenCreate(username="admin", password="admin")).token
        asking.close()
    return MedPerfClient(Transport(url, token=token, sleep=shortly))


def upload(client: MedPerfClient, file: Path, **settings: Any) -> Any:
    content = file.read_bytes()
    return client.assets.upload(file, name=file.name, digest=Digest.of(content), size=len(content), **settings)
