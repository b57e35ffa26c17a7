"""What a hostile reader of this server tried, where it got somewhere: each stays closed."""

from __future__ import annotations

import contextlib
import os
import socket
import time

import pytest

from medperf.domain import limits
from medperf.domain.organisations import checked_name
from medperf.server import connection
from medperf.server.errors import TooMany
from medperf.server.limiter import network_of
from medperf.server.settings import Settings
from medperf.server.tokens.limiter import LoginLimiter

from .audit_trail import Trail
from .conftest import API, World, only, problem
from .organising import join, make_organisation, member_path
from .real import serving

CONTENT = b"sixteen bytes..."


# ------------------------------------------------------------------------------------------------- connections, addresses


@pytest.mark.parametrize("piece", [b"a: b\r\n" * 5000, b"x" * 30_000], ids=["many", "one"])
@only("sqlite", because="no database is asked")
def test_trailers_have_an_end(settings: Settings, piece: bytes) -> None:
    """Uvicorn keeps every trailer of a chunked body, without a login: 40 MB of them became 700 MB."""
    head = f"POST {API}/tokens HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n0\r\na: "
    much = piece * (64 * 1024**2 // len(piece))  # which no buffer between us takes
    with (
        serving(settings) as url,
        socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=20) as client,
    ):
        client.sendall(head.encode())
        with pytest.raises(ConnectionError):
            client.sendall(much)


@pytest.mark.parametrize("elsewhere", [False, True])
@only("sqlite", because="no database is asked")
def test_idle_connections_of_one_machine_keep_nobody_out(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    """A thousand of them, without a login, took every file that the process may open."""
    monkeypatch.setattr(connection.Connection, "most_connections", staticmethod(lambda: 16))
    if elsewhere:
        monkeypatch.setattr(connection, "_is_here", lambda _network: False)
    with serving(settings) as url, contextlib.ExitStack() as held:
        address = ("127.0.0.1", int(url.rpartition(":")[2]))
        for _ in range(4 if elsewhere else 16):
            held.enter_context(socket.create_connection(address, timeout=20))
        with socket.create_connection(address, timeout=20) as more, contextlib.suppress(ConnectionError):
            assert more.recv(1) == b""
        held.close()
        # They are forgotten when they end, so the next one is let in; when exactly is the kernel's business.
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(ConnectionError), socket.create_connection(address, timeout=20) as client:
                client.sendall(f"GET {API}/server HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                if client.recv(12) == b"HTTP/1.1 200":
                    break
            assert time.monotonic() < deadline


def test_one_listener_for_both_kinds_of_addresses_tells_people_apart() -> None:
    assert network_of("::ffff:192.0.2.1") == network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("::ffff:192.0.2.1") != network_of("::ffff:192.0.2.2")


def test_wrong_passwords_from_one_network_count_together() -> None:
    """One machine has 2**64 addresses of IPv6: with each its own bucket, passwords could be guessed as fast as logins go."""
    limiter = LoginLimiter(burst=3, refill_seconds=60)
    refused = 0
    for number in range(20):
        try:
            limiter.take("alice", f"2001:db8::{number:x}")
        except TooMany:
            refused += 1
    assert refused == 17
    limiter.forgive("alice", "2001:db8::ffff")
    limiter.take("alice", "2001:db8::1")


# ------------------------------------------------------------------------------------------------------- rights that ended


@pytest.mark.parametrize("how", ["removed", "without operate"])
def test_who_may_not_upload_any_more_keeps_no_upload_alive(world: World, how: str) -> None:
    """Else a former member could fill the disk in the name of an organisation, and keep its room and its places for ever."""
    alice, bob = world.person("alice"), world.person("bob")
    ours = make_organisation(alice)
    join(alice, ours, bob, ["operate", "release"])
    upload = bob.announce(CONTENT, owner=ours["id"]).json()["id"]
    assert bob.send_piece(upload, 0, CONTENT[:4]).status_code == 204
    if how == "removed":
        assert alice.send("DELETE", member_path(ours, bob)).status_code == 204
    else:
        assert alice.send("PATCH", member_path(ours, bob), json={"rights": ["release"]}).status_code == 200
    for answer in (
        bob.send_piece(upload, 4, CONTENT[4:]),
        bob.get(f"/uploads/{upload}"),
        bob.post(f"/uploads/{upload}/completion"),
        bob.send("DELETE", f"/uploads/{upload}"),
    ):
        problem(answer, 404, "no_such_upload")
    assert bob.get("/uploads").json()["items"] == []
    room = alice.get(f"/storage?owner={ours['id']}").json()
    assert (room["bytes"], room["uploads"]) == (0, 0)
    events = world.admin.get(f"/audit-events?target=upload:{upload}").json()["items"]
    assert [event["action"] for event in events] == ["upload.created", "upload.cancelled"]
    assert alice.announce(CONTENT, owner=ours["id"]).status_code == 201


def test_a_member_without_the_right_to_delete_pins_no_asset(world: World) -> None:
    """What a registered thing names can never be deleted; so to name it takes the right that deleting takes."""
    alice, bob = world.person("alice"), world.person("bob")
    ours = make_organisation(alice)
    join(alice, ours, bob, ["release"])
    ref = alice.upload(CONTENT, owner=ours["id"])
    asset = ref["urls"][0].removeprefix("asset:")
    assert bob.get(f"/assets/{asset}/content").content == CONTENT
    problem(bob.send("DELETE", f"/assets/{asset}"), 403, "missing_right")
    body = bob.cube_body("model")
    body["files"]["project"] = ref
    body["forms"] = {"python": {"project": ref["digest"]}}
    problem(bob.post("/mlcubes", body), 400, "unknown_asset")
    assert alice.send("DELETE", f"/assets/{asset}").status_code == 204


# ----------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "letter", ["\u034f", "\ufe0f", "\u3164", "\uffa0", "\u115f", "\u17b4", "\u180b", "\u2800", "\U000e0100"]
)
@only("sqlite", because="no database is asked")
def test_no_organisation_looks_like_another_by_letters_that_show_nothing(world: World, letter: str) -> None:
    make_organisation(world.admin, "Hospital A")
    for name in (f"Hospital A{letter}", f"Hos{letter}pital A"):
        problem(world.admin.post("/organisations", {"name": name}), 400, "invalid_fields")
    assert checked_name("Krankenhaus Ü, 東京") == "Krankenhaus Ü, 東京"


# ------------------------------------------------------------------------------------------------------------------ disk


@only("sqlite", because="PostgreSQL waits for its own disk")
def test_after_a_failed_wait_for_the_disk_nothing_is_promised(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel tells of pages that it could not write once, and then takes them for written: what follows them is not safe."""
    assert world.admin.post("/organisations", {"name": "Before"}).status_code == 201

    def fail(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(os, "fdatasync", fail)
        problem(world.admin.post("/organisations", {"name": "First"}), 500, "internal_error")
    problem(world.admin.post("/organisations", {"name": "Second"}), 500, "internal_error")
    assert world.admin.get("/organisations").status_code == 200


# ----------------------------------------------------------------------------------------------------------------- trail


def test_personal_values_go_with_an_erasure_only(world: World) -> None:
    """Who decided with which words, and from where somebody logged in, could be taken out of the trail without a trace."""
    trail, alice = Trail(world), world.person("alice")
    trail.seal()
    assert world.admin.send("PATCH", f"/users/{alice.id}", json={"is_active": False}).status_code == 200
    assert world.admin.send("DELETE", f"/users/{alice.id}/personal").status_code == 200
    assert trail.verify().ok  # erased after the last seal
    trail.seal()
    assert trail.verify().ok
    ((event,),) = trail.sql("SELECT min(event_id) FROM audit_personal")
    trail.sql("DELETE FROM audit_personal WHERE event_id = ?", event)
    fault = trail.verify().fault
    assert fault is not None
    assert (fault.kind.value, fault.event) == ("personal_removed", event)


# ------------------------------------------------------------------------------------------------------------- exhaustion


def test_a_page_has_an_end_however_long_its_things_are(world: World) -> None:
    """256 of the longest MLCubes were a page of 24 MB and more, in memory for as long as somebody reads it slowly; and the client
    refuses answers beyond 64 MB, so anybody could have broken everybody's listings."""
    alice = world.person("alice")
    body = alice.cube_body("model", upload=False)
    for ref in body["files"].values():
        ref["urls"] = [f"https://example.org/{'a' * 2000}{number}" for number in range(8)]
    body |= {"state": "OPERATION", "user_metadata": {"note": "x" * 60_000}}
    made = [alice.post("/mlcubes", body | {"name": f"cube {number:02}"}).json()["id"] for number in range(26)]
    for sort in ("id", "-id", "name", "-name"):
        found, pages, after = [], 0, ""
        while after is not None:
            answer = world.admin.get(f"/mlcubes?limit=256&sort={sort}" + (f"&after={after}" if after else ""))
            assert len(answer.content) <= limits.PAGE_BYTES
            found += [item["id"] for item in answer.json()["items"]]
            pages, after = pages + 1, answer.json()["next"]
        assert found == (made if not sort.startswith("-") else made[::-1])
        assert pages == 2


def test_a_thousand_faults_are_not_told_one_by_one(world: World) -> None:
    """To list them took more than a second for each megabyte, while nobody else's long body was read."""
    body = {f"field {number}": 4.0 for number in range(2000)}
    told = problem(world.admin.post("/mlcubes", body), 400, "invalid_fields")
    assert "2,0" in told["detail"]
    assert len(problem(world.admin.post("/mlcubes", {"a": 1, "b": 2}), 400, "invalid_fields")["errors"]) > 2
