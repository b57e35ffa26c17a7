"""Lock files from hostile MLCubes: read in time that grows with their bytes, refused in our own words."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.markers import default_environment

from medperf.domain.errors import InvalidInput
from medperf.runtime.images.requirements import parse_requirements

ENVIRONMENT = {key: str(value) for key, value in default_environment().items()}
HASH = b" --hash=sha256:" + b"a" * 64
HOSTILE = {
    "spaces": b"a" + b" " * 200_000 + b"b",
    "tabs": b"a==1" + b"\t" * 200_000 + b"x",
    "many parentheses": b"a==1;" + b"(" * 50_000 + HASH,
    "marker that compares nothing": b"a==1; 'x' ~= 'y'" + HASH,
    "unknown variable": b"a==1; patient == 'y'" + HASH,
    "long marker": b"a==1;" + b" and ".join([b"python_version>'3'"] * 20_000) + HASH,
    "long version": b"a==" + b"1." * 30_000 + b"1" + HASH,
    "many requirements": b"".join(b"p%d==1%s\n" % (number, HASH) for number in range(10_001)),
    "too large": b"#" * (8 * 1024**2 + 1),
    "not UTF-8": b"\xff",
    "NUL": b"a\0==1" + HASH,
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_locks(data: bytes) -> None:
    started = time.process_time()
    with pytest.raises(InvalidInput) as caught:
        parse_requirements(data, environment=ENVIRONMENT)
    assert time.process_time() - started < 0.5
    assert caught.value.code == "bad_requirements"
    assert "requirements.txt" in caught.value.what
    assert len(caught.value.what) < 600


words = st.sampled_from(["a", "==", "1", ";", "python_version", "'3'", " and ", "(", ")", "[", "]", ",", "@", "~=", "--hash=sha256:", "a" * 64, "\\\n", " ", "#", "\n", "extra", "*"])  # fmt: skip


@given(st.lists(words, max_size=20).map("".join) | st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text(text: str) -> None:
    """It is a lock, or it is refused; nothing else is raised."""
    try:
        found = parse_requirements(text.encode("utf-8", "replace"), environment=ENVIRONMENT)
    except InvalidInput:
        return
    assert all(one.name and one.version and one.hashes for one in found)


def test_continued_lines_and_spaces() -> None:
    text = b"Tiny_Score  ==  1.0 \\\n    --hash=sha256:%s \\\n\t--hash=sha256:%s  # why\n" % (b"a" * 64, b"b" * 64)
    (locked,) = parse_requirements(text, environment=ENVIRONMENT)
    assert (locked.name, locked.version, len(locked.hashes)) == ("tiny-score", "1.0", 2)
