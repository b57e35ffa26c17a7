"""Random scripts of a hostile server: the right bytes or an error that says what to do, and nothing left but what can be continued."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medperf.client.downloads import Downloader, Fetched
from medperf.client.network import Timeouts
from medperf.domain.errors import MedPerfError
from medperf.testing.hostile_http import Answer, HostileServer, Part, Request, Reset, Stall, head, parts, redirect

from .downloading import downloader, fresh, ref

CONTENT = bytes(range(64)) * 8
SIZE = len(CONTENT)
IMPATIENT = Timeouts(connect=2.0, read=0.05, write=2.0, total=2.0, window=0.05, rate=1.0)
NUMBERS = st.sampled_from([0, 1, SIZE // 2, SIZE - 1, SIZE, SIZE + 1, 10**17])
LENGTHS = st.one_of(NUMBERS.map(str), st.sampled_from(["", "-1", "x", "1, 2", f"{SIZE}, {SIZE}"]))
ETAGS = st.sampled_from(['"a"', '"b"', 'W/"a"', "", "a", '"' + "x" * 300 + '"'])
HEADERS = st.one_of(
    LENGTHS.map(lambda value: ("Content-Length", value)),
    st.just(("Content-Length", str(SIZE))),
    ETAGS.map(lambda value: ("ETag", value)),
    st.tuples(NUMBERS, NUMBERS, st.one_of(NUMBERS.map(str), st.just("*"))).map(
        lambda three: ("Content-Range", "bytes {}-{}/{}".format(*three))
    ),
    st.sampled_from(
        [
            ("Transfer-Encoding", "chunked"),
            ("Transfer-Encoding", "gzip, chunked"),
            ("Content-Encoding", "gzip"),
            ("Content-Type", "multipart/byteranges; boundary=x"),
            ("Connection", "close"),
            ("Retry-After", "1"),
            ("Location", "/again"),
            ("X", "y" * 5000),
        ]
    ),
)
STATUSES = st.sampled_from([200, 200, 200, 206, 206, 416, 204, 301, 304, 401, 404, 429, 500, 503, 999])
BODIES = st.one_of(
    st.sampled_from(
        [
            CONTENT,
            CONTENT[: SIZE // 2],
            CONTENT[SIZE // 2 :],
            CONTENT[::-1],
            CONTENT + b"x",
            b"200\r\n" + CONTENT + b"\r\n0\r\n\r\n",
            b"200\r\n" + CONTENT,
            b"ffff\r\nx",
            b"zz\r\n",
            b"",
        ]
    ),
    st.binary(max_size=80),
)
ENDS = st.sampled_from([(), (), (), (), (Reset(),), (Stall(),)])


@st.composite
def scripted(draw: st.DrawFn) -> Answer:
    made = head(draw(STATUSES), *draw(st.lists(HEADERS, max_size=4)))
    return parts(made + draw(BODIES), *draw(ENDS))


@st.composite
def half_honest(draw: st.DrawFn) -> Answer:
    """Understands ranges, but lies a little: about the content, the ETag, or how much comes."""
    content = draw(st.sampled_from([CONTENT, CONTENT, CONTENT, CONTENT[::-1], CONTENT + b"x", CONTENT[:-1]]))
    etag, cut, shift = draw(ETAGS), draw(st.integers(0, SIZE + 1)), draw(st.sampled_from([0, 0, 0, 1, -1]))

    def answer(request: Request) -> Iterator[Part]:
        start = max(request.start + shift, 0) if request.start else 0
        body = content[start:]
        named = [("Content-Length", str(len(body)))] + ([("ETag", etag)] if etag else [])
        if start:
            named.append(("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}"))
        yield head(206 if start else 200, *named) + body[:cut]

    return answer


ANSWERS = st.one_of(
    scripted(),
    half_honest(),
    half_honest(),
    st.binary(max_size=60).map(parts),
    st.sampled_from(["/", "/x", "", "//", "http://[", "https://10.0.0.1/", "file:///etc/passwd"]).map(redirect),
)


def outcome(here: Downloader, url: str, how: str) -> Fetched | MedPerfError:
    try:
        return here.fetch(ref(url, content=CONTENT), name="demo") if how == "fetch" else here.probe(url, limit=SIZE)
    except MedPerfError as error:
        return error


def check(answers: list[Answer], how: str) -> None:
    """Two commands in a row against one server: each ends well or with an error."""
    with fresh() as workspace, HostileServer(*answers) as server:
        here = downloader(workspace, timeouts=IMPATIENT)
        for _ in range(2):
            found = outcome(here, f"{server.url}/f", how)
            if isinstance(found, MedPerfError):
                assert found.what
                assert found.fix
                continue
            data = found.path.read_bytes()
            assert hashlib.sha256(data).hexdigest() == found.digest.hex == found.path.name
            assert how == "probe" or data == CONTENT
            assert len(data) <= SIZE
        for path in (workspace.path / "store").rglob("*"):
            if path.is_file() and path.parent.name != "partial":
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
            elif path.is_file():
                assert path.stat().st_size <= max(SIZE, 400), "never more than is expected, nor without end"
        assert not list((workspace.path / "store").glob("tmp/*"))


SETTINGS: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "derandomize": True}


@pytest.mark.parametrize("how", ["fetch", "probe"])
def test_a_few_scripts(how: str) -> None:
    @settings(max_examples=60, **SETTINGS)
    @given(st.lists(ANSWERS, min_size=1, max_size=4))
    def many(answers: list[Answer]) -> None:
        check(answers, how)

    many()


@pytest.mark.long
@pytest.mark.parametrize("how", ["fetch", "probe"])
def test_many_scripts(how: str) -> None:
    @settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(ANSWERS, min_size=1, max_size=6))
    def many(answers: list[Answer]) -> None:
        check(answers, how)

    many()
