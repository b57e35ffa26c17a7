"""Statistics: honest ones of another site pass, whatever could carry records does not."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medperf.domain import limits
from medperf.domain.errors import InvalidInput
from medperf.domain.statistics import (
    StatisticsContract,
    check_plain_statistics,
    check_statistics,
    derive_statistics_contract,
    read_statistics,
)
from medperf.domain.values import nested

#: As example preparators and others like them report about their demo data.
DEMO: dict[str, Any] = {
    "cases": 120,
    "image_size": 64,
    "pixels": {"mean": 127.4821, "std": 51.9, "min": 0, "max": 255},
    "positives": {"Atelectasis": 31, "Edema": 28},
    "age": {"25%": 41.5, "50%": 55, "75%": 68.25},
    "separate labels": True,
    "modality": "CR",
    "labels": ["Atelectasis", "Edema"],
    "most frequent": "Atelectasis",
    "oldest": None,
}
CONTRACT = derive_statistics_contract(DEMO)

HONEST: dict[str, dict[str, Any]] = {
    "the demo's own": {},
    "other numbers": {"cases": 48213, "pixels": {"mean": 98.001, "std": 0.5, "min": 3, "max": 250}},
    "whole where the demo had a point": {"pixels": {"mean": 98, "std": 50, "min": 3.5, "max": 250}},
    "one finding was never seen": {"positives": {"Edema": 28}},
    "none was": {"positives": {}},
    "none was, said otherwise": {"positives": None},
    "undefined": {"age": {"25%": None, "50%": math.nan, "75%": -math.inf}},
    "defined where the demo was not": {"oldest": 93},
    "another flag": {"separate labels": False},
    "another word of the demo": {"most frequent": "Edema"},
    "fewer words, in another order": {"labels": ["Edema"]},
    "no words": {"labels": []},
}


@pytest.mark.parametrize("change", HONEST.values(), ids=HONEST.keys())
def test_honest_statistics_of_another_site_pass(change: dict[str, Any]) -> None:
    document = {**DEMO, **change}
    flat = check_statistics(CONTRACT, document)
    assert list(flat) == [rule.key for rule in CONTRACT.rules]
    assert flat["cases"] == document["cases"]


def test_every_site_sends_one_form() -> None:
    flat = check_statistics(
        CONTRACT, {**DEMO, "labels": ["Edema", "Atelectasis"], "positives": {"Edema": 3}, "age": {}}
    )
    assert flat["labels"] == ["Atelectasis", "Edema"]  # an order could say something
    assert flat["positives.Atelectasis"] is flat["age.25%"] is None
    assert check_statistics(CONTRACT, nested(flat)) == flat


SMUGGLED: dict[str, dict[str, Any]] = {
    "a record as a name": {"patient 17, Jane Doe": 1},
    "records below a known name": {"positives": {"Atelectasis": 31, "Edema": 28, "000017": 1}},
    "an empty mapping with a record as its name": {"Jane Doe": {}},
    "nothing, with a record as its name": {"Jane Doe": None},
    "no words, with a record as its name": {"Jane Doe": []},
    "zero for a mapping": {"positives": 0},
    "an empty mapping for a number": {"cases": {}},
    "a mapping for a number": {"cases": {"Jane": 1}},
    "text for a number": {"cases": "120"},
    "text that no demo holds": {"modality": "Jane Doe, 1971"},
    "a word in a list that no demo holds": {"labels": ["Edema", "Jane Doe"]},
    "a list that counts by repeating": {"labels": ["Edema"] * 71},
    "a list for a number": {"cases": [1, 9, 7, 1]},
    "a list of numbers for words": {"labels": [19, 71]},
    "a list in a list": {"labels": [["Edema"]]},
    "mappings in a list": {"labels": [{"Edema": 1}]},
    "a flag for a number": {"cases": True},
    "a number for a flag": {"separate labels": 19710203},
    "a number for a word": {"modality": 19710203},
    "too many digits after the point": {"pixels": {**DEMO["pixels"], "mean": 127.48210197102}},
    "too many digits in all": {"pixels": {**DEMO["pixels"], "mean": 123456789012.123456}},
    "a whole number with too many digits": {"cases": 10**15},
    "beyond any number": {"cases": 10**400},
    "tiny": {"pixels": {**DEMO["pixels"], "std": 1.97e-300}},
    "huge": {"pixels": {**DEMO["pixels"], "std": 1.97e300}},
    "hidden letters in a name": {"cases\u200b": 1},
    "a dotted name": {"pixels.mean": 1},
    "control characters": {"cases\n": 1},
    "a name that is not text": {7: 1},
    "bytes": {"cases": b"Jane"},
}


@pytest.mark.parametrize("change", SMUGGLED.values(), ids=SMUGGLED.keys())
def test_what_could_carry_records_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_statistics(CONTRACT, {**DEMO, **change})
    assert caught.value.code in ("bad_statistics", "statistics_contract")


@pytest.mark.parametrize("document", [None, [], "cases", 3, [DEMO]])
def test_what_is_no_mapping_is_refused(document: Any) -> None:
    for check in (derive_statistics_contract, check_plain_statistics, lambda value: check_statistics(CONTRACT, value)):
        with pytest.raises(InvalidInput, match="no mapping"):
            check(document)


def deep(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        document = {"a": document}
    return document


USELESS: dict[str, Any] = {
    "more names than anybody reads": {f"{chr(97 + number % 26)}{number}": 1 for number in range(1001)},
    "a case each, numbered": {"cases": {str(number): 0.5 for number in range(1, 121)}},
    "a case each, by record number": {"000017": {"age": 41}},
    "a case each, by date": {"20230117": 3},
    "a hash": {"deadbeefdeadbeef": 3},
    "numbers in a list": {"image": [64, 64]},
    "the same word twice": {"labels": ["Edema", "Edema"]},
    "a letter to somebody": {"note": "x" * 65},
    "text of many lines": {"note": "first\nsecond"},
    "no text": {"note": ""},
    "hidden letters": {"note": "a\u200bb"},
    "too many words": {"labels": [f"label {number}" for number in range(257)]},
    "an empty mapping": {"positives": {}},
    "deep": deep(200),
    "deeper than any stack": deep(100_000),
    "a name of 100 MB": {"x" * 100_000_000: 1},
    "a text of 100 MB": {"note": "x" * 100_000_000},
    "a number nobody could report": {"voxels": 10**16},
}


@pytest.mark.parametrize("document", USELESS.values(), ids=USELESS.keys())
def test_statistics_that_make_no_contract(document: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        derive_statistics_contract(document)
    assert caught.value.code == "bad_statistics"
    assert len(str(caught.value)) < 500  # an error does not grow with the document


def test_long_lists_are_no_way_round_the_number_of_names() -> None:
    words = [f"label {chr(97 + number)}" for number in range(26)]
    with pytest.raises(InvalidInput, match="more than 1000 values"):
        derive_statistics_contract(
            {f"list {chr(97 + number)}{chr(98 + number)}": words for number in range(26)}
            | {f"other {chr(97 + number)}{chr(98 + number)}": words for number in range(26)}
        )
    contract = derive_statistics_contract({f"l{number}": words if number == 0 else [] for number in range(50)})
    with pytest.raises(InvalidInput, match="more than 1000 values"):
        check_statistics(contract, {f"l{number}": words for number in range(50)})


def test_words_of_the_demo_include_its_names() -> None:
    contract = derive_statistics_contract({"positives": {"Edema": 3, "Mass": 4}, "most frequent": "Edema"})
    assert check_statistics(contract, {"most frequent": "Mass"})["most frequent"] == "Mass"
    assert derive_statistics_contract({"positives": {"Edema": 3}}).words == frozenset()


def test_a_preparator_that_says_nothing() -> None:
    contract = derive_statistics_contract({})
    assert contract == StatisticsContract(())
    assert check_statistics(contract, {}) == {}
    with pytest.raises(InvalidInput, match="not a statistic of this benchmark"):
        check_statistics(contract, {"cases": 1})


# ------------------------------------------------------------------------------------------------- without a benchmark


def test_numbers_alone_need_no_benchmark() -> None:
    assert check_plain_statistics({"cases": 3, "pixels": {"mean": 0.5, "min": math.nan}}) == {
        "cases": 3,
        "pixels.mean": 0.5,
        "pixels.min": None,
    }
    assert check_plain_statistics({"age": {f"{low}-{low + 10}": 3 for low in range(0, 100, 10)}})


@pytest.mark.parametrize(
    "document",
    [
        {"modality": "CR"},
        {"separate": True},
        {"labels": []},
        {"labels": [1]},
        {"positives": {}},
        {"mean": 0.12345678},
        {"cases": 10**15},
        {"000017": 1},
        {"patient": {str(number): 1 for number in range(101)}},
        {f"{chr(97 + number % 26)}{number}": 1 for number in range(201)},
        {"cases\u2028": 1},
        deep(100_000),
    ],
)
def test_nothing_else_leaves_without_one(document: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_plain_statistics(document)
    assert caught.value.code == "bad_statistics"


# -------------------------------------------------------------------------------------------------------------- reading


def test_a_preparator_that_does_not_round_can_be_used() -> None:
    found = read_statistics(
        b"cases: 3\nmean: 0.48712837129837\nlarge: 123456789012.123456\nlowest: .nan\nhighest: -.inf"
    )
    assert check_plain_statistics(found) == {
        "cases": 3,
        "mean": 0.487128,
        "large": 123456789012.123,
        "lowest": None,
        "highest": None,
    }


def test_100_mb_are_refused_before_they_are_parsed() -> None:
    for data in (b"a: " + b"x" * 100_000_000, b"[" * 100_000_000):
        with pytest.raises(InvalidInput) as caught:
            read_statistics(data)
        assert caught.value.code == "document_too_large"


@pytest.mark.parametrize(
    "data", [b"- 1", b"text", b"", b"a: &b 1\nc: *b", b"a: !!python/none x", b"{a: 1, a: 2}", b"\xff"]
)
def test_odd_documents_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_statistics(data)


# ----------------------------------------------------------------------------------------------------------- properties

letters = st.text(st.characters(categories=["L"]), min_size=1, max_size=8)
numbers = st.none() | st.integers(-(10**15) + 1, 10**15 - 1) | st.decimals(-(10**8), 10**8, places=6).map(float)
words = st.lists(letters, max_size=4, unique=True)
values = numbers | st.booleans() | letters | words
documents = st.dictionaries(letters, values | st.dictionaries(letters, values, min_size=1, max_size=4), max_size=6)


@given(documents)
def test_a_contract_accepts_what_it_was_derived_from(document: dict[str, Any]) -> None:
    contract = derive_statistics_contract(document)
    flat = check_statistics(contract, document)
    assert check_statistics(contract, nested(flat)) == flat
    assert derive_statistics_contract(nested(flat)).words <= contract.words


@given(documents, documents)
def test_nothing_gets_through_that_the_demo_did_not_name(demo: dict[str, Any], document: dict[str, Any]) -> None:
    contract = derive_statistics_contract(demo)
    try:
        flat = check_statistics(contract, document)
    except InvalidInput:
        return
    assert set(flat) == {rule.key for rule in contract.rules}
    texts = {value for value in flat.values() if isinstance(value, str)}
    texts |= {word for value in flat.values() if isinstance(value, list) for word in value}
    assert texts <= contract.words


@given(st.floats(-1e14, 1e14))
def test_every_number_can_be_rounded_to_one_that_leaves(value: float) -> None:
    found = read_statistics(f"mean: {value!r}".encode())
    assert math.isclose(found["mean"], value, rel_tol=1e-14, abs_tol=6e-7)
    assert check_plain_statistics(found) == found


@given(documents)
def test_the_plain_check_lets_only_numbers_through(document: dict[str, Any]) -> None:
    try:
        flat = check_plain_statistics(document)
    except InvalidInput:
        return
    assert all(
        value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in flat.values()
    )
    assert len(flat) <= limits.STATISTIC_KEYS_ALONE
