"""A server of the first version, with all that it could hold, goes on as one of this version: on both databases."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from medperf.domain.errors import MedPerfError
from medperf.server import admin
from medperf.server.app import create_app
from medperf.server.audit import commands
from medperf.server.audit.service import PERSONAL
from medperf.server.location import PostgresURL, remember
from medperf.server.maintenance import look, transact
from medperf.server.migrate import migrations_config
from medperf.server.schema import REVISION
from medperf.server.settings import Settings

from .conftest import PASSWORD, Person, World, problem
from .executing import Study, identity_of
from .joining import ask, asks_with_dataset, asks_with_model, decide, make_dataset

_numbers = itertools.count(1)


def first_version(settings: Settings, rows: Callable[[str, list[str]], list[Any]]) -> None:
    """Make the first version's tables, with these rows: of a table, in its columns."""
    from alembic import command

    def make(connection: sa.Connection) -> None:
        command.upgrade(migrations_config(connection), "0001")
        found = sa.MetaData()
        found.reflect(connection)
        for table in found.sorted_tables:
            names = [column.name for column in table.columns]
            values = [dict(zip(names, row, strict=True)) for row in rows(table.name, names)]
            if table.name != "alembic_version" and values:
                connection.execute(sa.insert(table), values)
                if (
                    connection.dialect.name == "postgresql"
                    and table.columns[0].name == "id"
                    and table.name != "settings"
                ):
                    last = f"SELECT setval(pg_get_serial_sequence('{table.name}', 'id'), max(id)) FROM {table.name}"
                    connection.exec_driver_sql(last)

    transact(settings, make)


class Past:
    """People, MLCubes, hosted files and benchmarks in each state, as the first version knew them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.bench, self.maker, self.data = (world.person(name) for name in ("bench", "maker", "data"))
        self.parts = {kind: self.bench.make_cube(kind) for kind in ("preparator", "model", "evaluator")}
        self.model = self.maker.make_cube("model", name="joins")
        self.maker.make_cube("model", name="STRASSE", state="DEVELOPMENT", upload=False)
        made = {
            name: self.bench.make_benchmark(name=name, cubes=self.parts) for name in ("approved", "rejected", "pending")
        }
        world.approve(made["approved"])
        world.approve(made["rejected"], "REJECTED")
        self.bench.make_benchmark(name="draft", cubes=self.parts, state="DEVELOPMENT")

    def seen(self, person: Person) -> dict[str, Any]:
        """All that an account sees, without what is only there since later versions."""
        found: dict[str, Any] = {}
        for noun in ("mlcubes", "benchmarks", "assets"):
            items = person.get(f"/{noun}").json()["items"]
            found[noun] = items if noun == "assets" else [person.get(f"/{noun}/{one['id']}").json() for one in items]
        return found


@pytest.fixture
def older(
    request: pytest.FixtureRequest, database: str, world: World, tmp_path: Path
) -> Iterator[tuple[Past, Settings]]:
    """What was made, and a server of the first version that holds it."""
    past = Past(world)
    data = tmp_path / "older"
    shutil.copytree(world.settings.data, data, ignore=shutil.ignore_patterns("db.sqlite3*", "database.url"))
    settings = replace(world.settings, data=data)
    name = f"older{next(_numbers)}"
    if database == "postgresql":
        cluster = request.getfixturevalue("cluster")
        cluster.execute(f"CREATE DATABASE {name}")
        remember(settings, PostgresURL.parse(cluster.url(name)))
    else:
        settings.database_file.touch(mode=0o600)

    def rows(table: str, names: list[str]) -> list[Any]:
        where = f"WHERE data NOT LIKE '%{PERSONAL}%'" if table == "audit_events" else ""  # which it did not keep apart
        return world.sql(f"SELECT {', '.join(names)} FROM {table} {where}") if table != "alembic_version" else []

    first_version(settings, rows)
    yield past, settings
    if database == "postgresql":
        cluster.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def test_what_was_registered_goes_on(older: tuple[Past, Settings]) -> None:
    past, settings = older
    assert look(settings).revision == "0001"
    people = (past.world.admin, past.bench, past.maker, past.data)
    before = [past.seen(person) for person in people]
    copy = admin.prepare(settings.data, migrate_postgres=True)
    assert look(settings).revision == REVISION
    assert (copy is None) == (past.world.cluster is not None)
    with ExitStack() as stack:
        client = stack.enter_context(TestClient(create_app(settings)))
        world = World(client, settings, past.world.cluster)
        again = [replace(person, client=client) for person in people]  # their logins go on
        assert [past.seen(person) for person in again] == before
        assert world.login("maker", PASSWORD).id == past.maker.id
        _, bench, maker, data = again
        _play(world, past, bench=bench, maker=maker, data=data)
    commands.seal(settings)
    assert commands.verify(settings).ok


def _play(world: World, past: Past, *, bench: Person, maker: Person, data: Person) -> None:
    """Everything that is new, with what is old."""
    found = {one["name"]: one for one in bench.get("/benchmarks").json()["items"]}
    benchmark = bench.get(f"/benchmarks/{found['approved']['id']}").json()
    assert (benchmark["auto_models"]["mode"], benchmark["results_visibility"]) == ("never", "owners")
    assert [one["name"] for one in maker.get("/mlcubes?search=strasse").json()["items"]] == ["STRASSE"]
    dataset = make_dataset(data, past.parts["preparator"]["id"], identity=identity_of("old"))
    asked = ask(data, asks_with_dataset(dataset, benchmark))
    problem(data.post("/associations", asks_with_dataset(dataset, found["pending"])), 400, "unknown_benchmark")
    assert decide(bench, asked, "APPROVED").status_code == 200
    manifest = past.model["files"]["manifest"]["urls"][0].removeprefix("asset:")
    problem(data.get(f"/assets/{manifest}/content"), 404, "no_such_asset")
    asked = ask(maker, asks_with_model(past.model, benchmark))
    assert decide(bench, asked, "APPROVED").status_code == 200
    assert data.get(f"/assets/{manifest}/content").status_code == 200
    study = Study(
        world,
        bench,
        data,
        maker,
        benchmark,
        past.parts | {"model": past.model},
        dataset["id"],
        data.party,
        data_name="old",
    )
    _, result = study.released()
    assert maker.get(f"/results/{result}").json()["metrics"] == {"AUC.Edema": 0.75}


def test_a_copy_of_the_older_file_is_kept(older: tuple[Past, Settings], database: str) -> None:
    """On SQLite by us; on PostgreSQL whoever asks is told how, and nothing is changed before."""
    _, settings = older
    if database == "postgresql":
        with pytest.raises(MedPerfError) as raised:
            admin.prepare(settings.data)
        assert raised.value.code == "schema_older"
        assert look(settings).revision == "0001"
        return
    copy = admin.prepare(settings.data)
    assert copy is not None
    with closing(sqlite3.connect(copy)) as kept:
        assert kept.execute("SELECT version_num FROM alembic_version").fetchall() == [("0001",)]
        assert kept.execute("SELECT count(*) FROM benchmarks").fetchall() == [(4,)]
