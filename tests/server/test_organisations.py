"""Organisations: members, rights and invitations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from medperf.domain import limits
from medperf.server.location import PostgresURL, remember
from medperf.server.parties.tables import memberships
from medperf.server.settings import Settings

from .conftest import Person, World, problem
from .organising import ALL, invite, join, make_organisation, member_path, members


def test_made_by_somebody(world: World, alice: Person, bob: Person) -> None:
    sent = alice.post("/organisations", {"name": " Hospital   A "})
    assert (sent.status_code, sent.headers["ETag"]) == (201, '"1"')
    made = sent.json()
    assert (made["name"], made["rights"], made["version"]) == ("Hospital A", ALL, 1)
    assert alice.get(f"/organisations/{made['id']}").json() == made
    assert alice.get("/organisations").json() == {"items": [made], "next": None}
    assert members(alice, made) == {"alice": ALL}
    assert bob.get("/organisations").json()["items"] == []
    problem(bob.get(f"/organisations/{made['id']}"), 404, "no_such_organisation")
    (seen,) = world.admin.get("/organisations").json()["items"]
    assert (seen["id"], seen["rights"]) == (made["id"], [])
    assert members(world.admin, made) == {"alice": ALL}
    # A person's party is no organisation.
    problem(alice.get(f"/organisations/{alice.party}"), 404, "no_such_organisation")
    problem(alice.get(f"/organisations/{alice.party}/members"), 404, "no_such_organisation")


def test_names_are_unique_for_people(world: World, alice: Person, bob: Person) -> None:
    first, other = make_organisation(alice), make_organisation(bob, "Hospital B")
    for taken in ("hospital a", "HOSPITAL  A", "\uff28ospital A", "Hospital\u00a0A"):
        problem(bob.post("/organisations", {"name": taken}), 409, "name_taken")
        problem(bob.patch(f"/organisations/{other['id']}", {"name": taken}, 1), 409, "name_taken")
    assert bob.get(f"/organisations/{other['id']}").json() == other
    # Its own name in other letters is its own to take.
    renamed = alice.patch(f"/organisations/{first['id']}", {"name": "HOSPITAL A"}, 1)
    assert (renamed.status_code, renamed.json()["name"], renamed.headers["ETag"]) == (200, "HOSPITAL A", '"2"')
    problem(alice.patch(f"/organisations/{first['id']}", {"name": "C"}, 1), 412, "edited_meanwhile")
    problem(alice.patch(f"/organisations/{first['id']}", {"name": "C"}), 428, "if_match_required")


def test_bad_names(alice: Person) -> None:
    names = ["", "  ", "12", "A\u200bB", "A\u202eB", "A\nB", "A\x7fB", "x" * 129, "\ufdfa" * 128, None, 3]
    for name in names:
        problem(alice.post("/organisations", {"name": name}), 400, "invalid_fields")
    assert alice.post("/organisations", {"name": "A\x00B"}).status_code == 400
    assert alice.get("/organisations").json()["items"] == []


def test_views_tell_persons_from_organisations(world: World, alice: Person, bob: Person) -> None:
    """An organisation may be called like a person: whoever looks sees which it is."""
    made = make_organisation(alice, "bob")
    theirs = alice.make_cube("model", owner=made["id"])
    his = bob.make_cube("model")
    assert theirs["owner"] == {"id": made["id"], "name": "bob", "kind": "organisation"}
    assert his["owner"] == {"id": bob.party, "name": "bob", "kind": "person"}
    listed = world.person("carol").get("/mlcubes").json()["items"]
    assert [one["owner"]["kind"] for one in listed] == ["organisation", "person"]


# --------------------------------------------------------------------------------------------------------- invitations


def test_invited_accepted_declined(alice: Person, bob: Person, world: World) -> None:
    made = make_organisation(alice)
    sent = invite(alice, made, "BOB", ["release", "operate"]).json()
    assert sent["organisation"] == {"id": made["id"], "name": "Hospital A", "kind": "organisation"}
    assert (sent["username"], sent["rights"]) == ("BOB", ["operate", "release"])
    assert alice.get(f"/organisations/{made['id']}/invitations").json()["items"] == [sent]
    assert bob.get("/invitations").json()["items"] == [sent]
    assert alice.get("/invitations").json()["items"] == []
    problem(alice.post(f"/invitations/{sent['id']}/answer", {"accept": True}), 404, "no_such_invitation")
    problem(world.admin.post(f"/invitations/{sent['id']}/answer", {"accept": True}), 404, "no_such_invitation")
    assert bob.post(f"/invitations/{sent['id']}/answer", {"accept": False}).json()["accepted"] is False
    assert members(alice, made) == {"alice": ALL}
    assert bob.get("/invitations").json()["items"] == []
    again = invite(alice, made, "bob", ["operate"]).json()
    headers = {"Idempotency-Key": "answered-1"}
    first = bob.post(f"/invitations/{again['id']}/answer", {"accept": True}, headers=headers)
    assert first.json()["rights"] == ["operate"]
    # The answer was lost: the same key gets it again. Without a key the invitation is gone.
    assert bob.post(f"/invitations/{again['id']}/answer", {"accept": True}, headers=headers).content == first.content
    problem(bob.post(f"/invitations/{again['id']}/answer", {"accept": True}), 404, "no_such_invitation")
    assert members(bob, made) == {"alice": ALL, "bob": ["operate"]}
    problem(invite(alice, made, "Bob", ["manage"]), 409, "already_member")
    problem(invite(alice, made, "alice", ["manage"]), 409, "already_member")


def test_an_invitation_does_not_tell_whether_there_is_an_account(world: World, alice: Person, bob: Person) -> None:
    made = make_organisation(alice)
    world.sql("UPDATE users SET is_active = (1 = 0) WHERE id = ?", world.person("carol").id)
    seen = []
    for name in ("bob", "dave", "carol"):
        sent = invite(alice, made, name, ["operate"])
        body = sent.json()
        ids = {body.pop("id"), body.pop("created_at"), body.pop("expires_at")}
        assert body.pop("username") == name
        seen.append((sent.status_code, body, len(ids), set(sent.headers)))
        problem(invite(alice, made, name, ["manage"]), 409, "already_invited")
    assert seen[0] == seen[1] == seen[2]
    needed = {
        name: world.statements(lambda name=name: invite(alice, made, name, ["operate"])) for name in ("admin", "x")
    }
    assert len(set(needed.values())) == 1
    listed = alice.get(f"/organisations/{made['id']}/invitations").json()["items"]
    assert [one["username"] for one in listed] == ["bob", "dave", "carol", "admin", "x"]
    # Whoever has the name later finds it.
    dave = world.person("dave")
    (waiting,) = dave.get("/invitations").json()["items"]
    assert dave.post(f"/invitations/{waiting['id']}/answer", {"accept": True}).status_code == 200


def test_expired_and_cancelled_invitations_are_gone(world: World, alice: Person, bob: Person) -> None:
    made = make_organisation(alice)
    sent = invite(alice, made, "bob", ["operate"]).json()
    world.sql("UPDATE invitations SET expires_at = '2020' WHERE id = ?", sent["id"])
    for answer in (
        bob.post(f"/invitations/{sent['id']}/answer", {"accept": True}),
        alice.send("DELETE", f"/organisations/{made['id']}/invitations/{sent['id']}"),
    ):
        problem(answer, 404, "no_such_invitation")
    assert bob.get("/invitations").json()["items"] == []
    assert alice.get(f"/organisations/{made['id']}/invitations").json()["items"] == []
    again = invite(alice, made, "bob", ["operate"]).json()
    other = make_organisation(bob, "Other")
    problem(bob.send("DELETE", f"/organisations/{other['id']}/invitations/{again['id']}"), 404, "no_such_invitation")
    assert alice.send("DELETE", f"/organisations/{made['id']}/invitations/{again['id']}").status_code == 204
    problem(bob.post(f"/invitations/{again['id']}/answer", {"accept": True}), 404, "no_such_invitation")


def test_who_manages_no_longer_has_no_open_invitations(world: World, alice: Person, bob: Person) -> None:
    carol = world.person("carol")
    for end in ("removed", "without manage"):
        made = make_organisation(alice, end)
        join(alice, made, bob, ["manage"])
        sent = invite(bob, made, "carol", ALL).json()
        if end == "removed":
            assert alice.send("DELETE", member_path(made, bob)).status_code == 204
        else:
            assert alice.patch(member_path(made, bob), {"rights": ["operate"]}).status_code == 200
        problem(carol.post(f"/invitations/{sent['id']}/answer", {"accept": True}), 404, "no_such_invitation")


def test_bad_invitations(alice: Person) -> None:
    made = make_organisation(alice)
    for body in ({}, {"username": "b"}, {"username": "b", "rights": []}, {"username": "b", "rights": ["own"]}):
        problem(alice.post(f"/organisations/{made['id']}/invitations", body), 400, "invalid_fields")


# -------------------------------------------------------------------------------------------------------------- members


def test_rights_are_replaced(alice: Person, bob: Person) -> None:
    made = make_organisation(alice)
    join(alice, made, bob, ["operate"])
    problem(alice.patch(member_path(made, bob), {"rights": []}), 400, "invalid_fields")
    changed = alice.patch(member_path(made, bob), {"rights": ["release", "manage"]})
    assert changed.json()["rights"] == ["manage", "release"]
    problem(bob.post("/mlcubes", bob.cube_body("model", owner=made["id"])), 403, "missing_right")
    assert bob.patch(f"/organisations/{made['id']}", {"name": "New"}, 1).status_code == 200
    problem(alice.patch(f"/organisations/{made['id']}/members/999", {"rights": ALL}), 404, "no_such_member")


def test_left_and_removed(alice: Person, bob: Person, world: World) -> None:
    made = make_organisation(alice)
    join(alice, made, bob, ["operate"])
    draft = bob.make_cube("model", state="DEVELOPMENT", owner=made["id"])
    problem(bob.send("DELETE", member_path(made, alice)), 403, "missing_right")
    assert bob.send("DELETE", member_path(made, bob)).status_code == 204
    problem(bob.send("DELETE", member_path(made, bob)), 404, "no_such_organisation")
    problem(bob.get(f"/mlcubes/{draft['id']}"), 404, "no_such_mlcube")
    assert bob.get("/mlcubes").json()["items"] == []
    problem(bob.post("/mlcubes", bob.cube_body("model", owner=made["id"])), 400, "unknown_owner")
    assert alice.get(f"/mlcubes/{draft['id']}").json()["owner"]["id"] == made["id"]
    join(alice, made, bob, ["release"])
    assert alice.send("DELETE", member_path(made, bob)).status_code == 204
    problem(alice.send("DELETE", member_path(made, bob)), 404, "no_such_member")
    # An admin is no member of it, and so cannot leave it.
    problem(world.admin.send("DELETE", member_path(made, world.admin)), 404, "no_such_member")


def test_the_last_manager_stays(alice: Person, bob: Person, world: World) -> None:
    made = make_organisation(alice)
    join(alice, made, bob, ["operate", "release"])
    problem(alice.send("DELETE", member_path(made, alice)), 409, "last_manager")
    problem(alice.patch(member_path(made, alice), {"rights": ["operate"]}), 409, "last_manager")
    assert alice.patch(member_path(made, alice), {"rights": ["manage"]}).json()["rights"] == ["manage"]
    assert alice.patch(member_path(made, bob), {"rights": ["manage"]}).status_code == 200
    # A manager whose account is disabled manages nothing.
    world.sql("UPDATE users SET is_active = (1 = 0) WHERE id = ?", bob.id)
    problem(alice.send("DELETE", member_path(made, alice)), 409, "last_manager")
    world.sql("UPDATE users SET is_active = (1 = 1) WHERE id = ?", bob.id)
    assert alice.send("DELETE", member_path(made, alice)).status_code == 204
    problem(bob.send("DELETE", member_path(made, bob)), 409, "last_manager")


def test_disabling_the_last_manager_is_said(alice: Person, bob: Person, world: World) -> None:
    first, second = make_organisation(alice, "First"), make_organisation(alice, "Second")
    join(alice, first, bob, ["operate"])
    refused = problem(world.admin.patch(f"/users/{alice.id}", {"is_active": False}), 409, "last_manager")
    assert f"{first['id']}, {second['id']}" in refused["detail"]
    assert alice.get("/me").json()["is_active"] is True
    # As long as somebody manages, an admin does not.
    path = member_path(first, bob)
    problem(world.admin.patch(path, {"rights": ["manage"]}), 403, "not_owner")
    problem(invite(world.admin, first, "eve", ["manage"]), 403, "not_owner")
    # An account that was taken over ends at once all the same; then an admin may appoint somebody.
    done = world.admin.patch(f"/users/{alice.id}", {"is_active": False, "leave_unmanaged": True})
    assert done.json()["is_active"] is False
    problem(bob.patch(path, {"rights": ALL}), 403, "missing_right")
    assert world.admin.patch(path, {"rights": ["manage"]}).status_code == 200
    assert bob.send("DELETE", member_path(first, alice)).status_code == 204
    problem(world.admin.patch(path, {"rights": ALL}), 403, "not_owner")
    assert invite(world.admin, second, "bob", ["manage"]).status_code == 201
    events = world.admin.get("/audit-events", params={"action": "user.disabled"}).json()["items"]
    assert events[-1]["data"]["unmanaged"] == [first["id"], second["id"]]


def test_disabling_others_is_no_matter(alice: Person, bob: Person, world: World) -> None:
    made = make_organisation(alice)
    join(alice, made, bob, ["manage"])
    assert world.admin.patch(f"/users/{alice.id}", {"is_active": False}).status_code == 200
    problem(world.admin.patch(f"/users/{bob.id}", {"is_active": False}), 409, "last_manager")


# --------------------------------------------------------------------------------------------------------------- limits


def test_limits(alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ORGANISATIONS_PER_USER", 2)
    monkeypatch.setattr(limits, "ORGANISATION_MEMBERS", 1)
    monkeypatch.setattr(limits, "ORGANISATION_INVITATIONS", 2)
    first = make_organisation(alice, "A")
    make_organisation(alice, "B")
    problem(alice.post("/organisations", {"name": "C"}), 409, "too_many_organisations")
    sent = invite(alice, first, "bob", ["manage"]).json()
    invite(alice, first, "b", ["manage"])
    problem(invite(alice, first, "c", ["manage"]), 409, "too_many_invitations")
    problem(bob.post(f"/invitations/{sent['id']}/answer", {"accept": True}), 409, "organisation_full")
    monkeypatch.setattr(limits, "ORGANISATION_MEMBERS", 2)
    make_organisation(bob, "D")
    make_organisation(bob, "E")
    problem(bob.post(f"/invitations/{sent['id']}/answer", {"accept": True}), 409, "too_many_organisations")
    assert bob.get("/invitations").json()["items"] == [sent]  # a refusal leaves it open


def test_what_was_made_counts_even_after_leaving(alice: Person, bob: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ORGANISATIONS_PER_USER", 1)
    made = make_organisation(alice, "A")
    join(alice, made, bob, ["manage"])
    assert alice.send("DELETE", member_path(made, alice)).status_code == 204
    problem(alice.post("/organisations", {"name": "B"}), 409, "too_many_organisations")


def test_pages(alice: Person, world: World) -> None:
    made = [make_organisation(alice, f"Hospital {letter}") for letter in "abcde"]
    for letter in "vwxyz":
        invite(alice, made[0], letter, ["operate"])
    for path, field, expected in (
        ("/organisations", "name", [one["name"] for one in made]),
        (f"/organisations/{made[0]['id']}/invitations", "username", list("vwxyz")),
    ):
        seen, after = [], None
        while True:
            page = alice.get(path, params={"limit": 2} | ({"after": after} if after else {})).json()
            assert len(page["items"]) <= 2
            seen += [one[field] for one in page["items"]]
            after = page["next"]
            if after is None:
                break
        assert seen == expected
    assert world.statements(lambda: alice.get("/organisations")) == 2
    assert world.statements(lambda: alice.get("/invitations")) == 2


def test_statements_do_not_grow(alice: Person, bob: Person, world: World) -> None:
    made = make_organisation(alice, "First")
    join(alice, made, bob, ["operate"])
    cube = bob.make_cube("model", owner=made["id"])
    calls: dict[str, Any] = {
        "members": lambda: alice.get(f"/organisations/{made['id']}/members"),
        "mlcube": lambda: bob.get(f"/mlcubes/{cube['id']}"),
        "mlcubes": lambda: bob.get("/mlcubes"),
        "organisations": lambda: bob.get("/organisations"),
    }
    before = {name: world.statements(call) for name, call in calls.items()}
    for number in range(5):
        other = make_organisation(alice, f"More {number}")
        join(alice, other, bob, ["operate"])
        bob.make_cube("model", name=f"net {number}", owner=other["id"])
    assert {name: world.statements(call) for name, call in calls.items()} == before


# ---------------------------------------------------------------------------------------------------------------- audit


def test_every_change_is_an_event_without_names(alice: Person, bob: Person, world: World) -> None:
    made = make_organisation(alice, "Secretive Hospital")
    alice.patch(f"/organisations/{made['id']}", {"name": "Renamed Hospital"}, 1)
    declined = invite(alice, made, "bob", ["manage"]).json()["id"]
    bob.post(f"/invitations/{declined}/answer", {"accept": False})
    cancelled = invite(alice, made, "bob", ["manage"]).json()["id"]
    alice.send("DELETE", f"/organisations/{made['id']}/invitations/{cancelled}")
    join(alice, made, bob, ["manage"])
    alice.patch(member_path(made, bob), {"rights": ["operate", "manage"]})
    alice.patch(member_path(made, bob), {"rights": ["operate", "manage"]})  # nothing changes: no event
    bob.send("DELETE", member_path(made, bob))
    join(alice, made, bob, ["manage"])
    alice.send("DELETE", member_path(made, bob))
    params = {"target": f"organisation:{made['id']}"}
    events = world.admin.get("/audit-events", params=params).json()["items"]
    assert [(one["action"], one["actor_id"]) for one in events] == [
        ("organisation.created", alice.id),
        ("organisation.renamed", alice.id),
        ("invitation.created", alice.id),
        ("invitation.declined", bob.id),
        ("invitation.created", alice.id),
        ("invitation.cancelled", alice.id),
        ("invitation.created", alice.id),
        ("invitation.accepted", bob.id),
        ("member.rights_changed", alice.id),
        ("member.left", bob.id),
        ("invitation.created", alice.id),
        ("invitation.accepted", bob.id),
        ("member.removed", alice.id),
    ]
    text = str([one["data"] for one in events])
    assert not any(name in text for name in ("alice", "bob", "Hospital"))
    assert events[8]["data"] == {"user": bob.id, "rights": ["manage", "operate"]}


def test_whoever_had_an_account_before_owns_their_party(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    """The migration of a server that has accounts."""
    from alembic import command

    from medperf.server.maintenance import transact
    from medperf.server.migrate import migrate, migrations_config

    where = Settings(data=tmp_path)
    if database == "postgresql":
        cluster = request.getfixturevalue("cluster")
        cluster.execute("DROP DATABASE IF EXISTS older WITH (FORCE)", "CREATE DATABASE older")
        remember(where, PostgresURL.parse(cluster.url("older")))
    else:
        where.database_file.touch()
    people = [(1, "admin", True), (2, "alice", False)]

    def make(connection: sa.Connection) -> None:
        command.upgrade(migrations_config(connection), "0001")
        for number, name, active in people:
            party = number + 10
            connection.exec_driver_sql(f"INSERT INTO parties VALUES ({party}, 'person', '{name}', '2026')")
            flags = "(1 = 1)", f"(1 = {int(active)})"
            values = f"{number}, '{name}', '{name}', NULL, 'x', {flags[0]}, {flags[1]}, {party}, '2026', '2026'"
            connection.exec_driver_sql(f"INSERT INTO users VALUES ({values})")

    transact(where, make)
    transact(where, migrate)
    rows = transact(where, lambda connection: connection.execute(sa.select(memberships)).all())
    assert sorted(tuple(row) for row in rows) == [
        (number, number + 10, True, True, True, "2026", "2026") for number, _, _ in people
    ]


def test_accounts_that_were_made_at_the_start_own_their_party(world: World) -> None:
    """Also the first admin, who is made by the program and not by a request."""
    query = "SELECT count(*) FROM users LEFT JOIN memberships USING (party_id) WHERE memberships.user_id = users.id"
    assert world.sql(query)[0][0] == world.sql("SELECT count(*) FROM users")[0][0] == 1
    assert world.admin.make_cube("model")["owner"]["name"] == "admin"
    assert world.login("admin", "admin").get("/mlcubes", params={"owner": "me"}).json()["items"]
