"""Cases of `kill_cases` about organisations, files on the server, accounts that go and the audit trail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kill_cases import PASSWORD, Case, as_admin, named
from kill_cases_here import QUICK_HASH, data_of, server_there, starts
from kills import Ended, Scene, inside

from medperf.domain.digests import Digest
from medperf.server import admin
from medperf.wire.assets import UploadCreate
from medperf.wire.models import UserCreate


def _made(scene: Scene, *, member: bool = False) -> None:
    """An organisation of the admin; with ``member``, the scene's user belongs to it too."""
    scene.kept["id"] = str(scene.ask("organisation", "create", scene.name)["id"])
    if member:
        _invited(scene)
        _as_guest(scene)
        scene.ask("organisation", "accept", scene.kept["invitation"])
        as_admin(scene)


def _invited(scene: Scene) -> None:
    """The scene's user is invited to the organisation."""
    if "id" not in scene.kept:
        _made(scene)
    api = scene.world.api()
    api.users.create(UserCreate(username=scene.name, password=PASSWORD))
    api.close()
    invitation = scene.ask("organisation", "invite", scene.kept["id"], scene.name, "--operate")
    scene.kept["invitation"] = str(invitation["id"])


def _as_guest(scene: Scene) -> None:
    assert inside(scene.person, "login", "-u", scene.name, "-p", PASSWORD, *scene.options).code == 0


def _guest_invited(scene: Scene) -> None:
    _invited(scene)
    _as_guest(scene)


def _guest_member(scene: Scene) -> None:
    _made(scene, member=True)
    _as_guest(scene)


def _members(scene: Scene) -> dict[str, Any]:
    as_admin(scene)
    found = scene.ask("organisation", "members", scene.kept["id"])["items"]
    return {item["username"]: item for item in found}


def _members_are(*names: str) -> Callable[[Scene, Ended], None]:
    def check(scene: Scene, again: Ended) -> None:
        assert set(_members(scene)) == {name or scene.name for name in names}
        assert scene.ask("organisation", "invitations", scene.kept["id"])["items"] == []

    return check


def _one_organisation(scene: Scene, again: Ended) -> None:
    found = [item for item in scene.ask("organisation", "ls")["items"] if item["name"].startswith(scene.name)]
    assert len(found) == 1, found


def _one_invitation(scene: Scene, again: Ended) -> None:
    assert len(scene.ask("organisation", "invitations", scene.kept["id"])["items"]) == 1


def _rights(scene: Scene, again: Ended) -> None:
    assert _members(scene)[scene.name]["rights"] == ["release"]


def _organisation(*words: str) -> Callable[[Scene], list[str]]:
    """``ID``, ``NAME`` and ``INVITATION`` stand for those of the scene."""

    def made(scene: Scene) -> list[str]:
        known = {
            "ID": scene.kept.get("id", ""),
            "NAME": scene.name,
            "INVITATION": scene.kept.get("invitation", ""),
        }
        return ["organisation", *(known.get(word, word) for word in words)]

    return made


def _asset(scene: Scene) -> None:
    file = scene.here / f"{scene.name}.bin"
    file.write_bytes(scene.name.encode() * 100_000)
    scene.kept["asset"] = str(scene.ask("asset", "upload", str(file))["id"])


def _asset_words(*words: str) -> Callable[[Scene], list[str]]:
    return lambda scene: ["asset", words[0], scene.kept["asset"], *words[1:]]


def _downloaded(scene: Scene, again: Ended) -> None:
    assert (scene.here / "copy").read_bytes() == (scene.here / f"{scene.name}.bin").read_bytes()


def _deleted(scene: Scene, again: Ended) -> None:
    assert named(scene, "asset") == []


def _user(scene: Scene) -> None:
    api = scene.world.api()
    api.users.create(UserCreate(username=scene.name, password=PASSWORD))
    api.close()


def _erased(scene: Scene, again: Ended) -> None:
    assert [user for user in scene.ask("user", "ls")["items"] if user["username"] == scene.name] == []


def _verified(scene: Scene, again: Ended) -> None:
    done = inside(scene.person, "server", "audit", "verify", "--data", str(data_of(scene)))
    assert done.code == 0, done.text


def _served(scene: Scene, again: Ended) -> None:
    _verified(scene, again)
    starts(scene)


def _cancellable(scene: Scene) -> None:
    """An upload that was announced, and of which nothing has come yet."""
    body = UploadCreate(name=scene.name, size=1000, digest=str(Digest.of(scene.name.encode())))
    api = scene.world.api()
    scene.kept["upload"] = api.uploads.create(body, idempotency_key=f"upload-{scene.name}").id
    api.close()


def _restored(scene: Scene) -> None:
    """The database is an older one than this folder has seen."""
    server_there(scene)
    database = data_of(scene) / "db.sqlite3"
    seal = ("server", "audit", "seal", "--data", str(data_of(scene)))
    assert inside(scene.person, *seal).code == 0
    older = database.read_bytes()
    admin.reset(data_of(scene), password_cost=QUICK_HASH)
    assert inside(scene.person, *seal).code == 0
    for file in data_of(scene).glob("db.sqlite3*"):
        file.unlink()
    database.write_bytes(older)


def _cancelled(scene: Scene, again: Ended) -> None:
    assert scene.kept["upload"] not in [item["id"] for item in scene.ask("asset", "quota")["unfinished"]]


GONE = ("no_such_invitation", "not_found")
MORE: dict[str, Case] = {
    "organisation create": Case(_organisation("create", "NAME"), _one_organisation, already=("name_taken",), kills=4),
    "organisation ls": Case(_organisation("ls"), kills=2),
    "organisation view": Case(_organisation("view", "ID"), before=_made, kills=2),
    "organisation rename": Case(
        _organisation("rename", "ID", "NAME"),
        lambda scene, again: _one_organisation(scene, again),
        before=_made,
        kills=4,
    ),
    "organisation members": Case(_organisation("members", "ID"), before=_made, kills=2),
    "organisation invite": Case(
        _organisation("invite", "ID", "admin2"), _one_invitation, before=_made, already=("already_invited",), kills=4
    ),
    "organisation invitations": Case(_organisation("invitations", "ID"), before=_made, kills=2),
    "organisation accept": Case(
        _organisation("accept", "INVITATION"), _members_are("admin", ""), before=_guest_invited, already=GONE, kills=4
    ),
    "organisation decline": Case(
        _organisation("decline", "INVITATION"), _members_are("admin"), before=_guest_invited, already=GONE, kills=4
    ),
    "organisation cancel-invitation": Case(
        _organisation("cancel-invitation", "ID", "INVITATION"),
        _members_are("admin"),
        before=_invited,
        already=GONE,
        kills=4,
    ),
    "organisation set-rights": Case(
        _organisation("set-rights", "ID", "NAME", "--release"),
        _rights,
        before=lambda scene: _made(scene, member=True),
        kills=4,
    ),
    "organisation remove": Case(
        _organisation("remove", "ID", "NAME"),
        _members_are("admin"),
        before=lambda scene: _made(scene, member=True),
        already=("no_such_member",),
        kills=4,
    ),
    "organisation leave": Case(
        _organisation("leave", "ID"),
        _members_are("admin"),
        before=_guest_member,
        already=("no_such_organisation", "unknown_organisation", "no_such_member"),
        kills=4,
    ),
    "asset view": Case(_asset_words("view"), before=_asset, kills=2),
    "asset download": Case(
        _asset_words("download", "--output", "copy"), _downloaded, before=_asset, already=("file_exists",), kills=12
    ),
    "asset delete": Case(
        _asset_words("delete"), _deleted, before=_asset, already=("no_such_asset", "not_found"), kills=4
    ),
    "asset quota": Case(lambda scene: ["asset", "quota"], kills=2),
    "asset cancel": Case(
        lambda scene: ["asset", "cancel", scene.kept["upload"]],
        _cancelled,
        before=_cancellable,
        already=("no_such_upload", "upload_gone"),
        kills=3,
    ),
    "user erase": Case(
        lambda scene: ["user", "erase", scene.name, "--yes"],
        _erased,
        before=_user,
        already=("unknown_user", "already_erased"),
        kills=4,
    ),
    "server audit verify": Case(
        lambda scene: ["server", "audit", "verify", "--data", "data"], before=server_there, kills=3, remote=False
    ),
    "server audit seal": Case(
        lambda scene: ["server", "audit", "seal", "--data", "data"],
        _verified,
        before=server_there,
        kills=8,
        remote=False,
    ),
    "server audit key": Case(
        lambda scene: ["server", "audit", "key", "--data", "data"], before=server_there, kills=2, remote=False
    ),
    "server audit accept": Case(
        lambda scene: ["server", "audit", "accept", "--yes", "--data", "data"],
        _served,
        before=_restored,
        already=("nothing_to_accept",),
        kills=4,
        remote=False,
    ),
}
