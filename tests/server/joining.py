"""Datasets and associations, as tests make them again and again."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

from medperf.domain.digests import Digest
from medperf.wire.datasets import statistics_digest

from .conftest import Person, World, report_of

STATISTICS = {"cases": 7}
_numbers = itertools.count(1)


def dataset_body(preparator: int, *, name: str | None = None, **changes: Any) -> dict[str, Any]:
    """A valid body of POST /datasets, of data that nobody has."""
    number = next(_numbers)
    return {
        "uuid": str(uuid.uuid4()),
        "name": name or f"dataset {number}",
        "site_label": f"site {number}",
        "preparator": preparator,
        "identity": Digest.of(f"data {number}".encode()),
        **changes,
    }


def make_dataset(
    person: Person, preparator: int, *, statistics: dict[str, Any] | None = STATISTICS, **changes: Any
) -> dict[str, Any]:
    """A registered dataset with statistics; ``statistics`` None: without."""
    made = person.post("/datasets", dataset_body(preparator, **changes))
    assert made.status_code == 201, made.text
    if statistics is None:
        return dict(made.json())
    body = {"dataset": made.json()["id"], "statistics": statistics}
    answer = person.send("PUT", f"/datasets/{body['dataset']}/statistics", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def asks_with_dataset(dataset: dict[str, Any], benchmark: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A body of POST /associations."""
    return {
        "uuid": str(uuid.uuid4()),
        "benchmark": benchmark["id"],
        "dataset": dataset["id"],
        "preparator": dataset["preparator"],
        "identity": dataset["identity"],
        "statistics_digest": dataset["statistics_digest"] or str(statistics_digest({})),
        **changes,
    }


def model_report(benchmark: dict[str, Any], model: dict[str, Any]) -> dict[str, Any]:
    """The report of a compatibility test of that model: the benchmark's own with another model."""
    return dict(benchmark["report"], model=report_of(model))


def asks_with_model(model: dict[str, Any], benchmark: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A body of POST /associations."""
    return {
        "uuid": str(uuid.uuid4()),
        "benchmark": benchmark["id"],
        "model": model["id"],
        "report": model_report(benchmark, model),
        **changes,
    }


def invites(benchmark: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A body of POST /benchmarks/{id}/invitations."""
    return {"uuid": str(uuid.uuid4()), **fields}


def ask(person: Person, body: dict[str, Any]) -> dict[str, Any]:
    """What was asked for."""
    answer = person.post("/associations", body)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def decide(person: Person, association: dict[str, Any], status: str, **fields: Any) -> Any:
    """The answer to a decision."""
    return person.post(f"/associations/{association['id']}/decision", {"status": status, **fields})


def open_benchmark(world: World, maker: Person, **changes: Any) -> dict[str, Any]:
    """An approved benchmark, with its report."""
    made = maker.make_benchmark(**changes)
    world.approve(made)
    return dict(maker.get(f"/benchmarks/{made['id']}").json())


def join_dataset(person: Person, owner: Person, benchmark: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An approved association of a new dataset."""
    dataset = make_dataset(person, benchmark["preparator"], **changes)
    asked = ask(person, asks_with_dataset(dataset, benchmark))
    return asked if asked["status"] == "APPROVED" else dict(decide(owner, asked, "APPROVED").json())


def join_model(person: Person, owner: Person, benchmark: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """An approved association of a new model."""
    asked = ask(person, asks_with_model(person.make_cube("model", **changes), benchmark))
    return asked if asked["status"] == "APPROVED" else dict(decide(owner, asked, "APPROVED").json())
