"""A benchmark with a dataset and models in it, and what their owners do."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any

from medperf.domain.digests import Digest
from medperf.wire.executions import cube_digest

from .conftest import Person, World

MOMENT = "2026-01-01T00:00:00.000000Z"
#: A time when whoever was alive then is lost.
LONG_AGO = MOMENT
METRICS = {"AUC": {"Edema": 0.75}}


def add_dataset(world: World, owner: int, preparator: int, *, name: str = "data", **changes: Any) -> int:
    """A registered dataset."""
    values = {
        "owner_id": owner,
        "uuid": str(uuid.uuid4()),
        "name": name,
        "name_key": name,
        "description": "",
        "location": "",
        "site_label": f"site of {name}",
        "preparator_id": preparator,
        "identity": identity_of(name),
        "state": "OPERATION",
        "is_valid": True,
        "is_active": True,
        "version": 1,
        "created_at": MOMENT,
        "modified_at": MOMENT,
        **changes,
    }
    return insert(world, "datasets", values)


def identity_of(name: str) -> str:
    """What a dataset of that name is registered with."""
    return Digest.of(f"data {name}".encode())


def associate(
    world: World,
    benchmark: dict[str, Any],
    *,
    dataset: int | None = None,
    model: int | None = None,
    status: str = "APPROVED",
    asked_by: str = "asset",
) -> int:
    """An association as it would be now."""
    table, asset = ("datasets", dataset) if dataset is not None else ("mlcubes", model)
    owner = world.sql(f"SELECT owner_id FROM {table} WHERE id = ?", asset)[0][0]
    theirs = benchmark["owner"]["id"]
    values = {
        "owner_id": theirs,
        "asset_owner_id": owner,
        "maker_id": owner if asked_by == "asset" else theirs,
        "decider_id": theirs if asked_by == "asset" else owner,
        "benchmark_id": benchmark["id"],
        "kind": "dataset" if dataset is not None else "model",
        "dataset_id": dataset,
        "mlcube_id": model,
        "status": status,
        "asked_by": asked_by,
        "asks": 1,
        "is_automatic": False,
        "priority": 0,
        "version": 1,
        "asked_at": MOMENT,
        "modified_at": MOMENT,
    }
    if dataset is not None and (status in ("APPROVED", "REVOKED") or (status, asked_by) == ("PENDING", "asset")):
        world.sql("INSERT INTO opened_datasets VALUES (?, ?, ?)", theirs, dataset, benchmark["id"])
    return insert(world, "associations", values)


def insert(world: World, table: str, values: dict[str, Any]) -> int:
    """A row; returns its id."""
    columns = ", ".join(values)
    marks = ", ".join("(1 = 1)" if value is True else "(1 = 0)" if value is False else "?" for value in values.values())
    parameters = [value for value in values.values() if not isinstance(value, bool)]
    world.sql(f"INSERT INTO {table} ({columns}) VALUES ({marks})", *parameters)
    return int(world.sql(f"SELECT max(id) FROM {table}")[0][0])


@dataclass
class Study:
    """A benchmark of ``bench``, a dataset of ``data``, a model of ``maker``; the dataset and the model are approved in it."""

    world: World
    bench: Person
    data: Person
    maker: Person
    benchmark: dict[str, Any]
    cubes: dict[str, dict[str, Any]]
    dataset: int
    owner: int
    data_name: str = "data"

    @property
    def model(self) -> int:
        return int(self.cubes["model"]["id"])

    def ids(self, **changes: Any) -> dict[str, Any]:
        """The body of POST /executions."""
        return {"benchmark": self.benchmark["id"], "dataset": self.dataset, "model": self.model, **changes}

    def attempt_body(self, **changes: Any) -> dict[str, Any]:
        """The body of POST /executions/{id}/attempts."""
        pins = {part: self.pin(self.cubes[kind]) for part, kind in PARTS.items()}
        return {
            "uuid": str(uuid.uuid4()),
            **self.ids(),
            **pins,
            "identity": identity_of(self.data_name),
            "contract": Digest.of_document(self.benchmark["metrics_contract"]),
            "data_check": "metadata",
            "engine": "sandbox",
            "architecture": "x86_64",
            **changes,
        }

    @staticmethod
    def pin(cube: dict[str, Any]) -> dict[str, Any]:
        files = {name: ref["digest"] for name, ref in cube["files"].items()}
        return {"digest": cube_digest(files), "form": "python", "form_digest": Digest.of(b"wheels")}

    def register(self, person: Person | None = None, **changes: Any) -> int:
        """POST /executions; returns its id."""
        answer = (person or self.data).post("/executions", self.ids(**changes))
        assert answer.status_code in (200, 201), answer.text
        return int(answer.json()["id"])

    def attempt(self, execution: int, person: Person | None = None, **changes: Any) -> int:
        """POST /executions/{id}/attempts; returns its number."""
        body = self.attempt_body(**changes)
        answer = (person or self.data).post(f"/executions/{execution}/attempts", body)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["attempts"][-1]["number"])

    def report(self, execution: int, number: int, state: str, *, person: Person | None = None, **fields: Any) -> Any:
        """PATCH /executions/{id}/attempts/{number}."""
        body = {"execution": execution, "attempt": number, "state": state, **fields}
        return (person or self.data).patch(f"/executions/{execution}/attempts/{number}", body)

    def finish(self, execution: int, number: int, state: str = "COMPLETED", **fields: Any) -> None:
        """RUNNING, and then ``state``."""
        for one, more in (("RUNNING", {}), (state, fields)):
            answer = self.report(execution, number, one, **more)
            assert answer.status_code == 200, answer.text

    def finished(self, state: str = "COMPLETED") -> int:
        """An execution whose first attempt ended so."""
        execution = self.register()
        self.finish(execution, self.attempt(execution), state)
        return execution

    def release_body(self, execution: int, number: int = 1, metrics: Any = None) -> dict[str, Any]:
        """The body of POST /executions/{id}/release."""
        metrics = METRICS if metrics is None else metrics
        return {"uuid": str(uuid.uuid4()), "execution": execution, "attempt": number, "metrics": metrics}

    def release(self, execution: int, number: int = 1, metrics: Any = None, *, person: Person | None = None) -> Any:
        """POST /executions/{id}/release."""
        body = self.release_body(execution, number, metrics)
        return (person or self.data).post(f"/executions/{execution}/release", body)

    def decide(self, execution: int, what: str, number: int = 1, *, person: Person | None = None, **fields: Any) -> Any:
        """POST /executions/{id}/withholding or retraction."""
        body = {"execution": execution, "attempt": number, **fields}
        return (person or self.data).post(f"/executions/{execution}/{what}", body)

    def released(self, metrics: Any = None) -> tuple[int, int]:
        """An execution, and the id of its result."""
        execution = self.finished()
        answer = self.release(execution, metrics=metrics)
        assert answer.status_code == 201, answer.text
        return execution, int(answer.json()["id"])

    def lose(self, execution: int) -> None:
        """Nothing was heard of its open attempt for long."""
        self.world.sql("UPDATE attempts SET heartbeat_at = ? WHERE execution_id = ?", LONG_AGO, execution)

    def show_to(self, whom: str) -> None:
        """The benchmark's policy."""
        self.world.sql("UPDATE benchmarks SET results_visibility = ? WHERE id = ?", whom, self.benchmark["id"])

    def another(self, name: str) -> Study:
        """The same with another dataset."""
        dataset = add_dataset(self.world, self.owner, self.cubes["preparator"]["id"], name=name)
        associate(self.world, self.benchmark, dataset=dataset)
        return replace(self, dataset=dataset, data_name=name)

    def revoke(self, asset: str = "dataset") -> None:
        """The dataset or the model leaves the benchmark."""
        self.world.sql("UPDATE associations SET status = 'REVOKED' WHERE kind = ?", asset)


PARTS = {"preparator": "preparator", "model_cube": "model", "evaluator": "evaluator"}


def make_study(
    world: World, bench: Person, data: Person, maker: Person, *, owner: int | None = None, **fields: Any
) -> Study:
    """All of it. ``owner``: of the dataset, if that is not ``data``; ``fields``: of the benchmark."""
    parts = {kind: bench.make_cube(kind, name=f"{kind} {bench.name}") for kind in ("preparator", "model", "evaluator")}
    benchmark = bench.make_benchmark(name=f"benchmark {bench.name}", cubes=parts, **fields)
    world.approve(benchmark)
    benchmark = bench.get(f"/benchmarks/{benchmark['id']}").json()
    model = maker.make_cube("model", name=f"model {maker.name}")
    owner = data.party if owner is None else owner
    dataset = add_dataset(world, owner, parts["preparator"]["id"])
    associate(world, benchmark, dataset=dataset)
    associate(world, benchmark, model=model["id"])
    return Study(world, bench, data, maker, benchmark, parts | {"model": model}, dataset, owner)
