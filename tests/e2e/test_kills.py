"""Every command is killed, at points that it counts itself and at instants; the next command works, and nothing is there twice or half."""

from __future__ import annotations

import json
import random
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import kill_cases
import playing
import pytest
from kill_cases import LASTING, Case
from kill_cases_here import HERE
from kill_cases_more import MORE
from kill_cases_owners import OWNERS
from kills import Ended, Scene, World, inside, no_orphans
from people import Server, new_person

from medperf.cli.main import COMMANDS
from medperf.cli.runner import find_command

pytestmark = pytest.mark.timeout(900)
CASES = kill_cases.CASES | HERE | MORE | OWNERS
LONG_KILLS = sum(case.kills for case in CASES.values())
LISTINGS = ("mlcube ls", "mlcube ls --mine", "benchmark ls --mine", "asset ls --mine", "test ls", "status", "doctor")
#: In `make test` each is killed once; the long run kills all of them, again and again.
QUICK = (
    "login",
    "logout",
    "passwd",
    "test run",
    "mlcube submit",
    "mlcube view",
    "mlcube package",
    "mlcube create",
    "benchmark submit",
    "benchmark submit --from",
    "benchmark approve",
    "asset upload",
    "asset download",
    "asset cancel",
    "organisation create",
    "organisation accept",
    "user add",
    "profile create",
    "profile activate",
    "profile set",
    "profile delete",
    "server init",
    "server reset",
    "server seed",
    "tutorial setup",
    "tutorial setup --force",
    "dataset create",
    "dataset submit",
    "mlcube associate",
    "association approve",
    "run",
    "result submit",
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("kills")
    server = Server.start(new_person(folder / "operator"), folder / "data", playing.free_port())
    admin = new_person(folder / "admin")
    server.log_in(admin)
    made = World(server, admin, folder)
    yield made
    server.process.stop()
    seeded = made.shared.get("seeded")
    if seeded is not None:
        seeded.process.stop()


# --------------------------------------------------------------------------------------------------------------------- plan


def _leaves(command: Any, path: str) -> Iterator[str]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path
        return
    for name, entry in below.items():
        yield from _leaves(entry, f"{path} {name}")


def test_every_command_has_a_case() -> None:
    commands = {leaf for entry in COMMANDS for leaf in _leaves(find_command(entry.name), entry.name)}
    covered = {name.partition(" --")[0] for name in CASES} | LASTING
    assert commands - covered == set(), "give them a case in support/kill_cases.py"
    assert covered - commands == set()


def test_the_long_run_kills_often_enough() -> None:
    assert LONG_KILLS >= 200


# -------------------------------------------------------------------------------------------------------------------- kills


def scene_of(name: str, world: World) -> tuple[Case, Scene, list[str]]:
    case = CASES[name]
    scene = world.scene(person=kill_cases.person_of(case, world))
    case.before(scene)
    words = list(case.words(scene))
    return case, scene, [*words, *scene.options] if case.remote else words


def points_of(name: str, world: World) -> Ended:
    """The command, undisturbed."""

    def count() -> Ended:
        _, scene, words = scene_of(name, world)
        done = scene.run(*words, kill_at=0)
        assert done.code == 0, done.text
        return done

    found: Ended = world.once(f"points of {name}", count)
    return found


def recovers(case: Case, scene: Scene, words: list[str], said: str) -> None:
    """The next command works, and nothing is left of the dead one."""
    case.killed(scene)
    again = scene.run(*words, "--format", "json")
    if again.code:
        error = json.loads(again.text[again.text.index("{") :])["error"]
        assert error["code"] in case.already, (said, again.text)
    case.check(scene, again)
    for listing in LISTINGS:
        done = inside(scene.person, *listing.split(), *scene.options)
        assert done.code == 0, (said, listing, done.text)
    tidy(scene)


def tidy(scene: Scene) -> None:
    """Nothing temporary is left, nothing is held, nothing is unanswered, no database is damaged."""
    named = [path for path in scene.home.rglob("*") if path.name.startswith("tmp-")]
    hidden = [
        path
        for folder in (scene.home, scene.here)
        for path in folder.rglob(".*")
        if not (path.name.startswith(".") and path.name.endswith(".lock"))
    ]
    assert named + hidden + list(scene.temporary.iterdir()) == []
    for database in scene.home.glob("*/facts.db"):
        with closing(sqlite3.connect(database, timeout=60)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert connection.execute("SELECT task, holder FROM leases").fetchall() == []
            assert connection.execute("SELECT kind FROM pending").fetchall() == []


def kill_at_point(name: str, world: World, point: int, number: int = signal.SIGKILL) -> bool:
    """Kill a fresh scene there. False: it did not come so far (what others have done meanwhile is not done again)."""
    case, scene, words = scene_of(name, world)
    with no_orphans():
        ended = scene.run(*words, kill_at=point, number=number)
    said = f"{name}, point {ended.points[-1] if ended.points else point}, signal {number}, scene {scene.name}"
    if number == signal.SIGKILL and len(ended.points) >= point:
        assert ended.code == -signal.SIGKILL, (said, ended.text)
    recovers(case, scene, words, said)
    return len(ended.points) >= point


def kill_at_instant(name: str, world: World, seconds: float) -> bool:
    """Kill a fresh scene after so long. False: it had ended."""
    case, scene, words = scene_of(name, world)
    with no_orphans():
        ended = scene.run(*words, after=seconds)
    recovers(case, scene, words, f"{name}, after {seconds:.4f} s, scene {scene.name}")
    return ended.code == -signal.SIGKILL


@pytest.mark.xdist_group("kills")  # in one world; the many kills of the long run are worth a world in each process
@pytest.mark.parametrize("name", QUICK)
def test_killed_once(world: World, name: str, record_property: Callable[[str, object], None]) -> None:
    whole = points_of(name, world)
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # shown when it fails
    point = random.Random(seed).randint(1, max(len(whole.points), 1))
    assert kill_at_point(name, world, point)
    record_property("kills", 1)


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_killed_again_and_again(world: World, name: str, record_property: Callable[[str, object], None]) -> None:
    """Two thirds at points spread over all that it does, one third at instants spread over its time."""
    whole, case = points_of(name, world), CASES[name]
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    kills = 0
    count, wanted = len(whole.points), case.kills * 2 // 3
    for index in range(wanted if count else 0):
        # One in each stretch, so that every stretch is hit.
        point = chance.randint(1 + count * index // wanted, max(count * (index + 1) // wanted, 1))
        kills += kill_at_point(name, world, point)
    for _ in range(case.kills * 10):
        if kills == case.kills:
            break
        kills += kill_at_instant(name, world, chance.uniform(0.005, whole.seconds))
    assert kills == case.kills
    record_property("kills", kills)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.kills > 5])
def test_asked_to_end(world: World, name: str, number: signal.Signals) -> None:
    whole = points_of(name, world)
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    kill_at_point(name, world, random.Random(seed).randint(1, len(whole.points)), number)
