"""What the command line fetches: bounded before it begins, continued by the next command, and never taken for what it is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.testing.hostile_http import HostileServer, Part, Request, head, parts, ranged, redirect, reply
from medperf.testing.workflows import Workflow, make_demo

from .conftest import Command, left_behind

CUBES = ["--data-preparation-mlcube", "1", "--reference-model-mlcube", "2", "--evaluator-mlcube", "3"]


def submit(url: str, *extra: str) -> list[str]:
    return ["benchmark", "submit", "--name", "b", "--demo-url", url, *CUBES, "--format", "json", *extra]


def files(home: Path) -> list[Path]:
    """What was fetched, whole or not."""
    return [path for path in home.glob("*/store/**/*") if path.is_file()]


@pytest.fixture
def demo(workflow: Workflow) -> bytes:
    return make_demo(workflow, Path("demo.tar.gz")).read_bytes()


HUGE = parts(head(200, ("Content-Length", str(10**13))), bytes(100_000))
REFUSED: dict[str, tuple[Any, str]] = {
    "too large": (HUGE, "file_too_large"),
    "of no known size": (parts(head(200), b"x" * 1000), "size_unknown"),
    "elsewhere": (redirect("https://169.254.169.254/latest"), "private_address"),
    "unencrypted": (redirect("http://example.org/x"), "insecure_url"),
    "not there": (reply(404), "url_not_found"),
    "no HTTP": (parts(b"\0\0\x12\4\0\0\0\0\0"), "url_failed"),
}


def test_demo_data_that_cannot_be_fetched(registered: Command, home: Path, demo: bytes) -> None:
    before = files(home)
    for fault, (answer, code) in REFUSED.items():
        with HostileServer(answer) as server:
            refused = registered(*submit(f"{server.url}/demo.tar.gz"))
        assert (refused.code, refused.error["code"]) == (1, code), fault
        assert refused.error["fix"]
        assert files(home) == before, fault
        assert left_behind(home) == []
    with HostileServer(reply(200, body=demo)) as server:
        refused = registered(*submit(f"{server.url}/demo.tar.gz", "--demo-hash", Digest.of(b"x").hex))
    assert refused.error["code"] == "digest_mismatch"
    assert files(home) == before, "what is not what was asked for is not kept"
    assert registered("benchmark", "ls", "--format", "json").json["items"] == []


def test_small_files_are_small(registered: Command, workflow: Workflow, home: Path) -> None:
    """A manifest of a gigabyte is refused by what its host announces, not after a gigabyte."""
    deploy = workflow.folder / "prep" / "mlcube" / "deploy"
    files_of = {"--mlcube-file": str(deploy / "mlcube.yaml"), "--parameters-file": str(deploy / "parameters.yaml")}
    before = files(home)
    for option, most in (("--mlcube-file", limits.MANIFEST_BYTES), ("--parameters-file", limits.PARAMETERS_BYTES)):
        with HostileServer(parts(head(200, ("Content-Length", str(2**30))), bytes(100_000))) as server:
            given = files_of | {option: f"{server.url}/file.yaml"}
            arguments = [part for pair in given.items() for part in pair]
            refused = registered("mlcube", "submit", "--name", "other", *arguments, "--format", "json")
        assert refused.error["code"] == "file_too_large"
        assert f"{most:,}" in refused.error["what"]
    assert files(home) == before


def test_the_next_command_goes_on(registered: Command, home: Path, demo: bytes) -> None:
    """`benchmark submit` is cut, and called again; then `test run` finds the file here."""
    half = len(demo) // 2

    def cutting(request: Request) -> Iterator[Part]:
        yield from ranged(demo, cut=0 if request.start else half)(request)

    with HostileServer(*[cutting] * 4, ranged(demo)) as server:
        url = f"{server.url}/demo.tar.gz"
        cut = registered(*submit(url))
        assert cut.error["code"] == "download_cut"
        assert "same command again" in cut.error["fix"]
        done = registered(*submit(url))
        assert done.code == 0, done.err
        assert [request.start for request in server.requests[:4]] == [0, half, half, half]
        again = registered("test", "run", "-b", "1", "--format", "json")
        assert again.code == 0, again.err
        asked = len(server.requests)
        assert registered("test", "run", "-b", "1", "--format", "json").code == 0
        assert len(server.requests) == asked


def test_registered_demo_data_are_fetched_by_size_and_digest(registered: Command, home: Path, demo: bytes) -> None:
    """Another site: the host sends something larger, then something else, then the file."""
    larger, other = reply(200, body=demo + b"more"), reply(200, body=demo[::-1])
    with HostileServer(ranged(demo)) as good:
        url = f"{good.url}/demo.tar.gz"
        done = registered(*submit(url))
        assert done.code == 0, done.err
        good._answers[:] = [larger, other, ranged(demo)]
        (kept,) = [path for path in files(home) if path.name == Digest.of(demo).hex]
        kept.unlink()
        for path in home.glob("*/steps"):
            path.rename(home / "elsewhere")
        codes = [registered("test", "run", "-b", "1", "--format", "json") for _ in range(3)]
    assert [answer.error["code"] for answer in codes[:2]] == ["size_mismatch", "digest_mismatch"]
    assert codes[2].code == 0, codes[2].err
