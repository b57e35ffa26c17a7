"""One case per command: how it is called, how its second try may end, and what must hold afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kills import Ended, Scene, World, home_of, inside
from people import Person, new_person

from medperf.client.credentials import FileCredentialStore
from medperf.domain.states import Approval
from medperf.testing.workflows import Workflow, make_demo, make_workflow
from medperf.wire.models import BenchmarkCreate, BenchmarkView, UserCreate, UserUpdate

PASSWORD, OTHER_PASSWORD = "first-Secret-1", "second-Secret-2"
Check = Callable[[Scene, Ended], None]


def _nothing(scene: Scene) -> None: ...


def _well(scene: Scene, again: Ended) -> None: ...


@dataclass(frozen=True)
class Case:
    """What is killed.

    Attributes:
        words: the command line, without the server's options unless ``remote``.
        check: after the second try: what the server and the disk hold.
        before: what must be there; not killed.
        killed: right after the kill: what must hold at once.
        already: codes with which the second try may say that it was done.
        kills: how often it is killed in the long run.
        shared: everybody's scene is in one home, whose steps are done.
    """

    words: Callable[[Scene], Sequence[str]]
    check: Check = _well
    before: Callable[[Scene], None] = _nothing
    killed: Callable[[Scene], None] = _nothing
    already: tuple[str, ...] = ()
    kills: int = 6
    shared: bool = False
    remote: bool = True


# ------------------------------------------------------------------------------------------------- what several cases need


def workflow(world: World) -> Workflow:
    """Three MLCubes and data."""
    made: Workflow = world.once("workflow", lambda: make_workflow(world.folder / "workflow"))
    return made


def owner(world: World) -> Person:
    """Somebody who has submitted the workflow; all its steps are done in this home."""

    def make() -> Person:
        person = new_person(world.folder / "owner")
        assert inside(person, "login", "-u", "admin", "-p", "admin", *world.server.options).code == 0
        folder = str(workflow(world).folder)
        done = inside(person, "benchmark", "submit", "--from", folder, "-n", "first", *world.server.options)
        assert done.code == 0, done.text
        return person

    made: Person = world.once("owner", make)
    return made


def first_benchmark(world: World) -> BenchmarkView:
    """The benchmark of `owner`."""
    owner(world)
    with_api = world.api()
    found = with_api.benchmarks.get(next(iter(with_api.benchmarks.list(name="first"))).id)
    with_api.close()
    return found


def named(scene: Scene, noun: str, name: str | None = None) -> list[dict[str, Any]]:
    """The account's own things of this scene's name."""
    found: list[dict[str, Any]] = scene.ask(noun, "ls", "--mine")["items"]
    return [item for item in found if item["name"].startswith(name or scene.name)]


def one(noun: str, *, assets: int = 0) -> Check:
    """The server has exactly one, and only the uploads that belong to it."""

    def check(scene: Scene, again: Ended) -> None:
        found = named(scene, noun)
        assert len(found) == 1, found
        if again.code:
            assert str(found[0]["id"]) in again.text, again.text
        assert scene.ask(noun, "view", str(found[0]["id"]))["name"] == scene.name
        assert len(named(scene, "asset")) == assets

    return check


# ----------------------------------------------------------------------------------------------------------------- accounts


def _login_killed(scene: Scene) -> None:
    assert scene.ask("mlcube", "ls") is not None  # the old login or the new one, never half of one


def _logout_killed(scene: Scene) -> None:
    FileCredentialStore(scene.home).get("local")  # raises where it is half


def _logged_in(scene: Scene, again: Ended) -> None:
    assert scene.ask("mlcube", "ls", "--mine") is not None


def as_admin(scene: Scene) -> None:
    """Log the scene's person in as the admin."""
    done = inside(scene.person, "login", "-u", "admin", "-p", "admin", *scene.options)
    assert done.code == 0, done.text


def _logged_out(scene: Scene, again: Ended) -> None:
    assert FileCredentialStore(scene.home).get("local") is None
    as_admin(scene)


def _user(scene: Scene) -> None:
    api = scene.world.api()
    api.users.create(UserCreate(username=scene.name, password=PASSWORD))
    api.close()


def _disabled_user(scene: Scene) -> None:
    api = scene.world.api()
    user = api.users.create(UserCreate(username=scene.name, password=PASSWORD))
    api.users.update(user.id, UserUpdate(is_active=False))
    api.close()


def _as_user(scene: Scene) -> None:
    _user(scene)
    assert inside(scene.person, "login", "-u", scene.name, "-p", PASSWORD, *scene.options).code == 0
    scene.lines = (PASSWORD, OTHER_PASSWORD, OTHER_PASSWORD)


def _password_changed(scene: Scene, again: Ended) -> None:
    assert inside(scene.person, "login", "-u", scene.name, "-p", OTHER_PASSWORD, *scene.options).code == 0


def _user_there(scene: Scene, again: Ended) -> None:
    found = [user for user in scene.ask("user", "ls")["items"] if user["username"] == scene.name]
    assert len(found) == 1
    done = inside(scene.person, "login", "-u", scene.name, "-p", PASSWORD, *scene.options)
    assert done.code == 0, done.text
    as_admin(scene)


def _user_disabled(scene: Scene, again: Ended) -> None:
    found = [user for user in scene.ask("user", "ls")["items"] if user["username"] == scene.name]
    assert [user["is_active"] for user in found] == [False]


# ------------------------------------------------------------------------------------------------------- MLCubes, benchmarks


def _mlcube_words(scene: Scene) -> list[str]:
    folder = workflow(scene.world).model.parent
    parameters = folder / "workspace" / "parameters.yaml"
    return ["mlcube", "submit", "-n", scene.name, "-m", str(folder / "mlcube.yaml"), "-p", str(parameters)]


def _cube_folder(scene: Scene) -> None:
    shutil.copytree(workflow(scene.world).folder / "model", scene.here / "model")


def _packaged(scene: Scene, again: Ended) -> None:
    names = {"mlcube.yaml", "parameters.yaml", "project.tar.gz"}
    assert {path.name for path in (scene.here / "model" / "mlcube" / "deploy").iterdir()} == names
    assert (scene.here / "all.tar.gz").is_file()


def _created(scene: Scene, again: Ended) -> None:
    assert (scene.here / scene.name / "mlcube" / "mlcube.yaml").is_file()
    assert (scene.here / scene.name / "project" / "mlcube.py").is_file()


def _saved(scene: Scene, again: Ended) -> None:
    assert "name:" in (scene.here / "saved.yaml").read_text()


def _fetched(scene: Scene) -> None:
    """Everything but the sending was done before."""

    def warm() -> bool:
        words = _benchmark_words(scene)
        words[words.index("-n") + 1] = "second"
        assert inside(scene.person, *words, *scene.options).code == 0
        return True

    scene.world.once("fetched", warm)


def _benchmark_words(scene: Scene) -> list[str]:
    first = first_benchmark(scene.world)
    demo = scene.world.once("demo", lambda: make_demo(workflow(scene.world), scene.world.folder / "demo.tar.gz"))
    cubes = ["-p", str(first.preparator), "-m", str(first.reference_model), "-e", str(first.evaluator)]
    return ["benchmark", "submit", "-n", scene.name, "-d", "about", "--demo-url", str(demo), *cubes]


def _folder_words(scene: Scene) -> list[str]:
    return ["benchmark", "submit", "--from", str(workflow(scene.world).folder), "-n", scene.name]


def _whole_folder(scene: Scene, again: Ended) -> None:
    assert len(named(scene, "benchmark")) == 1
    assert sorted(cube["kind"] for cube in named(scene, "mlcube")) == ["evaluator", "model", "preparator"]
    assert len(named(scene, "asset")) == 10, [asset["name"] for asset in named(scene, "asset")]


def _pending(scene: Scene) -> None:
    """A benchmark of somebody else, and an admin who may decide about it."""
    first = first_benchmark(scene.world)
    other = ("name", "owner", "auto_models", "auto_datasets")
    same = {name: getattr(first, name) for name in BenchmarkCreate.model_fields if name not in other}
    api = scene.world.api()
    made = api.benchmarks.create(
        BenchmarkCreate(**same | {"name": scene.name}), idempotency_key=f"benchmark-{scene.name}"
    )
    api.users.create(UserCreate(username=scene.name, password=PASSWORD, is_admin=True))
    api.close()
    assert inside(scene.person, "login", "-u", scene.name, "-p", PASSWORD, *scene.options).code == 0
    scene.kept["id"] = str(made.id)


def _decided(wanted: Approval) -> Check:
    def check(scene: Scene, again: Ended) -> None:
        assert scene.ask("benchmark", "view", scene.kept["id"])["approval"] == wanted

    return check


def _asset_words(scene: Scene) -> list[str]:
    file = scene.here / f"{scene.name}.bin"
    file.write_bytes(scene.name.encode() * 1000)
    return ["asset", "upload", str(file)]


def _upload_killed(scene: Scene) -> None:
    """Once it is there and no longer pending, the same command again means another one."""
    pending = scene.ask("status")["pending"]
    scene.kept["done"] = len(named(scene, "asset")) if not pending else 0


def _uploaded(scene: Scene, again: Ended) -> None:
    assert len(named(scene, "asset")) == 1 + scene.kept["done"]


# ---------------------------------------------------------------------------------------------------------------------------


def _run_words(scene: Scene) -> list[str]:
    return workflow(scene.world).test_arguments()


def _tested(scene: Scene, again: Ended) -> None:
    found = scene.ask("test", "ls")["items"]
    # Who is asked to end notes that; who is killed cannot.
    assert {"passed"} <= {item["state"] for item in found} <= {"passed", "interrupted"}


def _first_id(noun: str) -> Callable[[Scene], list[str]]:
    def words(scene: Scene) -> list[str]:
        first = first_benchmark(scene.world)
        return [noun, "view", str(first.id if noun == "benchmark" else first.evaluator)]

    return words


def plain(*words: str) -> Callable[[Scene], list[str]]:
    """The same words in every scene."""
    return lambda scene: list(words)


CASES: dict[str, Case] = {
    "login": Case(plain("login", "-u", "admin", "-p", "admin"), _logged_in, killed=_login_killed, kills=14),
    "logout": Case(plain("logout"), _logged_out, before=as_admin, killed=_logout_killed, kills=8),
    "passwd": Case(plain("passwd"), _password_changed, before=_as_user, already=("bad_login",)),
    "status": Case(plain("status"), kills=3),
    "doctor": Case(plain("doctor"), kills=3),
    "test run": Case(_run_words, _tested, kills=30),
    "test ls": Case(plain("test", "ls"), kills=2, shared=True),
    "test view": Case(plain("test", "view"), kills=2, shared=True),
    "mlcube submit": Case(_mlcube_words, one("mlcube", assets=3), already=("name_taken",), kills=30),
    "mlcube ls": Case(plain("mlcube", "ls"), kills=2),
    "mlcube view": Case(lambda scene: [*_first_id("mlcube")(scene), "-o", "saved.yaml"], _saved, kills=4),
    "mlcube package": Case(
        plain("mlcube", "package", "model", "--output", "all.tar.gz"),
        _packaged,
        before=_cube_folder,
        kills=10,
        remote=False,
    ),
    "mlcube create": Case(
        lambda scene: ["mlcube", "create", "model", "--name", scene.name],
        _created,
        already=("folder_exists",),
        kills=8,
        remote=False,
    ),
    "benchmark submit": Case(
        _benchmark_words,
        one("benchmark", assets=1),
        before=_fetched,
        already=("name_taken",),
        kills=16,
        shared=True,
    ),
    "benchmark submit --from": Case(_folder_words, _whole_folder, already=("name_taken",), kills=24, shared=True),
    "benchmark ls": Case(plain("benchmark", "ls"), kills=2),
    "benchmark view": Case(_first_id("benchmark"), kills=2),
    "benchmark approve": Case(
        lambda scene: ["benchmark", "approve", scene.kept["id"]],
        _decided(Approval.APPROVED),
        before=_pending,
        already=("already_decided",),
        kills=4,
    ),
    "benchmark reject": Case(
        lambda scene: ["benchmark", "reject", scene.kept["id"], "--reason", "too small"],
        _decided(Approval.REJECTED),
        before=_pending,
        already=("already_decided",),
        kills=4,
    ),
    "asset upload": Case(_asset_words, _uploaded, killed=_upload_killed, kills=8),
    "asset ls": Case(plain("asset", "ls"), kills=2),
    "user add": Case(
        lambda scene: ["user", "add", scene.name, "-p", PASSWORD], _user_there, already=("username_taken",), kills=4
    ),
    "user ls": Case(plain("user", "ls"), kills=2),
    "user enable": Case(lambda scene: ["user", "enable", scene.name], _user_there, before=_disabled_user, kills=4),
    "user disable": Case(lambda scene: ["user", "disable", scene.name], _user_disabled, before=_user, kills=4),
}
#: Killed by tests of their own, for they do not end by themselves.
LASTING = {"server start"}


def person_of(case: Case, world: World) -> Person | None:
    """Whose home the case is played in; None: a copy of the admin's."""
    return Person(home_of(owner(world)).parent, owner(world).environ) if case.shared else None
