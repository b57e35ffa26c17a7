"""What is particular to PostgreSQL: its address, what is refused, and what happens when it is away, slow or full."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from medperf.domain.errors import Conflict, MedPerfError, ServerUnavailable, UsageError
from medperf.server import admin
from medperf.server.location import PostgresURL, located, remember
from medperf.server.maintenance import look, transact
from medperf.server.schema import REVISION
from medperf.server.settings import Settings
from medperf.server.tables import metadata, parties, users
from medperf.server.trouble import DatabaseFault
from medperf.testing.postgres import Cluster

from .conftest import CHEAP, World, only, problem

SECRET = "p4ss/w@rd"
postgresql = only("postgresql", because="it is about PostgreSQL")


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[str]:
    """The address of a database with nothing in it."""
    cluster.execute("DROP DATABASE IF EXISTS bare WITH (FORCE)", "CREATE DATABASE bare")
    yield cluster.url("bare")
    cluster.execute("DROP DATABASE IF EXISTS bare WITH (FORCE)")


def init(data: Path, url: str) -> admin.InitReport:
    return admin.init(data, development=True, database=url, password_cost=CHEAP)


def refused(code: str, call: Callable[[], Any]) -> MedPerfError:
    with pytest.raises(MedPerfError) as raised:
        call()
    assert raised.value.code == code
    assert SECRET not in "".join(str(part) for part in (raised.value, raised.value.what, raised.value.fix))
    return raised.value


# ------------------------------------------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    "text",
    ["", "db", "mysql://u@h/d", "postgresql://u@h", "postgresql://u@h/", "postgresql://h:port/d", "postgresql://h/a/b"],
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(UsageError) as raised:
        PostgresURL.parse(text)
    assert raised.value.code == "bad_database"


@pytest.mark.parametrize(
    ("text", "shown", "has_password"),
    [
        ("postgresql://h/d", "postgresql://h/d", False),
        ("postgres://u:p4ss%2Fw%40rd@[::1]:5433/d", "postgresql://u@[::1]:5433/d", True),
        ("postgresql://u@/d?host=/run/x&password=p4ss/w@rd", "postgresql://u@/d?host=/run/x", True),
        ("postgresql://u@h/d?sslmode=verify-full", "postgresql://u@h/d", False),
    ],
)
def test_addresses_without_their_secrets(text: str, shown: str, has_password: bool) -> None:
    url = PostgresURL.parse(text)
    assert (url.shown, url.has_password) == (shown, has_password)
    assert SECRET not in repr(url)
    assert "p4ss" not in repr(url) + repr(Settings(data=Path("x"), database=text))
    assert PostgresURL.parse(url.with_password(SECRET).text).shown == shown


def test_the_address_is_kept_to_oneself(tmp_path: Path) -> None:
    where = Settings(data=tmp_path)
    assert located(where) is None
    remember(where, PostgresURL.parse("postgresql://u:secret@h/d"))
    assert where.database_url_file.stat().st_mode & 0o777 == 0o600
    found = located(where)
    assert found is not None
    assert found.text == "postgresql://u:secret@h/d"
    where.database_url_file.chmod(0o640)
    assert "chmod 600" in refused("database_file_open", lambda: located(where)).fix


# ------------------------------------------------------------------------------------------------------------- refusals


def test_a_wrong_password(tmp_path: Path) -> None:
    """A real login: the server asks for SCRAM."""
    guarded = Cluster("password_encryption=scram-sha-256")
    (guarded.folder / "data" / "pg_hba.conf").write_text("local all medperf trust\nlocal all all scram-sha-256\n")
    guarded.start()
    try:
        guarded.execute(f"CREATE ROLE owner LOGIN PASSWORD '{SECRET}'", "CREATE DATABASE d OWNER owner")
        url = PostgresURL.parse(guarded.url("d", user="owner"))
        for bad in (url, url.with_password(SECRET + "x")):
            refused("database_login", lambda bad=bad: init(tmp_path / "s", bad.text))
        assert not (tmp_path / "s").exists()
        init(tmp_path / "s", url.with_password(SECRET).text)
        assert look(Settings(data=tmp_path / "s")).revision == REVISION
    finally:
        guarded.stop()


def test_nobody_there(tmp_path: Path, cluster: Cluster) -> None:
    url = f"postgresql://u:p4ss%2Fw%40rd@/d?host={tmp_path}"
    assert str(tmp_path) in refused("database_unreachable", lambda: init(tmp_path / "s", url)).what
    assert "createdb" in refused("database_unknown", lambda: init(tmp_path / "s", cluster.url("nowhere"))).fix
    refused("bad_database", lambda: init(tmp_path / "s", cluster.url("x") + "&sslmode=perhaps"))
    assert not (tmp_path / "s").exists()


def test_somebody_elses_tables(tmp_path: Path, cluster: Cluster, empty: str) -> None:
    cluster.execute("CREATE TABLE patients (id int)", database="bare")
    assert "patients" in refused("foreign_database", lambda: init(tmp_path / "s", empty)).what
    cluster.execute(
        "CREATE TABLE alembic_version (version_num text)",
        "INSERT INTO alembic_version VALUES ('0001')",
        database="bare",
    )
    refused("foreign_database", lambda: init(tmp_path / "s", empty))
    refused("foreign_database", lambda: admin.prepare(tmp_path / "s", database=empty))
    refused("foreign_database", lambda: admin.reset(tmp_path / "s", database=empty, password_cost=CHEAP))
    assert cluster.fetch(
        "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1", database="bare"
    ) == [("alembic_version",), ("patients",)]


def test_no_right_to_make_tables(tmp_path: Path, cluster: Cluster, empty: str) -> None:
    cluster.execute("CREATE ROLE guest LOGIN")
    try:
        found = refused("database_rights", lambda: init(tmp_path / "s", cluster.url("bare", user="guest")))
        assert "GRANT" in found.fix
    finally:
        cluster.execute("DROP ROLE guest")


def test_a_second_server_in_one_database(tmp_path: Path, empty: str) -> None:
    init(tmp_path / "a", empty)
    with pytest.raises(Conflict) as raised:
        init(tmp_path / "b", empty)
    assert raised.value.code == "already_initialised"
    with pytest.raises(Conflict):
        init(tmp_path / "a", empty)


@pytest.mark.parametrize(("revision", "code"), [("0000", "schema_older"), ("9999", "schema_newer")])
def test_other_schemas(tmp_path: Path, cluster: Cluster, empty: str, revision: str, code: str) -> None:
    init(tmp_path / "s", empty)
    cluster.execute(f"UPDATE alembic_version SET version_num = '{revision}'", database="bare")
    found = refused(code, lambda: admin.prepare(tmp_path / "s"))
    assert ("pg_dump" in found.fix) == (code == "schema_older")
    refused(code, lambda: admin.reset(tmp_path / "s", password_cost=CHEAP))


# ------------------------------------------------------------------------------------------------------------ migrations


def first_schema(where: Settings) -> None:
    """A server as the first migration left it."""
    from alembic import command

    from medperf.server.migrate import migrations_config

    def make(connection: sa.Connection) -> None:
        command.upgrade(migrations_config(connection), "0001")
        connection.exec_driver_sql(
            "INSERT INTO settings (id, instance_id, development, created_at) VALUES (1, 'x', true, '2026')"
        )

    transact(where, make)


def test_two_at_once_migrate_once(tmp_path: Path, empty: str) -> None:
    where = Settings(data=tmp_path, database=empty)
    first_schema(where)
    assert look(where).revision == "0001"
    refused("schema_older", lambda: admin.prepare(tmp_path, database=empty))
    together = threading.Barrier(2)

    def start() -> None:
        together.wait()
        admin.prepare(tmp_path, database=empty, migrate_postgres=True)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(start) for _ in range(2)]:
            done.result()
    assert look(where).revision == REVISION


def test_two_at_once_make_one_server(tmp_path: Path, empty: str) -> None:
    together = threading.Barrier(2)

    def make(name: str) -> str:
        together.wait()
        try:
            return init(tmp_path / name, empty).instance_id
        except Conflict as error:
            return error.code

    with ThreadPoolExecutor(2) as pool:
        made = sorted(pool.map(make, ("a", "b")), key=len)
    assert made[0] == "already_initialised"
    assert look(Settings(data=tmp_path, database=empty)).revision == REVISION


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path, cluster: Cluster, empty: str) -> None:
    where = Settings(data=tmp_path, database=empty)

    def fail(connection: sa.Connection) -> None:
        from medperf.server.migrate import migrate

        migrate(connection)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        transact(where, fail)
    assert cluster.fetch(
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace", database="bare"
    ) == [(0,)]


def test_models_are_what_migrations_make(tmp_path: Path, empty: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    init(tmp_path, empty)

    def compare(connection: sa.Connection) -> list[Any]:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))

    assert transact(Settings(data=tmp_path), compare) == []


def test_text_is_sorted_by_its_bytes_whatever_the_locale(tmp_path: Path, cluster: Cluster) -> None:
    cluster.execute(
        "DROP DATABASE IF EXISTS locale WITH (FORCE)",
        "CREATE DATABASE locale TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C.UTF-8'",
    )
    init(tmp_path, cluster.url("locale"))
    columns = cluster.fetch(
        "SELECT DISTINCT l.collname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " JOIN pg_collation l ON l.oid = a.attcollation WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0",
        database="locale",
    )
    assert columns == [("C",)]
    cluster.execute("DROP DATABASE locale WITH (FORCE)")


def test_statements_that_are_gone_are_forgotten() -> None:
    """A server runs for months: what was compiled for statements of one request does not pile up."""
    import gc

    from sqlalchemy.dialects import sqlite

    from medperf.server.statements import Statements

    compiled = Statements(sqlite.dialect(paramstyle="qmark"), insert=sqlite.insert)
    for number in range(50):
        for statement in (
            sa.select(parties.c.id).where(parties.c.id == number),
            sa.insert(parties).values([{"name": "a"}, {"name": str(number)}]),
        ):
            compiled.prepare(statement, {})
    del statement
    gc.collect()
    assert len(compiled._known) <= 1
    assert len(compiled._shapes) == 1


def test_rows_have_names_of_their_own() -> None:
    """A row's attributes are its columns, also where a driver's rows have a method of that name."""
    from asyncpg import Record

    hidden = {column.name for table in metadata.tables.values() for column in table.columns} & (
        set(dir(Record)) | set(dir(tuple))
    )
    assert not hidden


# ------------------------------------------------------------------------------------------------- at work, on both kinds


def test_a_name_that_is_taken_leaves_the_transaction_whole(world: World) -> None:
    async def twice() -> list[int | None]:
        values = {"kind": "person", "name": "x", "created_at": ""}
        async with world.database.write() as tx:
            party = await tx.insert_or_none(parties, values)
            second = await tx.insert_or_none(parties, {**values, "id": party})
            await tx.execute(sa.update(parties).where(parties.c.id == party).values(name="y"))
        return [party, second]

    party, second = world.run(twice)
    assert second is None
    assert world.sql("SELECT name FROM parties WHERE id = ?", party) == [("y",)]


@only("postgresql", because="SQLite goes on after a refused statement")
def test_a_transaction_in_which_something_failed_is_not_called_done(world: World) -> None:
    async def swallow() -> None:
        async with world.database.write() as tx:
            party = await tx.insert(sa.insert(parties).values(kind="person", name="lost", created_at=""))
            with contextlib.suppress(IntegrityError):
                await tx.insert(sa.insert(parties).values(id=party, kind="person", name="again", created_at=""))

    with pytest.raises(DatabaseFault):
        world.run(swallow)
    assert world.sql("SELECT count(*) FROM parties WHERE name = 'lost'") == [(0,)]


def test_a_read_sees_one_state(world: World) -> None:
    count = sa.select(sa.func.count().label("n")).select_from(parties)

    async def look_twice() -> list[int]:
        async with world.database.read() as tx:
            first = (await tx.execute(count)).scalar_one()
            async with world.database.write() as other:
                await other.insert(sa.insert(parties).values(kind="person", name="new", created_at=""))
            second = (await tx.execute(count)).scalar_one()
        async with world.database.single() as tx:
            return [first, second, (await tx.execute(count)).scalar_one()]

    first, second, third = world.run(look_twice)
    assert first == second == third - 1


def slow() -> sa.TextClause:
    return sa.text(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT count(*) FROM n"
    )


def test_a_statement_that_takes_too_long_is_stopped(make_world: Callable[..., World]) -> None:
    world = make_world(query_seconds=0.2)

    async def ask() -> None:
        async with world.database.read() as tx:
            await tx.all(slow())

    with pytest.raises(ServerUnavailable) as raised:
        world.run(ask)
    assert (raised.value.code, raised.value.details["retry_after"]) == ("query_too_slow", 5)
    assert world.admin.get("/me").status_code == 200

    async def change() -> None:
        async with world.database.write() as tx:
            await tx.insert(sa.insert(parties).values(kind="person", name="lost", created_at=""))
            await tx.first(slow())

    with pytest.raises(ServerUnavailable):
        world.run(change)
    assert world.sql("SELECT count(*) FROM parties WHERE name = 'lost'") == [(0,)]


# ---------------------------------------------------------------------------------------------------- PostgreSQL's troubles


@postgresql
def test_more_requests_than_connections(make_world: Callable[..., World]) -> None:
    """They wait their turn; who waits too long is told so."""
    world = make_world(database_connections=2, wait_seconds=0.3)

    async def many() -> list[str]:
        async def one() -> str:
            try:
                async with world.database.write() as tx:
                    await tx.first(sa.text("SELECT pg_sleep(0.1)"))
            except ServerUnavailable as error:
                return error.code
            return "done"

        return list(await asyncio.gather(*(one() for _ in range(12))))

    ends = world.run(many)
    assert set(ends) == {"done", "database_busy"}
    assert ends.count("done") >= 4
    assert world.admin.get("/me").status_code == 200


@postgresql
def test_two_that_wait_for_each_other(world: World) -> None:
    """One of them is undone and told to try again."""

    async def deadlock() -> list[str]:
        first = world.admin.party
        async with world.database.write() as tx:
            second = await tx.insert(sa.insert(parties).values(kind="person", name="x", created_at=""))
        met = asyncio.Barrier(2)

        async def change(*order: int) -> str:
            try:
                async with world.database.write() as tx:
                    await tx.execute(sa.update(parties).where(parties.c.id == order[0]).values(name="a"))
                    await met.wait()
                    await tx.execute(sa.update(parties).where(parties.c.id == order[1]).values(name="b"))
            except ServerUnavailable as error:
                return f"{error.code}, again in {error.details['retry_after']}"
            return "done"

        return sorted(await asyncio.gather(change(first, second), change(second, first)))

    assert world.run(deadlock) == ["database_busy, again in 1", "done"]


@postgresql
def test_two_admins_disable_each_other(world: World) -> None:
    """Neither waits for what the other one holds, and one admin stays."""
    bob, carol = world.person("bob", admin=True), world.person("carol", admin=True)
    world.sql("UPDATE users SET is_active = false WHERE id = ?", world.admin.id)
    with ThreadPoolExecutor(2) as pool:
        asked = [
            pool.submit(one.patch, f"/users/{other.id}", {"is_active": False})
            for one, other in ((bob, carol), (carol, bob))
        ]
        codes = sorted(done.result().status_code for done in asked)
    assert codes == [200, 401], codes
    assert world.sql("SELECT count(*) FROM users WHERE is_admin AND is_active") == [(1,)]


@postgresql
def test_disabling_waits_for_a_change_that_is_under_way(world: World) -> None:
    """Whoever was let in to a change finishes it before the account is disabled: the order that others see is the order that was."""
    from medperf.server.auth import hash_token
    from medperf.server.authz import Actor

    alice = world.person("alice")
    instance = world.client.get("/api/v1/server").json()["instance_id"]
    actor = Actor(alice.id, alice.party, False, instance, hash_token(alice.token))
    order: list[str] = []

    async def both() -> None:
        inside = asyncio.Event()

        async def change() -> None:
            async with actor.change(world.database) as tx:
                inside.set()
                await tx.first(sa.text("SELECT pg_sleep(0.2)"))
            order.append("changed")

        async def disable() -> None:
            await inside.wait()
            async with world.database.write() as tx:
                await tx.execute(sa.update(users).where(users.c.id == alice.id).values(is_active=False))
            order.append("disabled")

        await asyncio.gather(change(), disable())

    world.run(both)
    assert order == ["changed", "disabled"]


@pytest.fixture
def own_cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A PostgreSQL server that a test may stop."""
    found = Cluster("synchronous_commit=on")
    found.start()
    found.execute("CREATE DATABASE d")
    yield found
    found.stop()


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_restarted_in_the_middle(tmp_path: Path, own_cluster: Cluster, kill: bool) -> None:
    from starlette.testclient import TestClient

    from medperf.server.app import create_app

    data = tmp_path / "s"
    init(data, own_cluster.url("d"))
    settings = Settings(data=data, password_cost=CHEAP, connect_seconds=1.0)
    with TestClient(create_app(settings)) as client:
        world = World(client, settings, own_cluster)
        assert world.admin.get("/me").status_code == 200
        own_cluster.halt(kill=kill)
        for _ in range(3):
            answer = world.admin.get("/me")
            problem(answer, 503, "database_unavailable")
            assert answer.headers["Retry-After"] == "2"
        problem(
            world.admin.post("/users", {"username": "bob", "password": "correct horse"}), 503, "database_unavailable"
        )
        own_cluster.start()
        answers = [world.admin.get("/me"), world.admin.post("/users", {"username": "bob", "password": "correct horse"})]
        lines = settings.log_file.read_text().splitlines()
        faults = [json.loads(line)["exception"] for line in lines if json.loads(line)["event"] == "fault"]
        assert not faults, faults[0]
        assert [answer.status_code for answer in answers] == [200, 201]
        assert own_cluster.folder.name not in settings.log_file.read_text().replace(str(data), "")


@postgresql
def test_a_connection_that_is_cut_under_a_change(world: World) -> None:
    """The change is undone, and the next one gets another connection."""
    assert world.cluster is not None
    cluster = world.cluster

    async def change() -> None:
        async with world.database.write() as tx:
            await tx.insert(sa.insert(parties).values(kind="person", name="lost", created_at=""))
            (pid,) = await tx.first(sa.text("SELECT pg_backend_pid()"))  # type: ignore[misc]
            await asyncio.to_thread(cluster.fetch, f"SELECT pg_terminate_backend({pid})")
            await tx.insert(sa.insert(parties).values(kind="person", name="lost", created_at=""))

    with pytest.raises(ServerUnavailable) as raised:
        world.run(change)
    assert raised.value.code == "database_unavailable"
    assert world.sql("SELECT count(*) FROM parties WHERE name = 'lost'") == [(0,)]
    assert world.admin.post("/users", {"username": "bob", "password": "correct horse"}).status_code == 201


def test_numbers_wider_than_a_column_are_not_there(world: World) -> None:
    wide = sa.select(parties.c.id).where(parties.c.id == sa.bindparam("wide", type_=sa.Integer))

    async def ask() -> Any:
        return await world.database.first(wide, {"wide": 2**40})

    assert world.run(ask) is None
