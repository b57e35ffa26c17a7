"""Two at once, about files: every order, on both databases. See `orders.Theatre`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from medperf.domain.digests import Digest

from .orders import Outcome, Scene, Theatre, theatre
from .test_concurrency import cubes_of, either, rows

GONE, IN_USE = "404 no_such_asset", "409 asset_in_use"


def number(ref: dict[str, Any]) -> int:
    return int(ref["urls"][0].removeprefix("asset:"))


@pytest.mark.parametrize("use", ["mlcube", "benchmark"])
def test_a_file_is_deleted_and_named(house: Theatre, use: str) -> None:
    alice = house.person()
    template = alice.benchmark_body(cubes_of(alice))

    def prepare() -> Scene:
        name = house.name("file")
        ref = alice.upload(name.encode())
        if use == "mlcube":
            body = alice.cube_body("model", name=name, upload=False)
            body["files"] = body["files"] | {"project": ref}
            body["forms"] = {"python": {"project": ref["digest"]}}
        else:
            report = template["report"] | {"demo_digest": ref["digest"]}
            body = template | {"name": name, "demo": ref, "report": report}

        def holds(outcome: Outcome) -> None:
            there = rows(house, "SELECT count(*) FROM assets WHERE id = ?", number(ref))
            assert there == (outcome[1] == "201")
            assert rows(house, f"SELECT count(*) FROM {use}_assets WHERE asset_id = ?", number(ref)) == there

        deletes = house.delete(alice, f"/assets/{number(ref)}")
        return Scene({"deletes": deletes, "names": house.post(alice, f"/{use}s", body)}, holds)

    made = f"{use}.created"
    house.all_orders(prepare, {("204", "400 unknown_asset"): ["asset.deleted"], (IN_USE, "201"): [made]})


def test_two_deletes(house: Theatre) -> None:
    alice = house.person()

    def prepare() -> Scene:
        path = f"/assets/{number(alice.upload(house.name().encode()))}"
        return Scene({who: house.delete(alice, path) for who in "AB"}, alike=True)

    house.all_orders(prepare, either("204", GONE, "asset.deleted"))


def announced(size: int, name: str) -> dict[str, Any]:
    return {"name": name, "size": size, "digest": Digest.of(name.encode())}


@pytest.mark.parametrize("limit", ["bytes", "files", "uploads"])
def test_two_uploads_against_the_quota(house: Theatre, settings: Any, limit: str) -> None:
    """There is room for one."""
    changes = {"bytes": {"asset_quota_bytes": 150}, "files": {"asset_count": 1}, "uploads": {"upload_count": 1}}[limit]
    with theatre(replace(settings, **changes), house.world.cluster, thorough=house.thorough) as small:

        def prepare() -> Scene:
            alice = small.person()

            def holds(_: Outcome) -> None:
                assert rows(small, "SELECT count(*) FROM uploads WHERE user_id = ?", alice.id) == 1

            works = {who: small.post(alice, "/uploads", announced(100, small.name())) for who in "AB"}
            return Scene(works, holds)

        lost = {"bytes": "413 quota_exceeded", "files": "413 too_many_assets", "uploads": "409 too_many_uploads"}[limit]
        small.all_orders(prepare, either("201", lost, "upload.created"))


def test_an_upload_and_a_completion_against_the_quota(house: Theatre, settings: Any) -> None:
    """What becomes an asset is counted at every moment: never as neither, never twice."""
    with theatre(replace(settings, asset_quota_bytes=10), house.world.cluster, thorough=house.thorough) as small:

        def prepare() -> Scene:
            alice = small.person()
            upload = alice.announce(b"12345").json()["id"]
            assert alice.send_piece(upload, 0, b"12345").status_code == 204
            completes = small.post(alice, f"/uploads/{upload}/completion")
            fits = small.post(alice, "/uploads", announced(5, small.name()))
            exceeds = small.post(alice, "/uploads", announced(6, small.name()))
            return Scene({"completes": completes, "fits": fits, "exceeds": exceeds})

        made = ["asset.created", "upload.created"]
        small.all_orders(prepare, {("201", "201", "413 quota_exceeded"): made})


def test_a_completion_and_a_cancellation(house: Theatre) -> None:
    alice = house.person()

    def prepare() -> Scene:
        content = house.name().encode()
        upload = alice.announce(content).json()["id"]
        assert alice.send_piece(upload, 0, content).status_code == 204

        def holds(outcome: Outcome) -> None:
            count = rows(house, "SELECT count(*) FROM assets WHERE digest = ?", Digest.of(content))
            assert count == (outcome[0] == "201")

        works = {
            "completes": house.post(alice, f"/uploads/{upload}/completion"),
            "cancels": house.delete(alice, f"/uploads/{upload}"),
        }
        return Scene(works, holds)

    outcomes = {("201", "409 upload_complete"): ["asset.created"], ("404 no_such_upload", "204"): ["upload.cancelled"]}
    house.all_orders(prepare, outcomes, between={("409 upload_incomplete", "204"): ["upload.cancelled"]})


def test_a_completion_and_a_deletion_of_the_same_bytes(house: Theatre) -> None:
    """The file is there for whoever has it, whoever else gives it up."""
    alice = house.person()

    def prepare() -> Scene:
        content = house.name().encode()
        old = number(alice.upload(content))
        upload = alice.announce(content).json()["id"]
        assert alice.send_piece(upload, 0, content).status_code == 204

        def holds(_: Outcome) -> None:
            house.world.run(house.forgetting)
            asset = rows(house, "SELECT id FROM assets WHERE digest = ?", Digest.of(content))
            assert alice.get(f"/assets/{asset}/content").content == content

        completes, deletes = house.post(alice, f"/uploads/{upload}/completion"), house.delete(alice, f"/assets/{old}")
        return Scene({"completes": completes, "deletes": deletes}, holds)

    house.all_orders(prepare, {("201", "204"): ["asset.created", "asset.deleted"]})


def test_two_completions(house: Theatre) -> None:
    """In one process the second waits for the first one's work."""
    alice = house.person()
    house.stage.patience = 0.02

    def prepare() -> Scene:
        content = house.name().encode()
        upload = alice.announce(content).json()["id"]
        assert alice.send_piece(upload, 0, content).status_code == 204
        return Scene({who: house.post(alice, f"/uploads/{upload}/completion") for who in "AB"}, alike=True)

    house.all_orders(prepare, {("201", "201"): ["asset.created"]})
