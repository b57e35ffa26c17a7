"""Cases of `kill_cases` about datasets, associations, runs and results: a benchmark that is approved, its owner, a model owner, a data owner.

Each of the three has a home in which everything ran once; a scene plays in a copy of it, with records, a model or a benchmark of its own.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kill_cases import PASSWORD, Case, Check, workflow
from kills import Ended, Scene, World, home_of, inside
from people import Person, new_person

from medperf.client.client import MedPerfClient
from medperf.domain.associations import Status
from medperf.domain.executions import AttemptState, Disclosure
from medperf.domain.states import Approval, State
from medperf.wire.associations import AssociationCreate, AssociationDecision, AssociationInvite, AssociationView
from medperf.wire.models import BenchmarkCreate, CompatibilityReport, Decision, MLCubeCreate, MLCubeView, UserCreate

#: The site agreed to everything that may go without a person, and to the models of these owners.
POLICY = """[release]
registration = "automatic"
statistics = "automatic"
state = "automatic"
metrics = "automatic"
[models]
accept = "{accept}"
owners = [{owners}]
"""


@dataclass(frozen=True)
class Study:
    """Who is there. ``report``: of the compatibility test of ``alpha``, the maker's model in the benchmark."""

    people: dict[str, Person]
    benchmark: int
    reference: int
    alpha: MLCubeView
    report: CompatibilityReport
    owners: tuple[int, int]


def study(world: World) -> Study:
    """Made by the first who needs it."""
    found: Study = world.once("study", lambda: _study(world))
    return found


def _study(world: World) -> Study:
    admin = world.api()
    people = {}
    for name in ("bench", "maker", "data"):
        admin.users.create(UserCreate(username=f"kill-{name}", password=PASSWORD))
        people[name] = new_person(world.folder / f"home of {name}")
        _done(world, people[name], "login", "-u", f"kill-{name}", "-p", PASSWORD)
    flow = workflow(world)
    _done(world, people["bench"], "benchmark", "submit", "--from", str(flow.folder), "-n", "studied")
    (benchmark,) = admin.benchmarks.list(name="studied")
    admin.benchmarks.decide(
        benchmark.id, Decision(approval=Approval.APPROVED, reason="fine"), idempotency_key="approve-it"
    )
    admin.close()
    folder = flow.model.parent
    parameters = folder / "workspace" / "parameters.yaml"
    _done(
        world, people["maker"], "mlcube", "submit", "-n", "alpha", "-m", str(folder / "mlcube.yaml"), "-p", str(parameters)
    )  # fmt: skip
    maker = world.api(people["maker"])
    alpha = maker.mlcubes.get(next(iter(maker.mlcubes.list(name="alpha"))).id)
    _done(world, people["maker"], "mlcube", "associate", "-b", str(benchmark.id), "-m", str(alpha.id), "--yes")
    (asked,) = maker.associations.list(model=alpha.id)
    report = maker.associations.get(asked.id).report
    maker.close()
    assert report is not None
    bench = world.api(people["bench"])
    _approve(bench, asked.id)
    bench.close()
    owners = (benchmark.owner.id, alpha.owner.id)
    made = Study(people, benchmark.id, benchmark.reference_model, alpha, report, owners)
    _warm(world, made)
    return made


def _done(world: World, person: Person, *words: str) -> None:
    done = inside(person, *words, *world.server.options)
    assert done.code == 0, (words, done.text)


def _approve(bench: MedPerfClient, association: int) -> None:
    body = AssociationDecision.of(status=Status.APPROVED)
    bench.associations.decide(association, body, idempotency_key=str(uuid.uuid4()))


def _warm(world: World, made: Study) -> None:
    """The data owner's home holds the benchmark's and the models' files, and ran them once."""
    scene = Scene(world, "warm", made.people["data"], world.folder / "warm", world.folder)
    scene.here.mkdir()
    _policy(scene, made)
    scene.kept["study"] = made
    _joined(scene, copied=True)
    _done(world, scene.person, "run", "-b", str(made.benchmark), "-d", "warm", "--yes")


# ----------------------------------------------------------------------------------------------------------------- scenes


def _policy(scene: Scene, made: Study, *, accept: str = "listed") -> None:
    owners = ", ".join(map(str, made.owners)) if accept == "listed" else ""
    scene.workspace.mkdir(mode=0o700, exist_ok=True)
    file = scene.workspace / "policy.toml"
    file.write_text(POLICY.format(accept=accept, owners=owners))
    file.chmod(0o600)


def _of(scene: Scene) -> Study:
    known: Study | None = scene.kept.get("study")
    return known or study(scene.world)


def _as(scene: Scene, who: str) -> None:
    """The scene is played by one of them."""
    scene.kept["study"] = study(scene.world)
    shutil.rmtree(scene.home)
    shutil.copytree(home_of(_of(scene).people[who]), scene.home, symlinks=True)


def _api(scene: Scene, who: str) -> MedPerfClient:
    return scene.world.api(_of(scene).people[who])


def _tell(scene: Scene, *words: str) -> Any:
    return scene.ask(*words)


def _records(scene: Scene, *, copied: bool = False) -> None:
    """Records that nobody else has."""
    if not copied:
        _as(scene, "data")
    (scene.here / "records").mkdir()
    (scene.here / "records" / "case0.txt").write_text(f"record of {scene.name}\n")
    (scene.here / "labels").mkdir()
    (scene.here / "labels" / "labels.csv").write_text("case0.txt,1\n")


def _create_words(scene: Scene) -> list[str]:
    folders = ["-d", str(scene.here / "records"), "-l", str(scene.here / "labels")]
    return ["dataset", "create", "-b", str(_of(scene).benchmark), *folders, "--name", scene.name]


def _created(scene: Scene, *, copied: bool = False) -> None:
    _records(scene, copied=copied)
    _tell(scene, *_create_words(scene))


def _submitted(scene: Scene, *, copied: bool = False) -> None:
    _created(scene, copied=copied)
    _tell(scene, "dataset", "submit", scene.name, "--yes")
    data = _api(scene, "data")
    (found,) = data.datasets.list(name=scene.name)
    scene.kept["id"] = found.id
    data.close()


def _asked(scene: Scene, *, copied: bool = False) -> None:
    _submitted(scene, copied=copied)
    _tell(scene, "dataset", "associate", scene.name, "-b", str(_of(scene).benchmark), "--yes")


def _joined(scene: Scene, *, copied: bool = False) -> None:
    _asked(scene, copied=copied)
    bench = _api(scene, "bench")
    _approve(bench, _association(scene, bench).id)
    bench.close()


def _ran(scene: Scene) -> None:
    _joined(scene)
    _tell(scene, *_run_words("run")(scene))


def _released(scene: Scene) -> None:
    _ran(scene)
    _tell(scene, "result", "submit", *_there(scene), "--yes")


def _person_agrees(before: Callable[[Scene], None]) -> Callable[[Scene], None]:
    """What a person is always asked about."""

    def made(scene: Scene) -> None:
        before(scene)
        scene.lines = ("y",) * 4

    return made


def _there(scene: Scene) -> list[str]:
    return ["-b", str(_of(scene).benchmark), "-d", scene.name]


def _run_words(*words: str) -> Callable[[Scene], list[str]]:
    def made(scene: Scene) -> list[str]:
        more = [] if words[0] == "benchmark" else ["-m", str(_of(scene).reference)]
        return [*words, *_there(scene), *more, "--yes"]

    return made


def _named(*words: str, more: tuple[str, ...] = ()) -> Callable[[Scene], list[str]]:
    """Words, the scene's name, more words; ``BENCHMARK`` is the benchmark's id, ``ID`` the one that was kept."""

    def made(scene: Scene) -> list[str]:
        known = {"BENCHMARK": str(_of(scene).benchmark), "ID": str(scene.kept.get("id", "")), "NAME": scene.name}
        return [known.get(word, word) for word in (*words, *more)]

    return made


# ----------------------------------------------------------------------------------------------------------------- checks


def _association(scene: Scene, api: MedPerfClient) -> AssociationView:
    """The only one of the scene's dataset."""
    (found,) = api.associations.list(dataset=scene.kept["id"])
    return api.associations.get(found.id)


def _one_here(scene: Scene, again: Ended) -> None:
    found = [one for one in scene.ask("dataset", "ls", "--local")["items"] if one["name"] == scene.name]
    assert len(found) == 1, found
    assert scene.ask("dataset", "check", scene.name, "--full")


def _one_there(scene: Scene, again: Ended) -> None:
    data = _api(scene, "data")
    (found,) = data.datasets.list(name=scene.name)
    assert found.statistics_digest is not None
    data.close()
    bodies = [one["kind"] for one in scene.ask("egress", "ls")["items"] if scene.name in one["about"]]
    assert sorted(bodies) == ["dataset_registration", "statistics"], bodies


def _is(status: Status, *, events: int, who: str = "data") -> Check:
    """The association has this status after so many events: nothing was decided twice."""

    def check(scene: Scene, again: Ended) -> None:
        api = _api(scene, who)
        found = _association(scene, api)
        assert (found.status, len(found.events or ())) == (status, events), found
        api.close()

    return check


def _dataset_is(**values: Any) -> Check:
    def check(scene: Scene, again: Ended) -> None:
        data = _api(scene, "data")
        view = data.datasets.get(scene.kept["id"])
        assert {name: getattr(view, name) for name in values} == values
        data.close()

    return check


def _measured(*, models: int = 1) -> Check:
    """Each execution has one attempt with metrics, and none that is open."""

    def check(scene: Scene, again: Ended) -> None:
        data = _api(scene, "data")
        found = [data.executions.get(one.id) for one in data.executions.list(dataset=scene.kept["id"])]
        assert len(found) == models
        for one in found:
            states = [attempt.state.value for attempt in one.attempts or ()]
            assert states.count("COMPLETED") == 1, states
            assert set(states) <= {"COMPLETED", "INTERRUPTED"}, states
        data.close()
        local = scene.ask("result", "ls", "--local")["items"]
        assert len([one for one in local if one["state"] == "UNDER_REVIEW"]) >= models, local

    return check


def _disclosed(wanted: Disclosure) -> Check:
    def check(scene: Scene, again: Ended) -> None:
        data = _api(scene, "data")
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


# ---------------------------------------------------------------------------------------------- associations, MLCubes


def _model(scene: Scene, *, state: State = State.OPERATION) -> int:
    """A model of the maker's like ``alpha``."""
    alpha, maker = _of(scene).alpha, _api(scene, "maker")
    same = {name: getattr(alpha, name) for name in MLCubeCreate.model_fields if name not in ("name", "owner", "state")}
    body = MLCubeCreate(**same | {"name": scene.name, "state": state})
    scene.kept["id"] = maker.mlcubes.create(body, idempotency_key=f"model-{scene.name}").id
    maker.close()
    return int(scene.kept["id"])


def _report(scene: Scene) -> CompatibilityReport:
    report = _of(scene).report
    model = report.model.model_copy(update={"mlcube": scene.kept["id"]})
    return report.model_copy(update={"model": model})


def _model_asked(scene: Scene) -> None:
    """A request of the maker's, and the benchmark's owner who decides."""
    _as(scene, "bench")
    model = _model(scene)
    maker = _api(scene, "maker")
    body = AssociationCreate(uuid=uuid.uuid4(), benchmark=_of(scene).benchmark, model=model, report=_report(scene))
    scene.kept["association"] = maker.associations.ask(body, idempotency_key=f"ask-{scene.name}").id
    maker.close()


def _model_joined(scene: Scene) -> None:
    _model_asked(scene)
    bench = _api(scene, "bench")
    _approve(bench, scene.kept["association"])
    bench.close()


def _model_of_bench(scene: Scene) -> None:
    _as(scene, "bench")
    _model(scene)


def _model_of_maker(state: State = State.OPERATION) -> Callable[[Scene], None]:
    def before(scene: Scene) -> None:
        _as(scene, "maker")
        _model(scene, state=state)

    return before


def _dataset_invited(scene: Scene) -> None:
    _submitted(scene)
    bench = _api(scene, "bench")
    body = AssociationInvite(uuid=uuid.uuid4(), dataset=scene.kept["id"])
    bench.associations.invite(_of(scene).benchmark, body, idempotency_key=f"invite-{scene.name}")
    bench.close()


def _model_is(status: Status, *, events: int, **values: Any) -> Check:
    def check(scene: Scene, again: Ended) -> None:
        bench = _api(scene, "bench")
        (found,) = bench.associations.list(model=scene.kept["id"])
        view = bench.associations.get(found.id)
        assert (view.status, len(view.events or ())) == (status, events), view
        assert {name: getattr(view, name) for name in values} == values
        bench.close()

    return check


def _cube_is(**values: Any) -> Check:
    def check(scene: Scene, again: Ended) -> None:
        maker = _api(scene, "maker")
        view = maker.mlcubes.get(scene.kept["id"])
        assert {name: getattr(view, name) for name in values} == values
        maker.close()

    return check


def _benchmark(scene: Scene) -> None:
    """Another benchmark of the same owner."""
    _as(scene, "bench")
    bench = _api(scene, "bench")
    view = bench.benchmarks.get(_of(scene).benchmark)
    same = {name: getattr(view, name) for name in BenchmarkCreate.model_fields if hasattr(view, name)}
    for name in ("name", "owner", "auto_models", "auto_datasets"):
        same.pop(name, None)
    body = BenchmarkCreate(**same | {"name": scene.name})
    scene.kept["id"] = bench.benchmarks.create(body, idempotency_key=f"benchmark-{scene.name}").id
    bench.close()


def _benchmark_is(**values: Any) -> Check:
    def check(scene: Scene, again: Ended) -> None:
        bench = _api(scene, "bench")
        view = bench.benchmarks.get(scene.kept["id"])
        assert {name: getattr(view, name) for name in values} == values
        bench.close()

    return check


# ------------------------------------------------------------------------------------------------------------------ sites


def _unaccepted(scene: Scene) -> None:
    """The policy has a person asked about models."""
    _as(scene, "data")
    _policy(scene, _of(scene), accept="ask")
    scene.lines = ("y",)


def _accepted(scene: Scene, again: Ended) -> None:
    found = scene.ask("model", "ls")["items"]
    assert [one["mlcube"] for one in found] == [_of(scene).alpha.id], found


def _still_measured(scene: Scene, again: Ended) -> None:
    """What waits for a decision is there, and can be released."""
    _tell(scene, "result", "submit", *_there(scene), "--yes")
    _disclosed(Disclosure.RELEASED)(scene, again)


def _site(scene: Scene) -> None:
    _as(scene, "data")


_MODEL = ("-b", "BENCHMARK", "-m", "ID")
_DATASET = ("-b", "BENCHMARK", "-d", "ID")
OWNERS: dict[str, Case] = {
    "dataset create": Case(_create_words, _one_here, before=_records, already=("dataset_exists",), kills=20),
    "dataset submit": Case(_named("dataset", "submit", "NAME", "--yes"), _one_there, before=_created, kills=16),
    "dataset associate": Case(
        _named("dataset", "associate", "NAME", "-b", "BENCHMARK", "--yes"),
        _is(Status.PENDING, events=1),
        before=_submitted,
        already=("already_asked",),
        kills=10,
    ),
    "dataset ls": Case(_named("dataset", "ls"), before=_site, kills=2),
    "dataset view": Case(_named("dataset", "view", "NAME"), before=_created, kills=2),
    "dataset check": Case(_named("dataset", "check", "NAME", "--full"), _one_here, before=_created, kills=6),
    "dataset edit": Case(
        _named("dataset", "edit", "NAME", "--site-label", "Site B", "--yes"),
        _dataset_is(site_label="Site B"),
        before=_submitted,
        kills=8,
    ),
    "dataset deactivate": Case(
        _named("dataset", "deactivate", "NAME", "--yes"), _dataset_is(is_active=False), before=_submitted, kills=6
    ),
    "dataset withdraw": Case(
        _named("dataset", "withdraw", "NAME", "--yes"), _is(Status.REVOKED, events=3), before=_joined, kills=8
    ),
    "association ls": Case(_named("association", "ls"), before=_site, kills=2),
    "association view": Case(_named("association", "view", *_MODEL), before=_model_asked, kills=2),
    "association approve": Case(
        _named("association", "approve", *_MODEL),
        _model_is(Status.APPROVED, events=2),
        before=_model_asked,
        kills=6,
    ),
    "association approve --dataset": Case(
        _named("association", "approve", *_DATASET, "--yes"),
        _is(Status.APPROVED, events=2),
        before=_dataset_invited,
        kills=8,
    ),
    "association reject": Case(
        _named("association", "reject", *_MODEL, "--reason", "too slow"),
        _model_is(Status.REJECTED, events=2),
        before=_model_asked,
        kills=4,
    ),
    "association cancel": Case(
        _named("association", "cancel", *_DATASET), _is(Status.CANCELLED, events=2), before=_asked, kills=6
    ),
    "association revoke": Case(
        _named("association", "revoke", *_MODEL), _model_is(Status.REVOKED, events=3), before=_model_joined, kills=4
    ),
    "association invite": Case(
        _named("association", "invite", *_MODEL),
        _model_is(Status.PENDING, events=1),
        before=_model_of_bench,
        already=("already_asked",),
        kills=6,
    ),
    "association set_priority": Case(
        _named("association", "set_priority", *_MODEL, "-p", "7"),
        _model_is(Status.APPROVED, events=2, priority=7),
        before=_model_joined,
        kills=4,
    ),
    "mlcube associate": Case(
        _named("mlcube", "associate", *_MODEL, "--yes"),
        _model_is(Status.PENDING, events=1),
        before=_model_of_maker(),
        already=("already_asked",),
        kills=10,
    ),
    "mlcube edit": Case(
        _named("mlcube", "edit", "ID", "--operation"),
        _cube_is(state=State.OPERATION),
        before=_model_of_maker(State.DEVELOPMENT),
        kills=4,
    ),
    "mlcube deactivate": Case(
        _named("mlcube", "deactivate", "ID"), _cube_is(is_valid=False), before=_model_of_maker(), kills=4
    ),
    "benchmark edit": Case(
        _named("benchmark", "edit", "ID", "--inactive"), _benchmark_is(is_active=False), before=_benchmark, kills=4
    ),
    "benchmark deactivate": Case(
        _named("benchmark", "deactivate", "ID"), _benchmark_is(is_active=False), before=_benchmark, kills=4
    ),
    "inbox": Case(_named("inbox"), before=_site, kills=2),
    "model accept": Case(
        lambda scene: ["model", "accept", str(_of(scene).alpha.id)], _accepted, before=_unaccepted, kills=8
    ),
    "model ls": Case(_named("model", "ls"), before=_site, kills=2),
    "run": Case(_run_words("run"), _measured(), before=_joined, kills=30),
    "benchmark run": Case(_run_words("benchmark", "run"), _measured(models=2), before=_joined, kills=16),
    "result create": Case(_run_words("result", "create"), _measured(), before=_joined, kills=8),
    "result submit": Case(
        lambda scene: ["result", "submit", *_there(scene), "-m", str(_of(scene).reference), "--yes"],
        _disclosed(Disclosure.RELEASED),
        before=_ran,
        kills=14,
    ),
    "result withhold": Case(
        lambda scene: ["result", "withhold", *_there(scene), "-m", str(_of(scene).reference), "--reason", "in doubt"],
        _disclosed(Disclosure.WITHHELD),
        before=_person_agrees(_ran),
        kills=10,
    ),
    "result retract": Case(
        lambda scene: ["result", "retract", *_there(scene), "-m", str(_of(scene).reference), "--reason", "wrong"],
        _disclosed(Disclosure.RETRACTED),
        before=_person_agrees(_released),
        kills=10,
    ),
    "result ls": Case(_named("result", "ls"), before=_site, kills=2),
    "result view": Case(_named("result", "view", "1"), before=_released, kills=2),
    "benchmark results": Case(_named("benchmark", "results", "BENCHMARK"), before=_site, kills=2),
    "benchmark leaderboard": Case(_named("benchmark", "leaderboard", "BENCHMARK"), before=_site, kills=2),
    "egress ls": Case(_named("egress", "ls"), before=_site, kills=2),
    "egress view": Case(_named("egress", "view", "1"), before=_site, kills=2),
    "storage ls": Case(_named("storage", "ls"), before=_site, kills=2),
    "storage cleanup": Case(
        _named("storage", "cleanup", "predictions", "steps", "downloads", "logs", "--yes"),
        _still_measured,
        before=_ran,
        kills=12,
    ),
}
