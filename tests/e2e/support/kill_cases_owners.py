"""Cases of `kill_cases` about datasets, associations, runs and results. `kill_study` has the people, and what is there before."""

from __future__ import annotations

from typing import Any

from kill_cases import Case, Check
from kill_study import (
    another_benchmark,
    api_of,
    asked,
    association_of,
    create_words,
    created,
    dataset_invited,
    joined,
    model_asked,
    model_joined,
    model_of_bench,
    model_of_maker,
    person_agrees,
    ran,
    records,
    released,
    run_words,
    site,
    study_of,
    submitted,
    there,
    unaccepted,
    words_of,
)
from kills import Ended, Scene

from medperf.domain.associations import Status
from medperf.domain.executions import AttemptState, Disclosure
from medperf.domain.states import State


def _one_here(scene: Scene, again: Ended) -> None:
    found = [one for one in scene.ask("dataset", "ls", "--local")["items"] if one["name"] == scene.name]
    assert len(found) == 1, found
    assert scene.ask("dataset", "check", scene.name, "--full")


def _one_there(scene: Scene, again: Ended) -> None:
    data = api_of(scene, "data")
    (found,) = data.datasets.list(name=scene.name)
    assert found.statistics_digest is not None
    data.close()
    bodies = [one["kind"] for one in scene.ask("egress", "ls")["items"] if scene.name in one["about"]]
    assert sorted(bodies) == ["dataset_registration", "statistics"], bodies


def _is(status: Status, *, events: int, who: str = "data") -> Check:
    """The association has this status after so many events: nothing was decided twice."""

    def check(scene: Scene, again: Ended) -> None:
        api = api_of(scene, who)
        found = association_of(scene, api)
        assert (found.status, len(found.events or ())) == (status, events), found
        api.close()

    return check


def _dataset_is(**values: Any) -> Check:
    def check(scene: Scene, again: Ended) -> None:
        data = api_of(scene, "data")
        view = data.datasets.get(scene.kept["id"])
        assert {name: getattr(view, name) for name in values} == values
        data.close()

    return check


def _measured(*, models: int = 1) -> Check:
    """Each execution has one attempt with metrics, and none that is open."""

    def check(scene: Scene, again: Ended) -> None:
        data = api_of(scene, "data")
        found = [data.executions.get(one.id) for one in data.executions.list(dataset=scene.kept["id"])]
        assert len(found) == models
        for one in found:
            states = [attempt.state.value for attempt in one.attempts or ()]
            assert states.count("COMPLETED") == 1, states
            assert set(states) <= {"COMPLETED", "INTERRUPTED"}, states
        data.close()
        local = [one for one in scene.ask("result", "ls", "--local")["items"] if one["dataset"] == scene.kept["id"]]
        assert [one["state"] for one in local].count("under review") == models, local

    return check


def _disclosed(wanted: Disclosure) -> Check:
    def check(scene: Scene, again: Ended) -> None:
        data = api_of(scene, "data")
        (execution,) = data.executions.list(dataset=scene.kept["id"])
        (attempt,) = data.executions.get(execution.id).attempts or ()
        assert (attempt.state.value, attempt.disclosure) == (AttemptState.COMPLETED.value, wanted)
        results = list(data.results.list(dataset=scene.kept["id"]))
        assert len(results) == (wanted is not Disclosure.WITHHELD)
        data.close()
        exits = {Disclosure.RELEASED: "metrics", Disclosure.WITHHELD: "withholding", Disclosure.RETRACTED: "retraction"}
        about = f"dataset {scene.kept['id']} "
        kinds = [one["kind"] for one in scene.ask("egress", "ls")["items"] if about in one["about"]]
        assert kinds.count(exits[wanted]) == 1, kinds

    return check


def _model_is(status: Status, *, events: int, **values: Any) -> Check:
    def check(scene: Scene, again: Ended) -> None:
        bench = api_of(scene, "bench")
        (found,) = bench.associations.list(model=scene.kept["id"])
        view = bench.associations.get(found.id)
        assert (view.status, len(view.events or ())) == (status, events), view
        assert {name: getattr(view, name) for name in values} == values
        bench.close()

    return check


def _cube_is(**values: Any) -> Check:
    def check(scene: Scene, again: Ended) -> None:
        maker = api_of(scene, "maker")
        view = maker.mlcubes.get(scene.kept["id"])
        assert {name: getattr(view, name) for name in values} == values
        maker.close()

    return check


def _benchmark_is(**values: Any) -> Check:
    def check(scene: Scene, again: Ended) -> None:
        bench = api_of(scene, "bench")
        view = bench.benchmarks.get(scene.kept["id"])
        assert {name: getattr(view, name) for name in values} == values
        bench.close()

    return check


def _accepted(scene: Scene, again: Ended) -> None:
    found = scene.ask("model", "ls")["items"]
    assert [one["model"] for one in found] == [study_of(scene).alpha.id], found


def _still_measured(scene: Scene, again: Ended) -> None:
    """What waits for a decision is there, and can be released."""
    scene.ask("result", "submit", *there(scene), "--yes")
    _disclosed(Disclosure.RELEASED)(scene, again)


_MODEL = ("-b", "BENCHMARK", "-m", "ID")
_DATASET = ("-b", "BENCHMARK", "-d", "ID")
OWNERS: dict[str, Case] = {
    "dataset create": Case(create_words, _one_here, before=records, already=("dataset_exists",), kills=20),
    "dataset submit": Case(words_of("dataset", "submit", "NAME", "--yes"), _one_there, before=created, kills=16),
    "dataset associate": Case(
        words_of("dataset", "associate", "NAME", "-b", "BENCHMARK", "--yes"),
        _is(Status.PENDING, events=1),
        before=submitted,
        already=("already_asked",),
        kills=10,
    ),
    "dataset ls": Case(words_of("dataset", "ls"), before=site, kills=2),
    "dataset view": Case(words_of("dataset", "view", "NAME"), before=created, kills=2),
    "dataset check": Case(words_of("dataset", "check", "NAME", "--full"), _one_here, before=created, kills=6),
    "dataset edit": Case(
        words_of("dataset", "edit", "NAME", "--site-label", "Site B", "--yes"),
        _dataset_is(site_label="Site B"),
        before=submitted,
        kills=8,
    ),
    "dataset deactivate": Case(
        words_of("dataset", "deactivate", "NAME", "--yes"), _dataset_is(is_active=False), before=submitted, kills=6
    ),
    "dataset withdraw": Case(
        words_of("dataset", "withdraw", "NAME", "--yes"), _is(Status.REVOKED, events=3), before=joined, kills=8
    ),
    "association ls": Case(words_of("association", "ls"), before=site, kills=2),
    "association view": Case(words_of("association", "view", *_MODEL), before=model_asked, kills=2),
    "association approve": Case(
        words_of("association", "approve", *_MODEL),
        _model_is(Status.APPROVED, events=2),
        before=model_asked,
        kills=6,
    ),
    "association approve --dataset": Case(
        words_of("association", "approve", *_DATASET, "--yes"),
        _is(Status.APPROVED, events=2),
        before=dataset_invited,
        kills=8,
    ),
    "association reject": Case(
        words_of("association", "reject", *_MODEL, "--reason", "too slow"),
        _model_is(Status.REJECTED, events=2),
        before=model_asked,
        kills=4,
    ),
    "association cancel": Case(
        words_of("association", "cancel", *_DATASET), _is(Status.CANCELLED, events=2), before=asked, kills=6
    ),
    "association revoke": Case(
        words_of("association", "revoke", *_MODEL), _model_is(Status.REVOKED, events=3), before=model_joined, kills=4
    ),
    "association invite": Case(
        words_of("association", "invite", *_MODEL),
        _model_is(Status.PENDING, events=1),
        before=model_of_bench,
        already=("already_asked",),
        kills=6,
    ),
    "association set_priority": Case(
        words_of("association", "set_priority", *_MODEL, "-p", "7"),
        _model_is(Status.APPROVED, events=2, priority=7),
        before=model_joined,
        kills=4,
    ),
    "mlcube associate": Case(
        words_of("mlcube", "associate", *_MODEL, "--yes"),
        _model_is(Status.PENDING, events=1),
        before=model_of_maker(),
        already=("already_asked",),
        kills=10,
    ),
    "mlcube edit": Case(
        words_of("mlcube", "edit", "ID", "--operation"),
        _cube_is(state=State.OPERATION),
        before=model_of_maker(State.DEVELOPMENT),
        kills=4,
    ),
    "mlcube deactivate": Case(
        words_of("mlcube", "deactivate", "ID"), _cube_is(is_valid=False), before=model_of_maker(), kills=4
    ),
    "benchmark edit": Case(
        words_of("benchmark", "edit", "ID", "--inactive"),
        _benchmark_is(is_active=False),
        before=another_benchmark,
        kills=4,
    ),
    "benchmark deactivate": Case(
        words_of("benchmark", "deactivate", "ID"), _benchmark_is(is_active=False), before=another_benchmark, kills=4
    ),
    "inbox": Case(words_of("inbox"), before=site, kills=2),
    "model accept": Case(
        lambda scene: ["model", "accept", str(study_of(scene).alpha.id)], _accepted, before=unaccepted, kills=8
    ),
    "model ls": Case(words_of("model", "ls"), before=site, kills=2),
    "run": Case(run_words("run"), _measured(), before=joined, kills=30),
    "benchmark run": Case(run_words("benchmark", "run"), _measured(models=2), before=joined, kills=16),
    "result create": Case(run_words("result", "create"), _measured(), before=joined, kills=8),
    "result submit": Case(
        lambda scene: ["result", "submit", *there(scene), "-m", str(study_of(scene).reference), "--yes"],
        _disclosed(Disclosure.RELEASED),
        before=ran,
        kills=14,
    ),
    "result withhold": Case(
        lambda scene: [
            "result",
            "withhold",
            *there(scene),
            "-m",
            str(study_of(scene).reference),
            "--reason",
            "in doubt",
        ],
        _disclosed(Disclosure.WITHHELD),
        before=person_agrees(ran),
        kills=10,
    ),
    "result retract": Case(
        lambda scene: ["result", "retract", *there(scene), "-m", str(study_of(scene).reference), "--reason", "wrong"],
        _disclosed(Disclosure.RETRACTED),
        before=person_agrees(released),
        kills=10,
    ),
    "result ls": Case(words_of("result", "ls"), before=site, kills=2),
    "result view": Case(words_of("result", "view", "1"), before=released, kills=2),
    "benchmark results": Case(words_of("benchmark", "results", "BENCHMARK"), before=site, kills=2),
    "benchmark leaderboard": Case(words_of("benchmark", "leaderboard", "BENCHMARK"), before=site, kills=2),
    "egress ls": Case(words_of("egress", "ls"), before=site, kills=2),
    "egress view": Case(words_of("egress", "view", "1"), before=site, kills=2),
    "storage ls": Case(words_of("storage", "ls"), before=site, kills=2),
    "storage cleanup": Case(
        words_of("storage", "cleanup", "predictions", "steps", "downloads", "logs", "--yes"),
        _still_measured,
        before=ran,
        kills=12,
    ),
}
