"""The changes of datasets and associations, for the tests of audit events: what people write in them is full of a canary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .audit_executions import WORDS
from .joining import (
    STATISTICS,
    ask,
    asks_with_dataset,
    asks_with_model,
    dataset_body,
    decide,
    invites,
    make_dataset,
    open_benchmark,
)

Request = Callable[[], Any]


def benchmark_of(cast: Any) -> dict[str, Any]:
    """An approved benchmark of Alice, the same each time."""
    if not hasattr(cast, "open_benchmark"):
        cast.open_benchmark = open_benchmark(cast.world, cast.alice, name=cast.fresh("benchmark"))
    found: dict[str, Any] = cast.open_benchmark
    return found


def described(cast: Any) -> dict[str, str]:
    """What people write of a dataset."""
    return {name: cast.fresh(name) for name in ("name", "description", "location", "site_label")}


def dataset_of(cast: Any, **changes: Any) -> dict[str, Any]:
    """A new dataset of Bob."""
    return make_dataset(cast.bob, benchmark_of(cast)["preparator"], **described(cast), **changes)


def model_that_asked(cast: Any) -> dict[str, Any]:
    """The association of a new model of Bob."""
    model = cast.bob.make_cube("model", name=cast.fresh("model"), upload=False)
    return ask(cast.bob, asks_with_model(model, benchmark_of(cast)))


def create_dataset(cast: Any) -> Request:
    body = dataset_body(benchmark_of(cast)["preparator"], **described(cast))
    return lambda: cast.bob.post("/datasets", body)


def update_dataset(cast: Any) -> Request:
    made = dataset_of(cast)
    return lambda: cast.bob.patch(f"/datasets/{made['id']}", {"site_label": cast.fresh("label")}, made["version"])


def set_statistics(cast: Any) -> Request:
    made = dataset_of(cast, statistics=None)
    body = {"dataset": made["id"], "statistics": STATISTICS}
    return lambda: cast.bob.send("PUT", f"/datasets/{made['id']}/statistics", json=body)


def ask_to_join(cast: Any) -> Request:
    body = asks_with_dataset(dataset_of(cast), benchmark_of(cast))
    return lambda: cast.bob.post("/associations", body)


def invite(cast: Any) -> Request:
    path, body = f"/benchmarks/{benchmark_of(cast)['id']}/invitations", invites(dataset=dataset_of(cast)["id"])
    return lambda: cast.alice.post(path, body)


def set_priority(cast: Any) -> Request:
    made = decide(cast.alice, model_that_asked(cast), "APPROVED").json()
    return lambda: cast.alice.patch(f"/associations/{made['id']}", {"priority": 7}, made["version"])


def decide_association(cast: Any) -> Request:
    made = model_that_asked(cast)
    return lambda: decide(cast.alice, made, "REJECTED", reason=WORDS)


CHANGES: dict[str, Callable[[Any], Request]] = {
    "POST /datasets": create_dataset,
    "PATCH /datasets/{dataset_id}": update_dataset,
    "PUT /datasets/{dataset_id}/statistics": set_statistics,
    "POST /associations": ask_to_join,
    "POST /benchmarks/{benchmark_id}/invitations": invite,
    "PATCH /associations/{association_id}": set_priority,
    "POST /associations/{association_id}/decision": decide_association,
}
