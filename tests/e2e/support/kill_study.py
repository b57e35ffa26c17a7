"""For kills of what data owners and model owners do: a benchmark that is approved, its owner, a model owner, a data owner.

Each of the three has a home in which everything ran once; a scene plays in a copy of it, with records, a model or a benchmark of its own.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass

from kill_cases import PASSWORD, workflow
from kills import Scene, World, home_of, inside
from people import Person, new_person

from medperf.client.client import MedPerfClient
from medperf.domain.associations import Status
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
    approve(bench, asked.id)
    bench.close()
    owners = (benchmark.owner.id, alpha.owner.id)
    made = Study(people, benchmark.id, benchmark.reference_model, alpha, report, owners)
    _warm(world, made)
    return made


def _done(world: World, person: Person, *words: str) -> None:
    done = inside(person, *words, *world.server.options)
    assert done.code == 0, (words, done.text)


def approve(bench: MedPerfClient, association: int) -> None:
    body = AssociationDecision.of(status=Status.APPROVED)
    bench.associations.decide(association, body, idempotency_key=str(uuid.uuid4()))


def _warm(world: World, made: Study) -> None:
    """The data owner's home holds the benchmark's and the models' files, and ran them once."""
    scene = Scene(world, "warm", made.people["data"], world.folder / "warm", world.folder)
    scene.here.mkdir()
    write_policy(scene, made)
    scene.kept["study"] = made
    joined(scene, copied=True)
    _done(world, scene.person, "run", "-b", str(made.benchmark), "-d", "warm", "--yes")


# ----------------------------------------------------------------------------------------------------------------- scenes


def write_policy(scene: Scene, made: Study, *, accept: str = "listed") -> None:
    owners = f"owners = {list(made.owners)}\n" if accept == "listed" else ""
    scene.workspace.mkdir(mode=0o700, exist_ok=True)
    file = scene.workspace / "policy.toml"
    file.write_text(POLICY.format(accept=accept) + owners)
    file.chmod(0o600)


def study_of(scene: Scene) -> Study:
    known: Study | None = scene.kept.get("study")
    return known or study(scene.world)


def play_as(scene: Scene, who: str) -> None:
    """The scene is played by one of them."""
    scene.kept["study"] = study(scene.world)
    shutil.rmtree(scene.home)
    shutil.copytree(home_of(study_of(scene).people[who]), scene.home, symlinks=True)


def api_of(scene: Scene, who: str) -> MedPerfClient:
    return scene.world.api(study_of(scene).people[who])


def records(scene: Scene, *, copied: bool = False) -> None:
    """Records that nobody else has."""
    if not copied:
        play_as(scene, "data")
    (scene.here / "records").mkdir()
    (scene.here / "records" / "case0.txt").write_text(f"record of {scene.name}\n")
    (scene.here / "labels").mkdir()
    (scene.here / "labels" / "labels.csv").write_text("case0.txt,1\n")


def create_words(scene: Scene) -> list[str]:
    folders = ["-d", str(scene.here / "records"), "-l", str(scene.here / "labels")]
    return ["dataset", "create", "-b", str(study_of(scene).benchmark), *folders, "--name", scene.name]


def created(scene: Scene, *, copied: bool = False) -> None:
    records(scene, copied=copied)
    scene.ask(*create_words(scene))


def submitted(scene: Scene, *, copied: bool = False) -> None:
    created(scene, copied=copied)
    scene.ask("dataset", "submit", scene.name, "--yes")
    data = api_of(scene, "data")
    (found,) = data.datasets.list(name=scene.name)
    scene.kept["id"] = found.id
    data.close()


def asked(scene: Scene, *, copied: bool = False) -> None:
    submitted(scene, copied=copied)
    scene.ask("dataset", "associate", scene.name, "-b", str(study_of(scene).benchmark), "--yes")


def joined(scene: Scene, *, copied: bool = False) -> None:
    asked(scene, copied=copied)
    bench = api_of(scene, "bench")
    approve(bench, association_of(scene, bench).id)
    bench.close()


def ran(scene: Scene) -> None:
    joined(scene)
    scene.ask(*run_words("run")(scene))


def released(scene: Scene) -> None:
    ran(scene)
    scene.ask("result", "submit", *there(scene), "--yes")


def person_agrees(before: Callable[[Scene], None]) -> Callable[[Scene], None]:
    """What a person is always asked about."""

    def made(scene: Scene) -> None:
        before(scene)
        scene.lines = ("y",) * 4

    return made


def there(scene: Scene) -> list[str]:
    return ["-b", str(study_of(scene).benchmark), "-d", scene.name]


def run_words(*words: str) -> Callable[[Scene], list[str]]:
    def made(scene: Scene) -> list[str]:
        models = [study_of(scene).reference, *([study_of(scene).alpha.id] if words[0] == "benchmark" else [])]
        return [*words, *there(scene), *(word for model in models for word in ("-m", str(model))), "--yes"]

    return made


def words_of(*words: str, more: tuple[str, ...] = ()) -> Callable[[Scene], list[str]]:
    """Words, the scene's name, more words; ``BENCHMARK`` is the benchmark's id, ``ID`` the one that was kept."""

    def made(scene: Scene) -> list[str]:
        known = {"BENCHMARK": str(study_of(scene).benchmark), "ID": str(scene.kept.get("id", "")), "NAME": scene.name}
        return [known.get(word, word) for word in (*words, *more)]

    return made


def association_of(scene: Scene, api: MedPerfClient) -> AssociationView:
    """The only one of the scene's dataset."""
    (found,) = api.associations.list(dataset=scene.kept["id"])
    return api.associations.get(found.id)


# ---------------------------------------------------------------------------------------------- associations, MLCubes


def add_model(scene: Scene, *, state: State = State.OPERATION) -> int:
    """A model of the maker's like ``alpha``."""
    alpha, maker = study_of(scene).alpha, api_of(scene, "maker")
    same = {name: getattr(alpha, name) for name in MLCubeCreate.model_fields if name not in ("name", "owner", "state")}
    body = MLCubeCreate(**same | {"name": scene.name, "state": state})
    scene.kept["id"] = maker.mlcubes.create(body, idempotency_key=f"model-{scene.name}").id
    maker.close()
    return int(scene.kept["id"])


def report_of(scene: Scene) -> CompatibilityReport:
    report = study_of(scene).report
    model = report.model.model_copy(update={"mlcube": scene.kept["id"]})
    return report.model_copy(update={"model": model})


def model_asked(scene: Scene) -> None:
    """A request of the maker's, and the benchmark's owner who decides."""
    play_as(scene, "bench")
    model = add_model(scene)
    maker = api_of(scene, "maker")
    body = AssociationCreate(
        uuid=uuid.uuid4(), benchmark=study_of(scene).benchmark, model=model, report=report_of(scene)
    )
    scene.kept["association"] = maker.associations.ask(body, idempotency_key=f"ask-{scene.name}").id
    maker.close()


def model_joined(scene: Scene) -> None:
    model_asked(scene)
    bench = api_of(scene, "bench")
    approve(bench, scene.kept["association"])
    bench.close()


def model_of_bench(scene: Scene) -> None:
    play_as(scene, "bench")
    add_model(scene)


def model_of_maker(state: State = State.OPERATION) -> Callable[[Scene], None]:
    def before(scene: Scene) -> None:
        play_as(scene, "maker")
        add_model(scene, state=state)

    return before


def dataset_invited(scene: Scene) -> None:
    submitted(scene)
    bench = api_of(scene, "bench")
    body = AssociationInvite(uuid=uuid.uuid4(), dataset=scene.kept["id"])
    bench.associations.invite(study_of(scene).benchmark, body, idempotency_key=f"invite-{scene.name}")
    bench.close()


def another_benchmark(scene: Scene) -> None:
    """Another benchmark of the same owner."""
    play_as(scene, "bench")
    bench = api_of(scene, "bench")
    view = bench.benchmarks.get(study_of(scene).benchmark)
    same = {name: getattr(view, name) for name in BenchmarkCreate.model_fields if hasattr(view, name)}
    for name in ("name", "owner", "auto_models", "auto_datasets"):
        same.pop(name, None)
    body = BenchmarkCreate(**same | {"name": scene.name})
    scene.kept["id"] = bench.benchmarks.create(body, idempotency_key=f"benchmark-{scene.name}").id
    bench.close()


# ------------------------------------------------------------------------------------------------------------------ sites


def unaccepted(scene: Scene) -> None:
    """The policy has a person asked about models."""
    play_as(scene, "data")
    write_policy(scene, study_of(scene), accept="ask")
    scene.lines = ("y",)


def site(scene: Scene) -> None:
    play_as(scene, "data")
