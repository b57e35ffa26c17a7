"""What the server says now about a benchmark, a dataset and models in it, and what of that stands in the way of running them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medperf.domain.associations import Asset, Ranked, Status, run_order
from medperf.domain.eligibility import Fitness, Refusal, attempt_refusals
from medperf.domain.errors import Conflict, MedPerfError, NotFound
from medperf.flows.site import Site

if TYPE_CHECKING:
    from medperf.wire.datasets import DatasetView
    from medperf.wire.models import BenchmarkView, MLCubeView


@dataclass(frozen=True)
class Standing:
    """One look at the server.

    Attributes:
        dataset_status: of its association; None: never asked for.
        priorities: of the models that are approved in the benchmark; the reference model is in it too.
        approved: those that joined by an association.
        cubes: preparator, evaluator and the models that were looked up, by id.
        unknown: models that the account does not see.
    """

    benchmark: BenchmarkView
    dataset: DatasetView
    dataset_status: Status | None
    priorities: Mapping[int, int]
    approved: frozenset[int]
    cubes: Mapping[int, MLCubeView]
    unknown: Mapping[int, MedPerfError] = field(default_factory=dict)

    @property
    def models(self) -> list[int]:
        """All that a site may be asked to run, in the order they run."""
        return run_order(Ranked(model, priority) for model, priority in self.priorities.items())

    def is_reference(self, model: int) -> bool:
        """Whether it is the benchmark's reference model, which needs no association."""
        return model == self.benchmark.reference_model

    def common(self) -> tuple[MedPerfError, ...]:
        """What stands in the way of every model."""
        return self._errors(self._refusals(None), None)

    def refusals(self, model: int) -> tuple[MedPerfError, ...]:
        """What stands in the way of this model alone."""
        if model in self.unknown:
            return (self.unknown[model],)
        common = set(self._refusals(None))
        return self._errors((refusal for refusal in self._refusals(model) if refusal not in common), model)

    def _errors(self, refusals: Iterable[Refusal], model: int | None) -> tuple[MedPerfError, ...]:
        """As errors, whose commands name what they are about."""
        asset = f"-d {self.dataset.id}" if model is None else f"-m {model}"
        words = f" -b {self.benchmark.id} {asset}"
        return tuple(
            Conflict(one.code, one.what, one.fix + words if one.code.endswith("_not_associated") else one.fix)
            for one in refusals
        )

    def _refusals(self, model: int | None) -> tuple[Refusal, ...]:
        benchmark, dataset = self.benchmark, self.dataset
        parts = {"preparator": benchmark.preparator, "evaluator": benchmark.evaluator}
        if model is not None:
            parts["model"] = model
        return attempt_refusals(
            benchmark=Fitness(
                f"benchmark {benchmark.id}",
                benchmark.state,
                benchmark.is_valid,
                benchmark.is_active,
                benchmark.approval,
            ),
            dataset=Fitness(f"dataset {dataset.id}", dataset.state, dataset.is_valid, dataset.is_active),
            cubes=[
                Fitness(f"{part} {number}", self.cubes[number].state, self.cubes[number].is_valid)
                for part, number in parts.items()
            ],
            dataset_association=self.dataset_status,
            model_association=Status.APPROVED if model in self.approved else None,
            is_reference=model is None or self.is_reference(model),
        )


def look_up(site: Site, benchmark: BenchmarkView, dataset_id: int, models: Iterable[int] | None) -> Standing:
    """Ask the server.

    Args:
        models: whose MLCubes are looked up; None: all that are approved, and the reference model.

    Raises:
        NotFound: the dataset, the preparator or the evaluator is hidden from the account.
    """
    dataset = site.api.datasets.get(dataset_id)
    own = (one for one in site.api.associations.list(dataset=dataset_id) if one.benchmark == benchmark.id)
    status = next((one.status for one in own), None)
    joined = site.api.associations.list(benchmark=benchmark.id, kind=Asset.MODEL.value, status=Status.APPROVED.value)
    approved = {one.asset: one.priority for one in joined}
    priorities = {benchmark.reference_model: 0, **approved}
    cubes: dict[int, MLCubeView] = {}
    unknown: dict[int, MedPerfError] = {}
    for number in (benchmark.preparator, benchmark.evaluator):
        cubes[number] = site.api.mlcubes.get(number)
    for number in priorities if models is None else models:
        try:
            cubes[number] = site.api.mlcubes.get(number)
        except NotFound as error:
            unknown[number] = error
    return Standing(benchmark, dataset, status, priorities, frozenset(approved), cubes, unknown)
