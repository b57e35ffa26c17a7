"""The same command twice at the same time, and commands that cut the ground from under each other: nobody is hurt, nothing is there twice."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import playing
import pytest
from kill_cases import workflow
from kills import Scene, World, inside
from people import Server, new_person

from medperf.client.credentials import FileCredentialStore
from medperf.testing.workflows import Workflow, make_demo

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("two-at-once")]
GUARD = 'if __name__ == "__main__":\n'


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("two")
    server = Server.start(new_person(folder / "operator"), folder / "data", playing.free_port())
    admin = new_person(folder / "admin")
    server.log_in(admin)
    yield World(server, admin, folder)
    server.process.stop()


@pytest.fixture
def scene(world: World) -> Scene:
    return world.scene()


def at_once(scene: Scene, *commands: tuple[str, ...]) -> list[tuple[int, Any]]:
    """Run them beside each other; (exit code, JSON answer or error) of each."""
    running = [scene.person.start(*words, "--format", "json") for words in commands]
    codes = [one.end(timeout=240) for one in running]
    answers = []
    for code, one in zip(codes, running, strict=True):
        document = json.loads(one.text)
        answers.append((code, document if code == 0 else document["error"]))
    return answers


def slow(flow: Workflow, name: str, seconds: float) -> None:
    program = flow.program(name)
    program.write_text(program.read_text().replace(GUARD, f"{GUARD}    import time\n\n    time.sleep({seconds})\n", 1))


def tidy(scene: Scene) -> None:
    assert [path for path in scene.home.rglob("*") if path.name.startswith("tmp-")] == []
    assert list(scene.temporary.iterdir()) == []
    for database in scene.home.glob("*/facts.db"):
        with closing(sqlite3.connect(database, timeout=60)) as connection:
            assert connection.execute("SELECT task FROM leases").fetchall() == []
            assert connection.execute("SELECT kind FROM pending").fetchall() == []


def mlcube(scene: Scene, name: str, *more: str) -> tuple[str, ...]:
    folder = workflow(scene.world).model.parent
    parameters = str(folder / "workspace" / "parameters.yaml")
    return ("mlcube", "submit", "-n", name, "-m", str(folder / "mlcube.yaml"), "-p", parameters, *scene.options, *more)


def mine(scene: Scene, noun: str) -> list[dict[str, Any]]:
    return [item for item in scene.ask(noun, "ls", "--mine")["items"] if item["name"].startswith(scene.name)]


# ------------------------------------------------------------------------------------------------------------- accounts


def test_logins(scene: Scene) -> None:
    words = ("login", "-u", "admin", "-p", "admin", *scene.options)
    assert [code for code, _ in at_once(scene, words, words, words)] == [0, 0, 0]
    assert scene.ask("mlcube", "ls") is not None
    assert {path.name for path in scene.home.glob(".cred*")} <= {".credentials.json.lock"}


def test_login_and_logout(scene: Scene) -> None:
    login = ("login", "-u", "admin", "-p", "admin", *scene.options)
    assert inside(scene.person, *login).code == 0  # a login of its own, which may end
    assert [code for code, _ in at_once(scene, login, ("logout", *scene.options))] == [0, 0]
    FileCredentialStore(scene.home).get("local")  # whole, whoever was last
    assert inside(scene.person, *login).code == 0


def test_login_while_a_command_runs(scene: Scene) -> None:
    words = ("login", "-u", "admin", "-p", "admin", *scene.options)
    submitted, login = at_once(scene, mlcube(scene, scene.name), words)
    assert (submitted[0], login[0]) == (0, 0), submitted
    assert len(mine(scene, "mlcube")) == 1


def test_logout_during_a_submission(scene: Scene) -> None:
    login = ("login", "-u", "admin", "-p", "admin", *scene.options)
    assert inside(scene.person, *login).code == 0
    submitted, logout = at_once(scene, mlcube(scene, scene.name), ("logout", *scene.options))
    assert logout[0] == 0
    if submitted[0]:
        assert submitted[1]["code"] in ("not_logged_in", "token_revoked", "bad_token"), submitted
        assert "medperf login" in submitted[1]["fix"]
    assert inside(scene.person, *login).code == 0
    found = mine(scene, "mlcube")
    assert len(found) == (0 if submitted[0] else 1)
    again = scene.run(*mlcube(scene, scene.name))
    assert again.code == (0 if submitted[0] else 1), again.text
    assert len(mine(scene, "mlcube")) == 1
    assert len(mine(scene, "asset")) == 3
    tidy(scene)


# ------------------------------------------------------------------------------------------------------------- profiles


def test_profile_edits(scene: Scene) -> None:
    edits = [("profile", "set", "local", "--timeout", f"{task}=60") for task in ("prepare", "infer", "evaluate")]
    edits += [("profile", "create", f"p{n}", "--server", "https://medperf.example.org") for n in range(3)]
    assert {code for code, _ in at_once(scene, *edits)} == {0}
    found = json.loads(inside(scene.person, "profile", "view", "local", "--format", "json").text)
    assert found["timeouts"] == {"prepare": 60, "infer": 60, "evaluate": 60}
    names = [
        item["name"] for item in json.loads(inside(scene.person, "profile", "ls", "--format", "json").text)["items"]
    ]
    assert sorted(names) == ["local", "p0", "p1", "p2"]


# ---------------------------------------------------------------------------------------------------------------- tests


def test_the_same_test_twice(scene: Scene, tmp_path: Path) -> None:
    """Each task is done once; the other command waits for it and says for what."""
    from medperf.testing.workflows import make_workflow

    flow = make_workflow(tmp_path / "workflow")
    for name in ("prep", "model", "metrics"):
        slow(flow, name, 0.4)
    words = (*flow.test_arguments(), *scene.options)
    first, second = scene.person.start(*words), scene.person.start(*words)
    assert (first.end(240), second.end(240)) == (0, 0), first.text + second.text
    assert "Waiting for process" in first.text + second.text
    assert "prepare of " in first.text + second.text
    starts = [line for text in (first.text, second.text) for line in text.splitlines() if "already done" in line]
    assert len(starts) == 5, first.text + second.text
    assert len(list(scene.workspace.glob("steps/" + "[0-9a-f]" * 64))) == 5
    tidy(scene)


def test_tests_that_share_a_part(scene: Scene, tmp_path: Path) -> None:
    from medperf.testing.workflows import make_workflow

    flows = [make_workflow(tmp_path / name) for name in ("one", "two")]
    slow(flows[1], "model", 0.1)
    runs = at_once(scene, *((*flow.test_arguments(), *scene.options) for flow in flows))
    assert [code for code, _ in runs] == [0, 0], runs
    assert len(list(scene.workspace.glob("steps/" + "[0-9a-f]" * 64))) < 10
    tidy(scene)


def test_whoever_waits_goes_on_when_the_other_is_killed(scene: Scene, tmp_path: Path) -> None:
    from medperf.testing.workflows import make_workflow

    flow = make_workflow(tmp_path / "workflow")
    slow(flow, "prep", 3)
    words = (*flow.test_arguments(), *scene.options)
    first = scene.person.start(*words, "--verbose")
    first.wait_for(r"(?m)^prepare \.\.\.", timeout=120)
    second = scene.person.start(*words, "--verbose")
    second.wait_for("Waiting for process", timeout=120)
    first.process.kill()
    first.end()
    assert second.end(240) == 0, second.text
    tidy(scene)


def test_ctrl_c_while_waiting(scene: Scene, tmp_path: Path) -> None:
    from medperf.testing.workflows import make_workflow

    flow = make_workflow(tmp_path / "workflow")
    slow(flow, "prep", 5)
    words = (*flow.test_arguments(), *scene.options)
    first = scene.person.start(*words, "--verbose")
    first.wait_for(r"(?m)^prepare \.\.\.", timeout=120)
    second = scene.person.start(*words, "--verbose")
    second.wait_for("Waiting for process", timeout=120)
    second.interrupt()
    assert second.end(60) == 130, second.text
    assert "which goes on" in second.text
    assert first.end(240) == 0, first.text
    tidy(scene)


# ---------------------------------------------------------------------------------------------------------- submissions


def test_mlcubes_of_one_name(scene: Scene) -> None:
    """The same person, the same files: one wins, the other hears so; nothing is left of it."""
    results = at_once(scene, *[mlcube(scene, scene.name)] * 3)
    assert 0 in [code for code, _ in results], results
    assert {answer["code"] for code, answer in results if code} <= {"name_taken"}, results
    assert len({answer["id"] for code, answer in results if code == 0}) == 1
    assert len(mine(scene, "mlcube")) == 1
    assert len(mine(scene, "asset")) == 3
    tidy(scene)


def test_mlcubes_of_one_name_from_two_machines(scene: Scene, world: World) -> None:
    other = world.scene()
    words = [mlcube(scene, scene.name), mlcube(scene, scene.name)]
    running = [
        person.start(*command, "--format", "json")
        for person, command in zip((scene.person, other.person), words, strict=True)
    ]
    codes = [one.end(240) for one in running]
    assert sorted(codes) == [0, 1], [one.text for one in running]
    loser = json.loads(running[codes.index(1)].text)["error"]
    assert loser["code"] == "name_taken"
    assert len(mine(scene, "mlcube")) == 1
    assert len(mine(scene, "asset")) == 3
    tidy(scene)
    tidy(other)


def test_uploads_of_one_file(scene: Scene) -> None:
    file = scene.here / f"{scene.name}.bin"
    file.write_bytes(scene.name.encode() * 100_000)
    results = at_once(scene, *[("asset", "upload", str(file), *scene.options)] * 2)
    assert [code for code, _ in results] == [0, 0], results
    assert {item["id"] for item in mine(scene, "asset")} == {answer["id"] for _, answer in results}
    tidy(scene)


def test_one_folder_submitted_twice(scene: Scene) -> None:
    words = ("benchmark", "submit", "--from", str(workflow(scene.world).folder), "-n", scene.name, *scene.options)
    results = at_once(scene, words, words)
    assert 0 in [code for code, _ in results], results
    assert {answer["code"] for code, answer in results if code} <= {"name_taken"}, results
    assert len(mine(scene, "benchmark")) == 1
    assert len(mine(scene, "mlcube")) == 3
    assert len(mine(scene, "asset")) == 10, [item["name"] for item in mine(scene, "asset")]
    tidy(scene)


def test_two_that_fetch_the_same_mlcubes(scene: Scene, world: World) -> None:
    words = ("benchmark", "submit", "--from", str(workflow(world).folder), "-n", scene.name, *scene.options)
    assert scene.run(*words).code == 0
    cubes = {item["kind"]: str(item["id"]) for item in mine(scene, "mlcube")}
    demo = make_demo(workflow(world), scene.here / "demo.tar.gz")
    given = ("-p", cubes["preparator"], "-m", cubes["model"], "-e", cubes["evaluator"])
    words = ("test", "run", *given, "--demo_dataset_url", str(demo), *scene.options)
    stranger = world.scene()  # nothing is fetched there yet
    results = at_once(stranger, words, words, words)
    assert [code for code, _ in results] == [0, 0, 0], results
    tidy(stranger)


# --------------------------------------------------------------------------------------------------------------- server


def test_one_data_folder_is_made_twice(scene: Scene) -> None:
    results = at_once(scene, *[("server", "init", "--development", "--data", "data")] * 3)
    assert sorted(code for code, _ in results) == [0, 1, 1], results
    assert {answer["code"] for code, answer in results if code} == {"already_initialised"}
    from kill_cases_here import starts

    starts(scene)


def test_one_data_folder_is_served_twice(scene: Scene) -> None:
    """Whatever the second says, the first goes on."""
    first = Server.start(new_person(scene.here / "first"), scene.here / "data", playing.free_port())
    try:
        second = scene.person.start("server", "start", "--data", "data", "--port", "0")
        try:
            second.wait_for("listening on|Error")
        finally:
            second.stop()
        assert "Traceback" not in second.text
        done = inside(scene.person, "login", "-u", "admin", "-p", "admin", *first.options)
        assert done.code == 0, done.text
    finally:
        first.process.stop()


def test_reset_during_a_submission(scene: Scene) -> None:
    server = Server.start(new_person(scene.here / "operator"), scene.here / "data", playing.free_port())
    try:
        server.log_in(scene.person)
        folder = workflow(scene.world).folder
        words = ("benchmark", "submit", "--from", str(folder), "-n", scene.name, *server.options)
        running = scene.person.start(*words, "--format", "json")
        server.reset()
        code = running.end(240)
        assert "Traceback" not in running.text
        assert code in (0, 1), running.text
        if code:
            assert json.loads(running.text)["error"]["fix"], running.text
        server.log_in(scene.person)
        again = scene.person.medperf(*words)
        assert again.code == 0, again.text
        listed = json.loads(scene.person.medperf("benchmark", "ls", "--mine", *server.options, "--format", "json").text)
        assert len(listed["items"]) == 1
    finally:
        server.process.stop()
