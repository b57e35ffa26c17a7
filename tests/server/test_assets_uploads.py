"""Files on their way to the server."""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from medperf.domain.digests import Digest

from .conftest import Person, World, problem
from .organising import join, make_organisation, member_path
from .test_assets import settle, stored, swept

CONTENT = bytes(range(256)) * 40
TYPE = "application/offset+octet-stream"


def started(person: Person, content: bytes = CONTENT, **fields: Any) -> str:
    answer = person.announce(content, **fields)
    assert answer.status_code == 201, answer.text
    assert (answer.json()["offset"], answer.headers["upload-offset"], answer.json()["asset"]) == (0, "0", None)
    return str(answer.json()["id"])


def complete(person: Person, upload_id: str) -> Any:
    return person.post(f"/uploads/{upload_id}/completion")


def events(world: World, action: str) -> list[Any]:
    return [entry for entry in world.admin.get("/audit-events?limit=256").json()["items"] if entry["action"] == action]


def test_piece_by_piece(world: World) -> None:
    alice = world.person("alice")
    upload_id = started(alice, name="weights.onnx")
    steps = [0, 1, 2, 255, 256, 4096, len(CONTENT) - 1, len(CONTENT), len(CONTENT)]
    for offset, end in itertools.pairwise(steps):
        answer = alice.send_piece(upload_id, offset, CONTENT[offset:end])
        assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(end))
        seen = alice.get(f"/uploads/{upload_id}")
        assert (seen.json()["offset"], seen.headers["upload-offset"]) == (end, str(end))
    assert [entry["id"] for entry in alice.get("/uploads").json()["items"]] == [upload_id]
    first, again = complete(alice, upload_id), complete(alice, upload_id)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert (first.json()["digest"], first.json()["size"], first.json()["name"]) == (
        Digest.of(CONTENT),
        len(CONTENT),
        "weights.onnx",
    )
    assert alice.get("/uploads").json()["items"] == []
    done = alice.get(f"/uploads/{upload_id}").json()
    assert (done["asset"], done["offset"]) == (first.json()["id"], len(CONTENT))
    assert len(alice.get("/assets").json()["items"]) == 1
    assert stored(world) == [Digest.of(CONTENT).hex]
    assert len(events(world, "asset.created")) == 1
    problem(alice.send_piece(upload_id, 0, CONTENT), 409, "wrong_offset")
    problem(alice.send("DELETE", f"/uploads/{upload_id}"), 409, "upload_complete")


def test_an_empty_file_needs_no_piece(world: World) -> None:
    upload_id = started(world.admin, b"")
    asset = complete(world.admin, upload_id).json()
    assert world.admin.get(f"/assets/{asset['id']}/content").content == b""


def test_a_wrong_offset_is_told_the_right_one(world: World) -> None:
    upload_id = started(world.admin)
    assert world.admin.send_piece(upload_id, 0, CONTENT[:100]).status_code == 204
    for offset in (0, 99, 101, 10**17):
        answer = world.admin.send_piece(upload_id, offset, b"x")
        problem(answer, 409, "wrong_offset")
        assert answer.headers["upload-offset"] == "100"
    assert world.admin.get(f"/uploads/{upload_id}").json()["offset"] == 100


def chunked(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 1000):
        yield content[start : start + 1000]


@pytest.mark.parametrize("many", [False, True])
def test_more_than_was_announced_is_refused_and_the_rest_still_fits(world: World, many: bool) -> None:
    upload_id = started(world.admin)
    assert world.admin.send_piece(upload_id, 0, CONTENT[:5000]).status_code == 204
    more = CONTENT[5000:] + b"!"
    problem(world.admin.send_piece(upload_id, 5000, chunked(more) if many else more), 413, "upload_too_large")
    assert world.admin.get(f"/uploads/{upload_id}").json()["offset"] == 5000
    assert world.admin.send_piece(upload_id, 5000, chunked(CONTENT[5000:])).status_code == 204
    assert complete(world.admin, upload_id).status_code == 201


def test_fewer_than_announced_is_no_asset(world: World) -> None:
    upload_id = started(world.admin)
    problem(complete(world.admin, upload_id), 409, "upload_incomplete")
    world.admin.send_piece(upload_id, 0, CONTENT[:-1])
    problem(complete(world.admin, upload_id), 409, "upload_incomplete")
    assert world.admin.send_piece(upload_id, len(CONTENT) - 1, CONTENT[-1:]).status_code == 204
    assert complete(world.admin, upload_id).status_code == 201


def test_other_bytes_than_announced_leave_nothing(world: World) -> None:
    upload_id = started(world.admin)
    world.admin.send_piece(upload_id, 0, CONTENT[:-1] + b"?")
    problem(complete(world.admin, upload_id), 400, "digest_mismatch")
    problem(complete(world.admin, upload_id), 404, "no_such_upload")
    assert stored(world) == []
    assert world.admin.get("/assets").json()["items"] == []
    assert world.admin.get("/storage").json()["bytes"] == 0


def test_a_lost_answer_can_be_asked_for_again(world: World) -> None:
    alice = world.person("alice")
    key = "0123456789abcdef"
    upload_id = alice.announce(CONTENT, key=key).json()["id"]
    alice.send_piece(upload_id, 0, CONTENT[:77])
    again = alice.announce(CONTENT, key=key)
    assert (again.status_code, again.json()["id"], again.json()["offset"]) == (201, upload_id, 77)
    problem(alice.announce(CONTENT + b"x", key=key), 409, "idempotency_key_reused")
    alice.send_piece(upload_id, 77, CONTENT[77:])
    asset = complete(alice, upload_id).json()["id"]
    assert alice.announce(CONTENT, key=key).json()["asset"] == asset
    assert alice.send("DELETE", f"/assets/{asset}").status_code == 204
    problem(alice.announce(CONTENT, key=key), 410, "upload_gone")
    problem(complete(alice, upload_id), 404, "no_such_upload")
    other = alice.announce(CONTENT, key="another-key").json()["id"]
    assert alice.send("DELETE", f"/uploads/{other}").status_code == 204
    problem(alice.announce(CONTENT, key="another-key"), 410, "upload_gone")
    settle(world)
    assert stored(world) == []


def test_only_its_uploader_sees_an_upload(world: World) -> None:
    alice, bob = world.person("alice"), world.person("bob")
    upload_id = started(alice)
    for person in (bob, world.admin):
        problem(person.get(f"/uploads/{upload_id}"), 404, "no_such_upload")
        problem(person.send_piece(upload_id, 0, CONTENT), 404, "no_such_upload")
        problem(complete(person, upload_id), 404, "no_such_upload")
        problem(person.send("DELETE", f"/uploads/{upload_id}"), 404, "no_such_upload")
        assert person.get("/uploads").json()["items"] == []
    assert alice.get(f"/uploads/{upload_id}").json()["offset"] == 0
    assert stored(world) == []


def test_bad_questions(world: World) -> None:
    admin, upload_id = world.admin, started(world.admin)
    problem(
        admin.send("PATCH", f"/uploads/{upload_id}", content=b"x", headers={"Upload-Offset": "0"}),
        415,
        "wrong_media_type",
    )
    for offset in (None, "", "-1", "1.0", "0x1", "9" * 19, "\u0661"):
        headers = {"Content-Type": TYPE} | ({} if offset is None else {"Upload-Offset": offset.encode()})
        problem(admin.send("PATCH", f"/uploads/{upload_id}", content=b"x", headers=headers), 400, "bad_offset")
    headers = {"Content-Type": TYPE, "Upload-Offset": "0"}
    queried = admin.send("PATCH", f"/uploads/{upload_id}?offset=0", content=b"x", headers=headers)
    problem(queried, 400, "unknown_parameter")
    for bad in ("1", "x" * 36, upload_id[:-1], "%00" * 12):
        problem(admin.get(f"/uploads/{bad}"), 400, "bad_id")
    for body in (
        {},
        {"name": "x", "size": -1},
        {"name": "x", "size": 1, "digest": "md5:1"},
        {"name": "a\nb", "size": 1, "digest": "0" * 64},
    ):
        problem(admin.post("/uploads", body), 400, "invalid_fields")
    problem(admin.announce(b"", owner=4711), 400, "unknown_owner")


def test_uploads_for_an_organisation(world: World) -> None:
    """Its room, its asset; and the right is looked at again when the asset is made."""
    alice, bob, eve = (world.person(name) for name in ("alice", "bob", "eve"))
    made = make_organisation(alice)
    join(alice, made, bob, ["operate"])
    first, second = (started(bob, owner=made["id"]) for _ in range(2))
    problem(eve.announce(CONTENT, owner=made["id"]), 400, "unknown_owner")
    problem(eve.get(f"/storage?owner={made['id']}"), 400, "unknown_owner")
    for upload_id in (first, second):
        assert bob.send_piece(upload_id, 0, CONTENT).status_code == 204
    asset = complete(bob, first).json()
    assert asset["owner"]["id"] == made["id"]
    assert alice.get(f"/assets/{asset['id']}/content").content == CONTENT
    problem(eve.get(f"/assets/{asset['id']}"), 404, "no_such_asset")
    room = alice.get(f"/storage?owner={made['id']}").json()
    assert (room["bytes"], room["assets"], room["uploads"]) == (2 * len(CONTENT), 1, 1)
    assert bob.get("/storage").json()["bytes"] == 0
    assert alice.send("DELETE", f"{member_path(made, bob)}").status_code == 204
    problem(complete(bob, second), 404, "no_such_upload")
    assert [item["id"] for item in alice.get("/assets").json()["items"]] == [asset["id"]]
    assert swept(world) == [Digest.of(CONTENT).hex]


# -------------------------------------------------------------------------------------------------------------- limits


def test_one_file_and_all_of_them(make_world: Any) -> None:
    world = make_world(asset_bytes=1000, asset_quota_bytes=1500, asset_count=3, upload_count=2)
    alice = world.person("alice")
    problem(alice.announce(b"x" * 1001), 413, "asset_too_large")
    alice.upload(b"x" * 1000)
    problem(alice.announce(b"y" * 501), 413, "quota_exceeded")
    first = started(alice, b"y" * 500)
    problem(alice.announce(b"z"), 413, "quota_exceeded")
    second = started(alice, b"")
    problem(alice.announce(b""), 409, "too_many_uploads")
    room = alice.get("/storage").json()
    assert room["owner"]["name"] == "alice"
    assert [room[name] for name in ("bytes", "bytes_limit", "assets", "assets_limit", "uploads", "uploads_limit")] == [
        1500,
        1500,
        1,
        3,
        2,
        2,
    ]
    assert complete(alice, second).status_code == 201
    problem(alice.announce(b""), 413, "too_many_assets")
    assert alice.send("DELETE", f"/uploads/{first}").status_code == 204
    alice.upload(b"z" * 500)
    world.person("bob").upload(b"b" * 1000)


def test_announcements_at_once_do_not_exceed_the_quota(make_world: Any) -> None:
    world = make_world(asset_quota_bytes=2500, upload_count=100)
    alice = world.person("alice")
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda number: alice.announce(b"%04d" % number * 250).status_code, range(8)))
    assert sorted(codes) == [201] * 2 + [413] * 6
    assert alice.get("/storage").json()["bytes"] == 2000


def test_a_full_disk_takes_no_more_and_what_came_stays(make_world: Any) -> None:
    roomy, full = make_world(), make_world(reserve_bytes=2**60)
    upload_id = started(roomy.admin)
    assert roomy.admin.send_piece(upload_id, 0, CONTENT[:100]).status_code == 204
    problem(full.admin.send_piece(upload_id, 100, CONTENT[100:]), 507, "storage_full")
    problem(full.admin.announce(CONTENT), 507, "storage_full")
    assert full.admin.get(f"/uploads/{upload_id}").json()["offset"] == 100
    assert roomy.admin.send_piece(upload_id, 100, CONTENT[100:]).status_code == 204
    assert complete(roomy.admin, upload_id).status_code == 201


def test_unfinished_uploads_end_by_themselves(world: World) -> None:
    alice = world.person("alice")
    old, other = started(alice), started(alice)
    alice.send_piece(old, 0, b"abc")
    world.sql("UPDATE uploads SET expires_at = '2026' WHERE id = ?", old)
    problem(alice.get(f"/uploads/{old}"), 404, "no_such_upload")
    assert alice.get("/storage").json()["uploads"] == 1
    assert swept(world) == []
    assert world.sql("SELECT id FROM uploads")[0][0] == other
    (event,) = events(world, "upload.cancelled")
    assert (event["target"], event["data"]) == (f"upload:{old}", {"reason": "expired"})


def test_one_that_goes_on_is_kept(world: World) -> None:
    upload_id = started(world.admin)
    before = world.admin.get(f"/uploads/{upload_id}").json()["expires_at"]
    world.admin.send_piece(upload_id, 0, b"")
    assert world.admin.get(f"/uploads/{upload_id}").json()["expires_at"] == before, "not written with each piece"
    soon = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    world.sql("UPDATE uploads SET expires_at = ?", soon)
    world.admin.send_piece(upload_id, 0, b"")
    assert world.admin.get(f"/uploads/{upload_id}").json()["expires_at"] > soon


# ----------------------------------------------------------------------------------------------------- several at once


def test_two_pieces_at_once(world: World) -> None:
    """The second is told to wait, and the first is whole."""
    alice = world.person("alice")
    upload_id = started(alice)
    begun, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterator[bytes]:
        yield CONTENT[:10]
        begun.set()
        assert go_on.wait(20)
        yield CONTENT[10:]

    # The in-process client reads a whole body before it sends it, so the slow one talks to the application itself.
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(world.run, lambda: raw_patch(world, alice, upload_id, slowly()))
        assert begun.wait(20)
        answer = alice.send_piece(upload_id, 0, b"?" * 20)
        problem(answer, 503, "upload_busy")
        assert answer.headers["retry-after"] == "1"
        problem(complete(alice, upload_id), 503, "upload_busy")
        go_on.set()
        assert slow.result() == 204
    assert complete(alice, upload_id).json()["digest"] == Digest.of(CONTENT)


async def raw_patch(world: World, person: Person, upload_id: str, pieces: Iterator[bytes], *, cut: bool = False) -> int:
    """PATCH with a body that comes as ``pieces`` do; ``cut``: the client goes away instead of ending it."""
    status = 0

    async def receive() -> Any:
        piece = await asyncio.to_thread(next, pieces, None)
        if piece is not None:
            return {"type": "http.request", "body": piece, "more_body": True}
        return {"type": "http.disconnect"} if cut else {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    path = f"/api/v1/uploads/{upload_id}"
    scope = {
        "type": "http",
        "method": "PATCH",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [
            (b"authorization", f"Bearer {person.token}".encode()),
            (b"content-type", TYPE.encode()),
            (b"upload-offset", b"0"),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }
    await world.client.app(scope, receive, send)
    return status


def test_what_came_before_a_cut_stays(world: World) -> None:
    upload_id = started(world.admin)
    status = world.run(lambda: raw_patch(world, world.admin, upload_id, iter([CONTENT[:10], CONTENT[10:33]]), cut=True))
    assert status == 0, "nobody is there to answer"
    assert world.admin.get(f"/uploads/{upload_id}").json()["offset"] == 33
    assert world.admin.send_piece(upload_id, 33, CONTENT[33:]).status_code == 204
    assert complete(world.admin, upload_id).status_code == 201
    assert "fault" not in world.settings.log_file.read_text()


def test_another_process_may_be_writing(world: World) -> None:
    upload_id = started(world.admin)
    world.admin.send_piece(upload_id, 0, CONTENT[:10])
    (path,) = world.settings.assets.rglob(upload_id)
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        problem(world.admin.send_piece(upload_id, 10, CONTENT[10:]), 503, "upload_busy")
    assert world.admin.send_piece(upload_id, 10, CONTENT[10:]).status_code == 204


def test_completions_at_once_make_one_asset(world: World) -> None:
    alice = world.person("alice")
    upload_id = started(alice)
    alice.send_piece(upload_id, 0, CONTENT)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: complete(alice, upload_id), range(6)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(alice.get("/assets").json()["items"]) == 1


def test_a_completion_goes_on_when_nobody_waits_for_it(make_world: Any) -> None:
    world = make_world(verify_wait_seconds=0.0)
    upload_id = started(world.admin)
    world.admin.send_piece(upload_id, 0, CONTENT)
    first = complete(world.admin, upload_id)
    problem(first, 503, "upload_verifying")
    assert first.headers["retry-after"] == "1"
    settle(world)
    assert complete(world.admin, upload_id).status_code == 201


def test_a_reset_between_two_steps(make_world: Any) -> None:
    from medperf.server.admin import reset

    world = make_world()
    upload_id = started(world.admin)
    world.admin.send_piece(upload_id, 0, CONTENT)
    reset(world.settings.data)
    assert complete(world.admin, upload_id).status_code == 401
    assert stored(world) == []
    again = world.login("admin", "admin")
    problem(complete(again, upload_id), 404, "no_such_upload")
    again.upload(CONTENT)
    assert len(swept(world)) == 1
