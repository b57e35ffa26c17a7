"""Runs of models on a dataset, over a real wire: what ends how, what the server learns of it, and what stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict, Forbidden, Interrupted, MedPerfError
from medperf.domain.events import Event, StepFinished, StepStarted
from medperf.domain.executions import AttemptState, Disclosure, FailureClass, ShownState
from medperf.domain.sitepolicy import TaskLimits
from medperf.flows.egress import list_egress
from medperf.flows.running import RunOutcome, RunRequest, plan_run, run_models
from medperf.flows.site import Site
from medperf.wire.executions import AttemptReport, AttemptView

from .dataset_site import Person
from .running_site import MODELS, Bench, Watching, policy_text, write_policy

SECRETS = ("case0", "record of", "act.json", "/records/")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """Of this test's dataset."""
    return str(request.node.name)[5:60]


@pytest.fixture
def watching() -> Watching:
    return Watching()


@pytest.fixture
def site(bench: Bench, tmp_path: Path, watching: Watching) -> Iterator[Site]:
    with bench.site(tmp_path / "home", watching=watching) as site:
        yield site


def of(outcomes: tuple[RunOutcome, ...]) -> dict[str, tuple[str, str | None]]:
    return {one.name: (one.state.value, one.failure.value if one.failure else None) for one in outcomes}


def attempts(site: Site, outcome: RunOutcome) -> list[AttemptView]:
    assert outcome.execution is not None
    return list(site.api.executions.get(outcome.execution).attempts or ())


def sent(site: Site) -> list[dict[str, Any]]:
    return [entry.body for entry in list_egress(site)]


def started(watching: Watching) -> list[str]:
    """Containers."""
    return [text for text in _begun(watching) if text.startswith(("infer", "evaluate"))]


def _begun(watching: Watching) -> list[str]:
    return [event.text for event in watching.events if isinstance(event, StepStarted)]


def on(watching: Watching, begins: str, what: Any) -> None:
    """Do it when a step that begins so starts."""

    def then(event: Event) -> None:
        if isinstance(event, StepStarted) and event.text.startswith(begins):
            what()

    watching.then = then


def test_a_failed_model_stops_no_other(bench: Bench, site: Site, name: str) -> None:
    uuid = bench.dataset(site, name, {"alpha": "exit", "beta": "partial"})
    before = len(list_egress(site))
    report = run_models(site, RunRequest(1, uuid, jobs=2))
    assert of(report.outcomes) == {
        "bmk-model": ("COMPLETED", None),
        "alpha": ("FAILED", "exit"),
        "beta": ("PARTIAL", None),
        "gamma": ("COMPLETED", None),
    }
    assert report.failed
    reference, alpha, beta, _ = report.outcomes
    assert reference.metrics == {"mean_score": 0.5, "cases.evaluated": 2, "cases.failed": 0, "cases.total": 2}
    assert beta.metrics is not None
    assert beta.metrics["cases.failed"] == 1
    (there,) = attempts(site, alpha)
    assert (there.state, there.failure, there.task) == (ShownState.FAILED, FailureClass.EXIT, "infer")
    assert Path(alpha.log).read_text().strip() == "case0.txt cannot be read"
    (there,) = attempts(site, reference)
    assert (there.state, there.disclosure) == (ShownState.COMPLETED, Disclosure.UNDER_REVIEW)
    run = site.workspace.runs.get(reference.run)
    assert (run.state, run.execution, run.attempt) == (AttemptState.COMPLETED, reference.execution, 1)
    assert run.metrics == {"mean_score": 0.5, "cases": {"evaluated": 2, "failed": 0, "total": 2}}
    assert list(run.steps) == ["evaluate", "infer"]
    assert run.disclosure is Disclosure.UNDER_REVIEW
    left = json.dumps(sent(site)[: len(list_egress(site)) - before])
    assert "mean_score" not in left
    assert not any(secret in left for secret in SECRETS)


def test_labels_never_reach_a_model(bench: Bench, site: Site, name: str) -> None:
    """All files that it is given are its data and its parameters."""
    uuid = bench.dataset(site, name)
    (outcome,) = run_models(site, RunRequest(1, uuid, models=(bench.models["alpha"],))).outcomes
    infer = site.workspace.steps.lookup(Digest(site.workspace.runs.get(outcome.run).steps["infer"]))
    assert infer is not None
    said = json.loads((infer.outputs / "output_path" / "predictions.json").read_text())
    assert said["given"] == ["act.json", "case0.txt", "parameters.yaml"]
    assert said["seen"] == []


def test_an_unchanged_second_run_starts_no_container(bench: Bench, site: Site, watching: Watching, name: str) -> None:
    uuid = bench.dataset(site, name, {"alpha": "exit"})
    first = run_models(site, RunRequest(1, uuid, models=(bench.models["beta"],)))
    watching.events.clear()
    again = run_models(site, RunRequest(1, uuid, models=(bench.models["beta"],)))
    assert started(watching) == []
    assert again.outcomes[0].cached
    assert again.outcomes[0].run == first.outcomes[0].run
    assert again.outcomes[0].metrics == first.outcomes[0].metrics
    everything = run_models(site, RunRequest(1, uuid, jobs=3))
    assert {one.name: one.cached for one in everything.outcomes} == {
        "bmk-model": False, "alpha": False, "beta": True, "gamma": False,
    }  # fmt: skip
    watching.events.clear()
    once_more = run_models(site, RunRequest(1, uuid))
    assert started(watching) == [f"infer of alpha ({bench.models['alpha']})"]  # failures are never kept
    alpha = next(one for one in once_more.outcomes if one.name == "alpha")
    assert [one.state for one in attempts(site, alpha)] == [ShownState.FAILED] * 2


def test_after_completed_a_reason_is_needed(bench: Bench, site: Site, watching: Watching, name: str) -> None:
    uuid = bench.dataset(site, name)
    beta = (bench.models["beta"],)
    run_models(site, RunRequest(1, uuid, models=beta))
    with pytest.raises(Conflict) as error:
        run_models(site, RunRequest(1, uuid, models=beta, no_cache=True))
    assert error.value.code == "reason_needed"
    watching.events.clear()
    report = run_models(site, RunRequest(1, uuid, models=beta, no_cache=True, reason="A new graphics card"))
    assert len(started(watching)) == 2
    assert [one.reason for one in attempts(site, report.outcomes[0])] == [None, "A new graphics card"]
    watching.events.clear()
    cheap = run_models(site, RunRequest(1, uuid, models=beta, reason="Again, please"))
    assert started(watching) == []
    assert (cheap.outcomes[0].attempt, cheap.outcomes[0].cached) == (3, True)


@pytest.mark.parametrize(
    "acts",
    [
        {
            "alpha": ("nothing", FailureClass.MISSING_OUTPUT),
            "beta": ("much", FailureClass.OUTPUT_LIMIT),
            "gamma": ("hang", FailureClass.TIME_LIMIT),
        },
        {"alpha": ("metrics:", FailureClass.MISSING_OUTPUT), "beta": ("flood", FailureClass.BAD_METRICS)},
    ],
    ids=["model", "evaluator"],
)
def test_what_goes_wrong_has_a_class(
    bench: Bench, site: Site, name: str, acts: dict[str, tuple[str, FailureClass]]
) -> None:
    uuid = bench.dataset(site, name, {model: act for model, (act, _) in acts.items()})
    limits = {"infer": TaskLimits(seconds=2, output_bytes=2**20)}
    models = tuple(bench.models[model] for model in acts)
    for outcome in run_models(site, RunRequest(1, uuid, models=models, jobs=3, limits=limits)).outcomes:
        failure = acts[outcome.name][1]
        assert (outcome.state, outcome.failure, outcome.metrics) == (AttemptState.FAILED, failure, None)
        assert [one.failure for one in attempts(site, outcome)] == [failure]


def test_a_command_lowers_the_policys_limits_and_never_raises_them(bench: Bench, site: Site, name: str) -> None:
    uuid = bench.dataset(site, name, {"alpha": "hang"})
    write_policy(site, policy_text(site) + "[limits.infer]\nseconds = 2\n")
    limits = {"infer": TaskLimits(seconds=200)}
    (outcome,) = run_models(site, RunRequest(1, uuid, models=(bench.models["alpha"],), limits=limits)).outcomes
    assert outcome.failure is FailureClass.TIME_LIMIT
    assert outcome.seconds < 100


HOSTILE = {
    "cases that are no numbers": "mean_score: .nan\ncases: {evaluated: .nan, failed: .nan, total: .nan}",
    "a record as a name": "mean_score: 0.5\n'Jane Doe, 1971': 0.5\ncases: {evaluated: 2, failed: 0, total: 2}",
    "text": "mean_score: Jane Doe\ncases: {evaluated: 2, failed: 0, total: 2}",
    "nesting": "mean_score: {a: {b: 1}}\ncases: {evaluated: 2, failed: 0, total: 2}",
    "too many digits": "mean_score: 0.5000000001971\ncases: {evaluated: 2, failed: 0, total: 2}",
    "a list": "[0.5]",
    "no document": "{{{{",
    "a code": "!!python/object/apply:os.system ['true']",
    "an alias that grows": "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]",
}


def test_hostile_metrics_stay(bench: Bench, site: Site, name: str) -> None:
    kinds = list(HOSTILE)
    models = tuple(bench.models[model] for model in MODELS)
    for number, some in enumerate(zip(*[iter(kinds)] * len(MODELS), strict=True)):
        acts = {model: f"metrics:{HOSTILE[what]}" for model, what in zip(MODELS, some, strict=True)}
        uuid = bench.dataset(site, f"{name} {number}", acts)
        for outcome in run_models(site, RunRequest(1, uuid, models=models, jobs=2)).outcomes:
            assert (outcome.failure, outcome.metrics) == (FailureClass.BAD_METRICS, None), acts[outcome.name]
            assert site.workspace.runs.get(outcome.run).metrics is None
    left = json.dumps(sent(site))
    assert not any(word in left for word in ("mean_score", "Jane", "1971", "evaluated"))


def test_nan_is_undefined(bench: Bench, site: Site, name: str) -> None:
    text = "mean_score: .nan\ncases: {evaluated: 2, failed: 0, total: 2}"
    uuid = bench.dataset(site, name, {"alpha": f"metrics:{text}"})
    (outcome,) = run_models(site, RunRequest(1, uuid, models=(bench.models["alpha"],))).outcomes
    assert outcome.state is AttemptState.COMPLETED
    assert outcome.metrics is not None
    assert outcome.metrics["mean_score"] is None


def edited(site: Site, uuid: str) -> None:
    path = site.workspace.datasets.get(uuid).data / "case0.txt"
    path.write_text("something else\n")


def test_data_edited_before_a_run_are_noticed(bench: Bench, site: Site, watching: Watching, name: str) -> None:
    uuid = bench.dataset(site, name)
    edited(site, uuid)
    watching.events.clear()
    before = len(list_egress(site))
    with pytest.raises(MedPerfError) as error:
        run_models(site, RunRequest(1, uuid))
    assert error.value.code == "data_changed"
    assert "case0.txt was changed" in error.value.what
    assert started(watching) == []
    assert len(list_egress(site)) == before


@pytest.mark.parametrize("task", ["infer", "evaluate"])
def test_data_edited_during_a_run_are_noticed(
    bench: Bench, site: Site, watching: Watching, name: str, task: str
) -> None:
    uuid = bench.dataset(site, name)
    alpha = (bench.models["alpha"],)
    on(watching, task, lambda: edited(site, uuid))
    (outcome,) = run_models(site, RunRequest(1, uuid, models=alpha)).outcomes
    assert (outcome.failure, outcome.metrics) == (FailureClass.DATA_CHANGED, None)
    assert attempts(site, outcome)[0].failure is FailureClass.DATA_CHANGED
    # What was made of other data is not kept under the name of these.
    watching.then = None
    path = site.workspace.datasets.get(uuid).data / "case0.txt"
    path.write_text(f"record of {name}\n")
    watching.events.clear()
    (outcome,) = run_models(site, RunRequest(1, uuid, models=alpha)).outcomes
    assert outcome.state is AttemptState.COMPLETED
    assert any(text.startswith(task) for text in started(watching))


def test_ctrl_c_is_told_and_goes_on(bench: Bench, site: Site, watching: Watching, name: str) -> None:
    uuid = bench.dataset(site, name)
    on(watching, "evaluate of bmk-model", site.cancel.set)
    with pytest.raises(Interrupted):
        run_models(site, RunRequest(1, uuid))
    (run,) = site.workspace.runs.ls(None)
    assert (run.state, run.failure, run.model_name) == (AttemptState.INTERRUPTED, None, "bmk-model")
    site.cancel.clear()
    watching.then = None
    there = site.api.executions.get(run.execution or 0)
    assert [one.state for one in there.attempts or ()] == [ShownState.INTERRUPTED]
    watching.events.clear()
    plan = plan_run(site, RunRequest(1, uuid))
    assert (plan.runs[0].action, plan.runs[0].cached) == ("run", ("infer",))
    report = run_models(site, RunRequest(1, uuid, models=(bench.models["reference"],)))
    assert of(report.outcomes) == {"bmk-model": ("COMPLETED", None)}
    assert started(watching) == ["evaluate of bmk-model (2)"]


def die() -> None:
    raise SystemExit  # not what a flow expects: nothing is told, as after a kill


def test_what_ended_at_the_server_meanwhile_does_not_go_on(
    bench: Bench, site: Site, watching: Watching, name: str
) -> None:
    uuid = bench.dataset(site, name)
    alpha = (bench.models["alpha"],)
    on(watching, "infer", die)
    with pytest.raises(SystemExit):
        run_models(site, RunRequest(1, uuid, models=alpha))
    watching.then = None
    (run,) = site.workspace.runs.ls(None)
    body = AttemptReport(execution=run.execution or 0, attempt=1, state=AttemptState.CANCELLED)
    site.api.executions.report(body)
    (outcome,) = run_models(site, RunRequest(1, uuid, models=alpha)).outcomes
    assert (outcome.attempt, outcome.state) == (2, AttemptState.COMPLETED)
    assert [one.state for one in site.workspace.runs.ls(None)] == [AttemptState.COMPLETED, AttemptState.INTERRUPTED]


def test_models_go_on_where_a_process_died(bench: Bench, site: Site, watching: Watching, name: str) -> None:
    """The same attempt, not another one."""
    uuid = bench.dataset(site, name)
    alpha = (bench.models["alpha"],)
    on(watching, "infer", die)
    with pytest.raises(SystemExit):
        run_models(site, RunRequest(1, uuid, models=alpha))
    watching.then = None
    (run,) = site.workspace.runs.ls(None)
    assert (run.state, run.is_running) == (AttemptState.RUNNING, False)
    assert plan_run(site, RunRequest(1, uuid, models=alpha)).runs[0].action == "resume"
    (outcome,) = run_models(site, RunRequest(1, uuid, models=alpha)).outcomes
    assert (outcome.run, outcome.attempt, outcome.state) == (run.uuid, 1, AttemptState.COMPLETED)
    assert len(attempts(site, outcome)) == 1


def test_a_plan_starts_nothing_and_tells_everything(bench: Bench, site: Site, watching: Watching, name: str) -> None:
    uuid = bench.dataset(site, name)
    edited(site, uuid)
    watching.events.clear()
    before = len(list_egress(site))
    wanted = (bench.models["alpha"], bench.models["stray"], 1, 999)
    plan = plan_run(site, RunRequest(1, uuid, models=wanted, yes=True))
    found = {error.code for error in plan.refusals}
    assert found == {"data_changed", "model_not_associated", "wrong_kind", "no_such_mlcube"}
    assert [one.action for one in plan.runs] == ["refused"] * 4
    assert started(watching) == []
    assert len(list_egress(site)) == before
    assert site.workspace.runs.ls(None) == []
    with pytest.raises(MedPerfError) as error:
        run_models(site, RunRequest(1, uuid, models=wanted))
    assert {one["code"] for one in error.value.details["refusals"]} == found


def test_models_run_by_priority_and_one_question_is_asked_for_all(bench: Bench, tmp_path: Path, name: str) -> None:
    person, watching = Person(), Watching()
    with bench.owner() as owner:
        for one in owner.api.associations.list(model=bench.models["gamma"]):
            from medperf.wire.associations import AssociationUpdate

            owner.api.associations.update(one.id, AssociationUpdate(priority=5), version=one.version)
    with bench.site(tmp_path / "home", person, watching) as site:
        uuid = bench.dataset(site, name)
        text = f'[models]\naccept = "listed"\nowners = [{bench.owner_party}]\n'
        (site.workspace.path / "policy.toml").write_text(text)
        run_models(site, RunRequest(1, uuid))
        assert [text.split()[2] for text in started(watching) if text.startswith("infer")] == [
            "gamma", "bmk-model", "alpha", "beta",
        ]  # fmt: skip
        (question,) = person.asked
        bodies = [entry for entry in list_egress(site) if entry.kind == "execution"]
        assert len(bodies) == 4
        assert {entry.consent for entry in list_egress(site) if entry.kind != "progress"} >= {"person"}
        for entry in bodies:
            for value in entry.body.values():
                flat = value.values() if isinstance(value, dict) else [value]
                assert all(json.dumps(one) in question for one in flat)
        assert "attempt_state" not in question
        assert "how far an attempt came" in question


def test_nothing_runs_where_nobody_agrees(bench: Bench, tmp_path: Path, name: str) -> None:
    person, watching = Person(), Watching()
    with bench.site(tmp_path / "home", person, watching) as site:
        uuid = bench.dataset(site, name)
        text = f'[models]\naccept = "listed"\nowners = [{bench.owner_party}]\n'
        (site.workspace.path / "policy.toml").write_text(text)
        person.yes = False
        watching.events.clear()
        with pytest.raises(Forbidden) as error:
            run_models(site, RunRequest(1, uuid))
        assert error.value.code == "not_agreed"
        with pytest.raises(Forbidden) as error:
            run_models(site, RunRequest(1, uuid, yes=True))
        assert error.value.code == "policy_asks"
        assert started(watching) == []
        assert [entry for entry in list_egress(site) if entry.kind == "execution"] == []


def test_side_by_side_within_memory(bench: Bench, site: Site, watching: Watching, name: str) -> None:
    uuid = bench.dataset(site, name)
    huge = {"infer": TaskLimits(memory_bytes=2**45)}
    models = (bench.models["alpha"], bench.models["beta"])
    watching.events.clear()
    report = run_models(site, RunRequest(1, uuid, models=models, jobs=2, limits=huge))
    assert not report.failed
    steps = [event.text for event in watching.events if isinstance(event, StepStarted | StepFinished)]
    assert [text.split()[2] for text in steps if text.startswith("infer")] == ["alpha", "alpha", "beta", "beta"]
    assert "1 at a time instead of 2" in watching.text


def test_two_run_at_the_same_time(bench: Bench, site: Site, watching: Watching, name: str) -> None:
    """Both have begun before one ends: the first waits for the second to begin."""
    import threading

    uuid = bench.dataset(site, name)
    both = threading.Barrier(2)
    on(watching, "infer", lambda: both.wait(20))
    small = {"infer": TaskLimits(memory_bytes=2**28), "evaluate": TaskLimits(memory_bytes=2**28)}
    models = (bench.models["alpha"], bench.models["beta"])
    assert not run_models(site, RunRequest(1, uuid, models=models, jobs=2, limits=small)).failed
