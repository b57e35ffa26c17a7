"""Many rows of every noun that is listed, written straight into the database, and what an account should find among them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from medperf.domain.associations import Status
from medperf.domain.states import Approval, Kind, State
from medperf.server.names import name_key
from medperf.server.schema import now
from medperf.server.tables import (
    assets,
    associations,
    benchmarks,
    datasets,
    memberships,
    mlcubes,
    opened_assets,
    opened_datasets,
    parties,
)

from .conftest import Person, World

DIGEST = "sha256:" + "0" * 64
NAMES = ("Chest", "chest", "CHEST X-ray", "Brain", "brÄin", "straße", "STRASSE", "lung", "heart")


#: In the order in which they refer to each other.
TABLES = {
    "mlcubes": mlcubes,
    "benchmarks": benchmarks,
    "assets": assets,
    "datasets": datasets,
    "associations": associations,
}


@dataclass
class Crowd:
    """Who is there. ``alone`` has no organisation; ``member`` has two; ``others`` own nearly everything."""

    alone: Person
    member: Person
    organisations: tuple[int, int]
    others: list[int]
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def parties(self, person: Person) -> set[int]:
        return {person.party, *(self.organisations if person is self.member else ())}


def make_crowd(world: World, *, owners: int = 8) -> Crowd:
    alone, member = world.person("alone"), world.person("member")

    async def fill() -> list[int]:
        async with world.database.write() as tx:
            made = [
                await tx.insert(
                    sa.insert(parties), {"kind": "organisation", "name": f"party {number}", "created_at": now()}
                )
                for number in range(owners + 2)
            ]
            rights = {"can_manage": False, "can_operate": True, "can_release": False}
            for party, operates in zip(made[:2], (True, False), strict=True):
                held = rights | {"can_operate": operates, "can_release": True}
                await tx.execute(
                    sa.insert(memberships),
                    {"user_id": member.id, "party_id": party, "created_at": now(), "modified_at": now(), **held},
                )
            return made

    made = world.run(fill)
    return Crowd(alone, member, (made[0], made[1]), made[2:])


def name_of(number: int) -> str:
    return f"{NAMES[number % len(NAMES)]} {number // len(NAMES):04}" if number % 3 else f"thing {number}"


def fill(world: World, crowd: Crowd, count: int, *, seed: int = 0, hidden: float = 0.5, joined: bool = True) -> None:
    """``count`` more rows of each noun. ``hidden``: how much of it belongs to others and is not public. ``joined``: datasets and
    associations, too.
    """
    dice = random.Random(seed)
    mine = [crowd.alone.party, crowd.member.party, *crowd.organisations]
    start = {name: len(crowd.rows.get(name, ())) for name in TABLES}
    moment = now()
    common = {"user_metadata": "{}", "version": 1, "created_at": moment, "modified_at": moment}

    def owner(number: int) -> int:
        return mine[number % len(mine)] if number < 16 or dice.random() < 8 / count else dice.choice(crowd.others)

    def public(owner_id: int) -> bool:
        return dice.random() > hidden if owner_id in crowd.others else dice.random() < 0.5

    made: dict[str, list[dict[str, Any]]] = {name: [] for name in TABLES}
    for number in range(count):
        owner_id, name = owner(number), name_of(number + start["mlcubes"])
        state = State.OPERATION if public(owner_id) else State.DEVELOPMENT
        made["mlcubes"].append(
            {
                "name": f"{name}", "name_key": name_key(name), "owner_id": owner_id, "state": state.value,
                "kind": list(Kind)[number % 3].value, "is_valid": number % 7 != 0,
                "files": "{}", "forms": "{}", "manifest_text": "", **common,
            }
        )  # fmt: skip
        owner_id = owner(number)
        open_ = public(owner_id)
        approval = Approval.APPROVED if open_ else (Approval.PENDING, Approval.REJECTED)[number % 2]
        state = State.OPERATION if open_ or number % 3 else State.DEVELOPMENT
        made["benchmarks"].append(
            {
                "name": name, "name_key": name_key(name), "owner_id": owner_id, "state": state.value,
                "approval": approval.value, "is_valid": number % 5 != 0, "is_active": number % 11 != 0,
                "description": "", "docs_url": "", "approval_reason": "", "demo": "{}", "prepared_identity": DIGEST,
                "preparator_id": 1, "reference_model_id": 1, "evaluator_id": 1, "report": "{}",
                "metrics_contract": "{}", "decided_at": None, **common,
            }
        )  # fmt: skip
        owner_id = owner(number)
        made["assets"].append(
            {
                "name": name, "name_key": name_key(name), "owner_id": owner_id, "is_public": public(owner_id),
                "digest": f"sha256:{number % 3:064x}", "size": 1, "created_at": moment,
            }
        )  # fmt: skip
        if joined:
            owner_id = owner(number)
            made["datasets"].append(_dataset(owner_id, name, number, common))
            made["associations"].append(_association(made, start, number, dice, hidden=hidden))

    opened = {
        noun: _opened_to_some(noun, mine, start, dice.sample(range(1, count + 1), 12))
        for noun in ("assets", *(["datasets"] if joined else []))
    }

    async def write() -> None:
        async with world.database.write() as tx:
            for noun, table in TABLES.items():
                for first in range(0, len(made[noun]), 1000):  # each call has the time of one statement
                    await tx.execute_many(sa.insert(table), made[noun][first : first + 1000])
            values = [{**entry, "is_joined": entry["benchmark_id"] % 2 == 0} for entry in opened["assets"]]
            await tx.execute_many(sa.insert(opened_assets), values)
            if joined:
                await tx.execute_many(sa.insert(opened_datasets), opened.get("datasets", ()))

    world.run(write)
    for name, rows in made.items():
        kept = crowd.rows.setdefault(name, [])
        kept += [{"id": start[name] + number, "opened": set(), **row} for number, row in enumerate(rows, 1)]
    for noun, entries in opened.items():
        for entry in entries:
            crowd.rows[noun][entry[f"{noun[:-1]}_id"] - 1]["opened"].add(entry["party_id"])


def _opened_to_some(noun: str, mine: list[int], start: dict[str, int], chosen: list[int]) -> list[dict[str, Any]]:
    """Some of them by two benchmarks."""
    return [
        {
            "party_id": mine[number % len(mine)],
            f"{noun[:-1]}_id": start[noun] + number,
            "benchmark_id": start["benchmarks"] + benchmark,
        }
        for number in chosen
        for benchmark in range(1, 2 + number % 2)
    ]


def _dataset(owner_id: int, name: str, number: int, common: dict[str, Any]) -> dict[str, Any]:
    common = {key: value for key, value in common.items() if key != "user_metadata"}
    unique = f"{owner_id} {name} {number}"
    return {
        "name": name, "name_key": name_key(name), "owner_id": owner_id, "uuid": unique[:36], "identity": unique,
        "description": "", "location": "", "site_label": "", "preparator_id": 1 + number % 3,
        "state": list(State)[number % 2].value, "is_valid": number % 5 != 0, "is_active": number % 3 != 0, **common,
    }  # fmt: skip


def _association(
    made: dict[str, list[dict[str, Any]]], start: dict[str, int], number: int, dice: random.Random, *, hidden: float
) -> dict[str, Any]:
    """Of the number's dataset or MLCube, with one of ten benchmarks of others, or of those where accounts of ours are found."""
    benchmark = number if number < 20 else 20 + number % 10
    kind, noun = (("model", "mlcubes"), ("dataset", "datasets"))[number % 2]
    ended = [status for status in Status if status is not Status.APPROVED]
    status = Status.APPROVED if dice.random() > hidden else dice.choice(ended)
    moment = now()
    owner_id, theirs = made["benchmarks"][benchmark]["owner_id"], made[noun][number]["owner_id"]
    asset = start[noun] + number + 1
    return {
        "owner_id": owner_id, "asset_owner_id": theirs, "maker_id": theirs, "decider_id": owner_id, "kind": kind,
        "benchmark_id": start["benchmarks"] + benchmark + 1, "dataset_id": asset if kind == "dataset" else None,
        "mlcube_id": asset if kind == "model" else None, "status": status.value, "asked_by": "asset", "asks": 1,
        "is_automatic": False, "priority": 0, "version": 1, "asked_at": moment, "modified_at": moment,
    }  # fmt: skip


def visible(noun: str, row: dict[str, Any], parties: set[int]) -> bool:
    """DESIGN section 4, written once more."""
    if row["owner_id"] in parties:
        return True
    if noun == "associations":
        return row["asset_owner_id"] in parties or (row["kind"], row["status"]) == ("model", "APPROVED")
    if noun == "datasets":
        return bool(row["opened"] & parties)
    if noun == "mlcubes":
        return bool(row["state"] == "OPERATION")
    if noun == "benchmarks":
        return bool(row["state"] == "OPERATION" and row["approval"] == "APPROVED")
    return bool(row["is_public"] or row["opened"] & parties)


FILTERS: dict[str, dict[str, tuple[Any, ...]]] = {
    "mlcubes": {
        "kind": (None, "model"),
        "state": (None, "DEVELOPMENT", "OPERATION"),
        "is_valid": (None, False),
    },
    "benchmarks": {
        "approval": (None, "PENDING", "APPROVED"),
        "state": (None, "DEVELOPMENT", "OPERATION"),
        "is_valid": (None, False),
        "is_active": (None, True),
    },
    "assets": {"digest": (None, f"sha256:{1:064x}")},
    "datasets": {
        "state": (None, "DEVELOPMENT"),
        "is_valid": (None, False),
        "is_active": (None, True),
        "preparator": (None, 2),
    },
    "associations": {
        "kind": (None, "dataset", "model"),
        "status": (None, "PENDING", "APPROVED"),
        "benchmark": (None, 3, 24),
        "dataset": (None, 12, 40),
        "model": (None, 11, 41),
    },
}  # fmt: skip
#: Filters for one equal value: one at a time, and in the order of ids.
KEYS = {
    "digest": "digest",
    "preparator": "preparator_id",
    "benchmark": "benchmark_id",
    "dataset": "dataset_id",
    "model": "mlcube_id",
}
#: Without names and owners.
NAMELESS = ("associations",)


def combinations(noun: str, owners: Iterable[str | None]) -> list[dict[str, Any]]:
    """Every query that is allowed, one value for each filter."""
    found = []
    names = FILTERS[noun]
    whose = (None,) if noun in NAMELESS else owners
    for owner, values in itertools.product(whose, itertools.product(*names.values())):
        asked = {"owner": owner, **dict(zip(names, values, strict=True))}
        asked = {name: value for name, value in asked.items() if value is not None}
        if len(KEYS.keys() & asked.keys()) > 1:
            continue
        found += [asked | {"sort": sort} for sort in ("id", "-id")]
        if not KEYS.keys() & asked.keys() and noun not in NAMELESS:
            found += [asked | {"sort": sort} for sort in ("name", "-name")]
            found += [asked | {"search": "CHeST"}, asked | {"search": "bräin", "sort": "-name"}]
            found += [asked | {"name": name_of(1)}]
    return found


def expected(
    noun: str, rows: list[dict[str, Any]], asked: dict[str, Any], mine: set[int] | None, operated: set[int]
) -> list[int]:
    """The ids in order. ``mine``: the parties of who asks, None: an admin."""
    found = []
    for row in rows:
        if mine is not None and not visible(noun, row, mine):
            continue
        owner = asked.get("owner")
        if owner == "me" and row["owner_id"] not in operated:
            continue
        if owner not in (None, "me") and row["owner_id"] != int(owner):
            continue
        if "search" in asked and not row["name_key"].startswith(name_key(asked["search"])):
            continue
        if any(row[KEYS.get(name, name)] != asked[name] for name in (*FILTERS[noun], "name") if name in asked):
            continue
        found.append(row)
    sort = asked.get("sort") or ("name" if "search" in asked else "id")
    by_name = sort.endswith("name")
    found.sort(
        key=lambda row: (row["name_key"].encode(), row["name"].encode(), row["id"]) if by_name else row["id"],
        reverse=sort.startswith("-"),
    )
    return [row["id"] for row in found]


def walk(person: Person, path: str, asked: dict[str, Any], *, limit: int) -> list[int]:
    """All pages."""
    found: list[int] = []
    after = None
    for _ in range(1000):
        answer = person.get(path, params=asked | {"limit": limit} | ({"after": after} if after else {}))
        assert answer.status_code == 200, (asked, answer.text)
        page = answer.json()
        found += [item["id"] for item in page["items"]]
        after = page["next"]
        if after is None:
            return found
        assert len(page["items"]) == limit
    raise AssertionError("its pages have no end")
