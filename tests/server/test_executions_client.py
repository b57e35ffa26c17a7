"""The typed client about executions, results and the inbox, against a real server."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from medperf.client.client import MedPerfClient
from medperf.client.http import Transport
from medperf.domain.errors import Conflict, InvalidInput, NotFound
from medperf.domain.executions import AttemptState, Disclosure, FailureClass, ShownState
from medperf.domain.results import CellState
from medperf.wire.executions import (
    AttemptCreate,
    AttemptReport,
    ProgressReport,
    ReleaseCreate,
    RetractionCreate,
    WithholdingCreate,
)
from medperf.wire.inbox import Waiting

from .conftest import Person, World
from .executing import METRICS, Study, make_study
from .real import serving


@pytest.fixture
def study(world: World) -> Study:
    return make_study(world, world.person("bench"), world.person("data"), world.person("maker"))


@pytest.fixture
def url(world: World) -> Iterator[str]:
    with serving(world.settings) as found:
        yield found


def client_of(person: Person, url: str) -> MedPerfClient:
    return MedPerfClient(Transport(url, token=person.token))


def report(client: MedPerfClient, execution: int, attempt: int, *states: AttemptState) -> None:
    for state in states:
        found = client.executions.report(AttemptReport(execution=execution, attempt=attempt, state=state))
        assert found.state.value == state.value


def test_from_registration_to_retraction(study: Study, url: str) -> None:
    data, bench = client_of(study.data, url), client_of(study.bench, url)
    body = AttemptCreate.model_validate(study.attempt_body())
    made = data.executions.register(body)
    assert data.executions.register(body) == made
    assert made.attempt_of(body.uuid).state is ShownState.REGISTERED
    with pytest.raises(Conflict) as refused:
        data.executions.register(body.model_copy(update={"uuid": uuid.uuid4()}))
    assert refused.value.code == "attempt_running"
    report(data, made.id, 1, AttemptState.RUNNING)
    alive = data.executions.progress(ProgressReport(execution=made.id, attempt=1, task="infer", percent=50))
    assert (alive.task, alive.percent) == ("infer", 50)
    report(data, made.id, 1, AttemptState.COMPLETED)
    waiting = data.inbox.get().items
    assert [(item.kind, item.id, item.attempt) for item in waiting] == [(Waiting.REVIEW, made.id, 1)]
    release = ReleaseCreate(uuid=uuid.uuid4(), execution=made.id, attempt=1, metrics=METRICS)
    with pytest.raises(InvalidInput) as broken:
        data.executions.release(release.model_copy(update={"metrics": {"AUC": {"Edema": 7}}}))
    assert broken.value.code == "metrics_contract"
    result = data.executions.release(release)
    assert data.executions.release(release) == result == bench.results.get(result.id)
    assert [found.id for found in bench.results.list(benchmark=study.benchmark["id"])] == [result.id]
    (cell,) = [cell for cell in bench.results.cells(study.benchmark["id"]) if cell.state is not CellState.MISSING]
    assert (cell.site, cell.model_name, cell.metrics) == ("site of data", "model maker", {"AUC.Edema": 0.75})
    retraction = RetractionCreate(execution=made.id, attempt=1, reason="wrong labels")
    gone = data.executions.retract(retraction)
    assert (gone.state, gone.metrics) == (Disclosure.RETRACTED, None)
    found = data.executions.find(benchmark=body.benchmark, dataset=body.dataset, model=body.model)
    assert found is not None
    assert found.state is CellState.RETRACTED
    assert data.executions.find(benchmark=body.benchmark, dataset=body.dataset, model=999) is None


def test_what_fails_and_what_is_withheld(study: Study, url: str) -> None:
    data = client_of(study.data, url)
    body = AttemptCreate.model_validate(study.attempt_body())
    execution = data.executions.register(body).id
    failed = AttemptReport(execution=execution, attempt=1, state=AttemptState.FAILED, failure=FailureClass.FETCH)
    assert data.executions.report(failed).failure is FailureClass.FETCH
    data.executions.add_attempt(execution, body.model_copy(update={"uuid": uuid.uuid4()}))
    report(data, execution, 2, AttemptState.RUNNING, AttemptState.PARTIAL)
    view = data.executions.withhold(WithholdingCreate(execution=execution, attempt=2, reason="too few"))
    assert view.attempts is not None
    assert [attempt.disclosure for attempt in view.attempts] == [None, Disclosure.WITHHELD]
    assert [one.id for one in data.executions.list(owner="me")] == [execution]
    with pytest.raises(NotFound):
        client_of(study.world.person("stranger"), url).executions.get(execution)


def test_every_refusal_reaches_the_person(study: Study, url: str) -> None:
    data = client_of(study.data, url)
    study.revoke("model")
    study.world.sql("UPDATE benchmarks SET is_active = (1 = 0)")
    with pytest.raises(Conflict) as refused:
        data.executions.register(AttemptCreate.model_validate(study.attempt_body()))
    assert refused.value.code == "not_active"
    assert [entry["field"] for entry in refused.value.details["errors"]] == ["not_active", "model_not_associated"]
    assert "The model is REVOKED in this benchmark" in refused.value.what
