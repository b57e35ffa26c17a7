"""Sealing: once, in order, in bounded steps; and what happens when the database and the data folder do not fit."""

from __future__ import annotations

import asyncio
import json
import shutil
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from medperf.domain.errors import Conflict, InvalidInput, MedPerfError
from medperf.server.app import create_app
from medperf.server.audit import chain, commands
from medperf.server.audit.folder import AuditFolder, is_signed
from medperf.server.audit.sealer import Sealer
from medperf.server.audit.service import Action, record
from medperf.server.settings import Settings

from .audit_trail import Trail
from .conftest import CHEAP, World, only


@pytest.fixture
def trail(make_world: Any) -> Trail:
    """Nobody seals but the test."""
    return Trail(make_world(seal_seconds=36_000))


# --------------------------------------------------------------------------------------------------------------- sealing


def test_key_and_head_are_the_owners_alone_and_fit(trail: Trail) -> None:
    done = trail.seal()
    assert done is not None
    assert done.head is not None
    folder = AuditFolder(trail.data)
    for file in (folder.key_file, folder.head_file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    view = trail.world.admin.get("/audit-checkpoints").json()["items"][-1]
    assert view["hash"] == done.head.hash == trail.verify().head
    assert is_signed(view["hash"], view["signature"], commands.public_key(trail.world.settings))
    assert not is_signed(chain.GENESIS, view["signature"], view["key"])


def test_sealing_again_changes_nothing(trail: Trail) -> None:
    first, second = trail.seal(), trail.seal()
    assert first is not None
    assert second is not None
    assert (second.events, second.checkpoints, second.head) == (0, 0, first.head)


def test_a_backlog_is_sealed_in_bounded_checkpoints(trail: Trail, monkeypatch: pytest.MonkeyPatch) -> None:
    from medperf.server.audit import sealer

    monkeypatch.setattr(sealer, "BATCH", 10)
    monkeypatch.setattr(sealer, "_PAGE", 4)
    trail.add(95)
    one = trail.world.run(lambda: Sealer(trail.world.database, trail.data).seal(most=3))
    assert one is not None
    assert one.checkpoints == 3
    trail.seal()
    found = trail.verify()
    assert (found.ok, found.unsealed, found.events) == (True, 0, len(trail.ids()))
    assert max(row[0] for row in trail.sql("SELECT events FROM audit_checkpoints")) <= 12


def test_of_two_sealers_one_seals(trail: Trail, tmp_path: Path) -> None:
    """In one data folder a lock decides; where the folder was copied (which is wrong), the checkpoint's number does."""
    trail.add(20)
    trail.seal()
    trail.add(20)
    other = tmp_path / "copy"
    shutil.copytree(trail.data, other)

    async def both(folders: list[Path]) -> list[Any]:
        sealers = [Sealer(trail.world.database, folder) for folder in folders]
        return list(await asyncio.gather(*(sealer.seal() for sealer in sealers)))

    reports = trail.world.run(lambda: both([trail.data, other]))
    assert sum(report.checkpoints for report in reports) == 1
    trail.add(5)
    reports = trail.world.run(lambda: both([trail.data, trail.data]))
    assert sorted(report is None for report in reports) == [False, True]
    assert trail.seal() is not None
    assert trail.verify().ok


@only("postgresql", because="on SQLite writers wait for each other, so ids are committed in their order")
def test_an_event_that_is_committed_late_is_sealed_in_its_place(trail: Trail) -> None:
    """Its id was given before another's that is committed already: the sealer waits for it."""

    async def work() -> bool:
        database = trail.world.database
        async with database.write() as slow:
            await record(slow, 1, Action.ASSET_CREATED, "asset:1")
            async with database.write() as fast:
                await record(fast, 1, Action.ASSET_CREATED, "asset:2")
            sealing = asyncio.create_task(Sealer(database, trail.data).seal())
            _, waiting = await asyncio.wait({sealing}, timeout=0.3)
        await sealing
        return bool(waiting)

    assert trail.world.run(work)
    found = trail.verify()
    assert (found.ok, found.unsealed, found.last_event) == (True, 0, trail.ids()[-1])


def test_events_before_this_version_are_sealed_as_they_are(trail: Trail) -> None:
    """What 0001 wrote has no personal values; the first seal covers it to the byte."""
    trail.clear()
    for event in (1, 2, 5):
        trail.insert(event)
    trail.seal()
    assert trail.verify().events == 3
    trail.sql("UPDATE audit_events SET at = '2027' WHERE id = 5")
    assert trail.verify().fault is not None


def test_server_seals_by_itself_and_when_it_ends(settings: Settings) -> None:
    eager = replace(settings, seal_seconds=0.6, seal_events=3)
    with TestClient(create_app(eager)) as client:
        trail = Trail(World(client, eager, None))
        deadline = time.monotonic() + 20
        while not trail.sql("SELECT count(*) FROM audit_checkpoints")[0][0] and time.monotonic() < deadline:
            trail.add(1)
        assert trail.sql("SELECT count(*) FROM audit_checkpoints")[0][0]
        trail.add(1)
    found = commands.verify(settings)
    assert (found.ok, found.unsealed) == (True, 0)


def test_a_server_that_cannot_seal_goes_on_and_says_why_in_its_log(settings: Settings) -> None:
    commands.seal(settings)
    AuditFolder(settings.data).head_file.unlink()
    with TestClient(create_app(settings)) as client:
        World(client, settings, None)
    assert "audit_head.json is missing" in settings.log_file.read_text()
    assert commands.verify(settings).fault is not None


# ------------------------------------------------------------------------------------------------------- what a restore does


def restored(trail: Trail) -> None:
    """The database as it was two checkpoints ago."""
    for _ in range(3):
        trail.add(3)
        trail.seal()
    start = trail.sql("SELECT first_event FROM audit_checkpoints WHERE id = 2")[0][0]
    trail.sql("DELETE FROM audit_checkpoints WHERE id >= 2")
    trail.sql("DELETE FROM audit_personal WHERE event_id >= ?", start)
    trail.sql("DELETE FROM audit_events WHERE id >= ?", start)


def test_a_restored_database_is_noticed_and_can_be_accepted(trail: Trail) -> None:
    restored(trail)
    trail.add(2)
    with pytest.raises(Conflict, match="restored from an older copy") as raised:
        trail.seal()
    assert raised.value.code == "audit_end_missing"
    assert "medperf server audit accept" in raised.value.fix
    assert commands.noticed(trail.world.settings) == f"{raised.value.what} {raised.value.fix}"
    report = commands.verify(trail.world.settings)
    assert report.fault is not None
    assert report.fault.kind.value == "end_missing"
    done = commands.accept(trail.world.settings)
    assert done.before is not None
    assert done.after is not None
    assert done.before.checkpoint == 3
    assert commands.noticed(trail.world.settings) is None
    again = commands.verify(trail.world.settings)
    assert (again.ok, again.unsealed) == (True, 0)
    event = trail.world.admin.get("/audit-events?action=audit.accepted").json()["items"][0]
    assert (event["data"]["expected"], event["data"]["fault"]) == (done.before.hash, "end_missing")
    with pytest.raises(Conflict) as raised:
        commands.accept(trail.world.settings)
    assert raised.value.code == "nothing_to_accept"


def test_what_was_changed_cannot_be_accepted(trail: Trail) -> None:
    restored(trail)
    trail.sql("UPDATE audit_events SET target = 'mlcube:1' WHERE id = ?", trail.ids()[0])
    with pytest.raises(Conflict) as raised:
        commands.accept(trail.world.settings)
    assert raised.value.code == "audit_event_changed"


@pytest.mark.parametrize("lost", [("audit_head.json", "audit.key"), ("audit_head.json",), ("audit.key",)])
def test_a_lost_data_folder_is_noticed_and_can_be_accepted(trail: Trail, lost: tuple[str, ...]) -> None:
    trail.add(3)
    trail.seal()
    for name in lost:
        (trail.data / name).unlink()
    trail.add(1)
    assert trail.verify().ok is False
    with pytest.raises(Conflict):
        trail.seal()
    commands.accept(trail.world.settings)
    trail.add(1)
    trail.seal()
    assert trail.verify().ok
    trail.sql("DELETE FROM audit_checkpoints WHERE id = 3")
    assert trail.verify().ok is False


def test_a_server_that_died_between_database_and_file_goes_on(trail: Trail) -> None:
    trail.seal()
    folder = AuditFolder(trail.data)
    before = folder.head_file.read_bytes()
    for _ in range(5):
        trail.add(2)
        trail.seal()
    folder.head_file.write_bytes(before)
    assert trail.verify().ok
    trail.add(1)
    trail.seal()
    found = trail.verify()
    assert (found.ok, found.checkpoints) == (True, 7)


@pytest.mark.parametrize("files", [0, 1])
def test_the_first_seal_dies_before_its_file(trail: Trail, monkeypatch: pytest.MonkeyPatch, files: int) -> None:
    """Of the two files of a first seal, so many are written; the second comes after the checkpoint."""
    written: list[int] = []
    whole = AuditFolder.set_head

    def dies(folder: AuditFolder, head: Any) -> None:
        if len(written) == files:
            raise OSError("killed")
        written.append(head.checkpoint)
        whole(folder, head)

    with monkeypatch.context() as patch:
        patch.setattr(AuditFolder, "set_head", dies)
        with pytest.raises(OSError, match="killed"):
            trail.seal()
    assert trail.verify().ok
    trail.seal()
    found = trail.verify()
    assert (found.ok, found.checkpoints) == (True, 1)


def test_a_checkpoint_that_somebody_added_is_not_taken_up(trail: Trail) -> None:
    trail.seal()
    trail.sql(
        "INSERT INTO audit_checkpoints SELECT 2, version, instance_id, last_event + 1, last_event + 9, 1, root, hash,"
        " sealed_at, key, root, signature, leaves FROM audit_checkpoints"
    )
    trail.add(1)
    with pytest.raises(Conflict) as raised:
        trail.seal()
    assert raised.value.code == "audit_checkpoint_changed"


def test_reset_begins_a_new_trail(trail: Trail) -> None:
    from medperf.server import admin

    trail.seal()
    key = commands.public_key(trail.world.settings)
    admin.reset(trail.data, password_cost=CHEAP)
    assert commands.verify(trail.world.settings).checkpoints == 0
    commands.seal(trail.world.settings)
    found = commands.verify(trail.world.settings)
    assert (found.ok, found.checkpoints, found.events) == (True, 1, 1)
    assert commands.public_key(trail.world.settings) == key


def test_a_copy_of_a_checkpoint_is_compared(trail: Trail) -> None:
    done = trail.seal()
    assert done is not None
    assert done.head is not None
    trail.add(1)
    trail.seal()
    assert commands.verify(trail.world.settings, copy=done.head.hash.removeprefix("sha256:")).ok
    fault = commands.verify(trail.world.settings, copy="0" * 64).fault
    assert fault is not None
    assert fault.kind.value == "copy_differs"
    with pytest.raises(InvalidInput):
        commands.verify(trail.world.settings, copy="no hash")


def test_files_that_cannot_be_read_are_said(trail: Trail) -> None:
    trail.seal()
    folder = AuditFolder(trail.data)
    text = folder.head_file.read_bytes()
    folder.head_file.write_bytes(text[:20])
    with pytest.raises(MedPerfError) as raised:
        trail.verify()
    assert raised.value.code == "bad_audit_head"
    folder.head_file.write_bytes(text)
    folder.key_file.write_text("no key")
    with pytest.raises(MedPerfError) as raised:
        trail.verify()
    assert raised.value.code == "bad_audit_key"


def test_statements_of_a_verification_do_not_grow_with_the_events(trail: Trail) -> None:
    """One page per checkpoint, and nothing is kept of it."""

    def statements(count: int) -> int:
        trail.add(count)
        trail.seal()
        before = trail.world.database.statements
        assert trail.verify().ok
        return int(trail.world.database.statements - before)

    first = statements(5)
    assert statements(500) - first <= 3


@pytest.mark.long
@only("sqlite", because="a million rows are written into the file directly")
def test_a_million_events(trail: Trail) -> None:
    """Sealed and verified at 20,000 a second at the very least, in bounded memory."""
    import tracemalloc

    columns = "INSERT INTO audit_events (at, actor_id, action, target, data) "
    trail.sql(
        columns + "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000)"
        " SELECT '2026-01-31T12:00:00.000000Z', i % 100, 'asset.created', 'asset:' || i, '{\"size\":' || i || '}' FROM n"
    )
    started = time.perf_counter()
    commands.seal(trail.world.settings)
    sealed = time.perf_counter()
    tracemalloc.start()
    found = commands.verify(trail.world.settings)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.ok, found.unsealed) == (True, 0)
    assert found.events > 1_000_000
    assert peak < 64 * 1024**2
    assert sealed - started < 50
    trail.sql("UPDATE audit_events SET data = '{}' WHERE id = 999999")
    fault = json.loads(json.dumps(commands.verify(trail.world.settings).fault, default=vars))
    assert fault["event"] == 999_999
