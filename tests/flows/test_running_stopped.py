"""Runs that may not go on, models that the site did not accept, and a server that does not hear."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from medperf.domain.errors import Conflict, Forbidden, MedPerfError
from medperf.domain.events import Event, StepStarted
from medperf.domain.executions import AttemptState, FailureClass, ShownState
from medperf.domain.permissions import Right
from medperf.domain.sitepolicy import TaskLimits
from medperf.flows.accepting import BY_POLICY, accept_model, list_accepted
from medperf.flows.egress import list_egress
from medperf.flows.organisations import create_organisation, set_rights
from medperf.flows.running import RunRequest, plan_run, run_models
from medperf.flows.site import Site
from medperf.wire.executions import AttemptCreate, AttemptReport
from medperf.wire.models import BenchmarkUpdate, MLCubeUpdate
from medperf.workspace.runs import LocalRun

from .cutting import CuttingProxy, Direction
from .dataset_site import Person
from .running_site import AUTOMATIC, Bench, Watching, join, revoke, write_policy

SOON = 0.05  # seconds between two signs of life
LIMITS = {"infer": TaskLimits(seconds=60)}  # of a model that nothing stopped


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)[5:60]


@pytest.fixture
def watching() -> Watching:
    return Watching()


@pytest.fixture
def site(bench: Bench, tmp_path: Path, watching: Watching) -> Iterator[Site]:
    with bench.site(tmp_path / "home", watching=watching) as site:
        yield site


def on(watching: Watching, begins: str, what: Callable[[], object]) -> None:
    def then(event: Event) -> None:
        if isinstance(event, StepStarted) and event.text.startswith(begins):
            watching.then = None
            what()

    watching.then = then


@contextmanager
def back(bench: Bench, *, model: str | None = None) -> Iterator[None]:
    """What was changed of the benchmark is put back for the other tests."""
    try:
        yield
    finally:
        with bench.owner() as owner:
            benchmark = owner.api.benchmarks.get(1)
            if not benchmark.is_active:
                owner.api.benchmarks.update(1, BenchmarkUpdate(is_active=True), version=benchmark.version)
            if model is not None:
                cube = owner.api.mlcubes.get(bench.models[model])
                if not cube.is_valid:
                    owner.api.mlcubes.update(cube.id, MLCubeUpdate(is_valid=True), version=cube.version)
                else:
                    join(owner, cube.id)


def stopped(bench: Bench, site: Site, dataset: str, model: str) -> LocalRun:
    """Run a model that hangs, until it is stopped. Nothing but a sign of life can do that."""
    request = RunRequest(1, dataset, models=(bench.models[model],), limits=LIMITS)
    (outcome,) = run_models(site, request, heartbeat_seconds=SOON).outcomes
    assert (outcome.state, outcome.failure) == (AttemptState.FAILED, FailureClass.REFUSED)
    run = site.workspace.runs.get(outcome.run)
    (there,) = site.api.executions.get(run.execution or 0).attempts or ()
    assert (there.state, there.failure) == (ShownState.FAILED, FailureClass.REFUSED)
    return run


@pytest.mark.parametrize("what", ["dataset", "model", "benchmark", "cube"])
def test_what_was_taken_away_stops_what_runs(
    bench: Bench, site: Site, watching: Watching, name: str, what: str
) -> None:
    dataset = bench.dataset(site, name, {"gamma": "hang"})
    registered = site.workspace.datasets.get(dataset).registered[site.credential().instance_id]
    gamma = bench.models["gamma"]

    def take_away() -> None:
        with bench.owner() as owner:
            if what == "dataset":
                revoke(owner, dataset=registered)
            elif what == "model":
                revoke(owner, model=gamma)
            elif what == "benchmark":
                version = owner.api.benchmarks.get(1).version
                owner.api.benchmarks.update(1, BenchmarkUpdate(is_active=False), version=version)
            else:
                version = owner.api.mlcubes.get(gamma).version
                owner.api.mlcubes.update(gamma, MLCubeUpdate(is_valid=False), version=version)

    on(watching, "infer", take_away)
    with back(bench, model="gamma" if what in ("model", "cube") else None):
        run = stopped(bench, site, dataset, "gamma")
        words = {"dataset": "REVOKED", "model": "joined|nobody asked", "benchmark": "not active", "cube": "not valid"}
        assert any(word in run.message for word in words[what].split("|")), run.message
        # And nothing of it begins again.
        plan = plan_run(site, RunRequest(1, dataset, models=(gamma,)))
        assert plan.runs[0].action == "refused"


def test_an_attempt_that_ended_elsewhere_stops(bench: Bench, site: Site, watching: Watching, name: str) -> None:
    dataset = bench.dataset(site, name, {"alpha": "hang"})

    def end_it() -> None:
        (run,) = site.workspace.runs.ls(None)
        body = AttemptReport(execution=run.execution or 0, attempt=run.attempt or 0, state=AttemptState.CANCELLED)
        site.api.executions.report(body)

    on(watching, "infer", end_it)
    request = RunRequest(1, dataset, models=(bench.models["alpha"],), limits=LIMITS)
    (outcome,) = run_models(site, request, heartbeat_seconds=SOON).outcomes
    assert (outcome.state, outcome.failure) == (AttemptState.INTERRUPTED, None)
    (there,) = site.api.executions.get(outcome.execution or 0).attempts or ()
    assert there.state is ShownState.CANCELLED


def test_metrics_of_an_attempt_that_ended_elsewhere_are_dropped(
    bench: Bench, site: Site, watching: Watching, name: str
) -> None:
    dataset = bench.dataset(site, name)

    def end_it() -> None:
        (run,) = site.workspace.runs.ls(None)
        body = AttemptReport(execution=run.execution or 0, attempt=run.attempt or 0, state=AttemptState.CANCELLED)
        site.api.executions.report(body)

    on(watching, "evaluate", end_it)
    (outcome,) = run_models(site, RunRequest(1, dataset, models=(bench.models["alpha"],))).outcomes
    assert (outcome.state, outcome.metrics) == (AttemptState.INTERRUPTED, None)
    assert site.workspace.runs.get(outcome.run).metrics is None


def test_signs_of_life_are_given_and_kept(bench: Bench, site: Site, watching: Watching, name: str) -> None:
    dataset = bench.dataset(site, name)
    beaten = threading.Event()
    progress = site.api.executions.progress

    def told(body: object, **more: str) -> object:
        answer = progress(body, **more)  # type: ignore[arg-type]
        beaten.set()
        return answer

    site.api.executions.progress = told  # type: ignore[method-assign, assignment]
    on(watching, "infer", lambda: beaten.wait(20))
    request = RunRequest(1, dataset, models=(bench.models["alpha"],))
    assert not run_models(site, request, heartbeat_seconds=SOON).failed
    entry = next(entry for entry in list_egress(site) if entry.kind == "progress")
    assert (entry.consent, entry.outcome) == ("automatic", "answered")
    assert set(entry.body) == {"execution", "attempt", "task", "percent"}


# ----------------------------------------------------------------------------------------------------- the site's own yes


def test_a_model_that_nobody_accepted_is_asked_about(bench: Bench, tmp_path: Path, name: str) -> None:
    person = Person()
    with bench.site(tmp_path / "home", person) as site:
        dataset = bench.dataset(site, name)
        write_policy(site, AUTOMATIC)
        alpha = (bench.models["alpha"],)
        with pytest.raises(Forbidden) as error:
            run_models(site, RunRequest(1, dataset, models=alpha, yes=True))
        assert error.value.code == "policy_asks"
        assert person.asked == []
        person.yes = False
        with pytest.raises(Forbidden) as error:
            run_models(site, RunRequest(1, dataset, models=alpha))
        assert error.value.code == "model_refused"
        (question,) = person.asked
        assert all(word in question for word in ("testbenchmarkowner", "sha256:", "python", "4 GiB of memory"))
        assert [one.accepted for one in list_accepted(site)] == [False]
        assert plan_run(site, RunRequest(1, dataset, models=alpha)).refusals[0].code == "model_refused"
        person.yes = True
        accepted = accept_model(site, alpha[0])
        assert (accepted.accepted, accepted.who, accepted.model) == (True, "testdataowner", alpha[0])
        assert accept_model(site, alpha[0], yes=True) == accepted
        assert not run_models(site, RunRequest(1, dataset, models=alpha, yes=True)).failed
        assert len(person.asked) == 2
        # A no for one model leaves the others alone.
        person.yes = False
        asked = person.confirm

        def no_then_yes(question: str, *, default: bool = False) -> bool:
            answer = asked(question, default=default)
            person.yes = True
            return answer

        person.confirm = no_then_yes  # type: ignore[method-assign]
        models = (bench.models["beta"], bench.models["gamma"])
        report = run_models(site, RunRequest(1, dataset, models=models))
        assert len(report.outcomes) == 1
        assert report.failed


def test_a_policy_that_accepts_nothing(bench: Bench, site: Site, name: str) -> None:
    dataset = bench.dataset(site, name)
    alpha = (bench.models["alpha"],)
    assert accept_model(site, alpha[0], yes=True).who == BY_POLICY
    assert list_accepted(site) == []
    write_policy(site, AUTOMATIC + '[models]\naccept = "never"\n')
    for work in (lambda: run_models(site, RunRequest(1, dataset, models=alpha)), lambda: accept_model(site, alpha[0])):
        with pytest.raises(Forbidden) as error:
            work()
        assert error.value.code == "model_refused"
        assert "accepts no model" in error.value.what
    assert site.workspace.runs.ls(None) == []


def test_a_member_without_the_right_to_operate(bench: Bench, tmp_path: Path, name: str) -> None:
    """Whose right it is, the server knows; nothing starts without it."""
    watching = Watching()
    with bench.site(tmp_path / "home", watching=watching) as site:
        organisation = create_organisation(site, name)
        dataset = bench.dataset(site, name, owner=str(organisation.id))
        alpha = (bench.models["alpha"],)
        assert not run_models(site, RunRequest(1, dataset, models=alpha)).failed
        set_rights(site, str(organisation.id), "testdataowner", {Right.MANAGE, Right.RELEASE})
        watching.events.clear()
        report = run_models(site, RunRequest(1, dataset, models=(bench.models["beta"], bench.models["gamma"])))
        assert [(one.state, one.failure) for one in report.outcomes] == [
            (AttemptState.FAILED, FailureClass.REFUSED)
        ] * 2
        assert [one.execution for one in report.outcomes] == [None, None]
        assert not any(isinstance(event, StepStarted) and " of " in event.text for event in watching.events)
        set_rights(site, str(organisation.id), "testdataowner", {Right.MANAGE, Right.OPERATE})
        assert not run_models(site, RunRequest(1, dataset)).failed


# -------------------------------------------------------------------------------------------------- a server that hears nothing


class Mute(CuttingProxy):
    """While ``dead``, nothing passes and every connection ends."""

    dead = False

    def _allowed(self, data: bytes, direction: Direction) -> tuple[bytes, bool]:
        return (b"", True) if self.dead else (data, False)


@pytest.fixture
def line(bench: Bench) -> Iterator[Mute]:
    proxy = Mute(int(bench.url.rpartition(":")[2]))
    with proxy:
        yield proxy


@pytest.fixture
def remote(bench: Bench, line: Mute, tmp_path: Path, watching: Watching) -> Iterator[Site]:
    """The site behind that line."""
    with replace(bench, url=line.url).site(tmp_path / "home", watching=watching) as site:
        yield site


def test_what_the_server_did_not_hear_is_told_later(
    bench: Bench, line: Mute, remote: Site, watching: Watching, name: str
) -> None:
    dataset = bench.dataset(remote, name, {"beta": "exit"})
    for model, state in (("alpha", ShownState.COMPLETED), ("beta", ShownState.FAILED)):
        request = RunRequest(1, dataset, models=(bench.models[model],))
        begins = "evaluate" if model == "alpha" else "infer"
        on(watching, begins, lambda: setattr(line, "dead", True))
        (outcome,) = run_models(remote, request).outcomes
        assert outcome.state.value == state.value
        assert "The same command tells it." in watching.text
        line.dead = False
        assert outcome.execution is not None
        (there,) = remote.api.executions.get(outcome.execution).attempts or ()
        assert there.state is ShownState.RUNNING
        watching.events.clear()
        run_models(remote, request)
        there = (remote.api.executions.get(outcome.execution).attempts or ())[0]
        assert there.state is state
        ran = [event.text for event in watching.events if isinstance(event, StepStarted) and " of " in event.text]
        assert ran == ([] if model == "alpha" else [f"infer of beta ({bench.models['beta']})"])


def test_a_registration_without_an_answer_goes_on(
    bench: Bench, line: Mute, remote: Site, watching: Watching, name: str
) -> None:
    """The same attempt: the body may have arrived."""
    dataset = bench.dataset(remote, name)
    request = RunRequest(1, dataset, models=(bench.models["alpha"],))
    register = remote.api.executions.register

    def unheard(body: AttemptCreate, **more: str) -> None:
        register(body, **more)
        line.dead = True
        remote.api.executions.get(1)

    remote.api.executions.register = unheard  # type: ignore[method-assign, assignment]
    (outcome,) = run_models(remote, request).outcomes
    assert (outcome.state, outcome.execution) == (AttemptState.INTERRUPTED, None)
    line.dead = False
    remote.api.executions.register = register  # type: ignore[method-assign]
    assert plan_run(remote, request).runs[0].action == "resume"
    (again,) = run_models(remote, request).outcomes
    assert (again.run, again.attempt, again.state) == (outcome.run, 1, AttemptState.COMPLETED)


def test_another_process_is_not_run_beside(bench: Bench, site: Site, watching: Watching, name: str) -> None:
    dataset = bench.dataset(site, name)
    alpha = (bench.models["alpha"],)
    found: list[MedPerfError] = []

    def again() -> None:
        with pytest.raises(Conflict) as error:
            run_models(site, RunRequest(1, dataset, models=alpha))
        found.append(error.value)

    on(watching, "infer", again)
    assert not run_models(site, RunRequest(1, dataset, models=alpha)).failed
    assert [error.code for error in found] == ["run_running"]
