"""Digests, identity of data, step keys and state machines, as properties."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medperf.domain.digests import Digest, canonical_json
from medperf.domain.errors import Conflict, InvalidInput
from medperf.domain.identity import DataEntry, commitment, identity_root
from medperf.domain.numbers import whole_number
from medperf.domain.states import Approval, State, check_approval, check_editable, check_state_change
from medperf.domain.steps import StepInputs

hexes = st.binary(min_size=32, max_size=32).map(bytes.hex)
paths = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)
entries = st.builds(DataEntry, paths, st.integers(0, 10**9), hexes.map(lambda text: f"sha256:{text}"))


@given(hexes)
def test_digest_accepts_both_spellings(text: str) -> None:
    assert Digest(text) == Digest(f"sha256:{text.upper()}") == f"sha256:{text}"


@pytest.mark.parametrize(
    "text", ["", "abc", "md5:" + "0" * 64, "sha256:" + "g" * 64, "sha256:" + "0" * 63, "../" + "0" * 64]
)
def test_bad_digests(text: str) -> None:
    with pytest.raises(InvalidInput):
        Digest(text)


def test_canonical_json_refuses_nan() -> None:
    with pytest.raises(ValueError):
        canonical_json({"a": float("nan")})


def _identity_or_none(found: list[DataEntry]) -> Digest | None:
    try:
        return identity_root(found)
    except InvalidInput:
        return None


@given(st.lists(entries, max_size=8), st.randoms())
def test_identity_does_not_depend_on_order(found: list[DataEntry], random: object) -> None:
    shuffled = list(found)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert _identity_or_none(found) == _identity_or_none(shuffled)


@given(st.lists(entries, min_size=1, max_size=6, unique_by=lambda entry: entry.path), st.data())
def test_identity_notices_every_change(found: list[DataEntry], data: st.DataObject) -> None:
    before = _identity_or_none(found)
    index = data.draw(st.integers(0, len(found) - 1))
    entry = found[index]
    changes = {
        "renamed": [*found[:index], entry._replace(path=entry.path + "x"), *found[index + 1 :]],
        "resized": [*found[:index], entry._replace(size=(entry.size or 0) + 1), *found[index + 1 :]],
        "rewritten": [*found[:index], entry._replace(digest=f"sha256:{'0' * 64}"), *found[index + 1 :]],
        "removed": [*found[:index], *found[index + 1 :]],
        "emptied": [*found[:index], DataEntry(entry.path, None, None), *found[index + 1 :]],
    }
    for name, after in changes.items():
        if after != found and before is not None:
            assert _identity_or_none(after) != before, name


def test_swapping_two_files_is_noticed() -> None:
    one, two = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"
    assert identity_root([DataEntry("a", 1, one), DataEntry("b", 1, two)]) != identity_root(
        [DataEntry("a", 1, two), DataEntry("b", 1, one)]
    )


def test_unicode_spellings_of_one_name_collide() -> None:
    entry = DataEntry("é", 1, f"sha256:{'1' * 64}")
    assert identity_root([entry]) == identity_root([entry._replace(path="é")])
    with pytest.raises(InvalidInput, match="same name"):
        identity_root([entry, entry._replace(path="é")])


def test_commitment_hides_the_root() -> None:
    root = Digest.of(b"x")
    assert commitment(b"1" * 32, root) != commitment(b"2" * 32, root) != root
    with pytest.raises(ValueError):
        commitment(b"short", root)


def test_every_field_enters_the_step_key() -> None:
    base = StepInputs(
        task="infer",
        cube={"a": "1"},
        form="python",
        form_digests={"b": "2"},
        inputs={"c": "3"},
        engine="sandbox",
        architecture="x",
    )
    other = {
        "task": "evaluate",
        "cube": {"a": "2"},
        "form": "oci",
        "form_digests": {},
        "inputs": {"c": "4"},
        "engine": "docker",
        "architecture": "y",
        "devices": ("0",),
    }
    assert set(other) == {field.name for field in fields(StepInputs)}
    keys = {replace(base, **{name: value}).key for name, value in other.items()}
    assert len(keys | {base.key}) == len(other) + 1


def test_operation_is_final() -> None:
    check_state_change(State.DEVELOPMENT, State.OPERATION)
    with pytest.raises(Conflict):
        check_state_change(State.OPERATION, State.DEVELOPMENT)
    check_editable("mlcube", State.DEVELOPMENT, {"name": "x"})
    check_editable("mlcube", State.OPERATION, {"is_valid": False})
    with pytest.raises(Conflict, match="name"):
        check_editable("mlcube", State.OPERATION, {"name": "x"})


@given(st.sampled_from(Approval), st.sampled_from(Approval), st.sampled_from(State))
def test_a_benchmark_in_operation_is_decided_about_once(current: Approval, wanted: Approval, state: State) -> None:
    if wanted is not Approval.PENDING and state is State.OPERATION and current is Approval.PENDING:
        check_approval(current, wanted, state=state)
    else:
        with pytest.raises((Conflict, InvalidInput)):
            check_approval(current, wanted, state=state)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("42", 42),
        ("007", 7),
        ("9" * 18, 10**18 - 1),
        ("9" * 19, None),
        ("", None),
        ("-1", None),
        (" 1", None),
        ("1.0", None),
        ("\u0663", None),
    ],
)
def test_whole_numbers(text: str, number: int | None) -> None:
    assert whole_number(text) == number
