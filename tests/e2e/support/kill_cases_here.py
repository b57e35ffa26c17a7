"""Cases of `kill_cases` about this machine: profiles, servers and tutorials."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import playing
from kill_cases import Case, Check, as_admin, plain
from kills import Ended, Scene, inside
from people import Server, new_person

from medperf.server import admin
from medperf.server.settings import PasswordCost

QUICK_HASH = PasswordCost(time=1, memory_kib=64, lanes=1)


# ----------------------------------------------------------------------------------------------------------------- profiles


def _profile(scene: Scene) -> None:
    words = ("profile", "create", "other", "--server", "https://medperf.example.org", "--timeout", "infer=60")
    assert inside(scene.person, *words).code == 0


def _profiles(**wanted: Any) -> Check:
    """The profile ``other`` as it must be at the end; None: gone."""

    def check(scene: Scene, again: Ended) -> None:
        done = inside(scene.person, "profile", "ls", "--format", "json")
        found = {item["name"]: item for item in json.loads(done.text)["items"]}
        if not wanted:
            assert set(found) == {"local"}
            return
        profile = json.loads(inside(scene.person, "profile", "view", "other", "--format", "json").text)
        profile |= {"active": found["other"]["active"]}
        assert {name: profile[name] for name in wanted} == wanted
        assert inside(scene.person, "profile", "activate", "local").code == 0

    return check


def _profile_killed(scene: Scene) -> None:
    assert inside(scene.person, "profile", "ls").code == 0  # whole, old or new


# --------------------------------------------------------------------------------------------------- servers on this machine


def _template(scene: Scene) -> Path:
    def make() -> Path:
        data = scene.world.folder / "template"
        admin.init(data, development=True, password_cost=QUICK_HASH)
        return data

    made: Path = scene.world.once("template", make)
    return made


def data_of(scene: Scene) -> Path:
    """Its data folder."""
    return scene.here / "data"


def server_there(scene: Scene) -> None:
    """A server that nobody runs."""
    shutil.copytree(_template(scene), data_of(scene))


def _old_or_new(scene: Scene) -> None:
    with closing(sqlite3.connect(data_of(scene) / "db.sqlite3", timeout=60)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("SELECT count(*) FROM settings").fetchone() == (1,)
        assert connection.execute("SELECT username FROM users").fetchall() == [("admin",)]


def starts(scene: Scene, *, password: str = "admin") -> None:
    """The server in the scene's data folder starts, and its admin logs in."""
    process = playing.Background(
        [str(scene.world.server.process.command[0]), "server", "start", "--data", str(data_of(scene)), "--port", "0"],
        environ=scene.person.environ,
        cwd=scene.here,
    )
    try:
        process.wait_for(r"listening on (\S+)")
        url = next(word for word in process.text.split() if word.startswith("https://"))
        options = ("--server", url, "--certificate", str(data_of(scene) / "cert.crt"))
        done = inside(scene.person, "login", "-u", "admin", "-p", password, *options)
        assert done.code == 0, done.text
    finally:
        process.stop()
    as_admin(scene)


def _seedable(scene: Scene) -> None:
    folder = scene.world.folder / "seeded"
    scene.world.once("seeded", lambda: Server.start(new_person(folder / "home"), folder / "data", playing.free_port()))
    admin.reset(folder / "data", password_cost=QUICK_HASH)


def _seed_words(scene: Scene) -> list[str]:
    server: Server = scene.world.shared["seeded"]
    return ["server", "seed", "--demo", "benchmark", "--server", server.url, "--cert", str(server.data / "cert.crt")]


def _seeded(scene: Scene, again: Ended) -> None:
    server: Server = scene.world.shared["seeded"]
    for name in ("testbenchmarkowner", "testmodelowner", "testdataowner"):
        assert inside(scene.person, "login", "-u", name, "-p", "test", *server.options).code == 0
    as_admin(scene)


def _tutorial_there(scene: Scene) -> None:
    assert inside(scene.person, "tutorial", "setup", "model").code == 0
    assert [path.name for path in scene.here.iterdir()] == ["medperf_tutorial"]


def _tutorial(scene: Scene, again: Ended) -> None:
    assert (scene.here / "medperf_tutorial" / "xrv_linear" / "mlcube" / "mlcube.yaml").is_file()


HERE: dict[str, Case] = {
    "profile ls": Case(plain("profile", "ls"), kills=2, remote=False),
    "profile create": Case(
        plain("profile", "create", "other", "--server", "https://medperf.example.org"),
        _profiles(server="https://medperf.example.org"),
        killed=_profile_killed,
        already=("profile_exists",),
        remote=False,
    ),
    "profile activate": Case(
        plain("profile", "activate", "other"),
        _profiles(active=True),
        before=_profile,
        killed=_profile_killed,
        remote=False,
    ),
    "profile set": Case(
        plain("profile", "set", "other", "--timeout", "infer=90"),
        _profiles(timeouts={"infer": 90}),
        before=_profile,
        killed=_profile_killed,
        remote=False,
    ),
    "profile view": Case(plain("profile", "view"), kills=2, remote=False),
    "profile delete": Case(
        plain("profile", "delete", "other"),
        _profiles(),
        before=_profile,
        killed=_profile_killed,
        already=("unknown_profile",),
        remote=False,
    ),
    "server init": Case(
        plain("server", "init", "--development", "--data", "data"),
        lambda scene, again: starts(scene),
        already=("already_initialised",),
        kills=14,
        remote=False,
    ),
    "server reset": Case(
        plain("server", "reset", "--yes", "--data", "data"),
        lambda scene, again: starts(scene),
        before=server_there,
        killed=_old_or_new,
        kills=8,
        remote=False,
    ),
    "server seed": Case(_seed_words, _seeded, before=_seedable, already=("already_seeded",), kills=6, remote=False),
    "tutorial setup": Case(
        plain("tutorial", "setup", "model"), _tutorial, already=("folder_exists",), kills=4, remote=False
    ),
    "tutorial setup --force": Case(
        plain("tutorial", "setup", "model", "--force"), _tutorial, before=_tutorial_there, kills=6, remote=False
    ),
}
