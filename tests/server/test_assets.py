"""Files the server hosts: who reads them, which bytes they get, how they go."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from medperf.domain.digests import Digest
from medperf.server.assets import sweep
from medperf.server.assets.ranges import UnsatisfiableError, names_tag, part_of

from .conftest import Person, World, problem

CONTENT = bytes(range(256)) * 4_000
TAG = f'"{Digest.of(CONTENT)}"'


def stored(world: World) -> list[str]:
    """Every file under the data folder's assets."""
    return sorted(path.name for path in world.settings.assets.rglob("*") if path.is_file())


def number(ref: dict[str, Any]) -> str:
    """The id in a FileRef document of an asset."""
    return str(ref["urls"][0]).removeprefix("asset:")


def settle(world: World) -> None:
    """Wait for what goes on after answers."""

    async def wait() -> None:
        background = world.context.background
        others = [task for name, task in background.tasks.items() if name != "sweep"]
        await asyncio.gather(*others, return_exceptions=True)

    world.run(wait)


def swept(world: World) -> list[str]:
    """What is there after a whole sweep."""
    world.run(lambda: sweep.sweep(world.context, whole=True))
    return stored(world)


def test_the_bytes_come_back(world: World) -> None:
    alice = world.person("alice")
    asset = number(alice.upload(CONTENT, "weights.onnx"))
    got = alice.get(f"/assets/{asset}/content")
    assert (got.status_code, got.content) == (200, CONTENT)
    assert got.headers["etag"] == TAG
    assert got.headers["accept-ranges"] == "bytes"
    assert "weights.onnx" in got.headers["content-disposition"]
    assert stored(world) == [Digest.of(CONTENT).hex]
    head = alice.send("HEAD", f"/assets/{asset}/content", headers={"Range": "bytes=0-1"})
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(CONTENT)), b"")
    for tags in (TAG, f'"other", W/{TAG}', "*"):
        unchanged = alice.get(f"/assets/{asset}/content", headers={"If-None-Match": tags})
        assert (unchanged.status_code, unchanged.content) == (304, b"")
    view = alice.get(f"/assets/{asset}").json()
    assert (view["digest"], view["size"], view["name"]) == (Digest.of(CONTENT), len(CONTENT), "weights.onnx")


RANGES = {
    "bytes=0-": (0, len(CONTENT)),
    "bytes=1000-": (1000, len(CONTENT)),
    "bytes=0-0": (0, 1),
    "bytes=5-9": (5, 10),
    "bytes=-7": (len(CONTENT) - 7, len(CONTENT)),
    f"bytes=-{len(CONTENT) + 5}": (0, len(CONTENT)),
    f"bytes={len(CONTENT) - 1}-": (len(CONTENT) - 1, len(CONTENT)),
    f"bytes=3-{'9' * 40}": (3, len(CONTENT)),
}


def test_a_range(world: World) -> None:
    asset = number(world.admin.upload(CONTENT))
    for wanted, (start, end) in RANGES.items():
        got = world.admin.get(f"/assets/{asset}/content", headers={"Range": wanted, "If-Range": TAG})
        assert (got.status_code, got.content) == (206, CONTENT[start:end]), wanted
        assert got.headers["content-range"] == f"bytes {start}-{end - 1}/{len(CONTENT)}"
        assert got.headers["content-length"] == str(end - start)


def test_ranges_that_are_the_whole_file_or_nothing(world: World) -> None:
    asset, empty = number(world.admin.upload(CONTENT)), number(world.admin.upload(b""))
    for wanted in ("bytes=0-1,4-5", "bytes=9-3", "lines=1-2", "bytes=a-b", "bytes=-", "bytes=1", "bytes=\u0661-"):
        got = world.admin.get(f"/assets/{asset}/content", headers={"Range": wanted.encode()})
        assert (got.status_code, len(got.content)) == (200, len(CONTENT)), wanted
    for condition in ('"other"', f"W/{TAG}", "Mon, 23 Nov 2026 00:00:00 GMT"):
        got = world.admin.get(f"/assets/{asset}/content", headers={"Range": "bytes=5-", "If-Range": condition})
        assert (got.status_code, len(got.content)) == (200, len(CONTENT)), condition
    for wanted, place in (
        (f"bytes={len(CONTENT)}-", asset),
        (f"bytes={'9' * 5000}-", asset),
        ("bytes=-0", asset),
        ("bytes=0-", empty),
    ):
        got = world.admin.get(f"/assets/{place}/content", headers={"Range": wanted})
        problem(got, 416, "no_such_range")
        head = world.admin.send("HEAD", f"/assets/{place}/content", headers={"Range": wanted})
        assert head.status_code == 200, "Range means nothing to HEAD"
        assert got.headers["content-range"] == f"bytes */{len(CONTENT) if place == asset else 0}"


def test_every_range_of_small_files() -> None:
    for size in range(4):
        content = bytes(range(size))
        for first in range(5):
            for last in (None, *range(5)):
                wanted = f"bytes={first}-{'' if last is None else last}"
                try:
                    part = part_of(size, wanted=wanted, condition=None, tag=TAG)
                except UnsatisfiableError:
                    assert first >= size
                    continue
                if last is not None and last < first:
                    assert part is None
                else:
                    assert part is not None
                    end = size if last is None else last + 1
                    assert content[slice(*part)] == content[first:end] != b""
    assert not names_tag(None, TAG)
    assert not names_tag('"a", "b"', TAG)


def test_odd_names(world: World) -> None:
    for name in ("naïve \u2713.tar.gz", '../../etc/"passwd"', "x" * 128, "a;b"):
        asset = number(world.admin.upload(b"", name=name))
        got = world.admin.get(f"/assets/{asset}/content")
        assert (got.status_code, got.content) == (200, b"")
        assert "\n" not in got.headers["content-disposition"]


def test_same_bytes_twice_look_like_the_first_time(world: World) -> None:
    """A stranger's digest opens nothing: its bytes must be sent, and every answer is what it would be without the stranger."""
    alice, bob = world.person("alice"), world.person("bob")
    first = alice.upload(CONTENT)
    started = bob.announce(CONTENT).json()
    assert started["offset"] == 0
    problem(bob.post(f"/uploads/{started['id']}/completion"), 409, "upload_incomplete")
    assert bob.get(f"/assets?digest={first['digest']}").json()["items"] == []
    assert bob.send_piece(started["id"], 0, CONTENT).status_code == 204
    second = bob.post(f"/uploads/{started['id']}/completion").json()
    assert second["digest"] == first["digest"]
    assert f"asset:{second['id']}" != first["urls"][0]
    assert len(stored(world)) == 1
    problem(bob.get(f"/assets/{number(first)}"), 404, "no_such_asset")
    problem(bob.get(f"/assets/{number(first)}/content"), 404, "no_such_asset")
    assert bob.get(f"/assets?digest={first['digest']}").json()["items"][0]["owner"]["name"] == "bob"


def test_naming_a_strangers_asset(world: World) -> None:
    """With its id, digest and size right, in every place that takes a reference: as if it were not there."""
    alice, eve = world.person("alice"), world.person("eve")
    secret = alice.upload(b"weights")
    absent = {**secret, "urls": ["asset:4711"]}

    def answers(ref: dict[str, Any]) -> list[Any]:
        found = []
        for file in ("additional", "image", "parameters"):
            body = eve.cube_body("model", name=f"stolen {file}")
            body["files"][file] = ref
            found.append(eve.post("/mlcubes", body))
        body = eve.cube_body("model", name="also on the web")
        body["files"]["image"] = {**ref, "urls": ["https://example.org/x", *ref["urls"]]}
        found.append(eve.post("/mlcubes", body))
        wanted = eve.benchmark_body(name=f"by {number(ref)}")
        wanted["demo"] = ref
        wanted["report"]["demo_digest"] = ref["digest"]
        return [*found, eve.post("/benchmarks", wanted)]

    def said(answer: Any, ref: dict[str, Any]) -> Any:
        return {**answer.json(), "detail": answer.json()["detail"].replace(number(ref), "ID")}

    for hidden, missing in zip(answers(secret), answers(absent), strict=True):
        assert said(hidden, secret) == said(missing, absent)
        problem(hidden, 400, "unknown_asset")
    problem(eve.send("DELETE", f"/assets/{number(secret)}"), 404, "no_such_asset")
    problem(
        eve.get(f"/assets/{number(secret)}/content", headers={"If-None-Match": f'"{secret["digest"]}"'}),
        404,
        "no_such_asset",
    )


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


def test_an_asset_can_be_taken_back_until_something_names_it(world: World) -> None:
    alice, bob = world.person("alice"), world.person("bob")
    asset = number(alice.upload(CONTENT))
    problem(bob.send("DELETE", f"/assets/{asset}"), 404, "no_such_asset")
    assert world.admin.send("DELETE", f"/assets/{asset}").status_code == 403
    assert alice.send("DELETE", f"/assets/{asset}").status_code == 204
    problem(alice.send("DELETE", f"/assets/{asset}"), 404, "no_such_asset")
    assert alice.get("/assets").json()["items"] == []
    assert number(alice.upload(CONTENT)) != asset, "numbers are never given again"
    cube = alice.make_cube("model")
    used = number(cube["files"]["project"])
    problem(alice.send("DELETE", f"/assets/{used}"), 409, "asset_in_use")
    assert alice.get(f"/assets/{used}/content").status_code == 200


def test_what_others_name_was_published_first(world: World) -> None:
    """A stranger may name what a benchmark shows; that never blocks a delete that would have been possible without the stranger."""
    alice, bob = world.person("alice"), world.person("bob")
    benchmark = alice.make_benchmark()
    world.approve(benchmark)
    body = bob.cube_body("model", name="bob's")
    body["files"]["additional"] = benchmark["demo"]
    assert bob.post("/mlcubes", body).status_code == 201
    problem(alice.send("DELETE", f"/assets/{number(benchmark['demo'])}"), 409, "asset_in_use")
    world.approve(world.person("carol").make_benchmark(name="other"), "REJECTED")


def test_the_bytes_of_a_deleted_asset_go_with_it_unless_another_has_them(world: World) -> None:
    alice, bob = world.person("alice"), world.person("bob")
    first, second = number(alice.upload(CONTENT)), number(bob.upload(CONTENT))
    assert alice.send("DELETE", f"/assets/{first}").status_code == 204
    settle(world)
    assert stored(world) == [Digest.of(CONTENT).hex]
    assert bob.get(f"/assets/{second}/content").content == CONTENT
    assert bob.send("DELETE", f"/assets/{second}").status_code == 204
    settle(world)
    assert stored(world) == []


def use(person: Person, ref: dict[str, Any]) -> Any:
    body = person.cube_body("model", name="user")
    body["files"]["additional"] = ref
    return person.post("/mlcubes", body)


@pytest.mark.parametrize("order", [("delete", "use"), ("use", "delete")])
def test_delete_against_use(world: World, order: tuple[str, str]) -> None:
    alice = world.person("alice")
    ref = alice.upload(CONTENT)
    calls = {"delete": lambda: alice.send("DELETE", f"/assets/{number(ref)}"), "use": lambda: use(alice, ref)}
    first, second = (calls[name]() for name in order)
    if order[0] == "delete":
        assert first.status_code == 204
        problem(second, 400, "unknown_asset")
    else:
        assert first.status_code == 201
        problem(second, 409, "asset_in_use")


def test_delete_and_use_at_once(world: World) -> None:
    """Twelve times: either it was used and is there, or it is gone and nothing names it."""
    from concurrent.futures import ThreadPoolExecutor

    alice = world.person("alice")
    with ThreadPoolExecutor(2) as pool:
        for turn in range(12):
            ref = alice.upload(b"%d" % turn)
            body = alice.cube_body("model", name=f"turn {turn}")
            body["files"]["additional"] = ref
            used = pool.submit(alice.post, "/mlcubes", body)
            deleted = pool.submit(alice.send, "DELETE", f"/assets/{number(ref)}")
            codes = used.result().status_code, deleted.result().status_code
            assert codes in {(201, 409), (400, 204)}, (used.result().text, deleted.result().text)
            assert alice.get(f"/assets/{number(ref)}/content").status_code == (200 if codes[0] == 201 else 404)


def test_a_sweep_takes_what_nobody_needs_and_nothing_else(world: World) -> None:
    alice = world.person("alice")
    kept = Digest(alice.upload(CONTENT)["digest"])
    coming = alice.announce(b"later").json()["id"]
    alice.send_piece(coming, 0, b"la")
    (instance,) = world.settings.assets.iterdir()
    lost = [
        instance / "aa" / ("aa" + "0" * 62),  # its row was never written
        instance / kept.hex[:2] / "tmp-of-a-kill.tmp",
        instance / "incoming" / "9f3a1c1e-0000-4000-8000-000000000000",
        world.settings.assets / "another-instance" / "aa" / "x",
    ]
    for path in lost:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"left")
    assert swept(world) == sorted([kept.hex, coming])
    assert alice.send_piece(coming, 2, b"ter").status_code == 204
    assert alice.post(f"/uploads/{coming}/completion").status_code == 201
    assert alice.get("/assets").json()["items"][0]["size"] == len(CONTENT)


def test_a_file_whose_bytes_are_lost_is_a_fault_of_ours(world: World) -> None:
    asset = number(world.admin.upload(CONTENT))
    for path in world.settings.assets.rglob(Digest.of(CONTENT).hex):
        path.unlink()
    problem(world.admin.get(f"/assets/{asset}/content"), 500, "internal_error")
