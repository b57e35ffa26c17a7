"""Listings: what they hold in every combination of filters and orders, what they cost, and that pages fit together."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from medperf.server.assets import endpoints as assets
from medperf.server.associations import endpoints as associations
from medperf.server.authz import Actor
from medperf.server.benchmarks import endpoints as benchmarks
from medperf.server.datasets import endpoints as datasets
from medperf.server.mlcubes import endpoints as mlcubes
from medperf.server.paging import Listing
from medperf.server.schema import now
from medperf.server.tables import memberships, parties

from .conftest import Person, World, problem
from .listings import Crowd, combinations, expected, fill, make_crowd, walk

LISTINGS: dict[str, tuple[Listing, Any]] = {
    "mlcubes": (mlcubes.repository.LISTING, mlcubes.MLCubeQuery),
    "benchmarks": (benchmarks.repository.LISTING, benchmarks.BenchmarkQuery),
    "assets": (assets.repository.LISTING, assets.AssetQuery),
    "datasets": (datasets.repository.LISTING, datasets.DatasetQuery),
    "associations": (associations.repository.LISTING, associations.AssociationQuery),
}
NOUNS = tuple(LISTINGS)


@pytest.fixture
def crowd(world: World) -> Crowd:
    return make_crowd(world)


def check_combinations(world: World, crowd: Crowd, *, of_each: int) -> None:
    """Against the rules written once more, for an admin, somebody alone, and a member of two organisations."""
    dice = random.Random(1)
    for noun in NOUNS:
        for person in (world.admin, crowd.alone, crowd.member):
            mine = None if person is world.admin else crowd.parties(person)
            operated = {person.party} | ({crowd.organisations[0]} if person is crowd.member else set())
            every = combinations(noun, (None, "me", str(crowd.others[0]), str(crowd.organisations[1])))
            for asked in dice.sample(every, min(len(every), of_each)):
                wanted = expected(noun, crowd.rows[noun], asked, mine, operated)
                found = walk(person, f"/{noun}", asked, limit=dice.choice((1, 7)) if len(wanted) < 8 else 29)
                assert found == wanted, (noun, person.name, asked)


def test_combinations(world: World, crowd: Crowd) -> None:
    fill(world, crowd, 90)
    check_combinations(world, crowd, of_each=12)


@pytest.mark.long
def test_every_combination(world: World, crowd: Crowd) -> None:
    fill(world, crowd, 90)
    check_combinations(world, crowd, of_each=10_000)


# ---------------------------------------------------------------------------------------------------------- what it costs


class _Measured:
    """A transaction that counts what its last statement touched: rows on PostgreSQL, steps of its machine on SQLite."""

    def __init__(self, tx: Any) -> None:
        self._tx = tx
        self.cost = self.ranges = 0

    async def all(self, statement: Any, parameters: Any) -> Any:
        self.ranges = str(statement).count("UNION") + 1
        if hasattr(self._tx, "_fetch"):
            sql, values = self._tx._database.compiled.prepare(statement, parameters).bound(parameters)
            (row,) = await self._tx._connection.fetch(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}", *values)
            self.cost = _touched(json.loads(row[0])[0]["Plan"])
            return await self._tx.all(statement, parameters)
        raw = self._tx._raw
        self.cost = 0

        def count() -> int:
            self.cost += 1
            return 0

        raw.set_progress_handler(count, 1)
        try:
            return await self._tx.all(statement, parameters)
        finally:
            raw.set_progress_handler(None, 1)


def _touched(plan: dict[str, Any]) -> int:
    rows = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Join Filter", 0)
    return int(rows * plan["Actual Loops"]) + sum(map(_touched, plan.get("Plans", ())))


def cost(world: World, person: Person, noun: str, asked: dict[str, Any]) -> tuple[int, int]:
    """What the page touched, and of how many ranges it is."""
    listing, query = LISTINGS[noun]
    actor = Actor(person.id, person.party, person is world.admin, "", "")

    async def measure() -> tuple[int, int]:
        async with world.database.read() as tx:
            measured = _Measured(tx)
            await listing.page(measured, actor, query(**asked, limit=3))
            return measured.cost, measured.ranges

    return world.run(measure)


#: What no row is, though many have each of the values: a database that thinks of one value at a time looks for them everywhere.
RARE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("datasets", {"preparator": 2}),
    ("datasets", {"preparator": 2, "state": "DEVELOPMENT", "sort": "-id"}),
    ("datasets", {"preparator": 2, "is_active": False}),
)


def check_costs(world: World, crowd: Crowd, *, rows: tuple[int, int], of_each: int) -> None:
    dice = random.Random(2)
    chosen = []
    for noun in NOUNS:
        every = combinations(noun, (None, "me", str(crowd.others[0]), str(crowd.organisations[1])))
        for person in (world.admin, crowd.alone, crowd.member):
            chosen += [(person, noun, asked) for asked in dice.sample(every, min(len(every), of_each))]
    chosen += [(world.admin, noun, asked) for noun, asked in RARE]
    found: list[list[tuple[int, int]]] = []
    for count in rows:
        fill(world, crowd, count - len(crowd.rows.get("assets", ())), seed=count, hidden=0.97)
        world.sql("ANALYZE")
        found.append([cost(world, *entry) for entry in chosen])
    for entry, (small, _), (large, ranges) in zip(chosen, *found, strict=True):
        # A range holds up to a page; in the small table some hold less.
        assert large <= 1.3 * small + 250 + 150 * ranges, (entry[0].name, entry[1:], small, large)


def test_costs_do_not_grow(world: World, crowd: Crowd) -> None:
    """Nearly everything is others' and hidden; sixteen times as many rows cost the same."""
    check_costs(world, crowd, rows=(500, 8000), of_each=15)


@pytest.mark.long
def test_no_combination_costs_more_with_more_rows(world: World, crowd: Crowd) -> None:
    check_costs(world, crowd, rows=(500, 50_000), of_each=10_000)


# ---------------------------------------------------------------------------------------------------- pages fit together


def test_pages_are_stable(world: World, crowd: Crowd) -> None:
    """Between pages things are made, renamed, edited, decided about and deleted. Who was there and fitted all the while is in exactly one
    page; who was renamed may be anywhere in an order by name.
    """
    dice = random.Random(3)
    fill(world, crowd, 120, joined=False)
    for round_, sort in enumerate(("id", "-id", "name", "-name") * 2):
        noun = ("mlcubes", "benchmarks")[round_ // 4]
        asked = {"sort": sort} | ({"state": "OPERATION"} if round_ % 2 else {})
        before, touched, after, found = _present(crowd, noun, asked), set[int](), None, []
        for step in range(1000):
            answer = crowd.member.get(f"/{noun}", params=asked | {"limit": 10} | ({"after": after} if after else {}))
            assert answer.status_code == 200, answer.text
            found += [item["id"] for item in answer.json()["items"]]
            after = answer.json()["next"]
            if after is None:
                break
            touched |= _disturb(world, noun, dice, f"{round_}.{step}")
        stayed = (before & _present(crowd, noun, asked)) - touched
        assert len(stayed) > 15
        assert sorted(entry for entry in found if entry in stayed) == sorted(stayed), (noun, sort)


def _present(crowd: Crowd, noun: str, asked: dict[str, Any]) -> set[int]:
    return set(walk(crowd.member, f"/{noun}", asked, limit=256))


def _disturb(world: World, noun: str, dice: random.Random, mark: str) -> set[int]:
    """Change a few rows as other accounts would; returns those that were renamed or were not there all the while."""
    columns = ", ".join(
        column.name for column in LISTINGS[noun][0]._table.c if column.name not in ("id", "name", "name_key")
    )
    ids = [row[0] for row in world.sql(f"SELECT id FROM {noun} ORDER BY id")]
    renamed, gone, hidden, edited = dice.sample(ids, 4)
    name = dice.choice(("aa", "m", "zz")) + mark
    world.sql(f"UPDATE {noun} SET name = ?, name_key = ? WHERE id = ?", name, name, renamed)
    world.sql(f"UPDATE {noun} SET version = version + 1 WHERE id = ?", edited)
    world.sql(f"UPDATE {noun} SET state = 'DEVELOPMENT' WHERE id = ?", hidden)
    world.sql(
        f"INSERT INTO {noun} (name, name_key, {columns}) SELECT '{mark}', '{mark}', {columns} FROM {noun} WHERE id = {edited}"
    )
    if noun == "benchmarks":
        world.sql("UPDATE benchmarks SET approval = 'APPROVED', state = 'OPERATION' WHERE id = ?", hidden)
        world.sql("DELETE FROM opened_assets WHERE benchmark_id = ?", gone)
    world.sql(f"DELETE FROM {noun} WHERE id = ?", gone)
    return {renamed, gone, hidden}


def test_queries_that_are_refused(world: World) -> None:
    admin = world.admin
    for path in ("/mlcubes", "/benchmarks", "/assets", "/users"):
        for query, code in {
            "limit=257": "invalid_fields",
            "limit=0": "invalid_fields",
            "limit=1e2": "invalid_fields",
            "sort=size": "invalid_fields",
            "sort=": "invalid_fields",
            "colour=blue": "unknown_parameter",
            "search=a&sort=id": "bad_combination",
            "search=a&name=b": "bad_combination",
            "search=": "invalid_fields",
            "after=x": "invalid_fields",
            "after=-1": "invalid_fields",
            "after=1.YQ": "bad_cursor",
            "sort=name&after=1": "bad_cursor",
            "sort=name&after=1._w": "bad_cursor",
            "sort=name&after=1.AA": "bad_cursor",
            "sort=id&sort=id": "repeated_parameter",
        }.items():
            problem(admin.get(f"{path}?{query}"), 400, code)
    problem(admin.get("/assets?digest=sha256:" + "0" * 64 + "&sort=name"), 400, "bad_combination")
    problem(admin.get("/mlcubes?owner=0"), 400, "invalid_fields")
    assert admin.get("/mlcubes?after=9999999999").json() == {"items": [], "next": None}
    assert admin.get("/mlcubes?owner=999999999").json()["items"] == []


def test_accounts_and_events(world: World) -> None:
    for name in ("Zoe", "anna", "Anton", "bert"):
        world.person(name)
    world.person("ann.admin", admin=True)
    everybody = [user["username"] for user in world.admin.get("/users?sort=name").json()["items"]]
    assert everybody == ["admin", "ann.admin", "anna", "Anton", "bert", "Zoe"]
    assert [user["username"] for user in world.admin.get("/users?search=AN").json()["items"]] == [
        "ann.admin",
        "anna",
        "Anton",
    ]
    assert [user["username"] for user in world.admin.get("/users?is_admin=true&sort=-id").json()["items"]] == [
        "ann.admin",
        "admin",
    ]
    assert [user["username"] for user in world.admin.get("/users?name=Zoe").json()["items"]] == ["Zoe"]
    assert world.admin.get("/users?name=zoe").json()["items"] == []
    newest = world.admin.get("/audit-events?sort=-id&limit=1").json()["items"][0]
    assert newest["action"] == "token.created"
    assert [event["id"] for event in world.admin.get("/audit-events?action=user.created").json()["items"]] == sorted(
        event["id"] for event in world.admin.get("/audit-events?action=user.created&sort=-id").json()["items"]
    )


def test_a_renamed_thing_is_found_by_its_new_name(world: World) -> None:
    cube = world.admin.make_cube("model", name="Old name", state="DEVELOPMENT")
    assert world.admin.patch(f"/mlcubes/{cube['id']}", {"name": "New Näme"}, 1).status_code == 200
    assert world.admin.get("/mlcubes?search=old").json()["items"] == []
    assert [item["name"] for item in world.admin.get("/mlcubes?search=new nÄ").json()["items"]] == ["New Näme"]
    assert len(world.admin.get("/mlcubes?name=New Näme").json()["items"]) == 1
    assert world.admin.get("/mlcubes?name=new näme").json()["items"] == []


def test_many_equal_names(world: World, crowd: Crowd) -> None:
    """More than a page of things with one name, each of another owner."""
    fill(world, crowd, 40, hidden=0.0)
    world.sql(
        "UPDATE mlcubes SET name = 'Same', name_key = 'same', owner_id = owner_id WHERE id IN (SELECT MIN(id) FROM mlcubes GROUP BY owner_id)"
    )
    same = [row[0] for row in world.sql("SELECT id FROM mlcubes WHERE name = 'Same' ORDER BY id")]
    assert len(same) > 8
    assert walk(world.admin, "/mlcubes", {"search": "same"}, limit=3) == same
    assert walk(world.admin, "/mlcubes", {"search": "same", "sort": "-name"}, limit=3) == same[::-1]
    assert walk(world.admin, "/mlcubes", {"name": "Same"}, limit=3) == same


def test_an_account_of_many_organisations(world: World, crowd: Crowd) -> None:
    """More ranges than one compound statement takes on SQLite."""
    fill(world, crowd, 90)
    made = crowd.others

    async def join() -> None:
        async with world.database.write() as tx:
            for number in range(60):
                party = (
                    made[number]
                    if number < len(made)
                    else await tx.insert(sa.insert(parties), {"kind": "organisation", "name": "x", "created_at": now()})
                )
                await tx.execute(sa.insert(memberships), {"user_id": crowd.alone.id, "party_id": party, "can_manage": True, "can_operate": True, "can_release": True, "created_at": now(), "modified_at": now()})  # fmt: skip

    world.run(join)
    mine = {crowd.alone.party, *made}
    for asked in ({}, {"is_valid": False}, {"sort": "name"}, {"owner": "me", "search": "chest"}):
        for noun in ("benchmarks", "mlcubes"):
            assert walk(crowd.alone, f"/{noun}", asked, limit=50) == expected(noun, crowd.rows[noun], asked, mine, mine)


def test_what_was_there_before_is_found(tmp_path: Path) -> None:
    """Names and opened assets of a database that was made before listings had indexes."""
    from alembic import command

    from medperf.server.migrate import migrations_config

    engine = sa.create_engine(f"sqlite:///{tmp_path / 'db.sqlite3'}")
    with engine.begin() as connection:
        command.upgrade(migrations_config(connection), "0004")

        def insert(table: str, **values: Any) -> None:
            columns = {
                row[1]: 0 if row[2] in ("INTEGER", "BIGINT", "BOOLEAN") else "{}"
                for row in connection.exec_driver_sql(f"PRAGMA table_info({table})")
                if row[3] and not row[5]
            }
            chosen = columns | values
            places = ", ".join("?" * len(chosen))
            connection.exec_driver_sql(
                f"INSERT INTO {table} ({', '.join(chosen)}) VALUES ({places})", tuple(chosen.values())
            )

        for number in (1, 2):
            insert("parties", id=number, kind="person", name=f"p{number}")
        for number in (1, 2, 3, 4, 5):
            insert("assets", id=number, owner_id=1, name=f"File {number}")
        for number, kind in ((1, "preparator"), (2, "model"), (3, "evaluator")):
            insert("mlcubes", id=number, owner_id=1, name=f"STRASSE ß{number}", kind=kind, state="OPERATION")
            insert("mlcube_assets", mlcube_id=number, asset_id=number)
        cubes = {"preparator_id": 1, "reference_model_id": 2, "evaluator_id": 3, "state": "OPERATION"}
        insert("benchmarks", id=1, owner_id=1, name="Open", approval="APPROVED", **cubes)
        insert("benchmarks", id=2, owner_id=2, name="Closed", approval="PENDING", **cubes)
        insert("benchmark_assets", benchmark_id=1, asset_id=4)
        insert("benchmark_assets", benchmark_id=2, asset_id=5)
        command.upgrade(migrations_config(connection), "0005")
        assert connection.exec_driver_sql("SELECT name_key FROM mlcubes WHERE id = 2").scalar_one() == "strasse ss2"
        assert connection.exec_driver_sql("SELECT id FROM assets WHERE is_public ORDER BY id").scalars().all() == [
            1,
            3,
            4,
        ]
        opened = connection.exec_driver_sql("SELECT asset_id FROM opened_assets WHERE party_id = 2 ORDER BY asset_id")
        assert opened.scalars().all() == [1, 3, 5]
    engine.dispose()
