"""What must hold before a thing joins a benchmark, before an attempt is registered, and before metrics are released.

Each function finds everything that stands in the way at once, so that a plan can show it all; `refuse` makes it an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from medperf.domain.associations import Asset, Status
from medperf.domain.errors import Conflict
from medperf.domain.states import Approval, State


class Refusal(NamedTuple):
    """One thing that stands in the way, as an error says it."""

    code: str
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Fitness:
    """What counts of one benchmark, dataset or MLCube.

    Args:
        name: for sentences, e.g. ``"benchmark 1"``.
        approval: of a benchmark; None for what is not approved by an admin.
    """

    name: str
    state: State
    is_valid: bool = True
    is_active: bool = True
    approval: Approval | None = None

    def refusals(self) -> Iterable[Refusal]:
        """Why nothing may be done with it now."""
        name = _begin(self.name)
        if self.state is not State.OPERATION:
            yield Refusal("not_in_operation", f"{name} is in DEVELOPMENT.", "Its owner puts it in OPERATION first.")
        if self.approval is not None and self.approval is not Approval.APPROVED:
            yield Refusal(
                "not_approved", f"{name} is {self.approval.value}.", "An admin of the server approves it first."
            )
        if not self.is_valid:
            yield Refusal("not_valid", f"{name} is marked as not valid.", "Ask its owner, or take a newer version.")
        if not self.is_active:
            yield Refusal("not_active", f"{name} is not active.", "Its owner activates it again.")


def join_refusals(benchmark: Fitness, asset: Fitness, *, same_preparator: bool = True) -> tuple[Refusal, ...]:
    """What stands in the way of asking for an association.

    Args:
        same_preparator: of a dataset: it was made by this benchmark's preparator. True for models.
    """
    found = [*benchmark.refusals(), *asset.refusals()]
    if not same_preparator:
        found.append(
            Refusal(
                "other_preparator",
                f"{_begin(asset.name)} was not prepared by the preparator of {benchmark.name}.",
                "Prepare it for this benchmark with: medperf dataset create -b",
            )
        )
    return tuple(found)


def attempt_refusals(
    *,
    benchmark: Fitness,
    dataset: Fitness,
    cubes: Sequence[Fitness],
    dataset_association: Status | None,
    model_association: Status | None,
    is_reference: bool,
) -> tuple[Refusal, ...]:
    """What stands in the way of registering an attempt, at the server. That the site accepted the model is the site's own matter.

    Args:
        cubes: preparator, model and evaluator.
        dataset_association, model_association: in this benchmark; None = never asked for.
        is_reference: the model is the benchmark's reference model, which needs no association.
    """
    things = [benchmark, dataset, *cubes]
    found = [refusal for thing in things for refusal in thing.refusals()]
    return (*found, *release_refusals(dataset_association, model_association, is_reference=is_reference))


def release_refusals(
    dataset_association: Status | None, model_association: Status | None, *, is_reference: bool
) -> tuple[Refusal, ...]:
    """What stands in the way of releasing metrics: both must still be in the benchmark. Withholding and retracting need nothing."""
    wanted = [(Asset.DATASET, dataset_association)]
    if not is_reference:
        wanted.append((Asset.MODEL, model_association))
    return tuple(_not_joined(asset, status) for asset, status in wanted if status is not Status.APPROVED)


def refuse(refusals: Sequence[Refusal]) -> None:
    """Raises:
    Conflict: the first refusal; all of them are in its details.
    """
    if refusals:
        first = refusals[0]
        details = {"refusals": [refusal._asdict() for refusal in refusals]}
        raise Conflict(first.code, first.what, first.fix, details=details)


def _begin(name: str) -> str:
    return name[:1].upper() + name[1:]


def _not_joined(asset: Asset, status: Status | None) -> Refusal:
    command = "dataset" if asset is Asset.DATASET else "mlcube"
    if status is None or status.has_ended:
        how = "is not in this benchmark, and nobody asked" if status is None else f"is {status.value} in this benchmark"
        return Refusal(
            f"{asset.value}_not_associated",
            f"The {asset.value} {how}.",
            f"Ask with: medperf {command} associate",
        )
    return Refusal(
        f"{asset.value}_not_associated",
        f"The {asset.value} waits to be approved in this benchmark.",
        "The side that was asked approves it with: medperf association approve",
    )
