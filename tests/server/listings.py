"""Many rows of every noun that is listed, written straight into the database, and what an account should find among them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from medperf.domain.states import Approval, Kind, State
from medperf.server.names import name_key
from medperf.server.schema import now
from medperf.server.tables import assets, benchmarks, memberships, mlcubes, opened_assets, parties

from .conftest import Person, World

DIGEST = "sha256:" + "0" * 64
NAMES = ("Chest", "chest", "CHEST X-ray", "Brain", "brÄin", "straße", "STRASSE", "lung", "heart")


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


def fill(world: World, crowd: Crowd, count: int, *, seed: int = 0, hidden: float = 0.5) -> None:
    """``count`` more rows of each noun. ``hidden``: how much of it belongs to others and is not public."""
    dice = random.Random(seed)
    mine = [crowd.alone.party, crowd.member.party, *crowd.organisations]
    start = {name: len(crowd.rows.get(name, ())) for name in ("mlcubes", "benchmarks", "assets")}
    moment = now()
    common = {"user_metadata": "{}", "version": 1, "created_at": moment, "modified_at": moment}

    def owner(number: int) -> int:
        return mine[number % len(mine)] if number < 16 or dice.random() < 8 / count else dice.choice(crowd.others)

    def public(owner_id: int) -> bool:
        return dice.random() > hidden if owner_id in crowd.others else dice.random() < 0.5

    made: dict[str, list[dict[str, Any]]] = {"mlcubes": [], "benchmarks": [], "assets": []}
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
    opened = [
        {"party_id": mine[number % len(mine)], "asset_id": start["assets"] + number}
        for number in dice.sample(range(1, count + 1), 12)
    ]

    async def write() -> None:
        async with world.database.write() as tx:
            for table, rows in ((mlcubes, made["mlcubes"]), (benchmarks, made["benchmarks"]), (assets, made["assets"])):
                for first in range(0, len(rows), 1000):  # each call has the time of one statement
                    await tx.execute_many(sa.insert(table), rows[first : first + 1000])
            await tx.execute_many(sa.insert(opened_assets), opened)

    world.run(write)
    for name, rows in made.items():
        kept = crowd.rows.setdefault(name, [])
        kept += [{"id": start[name] + number, "opened": set(), **row} for number, row in enumerate(rows, 1)]
    for entry in opened:
        crowd.rows["assets"][entry["asset_id"] - 1]["opened"].add(entry["party_id"])


def visible(noun: str, row: dict[str, Any], parties: set[int]) -> bool:
    """DESIGN section 4, written once more."""
    if row["owner_id"] in parties:
        return True
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
}  # fmt: skip


def combinations(noun: str, owners: Iterable[str | None]) -> list[dict[str, Any]]:
    """Every query that is allowed, one value for each filter."""
    found = []
    names = FILTERS[noun]
    for owner, values in itertools.product(owners, itertools.product(*names.values())):
        asked = {"owner": owner, **dict(zip(names, values, strict=True))}
        asked = {name: value for name, value in asked.items() if value is not None}
        found += [asked | {"sort": sort} for sort in ("id", "-id")]
        if "digest" not in asked:
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
        if any(row[name] != asked[name] for name in (*FILTERS[noun], "name") if name in asked):
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
