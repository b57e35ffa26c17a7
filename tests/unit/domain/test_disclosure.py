"""What leaves a site: the list is closed, each field holds what it may, and nothing else passes."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medperf.domain import limits
from medperf.domain.disclosure import RULES, Consent, Exit, Field, Setting, Shape, check_exit
from medperf.domain.errors import InvalidInput

DIGEST = f"sha256:{'a' * 64}"
GOOD: dict[Shape, Any] = {
    Shape.ID: 7,
    Shape.UUID: str(uuid.UUID(int=5)),
    Shape.FLAG: True,
    Shape.PERCENT: 42,
    Shape.DIGEST: DIGEST,
    Shape.LINE: "Hospital A",
    Shape.TEXT: "Two\nlines",
    Shape.CONTRACT: {"AUC": {"Edema": 0.9}},
}
SECRETS = [
    "case_0017.dcm",
    "/data/patients/doe.nii",
    "Traceback (most recent call last):\n  File",
    "Jane Doe 1950-01-01",
]
BAD: dict[Shape, list[Any]] = {
    Shape.ID: [0, -1, True, 1.0, "1", limits.ID_MAX + 1, [1], {"a": 1}, *SECRETS],
    Shape.UUID: [5, "x", str(uuid.UUID(int=5)).replace("-", ""), f"{{{uuid.UUID(int=5)}}}", *SECRETS],
    Shape.FLAG: [0, 1, "true", [], *SECRETS],
    Shape.PERCENT: [-1, 101, 1.5, True, "50", *SECRETS],
    Shape.DIGEST: ["a" * 64, DIGEST.upper(), f" {DIGEST}", "sha256:", 5, *SECRETS],
    Shape.WORD: ["", 5, True, ["COMPLETED"], *SECRETS],
    Shape.LINE: [5, "a\nb", "a\rb", "a\u2028b", "a\x85b", "a\0b", "a\ud800b", "x" * 2000, ["x"], {"x": "y"}],
    Shape.TEXT: [5, "a\0b", "a\x1bb", "a\ud800b", "x" * 2000, ["x"]],
    Shape.CONTRACT: [5, "text", [1, 2], *SECRETS],
}
FIELDS = [(way, field) for way, rule in RULES.items() for field in rule.fields]


def named(case: tuple[Exit, Field]) -> str:
    return f"{case[0].value}:{case[1].name}"


def body_of(name: str, value: Any) -> dict[str, Any]:
    """``a.b`` as a body: ``{"a": {"b": value}}``."""
    head, _, rest = name.partition(".")
    return {head: body_of(rest, value) if rest else value}


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    both = {**one, **other}
    for key in one.keys() & other.keys():
        both[key] = merged(one[key], other[key])
    return both


def good(field: Field) -> Any:
    return min(field.words) if field.shape is Shape.WORD else GOOD[field.shape]


def full(way: Exit) -> dict[str, Any]:
    """A body with every field of that way out."""
    found: dict[str, Any] = {}
    for field in RULES[way].fields:
        found = merged(found, body_of(field.name, good(field)))
    return found


def refused(way: Exit, body: dict[str, Any]) -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        check_exit(way, body)
    return caught.value


def test_the_list() -> None:
    """Whoever adds a way or a field changes this test, and so thinks twice."""
    described = {"name", "description", "location", "site_label", "state"}
    pinned = {
        f"{cube}.{what}"
        for cube in ("preparator", "model_cube", "evaluator")
        for what in ("digest", "form_digest", "form")
    }
    which = {"execution", "attempt"}
    assert {way.value: set(rule.names) for way, rule in RULES.items()} == {
        "dataset_registration": described | {"uuid", "owner", "preparator", "supersedes", "identity", "raw_identity"},
        "dataset_update": described | {"dataset", "is_valid", "is_active", "identity"},
        "association": {"uuid", "benchmark", "dataset", "preparator", "identity", "statistics_digest"},
        "association_approval": {"association", "status", "reason"},
        "association_end": {"association", "status", "reason"},
        "execution": pinned
        | {"uuid", "benchmark", "dataset", "model", "reason", "identity", "contract"}
        | {"data_check", "engine", "architecture"},
        "attempt_state": which | {"state", "failure", "task"},
        "progress": which | {"dataset", "task", "percent"},
        "statistics": {"dataset", "benchmark", "statistics"},
        "metrics": which | {"uuid", "metrics"},
        "withholding": which | {"reason"},
        "retraction": which | {"reason"},
    }
    assert set(RULES) == set(Exit)


def test_every_line_says_who_agrees() -> None:
    for way, rule in RULES.items():
        assert rule.says
        assert (rule.setting is not None) == (rule.consent is Consent.BY_POLICY), way
        assert len(set(rule.names)) == len(rule.names)
    assert {rule.setting for rule in RULES.values() if rule.setting} == set(Setting)
    always = {way for way, rule in RULES.items() if rule.consent is Consent.ALWAYS_ASK}
    assert always == {Exit.WITHHOLDING, Exit.RETRACTION}
    automatic = {way for way, rule in RULES.items() if rule.consent is Consent.AUTOMATIC}
    assert automatic == {Exit.PROGRESS, Exit.ASSOCIATION_END}


def test_nothing_automatic_holds_what_a_person_or_container_wrote() -> None:
    for way, rule in RULES.items():
        if rule.consent is Consent.AUTOMATIC:
            written = {field.name for field in rule.fields if field.shape in (Shape.LINE, Shape.TEXT)}
            # The reason for ending an association is typed with the very command that ends it.
            assert written <= ({"reason"} if way is Exit.ASSOCIATION_END else set())
            assert not {field.shape for field in rule.fields} & {Shape.CONTRACT, Shape.DIGEST}


def test_joining_and_ending_are_not_the_same() -> None:
    """What ends an association goes unasked; it can never be used to say yes."""
    for status in ("PENDING", "APPROVED"):
        assert refused(Exit.ASSOCIATION_END, {"association": 1, "status": status}).code == "bad_disclosure"
    for status in ("PENDING", "REJECTED", "CANCELLED", "REVOKED"):
        assert refused(Exit.ASSOCIATION_APPROVAL, {"association": 1, "status": status}).code == "bad_disclosure"


def test_free_text_leaves_only_in_what_people_type() -> None:
    texts = {field.name for _, field in FIELDS if field.shape in (Shape.LINE, Shape.TEXT)}
    assert texts == {"name", "description", "location", "site_label", "reason"}
    contracts = {(way.value, field.name) for way, field in FIELDS if field.shape is Shape.CONTRACT}
    assert contracts == {("statistics", "statistics"), ("metrics", "metrics")}


@pytest.mark.parametrize("way", Exit)
def test_whole_and_partial_bodies_pass(way: Exit) -> None:
    check_exit(way, {})
    check_exit(way, full(way))
    for field in RULES[way].fields:
        check_exit(way, body_of(field.name, good(field)))
        check_exit(way, body_of(field.name, None))
        for word in field.words:
            check_exit(way, body_of(field.name, word))


@pytest.mark.parametrize("case", FIELDS, ids=map(named, FIELDS))
def test_what_a_field_may_not_hold(case: tuple[Exit, Field]) -> None:
    way, field = case
    for value in BAD[field.shape]:
        changed = body_of(field.name, value)
        error = refused(way, changed if "." in field.name else {**full(way), **changed})
        assert error.code in ("bad_disclosure", "not_disclosed")
        if value in SECRETS:
            assert str(value) not in str(error)


@pytest.mark.parametrize("way", Exit)
@pytest.mark.parametrize(
    "stray",
    [
        {"log": "x"},
        {"case_0017": 1},
        {"case_0017.dcm": 1},
        {"": 1},
        {"metrics_": {}},
        {"preparator.digest": DIGEST},
        {"preparator": {}},
        {"preparator": {"digest": DIGEST, "path": "/data"}},
        {"preparator": {"digest": {"x": DIGEST}}},
        {"model_cube": [DIGEST]},
        {"identity": {"root": DIGEST}},
        {"extra": None},
        {5: 1},
    ],
    ids=str,
)
def test_strays(way: Exit, stray: dict[Any, Any]) -> None:
    """Of every way, beside what is fine, and without its name in the error: it may be a patient's."""
    error = refused(way, {**full(way), **stray})
    assert "case_0017" not in str(error) + str(error.details)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = sorted({part for _, field in FIELDS for part in field.name.split(".")})


@given(st.sampled_from(Exit), st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=6), JSON, max_size=4))
def test_what_passes_holds_only_what_is_listed(way: Exit, body: dict[str, Any]) -> None:
    """Found by another way than the check's: the body is taken apart field by field until nothing is left."""
    try:
        check_exit(way, body)
    except InvalidInput:
        return
    for field in RULES[way].fields:
        *above, last = field.name.split(".")
        place: Any = body
        for key in above:
            place = place.get(key, {}) if isinstance(place, dict) else {}
        if isinstance(place, dict):
            place.pop(last, None)
    assert all(value == {} and key in {"preparator", "model_cube", "evaluator"} for key, value in body.items())
