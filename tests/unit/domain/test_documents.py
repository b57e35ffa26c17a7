"""YAML and JSON from anybody: refused with a clear error, in bounded time and memory."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medperf.domain.documents import dump_yaml, load_json, load_yaml
from medperf.domain.errors import InvalidInput

HOSTILE_YAML = {
    "alias": b"a: &x [1]\nb: *x",
    "billion laughs": b"a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nd: [*c,*c]",
    "merge": b"a: &x {k: 1}\nb:\n  <<: *x",
    "tag": b"!!python/object/apply:os.system ['true']",
    "core tag": b"a: !!binary aGk=",
    "duplicate": b"a: 1\na: 2",
    "list as key": b"? [1]\n: 2",
    "deep": b"[" * 5000 + b"]" * 5000,
    "deep block": b"".join(b" " * level + b"a:\n" for level in range(200)),
    "many": b"[" + b"1," * 200_000 + b"1]",
    "nan": b"a: .nan",
    "infinity": b"a: -.inf",
    "huge int": b"a: " + b"9" * 40,
    "octal bomb": b"a: " + b"1" * 60_000,
    "nul": b'a: "x\\0y"',
    "raw nul": b"a: \0",
    "latin": "a: é".encode("latin-1"),
    "surrogate": b'a: "\\uD800"',
    "two documents": b"a: 1\n---\nb: 2",
    "unbalanced": b"a: [1, 2",
    "tab": b"a:\n\t- b",
    "control": b"a: \x07",
}


@pytest.mark.parametrize("name", HOSTILE_YAML)
def test_hostile_yaml_is_refused_quickly(name: str) -> None:
    started = time.monotonic()
    with pytest.raises(InvalidInput) as caught:
        load_yaml(HOSTILE_YAML[name], label="mlcube.yaml", max_bytes=10**6)
    assert time.monotonic() - started < 2
    assert "mlcube.yaml" in caught.value.what
    assert caught.value.fix


HOSTILE_JSON = {
    "nan": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "overflow": b'{"a": 1e999}',
    "duplicate": b'{"a": 1, "a": 2}',
    "deep": b"[" * 100_000,
    "huge int": b'{"a": ' + b"9" * 40 + b"}",
    "digits bomb": b'{"a": ' + b"9" * 5000 + b"}",
    "surrogate": b'{"a": "\\ud800"}',
    "nul": b'{"a": "\\u0000"}',
    "not utf-8": b'{"a": "\xff"}',
    "cut": b'{"a": ',
}


@pytest.mark.parametrize("name", HOSTILE_JSON)
def test_hostile_json_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        load_json(HOSTILE_JSON[name], label="The body")


def test_too_large_is_said_before_parsing() -> None:
    with pytest.raises(InvalidInput, match="at most 10 are read"):
        load_yaml(b"a: 12345678910", label="f", max_bytes=10)


def test_nan_is_kept_where_it_is_allowed() -> None:
    assert math.isnan(load_yaml(b"a: .nan", label="f", allow_nan=True)["a"])


def test_dates_stay_text() -> None:
    assert load_yaml(b"d: 2020-01-01", label="f") == {"d": "2020-01-01"}


leaves = st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
documents = st.recursive(
    leaves | texts, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4)
)


@given(documents)
def test_what_we_write_we_read(value: object) -> None:
    assert load_yaml(dump_yaml(value).encode(), label="f", max_bytes=10**6) == value
