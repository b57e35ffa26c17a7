from __future__ import annotations

import dataclasses
import io
import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medperf.cli.output import Column, Output, OutputClosed, as_yaml, clean, document, human_bytes, human_seconds
from medperf.domain.errors import MedPerfError

COLUMNS = [Column("id", right=True), Column("name"), Column("digest", short=True)]
ROWS = [(1, "my-prep-cube", "sha256:" + "ab" * 32), (12, "a name that is rather long " * 4, "sha256:" + "cd" * 32)]


def printed(*, terminal: bool = False, width: int = 80) -> tuple[Output, io.StringIO]:
    stream = io.StringIO()
    return Output(stream, terminal=terminal, width=width), stream


def test_a_piped_table_is_plain_aligned_and_whole() -> None:
    out, stream = printed()
    out.table(COLUMNS, ROWS, empty="none")
    lines = stream.getvalue().splitlines()
    assert lines[0].split() == ["ID", "NAME", "DIGEST"]
    assert lines[1].startswith(" 1  my-prep-cube")
    assert lines[1].index("sha256") == lines[2].index("sha256") == lines[0].index("DIGEST")
    assert "cd" * 32 in lines[2]
    assert stream.getvalue().isascii()
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_table_fits_the_terminal(width: int) -> None:
    from rich.text import Text

    out, stream = printed(terminal=True, width=width)
    out.table(COLUMNS, ROWS, empty="none")
    plain = Text.from_ansi(stream.getvalue()).plain
    assert max(map(len, plain.splitlines())) <= width
    assert "12" in plain
    assert "\x1b[1m" in stream.getvalue()


def test_a_narrow_terminal_leaves_out_what_is_extra_and_a_pipe_nothing() -> None:
    columns = [Column("id", short=True), Column("data", extra=True), Column("engine", extra=True)]
    row = ("sha256:" + "ab" * 32, "x" * 30, "sandbox")
    seen = {}
    for width in (40, 50, 60, 200):
        out, stream = printed(terminal=True, width=width)
        out.table(columns, [row], empty="none")
        seen[width] = ("x" * 30 in stream.getvalue(), "sandbox" in stream.getvalue(), "ab" * 32 in stream.getvalue())
    assert seen == {
        40: (False, False, False),
        50: (True, False, False),
        60: (True, True, False),
        200: (True, True, True),
    }
    out, stream = printed()
    out.table(columns, [row], empty="none")
    assert all(value in stream.getvalue() for value in row)


def test_a_long_table_is_plain_and_fits_all_the_same() -> None:
    columns = [Column("id", right=True), Column("name"), Column("made", extra=True)]
    rows = [(number, "x" * 20, "y" * 60) for number in range(600)]
    out, stream = printed(terminal=True, width=60)
    assert not out.fits(columns, rows)
    assert out.fits(columns[:2], [row[:2] for row in rows])
    out.table(columns, rows, empty="-")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 601
    assert max(map(len, lines)) <= 60
    assert lines[0].split() == ["ID", "NAME"]
    piped, _ = printed(terminal=False, width=60)
    assert piped.fits(columns, rows)


def test_markup_in_names_is_text() -> None:
    out, stream = printed(terminal=True)
    out.table([Column("name")], [("[red]not red[/red]",)], empty="none")
    assert "[red]not red[/red]" in stream.getvalue()


def test_wide_letters_are_aligned() -> None:
    out, stream = printed()
    out.table([Column("name"), Column("x")], [("検査", 1), ("abcd", 2)], empty="none")
    _, first, second = stream.getvalue().splitlines()
    assert first == "検査  1"
    assert second == "abcd  2"


def test_nothing_to_list_says_what_to_do() -> None:
    out, stream = printed()
    out.table(COLUMNS, [], empty="None. Make one with: medperf x")
    assert stream.getvalue() == "None. Make one with: medperf x\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_a_server_says_steers_the_terminal(terminal: bool) -> None:
    out, stream = printed(terminal=terminal)
    evil = "a\x1b]0;title\x07\x9b31m\u202e\udc80\nb"
    out.line(evil)
    out.view({"name": evil, evil: [evil]})
    out.table([Column("n")], [(evil,)], empty="")
    body = stream.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")
    assert not any(letter in body for letter in "\x1b\x07\x9b\u202e\udc80")


def test_created_names_the_next_command() -> None:
    out, stream = printed()
    out.created("mlcube", 1, "my-prep-cube", then="medperf mlcube view 1")
    assert stream.getvalue() == "Created mlcube 1 (my-prep-cube).\nNext: medperf mlcube view 1\n"


class Colour(StrEnum):
    RED = "red"


@dataclasses.dataclass
class Thing:
    path: Path
    when: datetime
    colour: Colour
    numbers: tuple[float, ...]


def test_documents_are_json() -> None:
    thing = Thing(Path("/a/b"), datetime(2026, 1, 2, tzinfo=UTC), Colour.RED, (1.5, float("nan"), float("inf")))
    assert document(thing) == {
        "path": "/a/b",
        "when": "2026-01-02T00:00:00+00:00",
        "colour": "red",
        "numbers": [1.5, None, None],
    }
    out, stream = printed()
    out.json({"items": [thing]})
    assert json.loads(stream.getvalue())["items"][0]["colour"] == "red"


def test_json_survives_a_terminal_that_is_not_utf8() -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="latin-1", errors="backslashreplace")
    Output(stream).json({"name": "検\udc80"})
    assert json.loads(raw.getvalue()) == {"name": "検\udc80"}


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**9), 10**9)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1, max_size=8), json_values, max_size=4))
def test_views_are_yaml_of_the_same_value(value: dict[str, Any]) -> None:
    read = yaml.safe_load(as_yaml(value)) or {}
    assert _same(read, value)


def _same(read: Any, value: Any) -> bool:
    if isinstance(value, dict):
        return set(read) == set(value) and all(_same(read[key], entry) for key, entry in value.items())
    if isinstance(value, list):
        return len(read) == len(value) and all(_same(a, b) for a, b in zip(read, value, strict=True))
    if isinstance(value, float):  # YAML 1.1 takes 1e+16 for a word
        return float(read) == value
    return bool(read == value)


@pytest.mark.parametrize(
    "text", ["name: prep\ntasks: {}\n", "a\n\nb\n", "a: |\n  b\n", "no end", "two ends\n\n", " indented\nx\n", "\n"]
)
def test_manifests_are_shown_as_they_are(text: str) -> None:
    assert yaml.safe_load(as_yaml({"manifest_text": text})) == {"manifest_text": text}


@pytest.mark.parametrize(
    "text",
    [
        "null",
        "Yes",
        "1.0",
        "1_0",
        "0x1f",
        "2026-01-01",
        "",
        " a",
        "a: b",
        "a #b",
        "- a",
        "=",
        "~",
        "1:30",
        "nan",
        ".5",
        "._1",
    ],
)
def test_words_that_yaml_takes_for_something_else_are_quoted(text: str) -> None:
    assert yaml.safe_load(as_yaml({"a": text})) == {"a": text}


def test_amounts() -> None:
    assert [human_bytes(count) for count in (0, 999, 1500, 2_500_000, 3 * 10**9, 5 * 10**12)] == [
        "0 bytes",
        "999 bytes",
        "1.5 kB",
        "2.5 MB",
        "3.0 GB",
        "5.0 TB",
    ]
    assert [human_seconds(seconds) for seconds in (0.004, 0.84, 59.99, 59.999, 125, 3725)] == [
        "0.00 s",
        "0.84 s",
        "59.99 s",
        "1 min 00 s",
        "2 min 05 s",
        "1 h 02 min",
    ]


def test_clean_keeps_what_people_write() -> None:
    assert clean("Röntgen 検査 – Thorax") == "Röntgen 検査 – Thorax"


class Broken(io.StringIO):
    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def flush(self) -> None:
        raise self.error


def test_a_reader_that_left_and_a_full_disk_are_told_apart() -> None:
    with pytest.raises(OutputClosed):
        Output(Broken(BrokenPipeError())).line("x")
    with pytest.raises(MedPerfError, match="No space left"):
        Output(Broken(OSError(28, "No space left on device"))).line("x")
    Output(None).line("x")
