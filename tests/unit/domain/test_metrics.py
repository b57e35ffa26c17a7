"""The metrics contract: derived, read back, and broken in every way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medperf.domain.errors import InvalidInput
from medperf.domain.metrics import check_metrics, contract_from_document, derive_contract

GOOD: dict[str, Any] = {
    "AUC": {"Edema": 0.91, "Mass": None},
    "n": 12,
    "loss": 3.5,
    "cases": {"evaluated": 9, "failed": 1, "total": 10},
}

names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="."), min_size=1, max_size=20).filter(
    lambda name: name != "cases"
)
numbers = st.none() | st.integers(0, 10**9) | st.decimals(-1000, 1000, places=4).map(float)
metrics = st.dictionaries(
    names, numbers | st.dictionaries(names, numbers, min_size=1, max_size=4), min_size=1, max_size=6
)


@given(metrics)
def test_a_derived_contract_accepts_what_it_was_derived_from(document: dict[str, Any]) -> None:
    contract = derive_contract(document)
    assert contract_from_document(contract.as_document()) == contract
    check_metrics(contract, document)


def test_derived_rules() -> None:
    contract = derive_contract(GOOD)
    rules = {rule.key: rule for rule in contract.rules}
    assert contract.has_cases
    assert contract.primary == "AUC.Edema"
    assert (rules["AUC.Edema"].minimum, rules["AUC.Edema"].maximum, rules["AUC.Edema"].direction) == (
        0.0,
        1.0,
        "higher",
    )
    assert rules["n"].type == "integer"
    assert (rules["loss"].direction, rules["loss"].maximum) == ("lower", None)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("error_rate", 0.0, ("number", 0.0, None, "lower")),
        ("mae", 0.25, ("number", 0.0, None, "lower")),
        ("auroc", 87.5, ("number", None, None, "none")),
        ("accuracy", 1, ("number", 0, None, "none")),  # a rate or a count: only the bound that both have
        ("accuracy", 1.0, ("number", 0.0, 1.0, "higher")),
        ("cells", 12, ("integer", 0, None, "none")),
        ("mirror", 0.5, ("number", 0.0, 1.0, "higher")),  # "err" inside a word says nothing
        ("dice", None, ("number", None, None, "none")),
    ],
)
def test_what_a_value_and_its_name_suggest(key: str, value: Any, expected: tuple[Any, ...]) -> None:
    (rule,) = derive_contract({key: value}).rules
    assert (rule.type, rule.minimum, rule.maximum, rule.direction) == expected


def test_what_is_undefined_or_does_not_rank_is_never_primary() -> None:
    assert derive_contract({"mae": None, "n": 12, "dice": 0.5}).primary == "dice"
    assert derive_contract({"n": 12}).primary is None


BREAKS: dict[str, dict[str, Any]] = {
    "another key": {"AUC": {"Edema": 0.9, "Mass": None, "Other": 0.1}},
    "missing key": {"AUC": {"Edema": 0.9}},
    "text": {"AUC": {"Edema": "patient 17", "Mass": None}},
    "true": {"AUC": {"Edema": True, "Mass": None}},
    "out of range": {"AUC": {"Edema": 1.5, "Mass": None}},
    "too many digits": {"AUC": {"Edema": 0.1234567891234, "Mass": None}},
    "list": {"AUC": {"Edema": [0.9], "Mass": None}},
    "float for a count": {"n": 1.5},
    "negative count": {"n": -1},
    "cases missing": {"cases": None},
    "cases do not add up": {"cases": {"evaluated": 9, "failed": 9, "total": 10}},
    "cases with names": {"cases": {"evaluated": 9, "failed": 1, "total": 10, "patient00001": 1}},
    "cases with text": {"cases": {"evaluated": "9", "failed": 1, "total": 10}},
    "control characters": {"AUC\n": 0.5},
    "dotted": {"AUC.Edema": 0.5},
    "empty": {"AUC": {}},
}


@pytest.mark.parametrize("name", BREAKS)
def test_every_break_is_refused(name: str) -> None:
    contract = derive_contract(GOOD)
    broken = {
        key: value
        for key, value in {**GOOD, **BREAKS[name]}.items()
        if not (name == "cases missing" and key == "cases")
    }
    with pytest.raises(InvalidInput) as caught:
        check_metrics(contract, broken)
    assert caught.value.code in ("metrics_contract", "bad_metrics")


def test_records_smuggled_as_keys_are_too_many() -> None:
    with pytest.raises(InvalidInput, match="More than"):
        derive_contract({f"patient{number}": 0.5 for number in range(2000)})


@pytest.mark.parametrize(
    "document", [None, [], "AUC", 3, {}, {"cases": {"evaluated": 1, "failed": 0, "total": 1}}, {"a": "text"}]
)
def test_what_is_no_mapping_of_numbers_makes_no_contract(document: Any) -> None:
    with pytest.raises(InvalidInput):
        derive_contract(document)


@pytest.mark.parametrize(
    "change",
    [
        {"rules": []},
        {"rules": "x"},
        {"primary": "other"},
        {"version": 2},
        {"rules": [{"key": "a"}, {"key": "a"}]},
        {"rules": [{"key": "a", "minimum": 2, "maximum": 1}]},
        {"rules": [{"key": "a", "decimals": 99}]},
        {"rules": [{"key": "a", "decimals": True}]},
        {"rules": [{"key": "a", "type": "enum"}]},
        {"rules": [{"key": "a", "type": "blob"}]},
        {"rules": [{"key": "a", "minimum": float("nan")}]},
        {"rules": [{"key": "cases.total"}]},
        {"rules": [{"key": 3, "minimum": "x"}]},
        {"rules": [3]},
    ],
)
def test_bad_contracts(change: dict[str, Any]) -> None:
    document = {"version": 1, "primary": None, "has_cases": False, "rules": [{"key": "a"}], **change}
    with pytest.raises(InvalidInput):
        contract_from_document(document)


def test_an_enumeration_is_checked() -> None:
    contract = contract_from_document({"rules": [{"key": "grade", "type": "enum", "values": ["low", "high"]}]})
    assert check_metrics(contract, {"grade": "low"}) == {"grade": "low"}
    with pytest.raises(InvalidInput):
        check_metrics(contract, {"grade": "patient 3"})
