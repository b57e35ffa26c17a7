"""An event for every change, in its transaction; nothing personal or secret in it; what is personal can be erased."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from medperf.server.app import create_app
from medperf.server.audit import commands
from medperf.server.audit.service import Action
from medperf.server.settings import Settings
from medperf.server.tables import metadata

from . import audit_executions, audit_joining
from .conftest import API, PASSWORD, Person, World, only, problem

#: In every name, password, address, reason and free text that the people of these tests write.
CANARY = "kanarie"
SECRET = f"{CANARY} is a long password"

#: Pieces of a file change nothing that is registered: the upload's beginning, completion and end are events. Signs of life stay as
#: little: what an attempt becomes is one.
NO_EVENT = {"PATCH /uploads/{upload_id}", "PUT /executions/{execution_id}/attempts/{number}/progress"}


class Cast:
    """A world in which everything that can be changed is there. Each method prepares one change and returns the request that makes it."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.admin = world.admin
        self.alice = self.account("alice")
        self.bob = self.account("bob")
        self.count = 0

    def account(self, name: str) -> Person:
        body = {"username": f"{CANARY}.{name}", "password": SECRET, "email": f"{CANARY}.{name}@example.org"}
        made = self.admin.post("/users", body)
        assert made.status_code == 201, made.text
        return self.world.login(body["username"], SECRET)

    def fresh(self, what: str = "") -> str:
        self.count += 1
        return f"{CANARY} {what} {self.count}"

    def cube(self, **changes: Any) -> dict[str, Any]:
        return self.alice.cube_body("model", name=self.fresh("cube"), user_metadata={"note": CANARY}, **changes)

    def benchmark(self) -> dict[str, Any]:
        name = self.fresh("benchmark")
        changes = {
            "description": f"{CANARY} words",
            "docs_url": f"https://{CANARY}.example.org/",
            "user_metadata": {CANARY: CANARY},
        }
        return self.alice.benchmark_body(name=name, **changes)

    def organisation(self) -> dict[str, Any]:
        made = self.alice.post("/organisations", {"name": self.fresh("organisation")})
        assert made.status_code == 201, made.text
        return dict(made.json())

    def invited(self, organisation: int) -> dict[str, Any]:
        body = {"username": self.bob.name, "rights": ["operate"]}
        made = self.alice.post(f"/organisations/{organisation}/invitations", body)
        assert made.status_code == 201, made.text
        return dict(made.json())

    def joined(self) -> int:
        organisation = int(self.organisation()["id"])
        invitation = self.invited(organisation)["id"]
        assert self.bob.post(f"/invitations/{invitation}/answer", {"accept": True}).status_code == 200
        return organisation

    def asset(self) -> str:
        return str(
            self.alice.upload(self.fresh("asset").encode(), name=f"{CANARY}.txt")["urls"][0].removeprefix("asset:")
        )

    def announced(self) -> tuple[str, bytes]:
        content = self.fresh("upload").encode()
        made = self.alice.announce(content, f"{CANARY}.bin")
        assert made.status_code == 201, made.text
        return made.json()["id"], content


Request = Callable[[], Any]


def login(cast: Cast) -> Request:
    return lambda: cast.world.client.post(f"{API}/tokens", json={"username": cast.alice.name, "password": SECRET})


def logout(cast: Cast) -> Request:
    person = cast.world.login(cast.bob.name, SECRET)
    return lambda: person.send("DELETE", "/tokens/current")


def change_password(cast: Cast) -> Request:
    return lambda: cast.bob.post("/me/password", {"current": SECRET, "new": SECRET})


def create_user(cast: Cast) -> Request:
    name = f"{CANARY}.{cast.fresh('user').split()[-1]}"
    body = {"username": name, "password": SECRET, "email": f"{name}@example.org"}
    return lambda: cast.admin.post("/users", body, headers={"Idempotency-Key": f"{CANARY}-{name}"})


def disable_user(cast: Cast) -> Request:
    person = cast.account(cast.fresh().split()[-1])
    return lambda: cast.admin.patch(f"/users/{person.id}", {"is_active": False})


def erase_user(cast: Cast) -> Request:
    person = cast.account(cast.fresh().split()[-1])
    assert cast.admin.patch(f"/users/{person.id}", {"is_active": False}).status_code == 200
    return lambda: cast.admin.send("DELETE", f"/users/{person.id}/personal")


def create_cube(cast: Cast) -> Request:
    body = cast.cube()
    return lambda: cast.alice.post("/mlcubes", body)


def update_cube(cast: Cast) -> Request:
    made = cast.alice.post("/mlcubes", cast.cube(state="DEVELOPMENT")).json()
    return lambda: cast.alice.patch(f"/mlcubes/{made['id']}", {"name": cast.fresh("renamed")}, made["version"])


def create_benchmark(cast: Cast) -> Request:
    body = cast.benchmark()
    return lambda: cast.alice.post("/benchmarks", body)


def update_benchmark(cast: Cast) -> Request:
    made = cast.alice.post("/benchmarks", cast.benchmark()).json()
    changes = {"user_metadata": {"note": CANARY}}
    return lambda: cast.alice.patch(f"/benchmarks/{made['id']}", changes, made["version"])


def decide_benchmark(cast: Cast) -> Request:
    made = cast.alice.post("/benchmarks", cast.benchmark()).json()
    body = {"approval": "REJECTED", "reason": f"{CANARY} reasons"}
    return lambda: cast.admin.post(f"/benchmarks/{made['id']}/decision", body)


def delete_asset(cast: Cast) -> Request:
    asset = cast.asset()
    return lambda: cast.alice.send("DELETE", f"/assets/{asset}")


def start_upload(cast: Cast) -> Request:
    content = cast.fresh().encode()
    return lambda: cast.alice.announce(content, f"{CANARY}.bin")


def append_to_upload(cast: Cast) -> Request:
    upload, content = cast.announced()
    return lambda: cast.alice.send_piece(upload, 0, content)


def complete_upload(cast: Cast) -> Request:
    upload, content = cast.announced()
    assert cast.alice.send_piece(upload, 0, content).status_code == 204
    return lambda: cast.alice.post(f"/uploads/{upload}/completion")


def cancel_upload(cast: Cast) -> Request:
    upload, _ = cast.announced()
    return lambda: cast.alice.send("DELETE", f"/uploads/{upload}")


def create_organisation(cast: Cast) -> Request:
    return lambda: cast.alice.post("/organisations", {"name": cast.fresh("organisation")})


def rename_organisation(cast: Cast) -> Request:
    made = cast.organisation()
    return lambda: cast.alice.patch(f"/organisations/{made['id']}", {"name": cast.fresh("renamed")}, made["version"])


def invite(cast: Cast) -> Request:
    made = cast.organisation()
    body = {"username": f"{CANARY}.nobody", "rights": ["operate"]}
    return lambda: cast.alice.post(f"/organisations/{made['id']}/invitations", body)


def cancel_invitation(cast: Cast) -> Request:
    organisation = cast.organisation()["id"]
    invitation = cast.invited(organisation)["id"]
    return lambda: cast.alice.send("DELETE", f"/organisations/{organisation}/invitations/{invitation}")


def answer_invitation(cast: Cast) -> Request:
    invitation = cast.invited(cast.organisation()["id"])["id"]
    return lambda: cast.bob.post(f"/invitations/{invitation}/answer", {"accept": False})


def set_rights(cast: Cast) -> Request:
    organisation = cast.joined()
    return lambda: cast.alice.patch(f"/organisations/{organisation}/members/{cast.bob.id}", {"rights": ["manage"]})


def remove_member(cast: Cast) -> Request:
    organisation = cast.joined()
    return lambda: cast.alice.send("DELETE", f"/organisations/{organisation}/members/{cast.bob.id}")


CHANGES: dict[str, Callable[[Cast], Request]] = {
    "POST /tokens": login,
    "DELETE /tokens/current": logout,
    "POST /me/password": change_password,
    "POST /users": create_user,
    "PATCH /users/{user_id}": disable_user,
    "DELETE /users/{user_id}/personal": erase_user,
    "POST /mlcubes": create_cube,
    "PATCH /mlcubes/{mlcube_id}": update_cube,
    "POST /benchmarks": create_benchmark,
    "PATCH /benchmarks/{benchmark_id}": update_benchmark,
    "POST /benchmarks/{benchmark_id}/decision": decide_benchmark,
    "DELETE /assets/{asset_id}": delete_asset,
    "POST /uploads": start_upload,
    "PATCH /uploads/{upload_id}": append_to_upload,
    "POST /uploads/{upload_id}/completion": complete_upload,
    "DELETE /uploads/{upload_id}": cancel_upload,
    "POST /organisations": create_organisation,
    "PATCH /organisations/{organisation_id}": rename_organisation,
    "POST /organisations/{organisation_id}/invitations": invite,
    "DELETE /organisations/{organisation_id}/invitations/{invitation_id}": cancel_invitation,
    "POST /invitations/{invitation_id}/answer": answer_invitation,
    "PATCH /organisations/{organisation_id}/members/{user_id}": set_rights,
    "DELETE /organisations/{organisation_id}/members/{user_id}": remove_member,
    **audit_joining.CHANGES,
    **audit_executions.CHANGES,
}


def test_every_changing_route_is_here(tmp_path: Path) -> None:
    changing = {
        f"{method} {route.path.removeprefix(API)}"
        for route in create_app(Settings(data=tmp_path)).routes
        for method in route.methods
        if method not in ("GET", "HEAD")
    }
    assert changing == set(CHANGES)


def count(world: World) -> int:
    return int(world.sql("SELECT count(*) FROM audit_events")[0][0])


def everything(world: World) -> dict[str, list[Any]]:
    """Every row of every table."""
    return {name: sorted(map(repr, map(tuple, world.sql(f"SELECT * FROM {name}")))) for name in metadata.tables}


def test_every_change_is_an_event_without_anything_personal(world: World) -> None:
    cast = Cast(world)
    for name, prepare in CHANGES.items():
        request = prepare(cast)
        before = count(world)
        answer = request()
        assert answer.status_code < 300, f"{name}: {answer.text}"
        assert count(world) - before == (name not in NO_EVENT), name
    rows = world.sql("SELECT at, action, target, data FROM audit_events")
    told = " ".join(str(tuple(row)) for row in rows)
    for person in (cast.alice, cast.bob, cast.admin):
        assert person.token not in told
    assert CANARY not in told
    log = world.settings.log_file.read_text()
    assert "/benchmarks" in log
    assert CANARY not in log
    assert cast.alice.token not in log
    known = {action.value for action in Action}
    assert {row[1] for row in rows} <= known
    assert all(re.fullmatch(r"[a-z]+(:[0-9a-f-]+)?", row[2]) for row in rows)


@contextmanager
def no_events(world: World) -> Any:
    """Whoever writes an event fails."""
    if world.cluster is None:
        world.sql("CREATE TRIGGER no_events BEFORE INSERT ON audit_events BEGIN SELECT RAISE(ABORT, 'no events'); END")
    else:
        world.sql(
            "CREATE FUNCTION no_events() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''no events''; END'"
        )
        world.sql("CREATE TRIGGER no_events BEFORE INSERT ON audit_events FOR EACH ROW EXECUTE FUNCTION no_events()")
    try:
        yield
    finally:
        world.sql("DROP TRIGGER no_events" + ("" if world.cluster is None else " ON audit_events"))
        if world.cluster is not None:
            world.sql("DROP FUNCTION no_events()")


def test_no_change_without_its_event(world: World) -> None:
    cast = Cast(world)
    ready = {name: prepare(cast) for name, prepare in CHANGES.items() if name not in NO_EVENT}
    # what ends a login, or renames, comes last
    with no_events(world):
        for name, request in ready.items():
            before = everything(world)
            answer = request()
            assert answer.status_code >= 500, f"{name}: {answer.status_code}"
            after = everything(world)
            changed = [table for table in before if before[table] != after[table]]
            assert changed == [], name
    for name, request in ready.items():
        if name != "POST /me/password":
            assert request().status_code < 300, f"{name}: the same request, now that events can be written"


# ------------------------------------------------------------------------------------------------------ personal values


def test_admins_see_what_is_personal_until_it_is_erased(world: World) -> None:
    cast = Cast(world)
    decide_benchmark(cast)()
    events = {event["action"]: event for event in world.admin.get("/audit-events?limit=256").json()["items"]}
    assert events["token.created"]["personal"] == {"address": "testclient"}
    assert events["benchmark.decided"]["personal"] == {"reason": f"{CANARY} reasons"}
    assert events["benchmark.decided"]["erased"] is False
    assert set(events["user.created"]["personal"]) == {"username", "email"}
    assert (events["mlcube.created"]["personal"], events["mlcube.created"]["erased"]) == (None, False)
    problem(cast.alice.get("/audit-events"), 403, "admin_only")


def test_erasing_an_account_leaves_nothing_of_the_person(world: World) -> None:
    cast = Cast(world)
    alice = cast.alice
    benchmark = alice.post("/benchmarks", cast.benchmark()).json()
    cube = alice.post("/mlcubes", cast.cube(), headers={"Idempotency-Key": "a-key-of-alice"}).json()
    again = {"username": f"{CANARY}.carol", "password": SECRET, "email": f"{CANARY}.carol@example.org"}
    carol_id = world.admin.post("/users", again, headers={"Idempotency-Key": "a-key-of-admin"}).json()["id"]
    organisation = cast.organisation()["id"]
    world.login(f"{CANARY}.carol", SECRET)
    invitation = {"username": f"{CANARY}.carol", "rights": ["operate"]}
    path = f"/organisations/{organisation}/invitations"
    assert alice.post(path, invitation, headers={"Idempotency-Key": "an-invitation"}).status_code == 201
    commands.seal(world.settings)
    for user in (alice.id, carol_id):
        problem(world.admin.send("DELETE", f"/users/{user}/personal"), 409, "still_active")
        assert world.admin.patch(f"/users/{user}", {"is_active": False, "leave_unmanaged": True}).status_code == 200
        erased = world.admin.send("DELETE", f"/users/{user}/personal")
        assert erased.status_code == 200, erased.text
        view = erased.json()
        assert (view["username"], view["email"], view["is_active"]) == (f"erased-{user}", None, False)
    for table in ("users", "parties", "tokens", "audit_personal", "idempotency_keys", "invitations", "audit_events"):
        rows = str([tuple(row) for row in world.sql(f"SELECT * FROM {table}")])
        for name in ("alice", "carol"):
            assert f"{CANARY}.{name}" not in rows, table
    assert world.sql("SELECT count(*) FROM tokens WHERE user_id = ?", alice.id)[0][0] == 0
    # what it owns is valid, under another name
    kept = world.admin.get(f"/benchmarks/{benchmark['id']}").json()
    assert (kept["name"], kept["owner"]["name"]) == (benchmark["name"], f"erased-{alice.id}")
    assert world.admin.get(f"/mlcubes/{cube['id']}").json()["is_valid"] is True
    # the trail is whole, before and after the next seal
    assert commands.verify(world.settings).ok
    commands.seal(world.settings)
    found = commands.verify(world.settings)
    assert (found.ok, found.unsealed) == (True, 0)
    events = [
        event for event in world.admin.get("/audit-events?limit=256").json()["items"] if event["actor_id"] == alice.id
    ]
    assert all(event["personal"] is None for event in events)
    assert any(event["erased"] for event in events if event["action"] == "token.created")
    # bob is still there
    assert cast.bob.get("/me").json()["username"] == f"{CANARY}.bob"


@only("sqlite", because="PostgreSQL writes over what is gone when it vacuums")
def test_what_was_erased_is_not_in_the_file_either(settings: Settings) -> None:
    with TestClient(create_app(settings)) as client:
        world = World(client, settings, None)
        cast = Cast(world)
        alice = cast.alice
        change = {"username": f"{CANARY}.other", "password": SECRET}
        world.admin.post("/users", change, headers={"Idempotency-Key": "a-key-of-admin"})
        world.admin.patch(f"/users/{alice.id}", {"is_active": False})
        assert world.admin.send("DELETE", f"/users/{alice.id}/personal").status_code == 200
    files = [file.read_bytes() for file in settings.data.glob("db.sqlite3*")]
    assert any(f"{CANARY}.bob".encode() in content for content in files)
    assert not any(f"{CANARY}.alice".encode() in content for content in files)


def test_an_erased_account_stays_erased(world: World) -> None:
    person = world.person("dora")
    world.admin.patch(f"/users/{person.id}", {"is_active": False})
    path = f"/users/{person.id}/personal"
    first = world.admin.send("DELETE", path).json()
    before = count(world)
    assert world.admin.send("DELETE", path).json() == first
    assert count(world) == before
    problem(world.admin.patch(f"/users/{person.id}", {"is_active": True}), 409, "account_erased")
    login = {"username": f"erased-{person.id}", "password": PASSWORD}
    problem(world.client.post(f"{API}/tokens", json=login), 401, "bad_login")
    problem(world.client.post(f"{API}/tokens", json=login | {"password": ""}), 401, "bad_login")
    problem(world.admin.post("/users", {"username": "Erased-9", "password": PASSWORD}), 400, "reserved_username")
    assert world.admin.post("/users", {"username": "dora", "password": PASSWORD}).status_code == 201


def test_nobody_erases_themselves_or_the_last_admin(world: World) -> None:
    root = world.person("root", admin=True)
    problem(root.send("DELETE", f"/users/{root.id}/personal"), 409, "still_active")
    problem(root.send("DELETE", f"/users/{world.admin.id}/personal"), 409, "still_active")
    problem(root.send("DELETE", "/users/4711/personal"), 404, "no_such_user")
    assert root.patch(f"/users/{world.admin.id}", {"is_active": False}).status_code == 200
    assert root.send("DELETE", f"/users/{world.admin.id}/personal").json()["is_admin"] is False
    problem(root.patch(f"/users/{root.id}", {"is_active": False}), 409, "own_account")


def test_checkpoints_are_for_every_account_and_events_are_not(world: World) -> None:
    person = world.person("eve")
    commands.seal(world.settings)
    (checkpoint,) = person.get("/audit-checkpoints").json()["items"]
    assert set(checkpoint) == {
        *("id", "version", "instance_id", "first_event", "last_event", "events", "root", "previous", "sealed_at"),
        *("key", "hash", "signature"),
    }
    assert checkpoint["hash"] == commands.verify(world.settings).head
    problem(person.get("/audit-events"), 403, "admin_only")


@pytest.mark.parametrize("personal", [False, True])
def test_an_event_costs_one_statement_and_a_second_one_where_something_is_personal(
    world: World, personal: bool
) -> None:
    from medperf.server.audit.service import record

    async def work() -> int:
        before = world.database.statements
        async with world.database.write() as tx:
            said = {"address": "10.0.0.1"} if personal else {"address": ""}
            await record(tx, 1, Action.TOKEN_CREATED, "token:1", personal=said)
        return int(world.database.statements - before)

    assert world.run(work) == 1 + personal
