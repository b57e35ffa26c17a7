"""Sealing and verifying: whatever is changed before the last checkpoint is found, by whoever changes it in the database alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from medperf.server.audit import chain
from medperf.server.audit.folder import AuditFolder, SigningKey

from .audit_trail import Trail
from .conftest import only

# ------------------------------------------------------------------------------------------------------- the arithmetic


def test_leaves_and_roots_never_change_their_meaning() -> None:
    """What a version of the encoding gave once it gives for ever: whoever keeps a hash relies on it."""
    event = (1, "2026-01-31T12:00:00.000000Z", None, "server.initialised", "server", "{}")
    other = (2, "2026-01-31T12:00:01.000000Z", 7, "user.created", "user:8", '{"is_admin":false}')
    leaves = [chain.leaf(event), chain.leaf(other)]
    assert [leaf.hex()[:16] for leaf in leaves] == ["5b786a011564e61e", "e4e843f36bff3e71"]
    assert chain.merkle_root(leaves)[:23] == "sha256:a55adbe730ef2e2d"
    checkpoint = chain.Checkpoint(
        1, 1, "an-instance", 1, 2, 2, chain.merkle_root(leaves), chain.GENESIS, "2026-01-31T12:01:00.000000Z", "00"
    )
    assert checkpoint.hash()[:23] == "sha256:03653e826944ebb2"


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40))
def test_root_is_the_one_of_rfc_6962(leaves: list[bytes]) -> None:
    import hashlib

    def tree(part: list[bytes]) -> bytes:
        if len(part) == 1:
            return part[0]
        split = 1 << ((len(part) - 1).bit_length() - 1)
        return hashlib.sha256(b"\x01" + tree(part[:split]) + tree(part[split:])).digest()

    assert chain.merkle_root(leaves) == "sha256:" + tree(leaves).hex()


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.binary(min_size=32, max_size=32)), max_size=20))
def test_packed_leaves_come_back(entries: list[tuple[int, bytes]]) -> None:
    packed = chain.pack(entries)
    assert chain.unpack(packed) == entries
    with pytest.raises(ValueError, match="cut"):
        chain.unpack(packed + b"x")


# ------------------------------------------------------------------------------------------------------------ histories


@pytest.fixture
def trail(make_world: Any) -> Trail:
    """Nobody seals but the test."""
    return Trail(make_world(seal_seconds=36_000))


EDITS = (
    ("at", "2001-01-01T00:00:00.000000Z"),
    ("actor_id", 4711),
    ("actor_id", None),
    ("action", "server.reset"),
    ("target", "asset:4711"),
    ("data", "{ }"),
)
CHECKPOINT_EDITS = (
    ("version", 2),
    ("instance_id", "another"),
    ("first_event", -5),
    ("last_event", 2**31 - 1),
    ("events", 4711),
    ("root", chain.GENESIS),
    ("previous", "sha256:" + "1" * 64),
    ("sealed_at", "2001-01-01T00:00:00.000000Z"),
    ("key", "ab" * 32),
    ("hash", chain.GENESIS),
    ("signature", "00" * 64),
    ("leaves", b""),
    ("leaves", b"x" * 40),
)


def tamper(draw: Any, trail: Trail, sealed: list[int]) -> tuple[set[str], int | None]:
    """Change something; returns the faults that name it, and the event that must be named."""
    kind = draw(st.sampled_from(sorted(TAMPERINGS)))
    return TAMPERINGS[kind](draw, trail, sealed)


def edit_event(draw: Any, trail: Trail, sealed: list[int]) -> tuple[set[str], int | None]:
    event, (column, value) = draw(st.sampled_from(sealed)), draw(st.sampled_from(EDITS))
    trail.sql(f"UPDATE audit_events SET {column} = ? WHERE id = ?", value, event)
    return {"event_changed"}, event


def delete_event(draw: Any, trail: Trail, sealed: list[int]) -> tuple[set[str], int | None]:
    event = draw(st.sampled_from(sealed))
    trail.delete(event)
    return {"event_removed"}, event


def insert_event(draw: Any, trail: Trail, sealed: list[int]) -> tuple[set[str], int | None]:
    free = sorted({-(2**31) + 1, -1, 0, *range(sealed[0], sealed[-1])} - set(trail.ids()))
    event = draw(st.sampled_from(free))
    trail.insert(event)
    return {"event_inserted"}, event


def two_of(draw: Any, sealed: list[int]) -> tuple[int, int]:
    first = draw(st.integers(0, len(sealed) - 2))
    return sealed[first], draw(st.sampled_from(sealed[first + 1 :]))


def swap_ids(draw: Any, trail: Trail, sealed: list[int]) -> tuple[set[str], int | None]:
    one, other = two_of(draw, sealed)
    trail.swap_ids(one, other)
    return {"event_changed"}, one


def swap_contents(draw: Any, trail: Trail, sealed: list[int]) -> tuple[set[str], int | None]:
    one, other = two_of(draw, sealed)
    data = [trail.sql("SELECT data, target FROM audit_events WHERE id = ?", event)[0] for event in (one, other)]
    for event, (text, target) in ((one, data[1]), (other, data[0])):
        trail.sql("UPDATE audit_events SET data = ?, target = ? WHERE id = ?", text, target, event)
    return ({"event_changed"}, one) if tuple(data[0]) != tuple(data[1]) else (set(), None)


def move_event(draw: Any, trail: Trail, sealed: list[int]) -> tuple[set[str], int | None]:
    event = draw(st.sampled_from(sealed))
    trail.unlink()
    trail.sql("UPDATE audit_events SET id = ? WHERE id = ?", max(trail.ids()) + 100, event)
    return {"event_removed"}, event


def edit_checkpoint(draw: Any, trail: Trail, sealed: list[int]) -> tuple[set[str], int | None]:
    number = draw(st.sampled_from([row[0] for row in trail.sql("SELECT id FROM audit_checkpoints")]))
    column, value = draw(st.sampled_from(CHECKPOINT_EDITS))
    trail.sql(f"UPDATE audit_checkpoints SET {column} = ? WHERE id = ?", value, number)
    return {"checkpoint_changed"}, None


def drop_checkpoints(draw: Any, trail: Trail, sealed: list[int]) -> tuple[set[str], int | None]:
    numbers = [row[0] for row in trail.sql("SELECT id FROM audit_checkpoints ORDER BY id")]
    first = draw(st.sampled_from(numbers))
    last = draw(st.sampled_from([number for number in numbers if number >= first]))
    trail.sql("DELETE FROM audit_checkpoints WHERE id >= ? AND id <= ?", first, last)
    return {"checkpoint_removed", "end_missing"}, None


def cut_the_end(draw: Any, trail: Trail, sealed: list[int]) -> tuple[set[str], int | None]:
    """The last checkpoints go, with all events that they cover: as if a copy had been restored."""
    first = draw(st.sampled_from([row[0] for row in trail.sql("SELECT id FROM audit_checkpoints")]))
    start = trail.sql("SELECT first_event FROM audit_checkpoints WHERE id = ?", first)[0][0]
    trail.sql("DELETE FROM audit_personal WHERE event_id >= ?", start)
    trail.sql("DELETE FROM audit_events WHERE id >= ?", start)
    trail.sql("DELETE FROM audit_checkpoints WHERE id >= ?", first)
    return {"end_missing"}, None


def rewrite_with_own_key(draw: Any, trail: Trail, sealed: list[int]) -> tuple[set[str], int | None]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    edit_event(draw, trail, sealed)
    trail.forge(SigningKey(Ed25519PrivateKey.generate()))
    return {"unknown_key"}, None


def rewrite_in_our_name(draw: Any, trail: Trail, sealed: list[int]) -> tuple[set[str], int | None]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    edit_event(draw, trail, sealed)
    ours = AuditFolder(trail.data).key()
    assert ours is not None
    trail.forge(SigningKey(Ed25519PrivateKey.generate()), claim=ours.public)
    return {"checkpoint_changed"}, None


def edit_personal(draw: Any, trail: Trail, sealed: list[int]) -> tuple[set[str], int | None]:
    have = [row[0] for row in trail.sql("SELECT event_id FROM audit_personal ORDER BY event_id") if row[0] in sealed]
    if not have:
        return set(), None
    event = draw(st.sampled_from(have))
    column, value = draw(st.sampled_from([("salt", "00" * 32), ("salt", "no"), ("value", '{"address":"me"}')]))
    trail.sql(f"UPDATE audit_personal SET {column} = ? WHERE event_id = ?", value, event)
    return {"personal_changed"}, event


def become_another_server(draw: Any, trail: Trail, sealed: list[int]) -> tuple[set[str], int | None]:
    trail.sql("UPDATE settings SET instance_id = 'another'")
    if draw(st.booleans()):
        trail.sql("DELETE FROM audit_checkpoints")
        return {"other_server"}, None
    return {"checkpoint_changed"}, None


TAMPERINGS: dict[str, Any] = {
    function.__name__: function
    for function in (
        edit_event,
        delete_event,
        insert_event,
        swap_ids,
        swap_contents,
        move_event,
        edit_checkpoint,
        drop_checkpoints,
        cut_the_end,
        rewrite_with_own_key,
        rewrite_in_our_name,
        edit_personal,
        become_another_server,
    )
}


def play(trail: Trail, data: st.DataObject) -> None:
    """One random history, verified; then one random change, found."""
    instance = trail.sql("SELECT instance_id FROM settings")[0][0]
    try:
        trail.clear()
        for count in data.draw(st.lists(st.integers(3, 9), min_size=1, max_size=4)):
            trail.add(count, personal=data.draw(st.booleans()))
            if data.draw(st.booleans()):  # a change that was undone leaves a gap
                trail.delete(trail.ids()[-1])
            trail.seal()
        sealed = trail.ids()
        trail.add(data.draw(st.integers(0, 3)), personal=True)
        before = trail.verify()
        assert (before.ok, before.events, before.last_event) == (True, len(sealed), sealed[-1])
        assert before.unsealed == len(trail.ids()) - len(sealed)
        kinds, event = tamper(data.draw, trail, sealed)
        found = trail.verify()
        if not kinds:
            assert found.ok
            return
        assert found.fault is not None
        assert found.fault.kind.value in kinds, found.fault
        assert found.ok is False
        assert event is None or found.fault.event == event
    finally:
        trail.sql("UPDATE settings SET instance_id = ?", instance)


QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_any_change_before_the_last_checkpoint_is_found(trail: Trail, data: st.DataObject) -> None:
    play(trail, data)


@pytest.mark.long
@hypothesis_settings(max_examples=600, deadline=None, suppress_health_check=QUIET)
@given(data=st.data())
def test_any_change_before_the_last_checkpoint_is_found_often(trail: Trail, data: st.DataObject) -> None:
    play(trail, data)


@hypothesis_settings(max_examples=1, deadline=None, suppress_health_check=QUIET, derandomize=True)
@given(data=st.data())
def test_each_kind_of_change_is_found(trail: Trail, data: st.DataObject) -> None:
    instance = trail.sql("SELECT instance_id FROM settings")[0][0]
    for kind in sorted(TAMPERINGS):
        try:
            trail.clear()
            for _ in range(3):
                trail.add(4, personal=True)
                trail.delete(trail.ids()[-2])
                trail.seal()
            kinds, event = TAMPERINGS[kind](data.draw, trail, trail.ids())
            fault = trail.verify().fault
            assert (fault is None) == (not kinds), kind
            assert fault is None or (fault.kind.value in kinds and event in (None, fault.event)), fault
        finally:
            trail.sql("UPDATE settings SET instance_id = ?", instance)


@only("sqlite", because="PostgreSQL takes text that is text only")
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET data = CAST(X'ff' AS TEXT) WHERE id = 3",
        "UPDATE audit_events SET data = X'7b7d' WHERE id = 3",
        "UPDATE audit_events SET actor_id = 1.5 WHERE id = 3",
        "UPDATE audit_checkpoints SET root = CAST(X'ff' AS TEXT)",
        "UPDATE audit_checkpoints SET key = X'ff'",
        "UPDATE audit_checkpoints SET leaves = 'text'",
    ],
)
def test_what_is_no_text_or_number_is_a_fault_like_others(trail: Trail, statement: str) -> None:
    trail.add(4)
    trail.seal()
    trail.sql(statement)
    fault = trail.verify().fault
    assert fault is not None
    assert (fault.kind.value, fault.event) == (
        ("event_changed", 3) if "audit_events" in statement else ("checkpoint_changed", None)
    )
