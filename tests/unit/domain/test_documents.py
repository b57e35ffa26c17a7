"""YAML and JSON from anybody: refused with a clear error, in bounded time and memory."""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
import tracemalloc
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from medperf.domain import limits
from medperf.domain.documents import _FLOAT, load_json, load_yaml
from medperf.domain.errors import InvalidInput
from medperf.testing.hostile import JSON, YAML, HostileDocument
from medperf.testing.hostile.documents import fill

MIB = 1024**2


def cpu_seconds(read: Any) -> float:
    """CPU time of reading, whether it is refused or not."""
    started = time.process_time()
    with contextlib.suppress(InvalidInput):
        read()
    return time.process_time() - started


@pytest.mark.parametrize("case", YAML.values(), ids=YAML)
def test_hostile_yaml_is_refused_quickly(case: HostileDocument) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_yaml(case.data, label="mlcube.yaml", max_bytes=MIB)
    assert caught.value.code == case.code
    assert "mlcube.yaml" in caught.value.what
    assert caught.value.fix
    assert len(caught.value.what) < 500
    assert cpu_seconds(lambda: load_yaml(case.data, label="mlcube.yaml", max_bytes=MIB)) < 0.3


@pytest.mark.parametrize("case", JSON.values(), ids=JSON)
def test_hostile_json_is_refused_quickly(case: HostileDocument) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_json(case.data, label="The body")
    assert caught.value.code == case.code
    assert "The body" in caught.value.what
    assert caught.value.fix
    assert cpu_seconds(lambda: load_json(case.data, label="The body")) < 0.3


#: Not refused, or refused late: what costs most per byte.
COSTLY = {
    "numbers": b"1,",
    "empty mappings": b"{},",
    "texts": b"a,",
    "quoted texts": b"'',",
    "anchors": b"&a 1,",
    "base 60": b"1:",
    "underscores": b"1_",
    "blank lines": b" \n",
    "comments": b"#\n",
    "escapes": b"\\x41",
    "dots": b".",
    "dashes": b"-",
    "quotes": b"'",
    "double quotes": b'"',
    "question marks": b"?",
    "percent": b"\n%",
    "stars": b"*",
    "bars": b"|",
    "tabs": b"\t",
    "keys": b"a: ",
    "nested": b"[{a: ",
    "exponents": b"1e+9,",
    "wide": "\u60a3,".encode(),
}


@pytest.mark.parametrize("unit", COSTLY.values(), ids=COSTLY)
@pytest.mark.parametrize(("before", "after"), [(b"[", b"1]"), (b"a: ", b"1"), (b'"', b'"'), (b"", b"")])
def test_a_manifest_costs_a_moment_whatever_it_holds(unit: bytes, before: bytes, after: bytes) -> None:
    data = fill(unit, limits.MANIFEST_BYTES, before, after)
    assert cpu_seconds(lambda: load_yaml(data, label="f")) < 0.3


@pytest.mark.parametrize("unit", COSTLY.values(), ids=COSTLY)
def test_metrics_of_a_hostile_container_cost_a_moment(unit: bytes) -> None:
    for before, after in ((b"[", b"1]"), (b"a: ", b"1"), (b"", b"")):
        data = fill(unit, limits.METRICS_BYTES, before, after)
        assert cpu_seconds(lambda data=data: load_yaml(data, label="f", max_bytes=MIB, allow_nan=True)) < 3


def test_memory_is_bounded() -> None:
    cases = [
        lambda: load_yaml(fill(b"1,", MIB, b"[", b"1]"), label="f", max_bytes=MIB),
        lambda: load_json(fill(b"{},", 2 * MIB, b"[", b"{}]"), label="f"),
        lambda: load_json(fill(b'"a",', 2 * MIB, b"[", b"{}]"), label="f"),
    ]
    tracemalloc.start()
    try:
        for case in cases:
            tracemalloc.reset_peak()
            with pytest.raises(InvalidInput):
                case()
            assert tracemalloc.get_traced_memory()[1] < 32 * MIB
    finally:
        tracemalloc.stop()


def test_the_largest_honest_documents_are_read() -> None:
    values = list(range(limits.DOCUMENT_NODES - 1))
    assert load_json(json.dumps(values).encode(), label="f") == values
    assert load_yaml(json.dumps(values).encode(), label="f", max_bytes=MIB) == values
    with pytest.raises(InvalidInput):
        load_json(json.dumps([*values, 1]).encode(), label="f")
    with pytest.raises(InvalidInput):
        load_yaml(json.dumps([*values, 1]).encode(), label="f", max_bytes=MIB)
    commas = "," * (2 * limits.DOCUMENT_NODES)
    assert load_json(json.dumps([commas, '"' + commas]).encode(), label="f") == [commas, '"' + commas]


def test_too_large_is_said_before_parsing() -> None:
    with pytest.raises(InvalidInput, match="at most 10 are read"):
        load_yaml(b"a: 12345678910", label="f", max_bytes=10)


def test_nan_is_kept_where_it_is_allowed() -> None:
    assert math.isnan(load_yaml(b"a: .nan", label="f", allow_nan=True)["a"])
    assert load_yaml(b"[.inf, -.inf, +.Inf, 1e+999]", label="f", allow_nan=True) == [
        math.inf, -math.inf, math.inf, math.inf,
    ]  # fmt: skip
    for text in (b".nan", b".NaN", b"-.INF", b".inf"):
        with pytest.raises(InvalidInput, match="NaN"):
            load_yaml(text, label="f")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2020-01-01", "2020-01-01"),
        ("12:30:45", "12:30:45"),
        ("8080:80", "8080:80"),
        ("1e-05", 1e-05),
        ("-1.5e3", -1500.0),
        ("12e34", "12e34"),
        ("0777", 511),
        ("08", "08"),
        ("0o17", "0o17"),
        ("0x1F", 31),
        ("-0b101", -5),
        ("0x", "0x"),
        ("1_000", 1000),
        ("+5", 5),
        (".5", 0.5),
        ("1.", 1.0),
        (".", "."),
        ("-", [None]),
        ("yes", True),
        ("Off", False),
        ("'yes'", "yes"),
        ("~", None),
        ("NULL", None),
        ("", None),
        ("=", "="),
        ("<<: 1", {"<<": 1}),
        ("yes: 1", {"yes": 1}),
        ("1: a", {"1": "a"}),
        ("? ", {"": None}),
        ("&x 1", 1),
        ("\ufeffa: 1", {"a": 1}),
        ("%YAML 1.1\n---\n1", 1),
        ("1.2.3", "1.2.3"),
        ("999999999999999999", 999999999999999999),
    ],
)
def test_what_scalars_mean(text: str, value: Any) -> None:
    found = load_yaml(text.encode(), label="f")
    assert (found, type(found)) == (value, type(value))


leaves = st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)
numberlike = st.text("0123456789+-._eExXbo:~nNaAiIfFyY", max_size=8)
documents = st.recursive(
    leaves | texts | numberlike,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | numberlike, inner, max_size=4),
)


class Dumper(yaml.SafeDumper):
    """Writes what `load_yaml` reads: no aliases, and text that reads like a number in quotes."""

    def ignore_aliases(self, data: object) -> bool:
        return True


Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"(?:{_FLOAT.pattern})$"), list("-+.0123456789"))


def dump_yaml(value: object) -> str:
    return str(yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False))


@given(documents)
@example(["1e-05", "+1.5e3", ".5e1", "1:30", "yes", "<<", "=", "~", "2020-01-01", "0x_", "-.inf"])
def test_what_is_written_is_read(value: object) -> None:
    assert load_yaml(dump_yaml(value).encode(), label="f", max_bytes=10**6) == value
    assert dump_yaml(load_yaml(dump_yaml(value).encode(), label="f", max_bytes=10**6)) == dump_yaml(value)


@given(documents)
def test_json_is_yaml(value: object) -> None:
    data = json.dumps(value).encode()
    assert load_json(data, label="f") == value
    if "\\ud8" not in data.decode().lower():  # YAML has no pairs of surrogates
        assert load_yaml(json.dumps(value, ensure_ascii=False).encode(), label="f", max_bytes=10**6) == value


def test_the_same_part_in_two_places_is_written_twice() -> None:
    shared = {"a": [1]}
    assert load_yaml(dump_yaml([shared, shared]).encode(), label="f") == [shared, shared]


SEEDS = [
    *(case.data[:2000] for case in YAML.values()),
    *(case.data[:2000] for case in JSON.values()),
    b"name: x\ntasks:\n  prepare:\n    parameters: {inputs: {data_path: {type: directory, default: data}}}\n",
    b"a: |\n  text\n  more\nb: >-\n  folded\nc: 'q' # comment\n? d\n: [1, 2.5, ~, yes]\n",
]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A seed with parts replaced, repeated, cut or joined with another."""
    data = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        to = draw(st.integers(at, min(len(data), at + 20)))
        new = draw(st.one_of(st.binary(max_size=8), st.sampled_from(list(COSTLY.values())), st.sampled_from(SEEDS)))
        data = data[:at] + new * draw(st.integers(0, 3)) + data[to:]
    return data[: limits.MANIFEST_BYTES]


def read_all(data: bytes) -> None:
    """Both readers: a value that the other tools take too, or `InvalidInput`."""
    started = time.process_time()
    for load in (load_yaml, load_json):
        with contextlib.suppress(InvalidInput):
            value = load(data, label="f", max_bytes=10**6)
            json.dumps(value, allow_nan=False).encode()
            assert load_yaml(dump_yaml(value).encode(), label="f", max_bytes=10**7) == value
    assert time.process_time() - started < 2


@given(mutated())
@settings(max_examples=150, deadline=None)
def test_mutated_documents(data: bytes) -> None:
    read_all(data)


@pytest.mark.long
@given(mutated() | st.binary(max_size=3000))
@settings(max_examples=20_000, deadline=None)
def test_many_mutated_documents(data: bytes) -> None:
    read_all(data)


@given(st.text("[]{}:,-?&*!|>'\"%@`# \n\tab1.", max_size=60))
@settings(max_examples=300, deadline=None)
def test_we_understand_what_yaml_means(text: str) -> None:
    """Where nothing special is in it, structure and texts are those of PyYAML's own reader."""
    try:
        ours = load_yaml(text.encode(), label="f")
    except InvalidInput:
        return
    theirs = yaml.load(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
    assert shape(ours) == shape(theirs)


def shape(value: Any) -> Any:
    """Keys and structure, without what scalars mean."""
    if isinstance(value, dict):
        return {key: shape(entry) for key, entry in value.items()}
    return [shape(entry) for entry in value] if isinstance(value, list) else None
