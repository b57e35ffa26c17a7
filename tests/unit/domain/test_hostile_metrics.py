"""Metrics from an evaluator that wants to carry something out."""

from __future__ import annotations

import math
from typing import Any

import pytest

from medperf.domain import limits
from medperf.domain.documents import load_json, load_yaml
from medperf.domain.errors import InvalidInput
from medperf.domain.metrics import check_metrics, contract_from_document, derive_contract, flatten_metrics

HONEST: dict[str, Any] = {
    "AUC": {"Edema": 0.91, "Mass": 0.88},
    "cells": 12,
    "cases": {"evaluated": 9, "failed": 1, "total": 10},
}
CONTRACT = derive_contract(HONEST)


def deep(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {"a": 1}
    for _ in range(levels):
        document = {"a": document}
    return document


def test_nan_everywhere_is_undefined_everywhere() -> None:
    flat = check_metrics(CONTRACT, {**HONEST, "AUC": {"Edema": math.nan, "Mass": math.inf}, "cells": -math.inf})
    assert [flat[key] for key in ("AUC.Edema", "AUC.Mass", "cells")] == [None, None, None]
    with pytest.raises(InvalidInput):  # but not how many cases there were
        check_metrics(CONTRACT, {**HONEST, "cases": {"evaluated": math.nan, "failed": 1, "total": 10}})


CARRIERS: dict[str, dict[str, Any]] = {
    "a record as a name": {"Jane Doe, 1971": 0.5},
    "records below a known name": {"AUC": {"Edema": 0.91, "Mass": 0.88, "patient 17": 0.5}},
    "a thousand records": {f"patient {number}": 0.5 for number in range(1001)},
    "text": {"AUC": {"Edema": "Jane Doe", "Mass": 0.88}},
    "a text of 100 MB": {"AUC": {"Edema": "x" * 100_000_000, "Mass": 0.88}},
    "a name of 100 MB": {"x" * 100_000_000: 1},
    "a list": {"AUC": {"Edema": [0.91, 0.5], "Mass": 0.88}},
    "an empty list": {"cells": []},
    "nesting": {"AUC": {"Edema": {"Jane": 0.9}, "Mass": 0.88}},
    "deep": deep(200),
    "deeper than any stack": deep(100_000),
    "too many digits": {"AUC": {"Edema": 0.91000000001971, "Mass": 0.88}},
    "a tiny number": {"AUC": {"Edema": 1.971e-300, "Mass": 0.88}},
    "a whole number with too many digits": {"cells": 10**18},
    "beyond any number": {"cells": 10**400},
    "beyond what can be printed": {"cells": 10**5000},
    "a flag": {"cells": True},
    "a name that is not text": {7: 0.5},
    "two names that read the same": {"AUC": {"Edema": 0.91, "Mass": 0.88, 7: 1, "7": 1}},
    "something else": {"cells": {1, 2}},
}


@pytest.mark.parametrize("change", CARRIERS.values(), ids=CARRIERS.keys())
def test_what_could_carry_records_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_metrics(CONTRACT, {**HONEST, **change})
    assert caught.value.code in ("bad_metrics", "metrics_contract")
    assert len(str(caught.value)) < 500  # an error does not grow with the document


def test_names_that_read_the_same_are_not_taken_for_one() -> None:
    with pytest.raises(InvalidInput, match="given twice"):
        flatten_metrics({7: 1, "7": 2})


def test_100_mb_are_refused_before_they_are_parsed() -> None:
    for load, data in ((load_yaml, b"a: " + b"x" * 100_000_000), (load_json, b"[" * 100_000_000)):
        with pytest.raises(InvalidInput) as caught:
            load(data, label="The metrics", max_bytes=limits.METRICS_BYTES)
        assert caught.value.code == "document_too_large"


@pytest.mark.parametrize("bound", [math.nan, math.inf, True, "1"])
def test_a_bound_is_a_number(bound: Any) -> None:
    with pytest.raises(InvalidInput):
        contract_from_document({"rules": [{"key": "a", "minimum": bound}]})


def test_a_bound_beyond_any_number_is_still_compared() -> None:
    contract = contract_from_document({"rules": [{"key": "a", "minimum": -(10**400)}]})
    assert check_metrics(contract, {"a": 1.5}) == {"a": 1.5}
