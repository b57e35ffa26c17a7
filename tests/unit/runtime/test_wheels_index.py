"""A package index that lies, leads elsewhere or sends without end: the lock decides, and nothing fills the disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from medperf.domain.errors import InvalidInput, MedPerfError
from medperf.runtime.images.interpreters import Interpreter, find_interpreter
from medperf.runtime.images.wheels import Wheels
from medperf.testing.hostile_http import Endless, HostileServer, Part, Request, head, redirect, reply

from .test_wheels import make_wheel

NAME = "alpha-1.0-py3-none-any.whl"


@pytest.fixture(scope="module")
def interpreter() -> Interpreter:
    return find_interpreter(">=3.11")


@pytest.fixture
def wheel(tmp_path: Path) -> bytes:
    return make_wheel(tmp_path / "made", "alpha")[0].read_bytes()


@pytest.fixture
def locked(tmp_path: Path, wheel: bytes) -> Path:
    path = tmp_path / "requirements.txt"
    path.write_text(f"alpha==1.0 --hash=sha256:{hashlib.sha256(wheel).hexdigest()}\n")
    return path


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_TIMEOUT", "10")


def index(file: Callable[[Request], Iterable[Part]]) -> Callable[[Request], Iterable[Part]]:
    """An index with one package, whose file is answered like this."""
    page = reply(200, ("Content-Type", "text/html"), body=f'<a href="/files/{NAME}">{NAME}</a>'.encode())

    def answer(request: Request) -> Iterable[Part]:
        if request.target.startswith("/files/"):
            return file(request)
        return page(request) if request.target.startswith("/simple/alpha") else reply(404)(request)

    return answer


def environment_of(
    server: HostileServer, tmp_path: Path, locked: Path, interpreter: Interpreter, **limits: int
) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
        return Wheels(cache=tmp_path / "cache", **limits).ensure(locked, interpreter).site


def leftovers(tmp_path: Path) -> list[Path]:
    cache = tmp_path / "cache"
    return [path for path in cache.iterdir() if path.name.startswith(".")] + list((cache / "wheels").glob("*/*"))


def test_an_index_is_asked_and_may_redirect(
    tmp_path: Path, wheel: bytes, locked: Path, interpreter: Interpreter
) -> None:
    with HostileServer(reply(200, body=wheel)) as elsewhere:
        moved = index(redirect(f"{elsewhere.url}/{NAME}"))
        with HostileServer(moved) as server:
            site = environment_of(server, tmp_path, locked, interpreter)
    assert (site / "alpha" / "__init__.py").is_file()


@pytest.mark.parametrize("body", [b"another file", b""])
def test_other_bytes_than_locked(tmp_path: Path, locked: Path, interpreter: Interpreter, body: bytes) -> None:
    with HostileServer(index(reply(200, body=body))) as server, pytest.raises(InvalidInput) as caught:
        environment_of(server, tmp_path, locked, interpreter)
    assert caught.value.code == "wheel_hash"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("announced", [True, False])
def test_a_wheel_without_end(tmp_path: Path, locked: Path, interpreter: Interpreter, announced: bool) -> None:
    length = (("Content-Length", str(10**12)),) if announced else ()

    def endless(_: Request) -> Iterable[Part]:
        return [head(200, *length), Endless(bytes(65536), 10_000)]

    with HostileServer(index(endless)) as server, pytest.raises(MedPerfError) as caught:
        environment_of(server, tmp_path, locked, interpreter, wheel_bytes=2**20)
    assert caught.value.code == "packages_too_large"
    assert f"{2**20:,}" in caught.value.what
    assert caught.value.fix
    assert leftovers(tmp_path) == []


def test_too_much_in_all(tmp_path: Path, wheel: bytes, locked: Path, interpreter: Interpreter) -> None:
    with HostileServer(index(reply(200, body=wheel))) as server, pytest.raises(MedPerfError) as caught:
        environment_of(server, tmp_path, locked, interpreter, download_bytes=100)
    assert caught.value.code == "packages_too_large"
    assert leftovers(tmp_path) == []


def test_an_index_that_says_nothing(tmp_path: Path, locked: Path, interpreter: Interpreter) -> None:
    with HostileServer(reply(404)) as server, pytest.raises(MedPerfError) as caught:
        environment_of(server, tmp_path, locked, interpreter)
    assert caught.value.code == "wheels_missing"
    assert "pip config" in caught.value.fix
