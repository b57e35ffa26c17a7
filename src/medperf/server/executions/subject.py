"""What an execution is about, as the rules of `medperf.domain.eligibility` need it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa

from medperf.domain.associations import Status
from medperf.domain.digests import Digest
from medperf.domain.eligibility import Fitness, Refusal, attempt_refusals, release_refusals
from medperf.domain.errors import InternalError
from medperf.domain.states import Approval, State
from medperf.server.associations.tables import associations
from medperf.server.benchmarks.tables import benchmarks
from medperf.server.datasets.tables import datasets
from medperf.server.db import Transaction
from medperf.server.mlcubes.tables import mlcubes
from medperf.wire.executions import AttemptCreate, PinnedCube, cube_digest

_BENCHMARK = sa.select(
    benchmarks.c.id,
    benchmarks.c.owner_id,
    benchmarks.c.state,
    benchmarks.c.approval,
    benchmarks.c.is_valid,
    benchmarks.c.is_active,
    benchmarks.c.preparator_id,
    benchmarks.c.reference_model_id,
    benchmarks.c.evaluator_id,
    benchmarks.c.metrics_contract,
).where(benchmarks.c.id == sa.bindparam("benchmark"))
_DATASET = sa.select(
    datasets.c.id,
    datasets.c.owner_id,
    datasets.c.state,
    datasets.c.is_valid,
    datasets.c.is_active,
    datasets.c.identity,
).where(datasets.c.id == sa.bindparam("dataset"))
_CUBES = (
    sa.select(mlcubes.c.id, mlcubes.c.owner_id, mlcubes.c.state, mlcubes.c.is_valid, mlcubes.c.files, mlcubes.c.forms)
    .where(mlcubes.c.id.in_(sa.bindparam("cubes", expanding=True)))
    .order_by(mlcubes.c.id)
)
_ASSOCIATIONS = (
    sa.select(associations.c.dataset_id, associations.c.mlcube_id, associations.c.status)
    .where(
        associations.c.benchmark_id == sa.bindparam("benchmark"),
        sa.or_(associations.c.dataset_id == sa.bindparam("dataset"), associations.c.mlcube_id == sa.bindparam("model")),
    )
    .order_by(associations.c.id)
)
#: What stays as it is until the transaction ends: in this order, by everybody.
_BENCHMARK_KEPT, _DATASET_KEPT, _CUBES_KEPT, _ASSOCIATIONS_KEPT = (
    statement.with_for_update(read=True) for statement in (_BENCHMARK, _DATASET, _CUBES, _ASSOCIATIONS)
)


@dataclass(frozen=True)
class Subject:
    """Rows of the benchmark, the dataset, and the three MLCubes by their part."""

    benchmark: Any
    dataset: Any
    cubes: dict[str, Any]
    dataset_status: Status | None
    model_status: Status | None

    @property
    def is_reference(self) -> bool:
        """Whether the model is the benchmark's reference model."""
        return bool(self.cubes["model"].id == self.benchmark.reference_model_id)

    def attempt_refusals(self) -> tuple[Refusal, ...]:
        """What stands in the way of an attempt."""
        benchmark, dataset = self.benchmark, self.dataset
        return attempt_refusals(
            benchmark=Fitness(
                f"benchmark {benchmark.id}",
                State(benchmark.state),
                benchmark.is_valid,
                benchmark.is_active,
                Approval(benchmark.approval),
            ),
            dataset=Fitness(f"dataset {dataset.id}", State(dataset.state), dataset.is_valid, dataset.is_active),
            cubes=[Fitness(f"{part} {cube.id}", State(cube.state), cube.is_valid) for part, cube in self.cubes.items()],
            dataset_association=self.dataset_status,
            model_association=self.model_status,
            is_reference=self.is_reference,
        )

    def release_refusals(self) -> tuple[Refusal, ...]:
        """What stands in the way of a release."""
        return release_refusals(self.dataset_status, self.model_status, is_reference=self.is_reference)

    def pin_refusals(self, wanted: AttemptCreate) -> tuple[Refusal, ...]:
        """Where what is about to run is not what is registered."""
        return tuple(self._differing(wanted))

    def _differing(self, wanted: AttemptCreate) -> Iterator[Refusal]:
        if wanted.identity != self.dataset.identity:
            yield Refusal(
                "other_identity",
                f"The data is not what dataset {self.dataset.id} was registered with.",
                "Register the data as it is now as a new dataset: medperf dataset create",
            )
        if wanted.contract != Digest.of_document(orjson.loads(self.benchmark.metrics_contract)):
            yield Refusal(
                "other_contract",
                f"The metrics contract is not that of benchmark {self.benchmark.id}.",
                "Fetch the benchmark again, and run.",
            )
        pins = {"preparator": wanted.preparator, "model": wanted.model_cube, "evaluator": wanted.evaluator}
        for part, pin in pins.items():
            if not _fits(pin, self.cubes[part]):
                yield Refusal(
                    "other_cube",
                    f"The files or the form of the {part} are not those that MLCube {self.cubes[part].id} is registered with.",
                    "Fetch the MLCube again, and run.",
                )


async def subject(tx: Transaction, benchmark: int, dataset: int, model: int, *, keep: bool) -> Subject:
    """All that an execution of these is about; they are there. ``keep``: it stays so until the (write) transaction ends."""
    values = {"benchmark": benchmark, "dataset": dataset, "model": model}
    its_benchmark = await tx.first(_BENCHMARK_KEPT if keep else _BENCHMARK, {"benchmark": benchmark})
    its_dataset = await tx.first(_DATASET_KEPT if keep else _DATASET, {"dataset": dataset})
    if its_benchmark is None or its_dataset is None:
        raise InternalError("no_such_subject", f"Benchmark {benchmark} or dataset {dataset} is gone.")
    parts = {"preparator": its_benchmark.preparator_id, "model": model, "evaluator": its_benchmark.evaluator_id}
    rows = await tx.all(_CUBES_KEPT if keep else _CUBES, {"cubes": sorted(set(parts.values()))})
    cubes = {row.id: row for row in rows}
    joined: Sequence[Any] = await tx.all(_ASSOCIATIONS_KEPT if keep else _ASSOCIATIONS, values)
    return Subject(
        its_benchmark,
        its_dataset,
        {part: cubes[cube_id] for part, cube_id in parts.items()},
        next((Status(row.status) for row in joined if row.dataset_id == dataset), None),
        next((Status(row.status) for row in joined if row.mlcube_id == model), None),
    )


def _fits(pin: PinnedCube, cube: Any) -> bool:
    files = {name: ref["digest"] for name, ref in orjson.loads(cube.files).items()}
    return pin.digest == cube_digest(files) and pin.form in orjson.loads(cube.forms)
