"""Files the server hosts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from medperf.domain.digests import Digest

from .conftest import World, problem

CONTENT = bytes(range(256)) * 10_000


def stored(world: World) -> list[str]:
    """Every file under the data folder's assets."""
    return sorted(path.name for path in world.settings.assets.rglob("*") if path.is_file())


def pieces() -> Iterator[bytes]:
    for start in range(0, len(CONTENT), 100_000):
        yield CONTENT[start : start + 100_000]


def test_up_and_down(world: World) -> None:
    alice = world.person("alice")
    digest = Digest.of(CONTENT)
    answer = alice.send("POST", "/assets", params={"name": "weights.onnx", "digest": digest}, content=pieces())
    view = answer.json()
    assert (answer.status_code, view["digest"], view["size"], view["name"]) == (
        201,
        digest,
        len(CONTENT),
        "weights.onnx",
    )
    assert stored(world) == [digest.hex]
    got = alice.get(f"/assets/{view['id']}/content")
    assert got.content == CONTENT
    assert got.headers["etag"] == f'"{digest}"'
    assert "weights.onnx" in got.headers["content-disposition"]
    part = alice.get(f"/assets/{view['id']}/content", headers={"Range": "bytes=1000-"})
    assert (part.status_code, part.content) == (206, CONTENT[1000:])
    fresh = alice.get(f"/assets/{view['id']}/content", headers={"Range": "bytes=1000-", "If-Range": '"other"'})
    assert (fresh.status_code, len(fresh.content)) == (200, len(CONTENT))
    assert alice.get(f"/assets/{view['id']}/content", headers={"If-None-Match": f'"{digest}"'}).status_code == 304


def test_wrong_digest_leaves_nothing(world: World) -> None:
    answer = world.admin.send("POST", "/assets", params={"name": "x", "digest": Digest.of(b"other")}, content=CONTENT)
    problem(answer, 400, "digest_mismatch")
    assert stored(world) == []
    assert world.admin.get("/assets").json()["items"] == []


def test_same_bytes_twice_look_like_the_first_time(world: World) -> None:
    alice, bob = world.person("alice"), world.person("bob")
    first, second = alice.upload(CONTENT), bob.upload(CONTENT)
    assert first["digest"] == second["digest"]
    assert first["urls"] != second["urls"]
    assert len(stored(world)) == 1
    problem(bob.get(f"/assets/{first['urls'][0].removeprefix('asset:')}"), 404, "no_such_asset")
    assert bob.get(f"/assets?digest={first['digest']}").json()["items"][0]["owner"]["name"] == "bob"


def test_limits(make_world: Any) -> None:
    world = make_world(asset_bytes=1000, asset_quota_bytes=1500)
    problem(world.admin.send("POST", "/assets", params={"name": "x"}, content=b"x" * 1001), 413, "asset_too_large")
    world.admin.upload(b"x" * 1000)
    problem(world.admin.send("POST", "/assets", params={"name": "y"}, content=b"y" * 501), 413, "quota_exceeded")
    assert len(stored(world)) == 1
    world.person("alice").upload(b"z" * 1000)


@pytest.mark.parametrize("query", ["", "name=", "name=x&digest=md5:1", "name=x&size=3", "name=a%0Ab"])
def test_bad_questions(world: World, query: str) -> None:
    assert world.admin.send("POST", f"/assets?{query}", content=b"x").status_code == 400


def test_an_upload_may_exceed_the_limit_of_bodies(make_world: Any) -> None:
    make_world(body_bytes=1000).admin.upload(b"x" * 5000)


def test_empty_file_and_odd_names(world: World) -> None:
    for name in ("empty", "naïve \u2713.tar.gz", '../../etc/"passwd"', "x" * 128):
        ref = world.admin.upload(b"", name=name)
        got = world.admin.get(f"/assets/{ref['urls'][0].removeprefix('asset:')}/content")
        assert (got.status_code, got.content) == (200, b"")


def test_who_reads(world: World) -> None:
    """Uploader; demo, preparator and evaluator of a benchmark for whoever sees it; a model's files for its owner alone."""
    alice, bob = world.person("alice"), world.person("bob")
    benchmark = alice.make_benchmark()
    ids = {"demo": benchmark["demo"]["urls"][0]}
    for part in ("preparator", "reference_model", "evaluator"):
        files = alice.get(f"/mlcubes/{benchmark[part]}").json()["files"]
        ids |= {f"{part} {name}": ref["urls"][0] for name, ref in files.items()}
    numbers = {label: url.removeprefix("asset:") for label, url in ids.items()}

    def readable(person: Any) -> set[str]:
        codes = {label: person.get(f"/assets/{number}/content").status_code for label, number in numbers.items()}
        assert set(codes.values()) <= {200, 404}
        listed = {str(item["id"]) for item in person.get("/assets").json()["items"]}
        if person is not world.admin:
            assert {number for label, number in numbers.items() if codes[label] == 200} == listed
        return {label for label, code in codes.items() if code == 200}

    everything = set(ids)
    opened = {label for label in everything if not label.startswith("reference_model")}
    assert readable(alice) == everything
    assert readable(bob) == set()
    assert readable(world.admin) == opened  # to decide about it
    assert all(world.admin.get(f"/assets/{number}").status_code == 200 for number in numbers.values())
    world.approve(benchmark)
    assert readable(bob) == opened


def test_interrupted_upload_leaves_nothing(world: World) -> None:
    """The client goes away in the middle."""
    import asyncio

    async def run() -> None:
        messages = [{"type": "http.request", "body": CONTENT, "more_body": True}, {"type": "http.disconnect"}]

        async def receive() -> Any:
            return messages.pop(0)

        async def send(message: Any) -> None:
            raise AssertionError(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/api/v1/assets",
            "raw_path": b"/api/v1/assets",
            "root_path": "",
            "scheme": "http",
            "query_string": b"name=x",
            "headers": [(b"authorization", f"Bearer {world.admin.token}".encode())],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }
        await world.client.app(scope, receive, send)

    asyncio.run(run())
    assert stored(world) == []
    assert "fault" not in world.settings.log_file.read_text()


def test_uploads_leave_the_database_room(make_world: Any) -> None:
    world = make_world(reserve_bytes=2**60)
    problem(world.admin.send("POST", "/assets", params={"name": "x"}, content=CONTENT), 507, "storage_full")
    assert stored(world) == []


def test_sweep(tmp_path: Any) -> None:
    import os

    from medperf.server.assets.store import AssetStore

    store = AssetStore(tmp_path)
    kept, old, young = "a" * 64, "b" * 64, "c" * 64
    for name in (kept, old, young):
        path = store.path("now", f"sha256:{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        if name != young:
            os.utime(path, (0, 0))
    (tmp_path / "gone").mkdir()
    os.utime(tmp_path / "gone", (0, 0))
    store.sweep("now", {f"sha256:{kept}"})
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [kept, young]
    assert not (tmp_path / "gone").exists()


def test_an_asset_can_be_taken_back_until_something_names_it(world: World) -> None:
    alice, bob = world.person("alice"), world.person("bob")
    asset_id = alice.upload(CONTENT)["urls"][0].removeprefix("asset:")
    problem(bob.send("DELETE", f"/assets/{asset_id}"), 404, "no_such_asset")
    problem(world.admin.send("DELETE", f"/assets/{asset_id}"), 403, "not_the_owner")
    assert alice.send("DELETE", f"/assets/{asset_id}").status_code == 204
    problem(alice.send("DELETE", f"/assets/{asset_id}"), 404, "no_such_asset")
    assert alice.get("/assets").json()["items"] == []
    assert alice.upload(CONTENT)["urls"][0] != f"asset:{asset_id}", "numbers are never given again"
    alice.make_cube("model")
    used = alice.get("/mlcubes/1").json()["files"]["project"]["urls"][0].removeprefix("asset:")
    problem(alice.send("DELETE", f"/assets/{used}"), 409, "asset_in_use")
