"""What stands in the way of joining, running and releasing, all of it at once."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from medperf.domain.associations import Status
from medperf.domain.eligibility import Fitness, Refusal, attempt_refusals, join_refusals, refuse, release_refusals
from medperf.domain.errors import Conflict
from medperf.domain.states import Approval, State

BENCHMARK = Fitness("benchmark 1", State.OPERATION, approval=Approval.APPROVED)
DATASET = Fitness("dataset 2", State.OPERATION)
CUBES = [Fitness(f"MLCube {number}", State.OPERATION) for number in (3, 4, 5)]
FAULTS = {
    "not_in_operation": {"state": State.DEVELOPMENT},
    "not_valid": {"is_valid": False},
    "not_active": {"is_active": False},
}
OF_BENCHMARKS = {"not_approved": {"approval": Approval.PENDING}}


def codes(refusals: tuple[Refusal, ...]) -> list[str]:
    assert all(found.what.endswith(".") and found.fix for found in refusals)
    return [found.code for found in refusals]


def attempt_codes(
    *,
    benchmark: Fitness = BENCHMARK,
    dataset: Fitness = DATASET,
    cubes: list[Fitness] = CUBES,
    data: Status | None = Status.APPROVED,
    model: Status | None = Status.APPROVED,
    is_reference: bool = False,
) -> list[str]:
    return codes(
        attempt_refusals(
            benchmark=benchmark,
            dataset=dataset,
            cubes=cubes,
            dataset_association=data,
            model_association=model,
            is_reference=is_reference,
        )
    )


def test_what_is_fit_passes() -> None:
    assert join_refusals(BENCHMARK, DATASET) == ()
    assert attempt_codes() == []
    refuse(())


@pytest.mark.parametrize("code", [*FAULTS, *OF_BENCHMARKS])
def test_each_fault_of_each_thing(code: str) -> None:
    change = {**FAULTS, **OF_BENCHMARKS}[code]
    unfit = replace(BENCHMARK, **change)
    assert codes(join_refusals(unfit, DATASET)) == attempt_codes(benchmark=unfit) == [code]
    if code in FAULTS:
        assert codes(join_refusals(BENCHMARK, replace(DATASET, **change))) == [code]
        assert attempt_codes(dataset=replace(DATASET, **change)) == [code]
        for index in range(3):
            cubes = [replace(cube, **change) if place == index else cube for place, cube in enumerate(CUBES)]
            assert attempt_codes(cubes=cubes) == [code]
            assert (
                f"MLCube {index + 3}"
                in attempt_refusals(
                    benchmark=BENCHMARK,
                    dataset=DATASET,
                    cubes=cubes,
                    dataset_association=Status.APPROVED,
                    model_association=Status.APPROVED,
                    is_reference=False,
                )[0].what
            )


def test_a_rejected_benchmark_is_not_approved_either() -> None:
    assert attempt_codes(benchmark=replace(BENCHMARK, approval=Approval.REJECTED)) == ["not_approved"]


@pytest.mark.parametrize(("data", "model"), list(itertools.product([None, *Status], [None, *Status])))
@pytest.mark.parametrize("is_reference", [False, True])
def test_who_must_be_in_the_benchmark(data: Status | None, model: Status | None, is_reference: bool) -> None:
    expected = []
    if data is not Status.APPROVED:
        expected.append("dataset_not_associated")
    if model is not Status.APPROVED and not is_reference:
        expected.append("model_not_associated")
    assert attempt_codes(data=data, model=model, is_reference=is_reference) == expected
    assert codes(release_refusals(data, model, is_reference=is_reference)) == expected


def test_another_preparator() -> None:
    assert codes(join_refusals(BENCHMARK, DATASET, same_preparator=False)) == ["other_preparator"]


def test_everything_is_said_at_once() -> None:
    bad = Fitness("benchmark 1", State.DEVELOPMENT, is_valid=False, is_active=False, approval=Approval.PENDING)
    found = join_refusals(bad, replace(DATASET, is_active=False), same_preparator=False)
    assert len(codes(found)) == 6
    with pytest.raises(Conflict) as caught:
        refuse(found)
    assert caught.value.code == "not_in_operation"
    assert [entry["code"] for entry in caught.value.details["refusals"]] == codes(found)
