"""A submission that fails, however it fails, never poisons a listing: what is listed is what the server has, and the next try works."""

from __future__ import annotations

import json
import random
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import playing
import pytest
from cut_line import Line, When
from kill_cases import workflow
from kills import World, inside
from people import MEDPERF, Person, Server, new_person

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("submit")]
NOUNS = ("mlcube", "benchmark", "asset")
ASSETS = {"mlcube": 3, "benchmark": 10, "asset": 1}
SAMPLE = (("asset", "after", 0), ("benchmark", "before", 0))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("submit")
    server = Server.start(new_person(folder / "operator"), folder / "data", playing.free_port())
    admin = new_person(folder / "admin")
    server.log_in(admin)
    yield World(server, admin, folder)
    server.process.stop()


@pytest.fixture
def line(world: World) -> Iterator[Line]:
    made = Line(world.server.port)
    yield made
    made.close()


@pytest.fixture
def options(world: World, line: Line) -> tuple[str, ...]:
    return ("--server", f"https://localhost:{line.here}", "--certificate", str(world.server.data / "cert.crt"))


@pytest.fixture(scope="module")
def runner(world: World) -> Person:
    """Somebody whose steps are done, so that submitting is mostly sending."""
    person = new_person(world.folder / "runner")
    assert inside(person, "login", "-u", "admin", "-p", "admin", *world.server.options).code == 0
    words = ("benchmark", "submit", "--from", str(workflow(world).folder), "-n", "warm", *world.server.options)
    assert inside(person, *words).code == 0
    return person


@pytest.fixture(scope="module")
def whole_submission() -> dict[str, int]:
    """Noun -> bytes that a submission of it sends when nothing cuts it; found by the first who needs it."""
    return {}


def words_of(noun: str, name: str, world: World, here: Path) -> tuple[str, ...]:
    flow = workflow(world)
    if noun == "asset":
        (here / f"{name}.bin").write_bytes(name.encode() * 40_000)
        return ("asset", "upload", str(here / f"{name}.bin"))
    if noun == "benchmark":
        return ("benchmark", "submit", "--from", str(flow.folder), "-n", name)
    folder = flow.model.parent
    parameters = str(folder / "workspace" / "parameters.yaml")
    return ("mlcube", "submit", "-n", name, "-m", str(folder / "mlcube.yaml"), "-p", parameters)


def listed(person: Person, options: tuple[str, ...], noun: str) -> list[dict[str, Any]]:
    """What the listings say; both must work, and what they name can be looked at."""
    everything, own = (
        json.loads(person.medperf(noun, "ls", *more, *options, "--format", "json").text)["items"]
        for more in ((), ("--mine",))
    )
    assert everything == own  # everybody here is the admin
    found: list[dict[str, Any]] = own
    return found


def truth(world: World, noun: str) -> list[int]:
    api = world.api()
    part: Any = {"mlcube": api.mlcubes, "benchmark": api.benchmarks, "asset": api.assets}[noun]
    ids = [view.id for view in part.list()]
    api.close()
    return ids


def unpoisoned(world: World, person: Person, options: tuple[str, ...], name: str, noun: str) -> None:
    """All listings say what the server has; then the next try ends with exactly one."""
    for other in NOUNS:
        found = listed(person, options, other)
        assert [item["id"] for item in found] == truth(world, other)
        for item in found[-1:]:
            assert inside(person, other, "view", str(item["id"]), *options).code == 0
    assert inside(person, "test", "ls", *options).code == 0
    assert inside(person, "status", *options).code == 0


def submitted(
    world: World, person: Person, options: tuple[str, ...], name: str, noun: str, words: tuple[str, ...]
) -> None:
    again = person.medperf(*words, *options, "--format", "json")
    mine = [item for item in listed(person, options, noun) if item["name"].startswith(name)]
    if again.code:
        error = json.loads(again.text)["error"]
        assert error["code"] == "name_taken", again.text
        assert str(mine[0]["id"]) in error["what"] + error["fix"]
    assert len(mine) == (3 if noun == "mlcube" and words[0] == "benchmark" else 1), mine
    assets = [item for item in listed(person, options, "asset") if item["name"].startswith(name)]
    assert len(assets) == ASSETS[noun], [item["name"] for item in assets]
    unpoisoned(world, person, options, name, noun)


#: Cut at a random place (part 0), and in the long run at every quarter of what is sent.
CUTS = [
    pytest.param(noun, when, part, marks=() if (noun, when, part) in SAMPLE else pytest.mark.long)
    for part in range(5)
    for noun in NOUNS
    for when in ("before", "after")
]


@pytest.mark.parametrize(("noun", "when", "part"), CUTS)
def test_the_line_is_cut(
    world: World,
    line: Line,
    options: tuple[str, ...],
    runner: Person,
    whole_submission: dict[str, int],
    tmp_path: Path,
    noun: str,
    when: When,
    part: int,
) -> None:
    assert inside(runner, "login", "-u", "admin", "-p", "admin", *options).code == 0
    name = f"cut{part}-{noun}-{when}"
    line.mend()
    if noun not in whole_submission:
        whole = runner.medperf(*words_of(noun, f"whole-{noun}", world, tmp_path), *options)
        assert whole.code == 0, whole.text
        whole_submission[noun] = line.sent
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    total = whole_submission[noun]
    line.mend()
    # The first bytes are the greeting of the encrypted line; the part is where in the rest it is cut.
    line.cut_at = chance.randint(2000, total) if part == 0 else 2000 + (total - 2000) * part // 4
    line.when = when
    words = words_of(noun, name, world, tmp_path)
    failed = runner.medperf(*words, *options, "--format", "json")
    was_cut = line.is_cut
    line.mend()
    if was_cut and failed.code:
        error = json.loads(failed.text)["error"]
        assert failed.code == 1
        assert error["code"] in ("server_unavailable", "server_timeout", "connection_lost"), error
        assert error["fix"]
    unpoisoned(world, runner, options, name, noun)
    if failed.code:
        submitted(world, runner, options, name, noun, words)


@pytest.mark.parametrize("noun", ["mlcube", "benchmark"])
def test_a_wrong_digest(world: World, runner: Person, tmp_path: Path, noun: str) -> None:
    options, name = world.server.options, f"wrong-{noun}"
    assert inside(runner, "login", "-u", "admin", "-p", "admin", *options).code == 0
    if noun == "mlcube":
        wrong: tuple[str, ...] = ("--parameters-hash", "sha256:" + "0" * 64)
        words = words_of(noun, name, world, tmp_path)
    else:
        cubes = {
            item["kind"]: str(item["id"])
            for item in listed(runner, options, "mlcube")
            if item["name"].startswith("warm")
        }
        from medperf.testing.workflows import make_demo

        demo = make_demo(workflow(world), tmp_path / "demo.tar.gz")
        given = ("-p", cubes["preparator"], "-m", cubes["model"], "-e", cubes["evaluator"])
        words = ("benchmark", "submit", "-n", name, "-d", "about", "--demo-url", str(demo), *given)
        wrong = ("--demo-hash", "sha256:" + "0" * 64)
    error = runner.error(*words, *wrong, *options)
    assert error["code"] == "digest_mismatch"
    unpoisoned(world, runner, options, name, noun)
    assert [item for item in listed(runner, options, "asset") if item["name"].startswith(name)] == []
    assert runner.medperf(*words, *options).code == 0


def test_the_disk_is_full(world: World, tmp_path: Path) -> None:
    """MedPerf's home is on a disk of 8 MB that is full: every command says so or needs no room; with room again all of them work."""
    disk, here = tmp_path / "disk", tmp_path / "here"
    disk.mkdir()
    here.mkdir()
    person = Person(here, world.admin.environ | {"MEDPERF_HOME": str(disk / "home"), "TMPDIR": str(disk)})
    options = world.server.options
    login = ("login", "-u", "admin", "-p", "admin", *options)
    commands: dict[str, tuple[str, ...]] = {
        "login": login,
        "profile": ("profile", "create", "other", "--server", "https://medperf.example.org"),
        "mlcube": (*words_of("mlcube", "full", world, here), *options),
        "asset": (*words_of("asset", "full-asset", world, here), *options),
        "test": (*workflow(world).test_arguments(), *options),
        "init": ("server", "init", "--development", "--data", str(disk / "data")),
        "status": ("status", *options),
        "doctor": ("doctor", *options),
        "list": ("mlcube", "ls", *options),
        "tests": ("test", "ls", *options),
        "logout": ("logout", *options),
    }
    script = [
        f"cd {shlex.quote(str(here))}",
        shlex.join([str(MEDPERF), *login]),
        f"cat /dev/zero > {disk}/filler 2>/dev/null",
    ]
    for phase in ("full", "room"):
        for name, words in commands.items():
            said = f"{shlex.quote(str(here))}/{name}.{phase}"
            script.append(f"{shlex.join([str(MEDPERF), *words])} > {said} 2>&1; echo $? >> {said}")
        script += [f"rm {disk}/filler", shlex.join([str(MEDPERF), *login])] if phase == "full" else []
    bwrap = ["bwrap", "--dev-bind", "/", "/", "--size", "8000000", "--tmpfs", str(disk), "--chmod", "0755", str(disk)]
    done = subprocess.run(
        [*bwrap, "bash", "-c", "\n".join(script)],
        env=person.environ,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = {
        phase: {
            name: (here / f"{name}.{phase}").read_text() for name in commands if (here / f"{name}.{phase}").exists()
        }
        for phase in ("full", "room")
    }
    assert set(said["room"]) == set(commands), done.stderr
    for name, text in said["full"].items():
        assert "Traceback" not in text, text
        assert text.splitlines()[-1] in ("0", "1"), (name, text)
    for name in ("login", "profile", "mlcube", "asset", "test"):
        text = said["full"][name]
        assert text.splitlines()[-1] == "1", (name, text)
        assert "What to do" in text
        assert "space" in text, (name, text)
    for name, text in said["room"].items():
        assert text.splitlines()[-1] == ("1" if name == "doctor" else "0"), (
            name,
            text,
        )  # the doctor finds so small a disk low
