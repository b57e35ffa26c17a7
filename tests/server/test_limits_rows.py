"""What one account can make the server keep: rows, logins, events. Each has a limit, and organisations do not multiply it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from medperf.domain import limits
from medperf.server.assets.sweep import sweep
from medperf.server.limiter import Allowances, RateLimiter
from medperf.server.settings import Settings
from medperf.server.tables import metadata

from .conftest import API, PASSWORD, Person, World, problem
from .executing import make_study
from .joining import ask, asks_with_dataset, dataset_body, decide, invites, make_dataset, open_benchmark
from .organising import ALL, join, make_organisation
from .test_rate_limits import Clock, taken

Make = Callable[..., World]


#: Each table, and what ends its growth: limits and settings, or the tables whose rows are few per row of theirs. Nothing else is there.
GROWTH: dict[str, tuple[str, ...]] = {
    "settings": ("one row",),
    "users": ("made by admins",),
    "parties": ("users", "organisations"),
    "organisations": ("ORGANISATIONS_PER_USER",),
    "memberships": ("ORGANISATION_MEMBERS",),
    "invitations": ("ORGANISATION_INVITATIONS", "INVITATION_DAYS"),
    "tokens": ("login_count",),
    "idempotency_keys": ("changes_per_second", "idempotency_seconds"),
    "uploads": ("upload_count",),
    "assets": ("asset_count", "asset_quota_bytes"),
    "mlcubes": ("mlcube_count",),
    "mlcube_assets": ("mlcubes", "FILES_PER_MLCUBE"),
    "benchmarks": ("benchmark_count",),
    "benchmark_assets": ("benchmarks",),
    "datasets": ("dataset_count",),
    "associations": ("association_count",),
    "association_events": ("associations", "ASSOCIATION_ASKS"),
    "opened_datasets": ("associations",),
    "opened_assets": ("joined_count", "FILES_PER_MLCUBE"),
    "executions": ("execution_count",),
    "attempts": ("executions", "ATTEMPTS_PER_EXECUTION"),
    "releases": ("attempts",),
    "audit_events": ("changes_per_second",),
    "audit_personal": ("audit_events",),
    "audit_checkpoints": ("audit_events",),
}


def cube(person: Person, name: str, **fields: Any) -> Any:
    return person.post("/mlcubes", person.cube_body("model", name=name, upload=False, **fields))


def test_every_table_has_a_limit() -> None:
    assert set(GROWTH) == set(metadata.tables)
    known = {*GROWTH, *vars(limits), *Settings.__dataclass_fields__, "one row", "made by admins"}
    assert {name for names in GROWTH.values() for name in names} <= known


def test_mlcubes_of_an_owner(make_world: Make) -> None:
    world = make_world(mlcube_count=3)
    alice, bob = world.person("alice"), world.person("bob")
    bodies = [alice.cube_body("model", name=f"cube {number}", upload=False) for number in range(4)]
    for number, body in enumerate(bodies[:3]):
        assert (
            alice.post("/mlcubes", body, headers={"Idempotency-Key": f"key-of-cube-number-{number}"}).status_code == 201
        )
    found = problem(alice.post("/mlcubes", bodies[3]), 409, "too_many_rows")
    assert "3 MLCubes" in found["detail"]
    assert found["fix"]
    # what was made can be asked for again, read and changed, and others are not kept out
    again = alice.post("/mlcubes", bodies[2], headers={"Idempotency-Key": "key-of-cube-number-2"})
    assert again.status_code == 201
    assert (
        alice.patch(f"/mlcubes/{again.json()['id']}", {"is_valid": False}, again.json()["version"]).status_code == 200
    )
    assert cube(bob, "cube").status_code == 201
    # what was refused left nothing
    assert world.sql("SELECT count(*) FROM mlcubes")[0][0] == 4
    assert world.sql("SELECT count(*) FROM audit_events WHERE action = 'mlcube.created'")[0][0] == 4


def test_many_at_once(make_world: Make) -> None:
    """As many as come at once may be too many, not more."""
    most, at_once = 4, 6
    world = make_world(mlcube_count=most)
    alice = world.person("alice")

    def register(number: int) -> int:
        return int(cube(alice, f"cube {number}").status_code)

    with ThreadPoolExecutor(at_once) as pool:
        answers = list(pool.map(register, range(40)))
    assert set(answers) == {201, 409}
    assert most <= answers.count(201) < most + at_once


def test_benchmarks_of_an_owner(make_world: Make) -> None:
    world = make_world(benchmark_count=1)
    alice = world.person("alice")
    alice.make_benchmark(name="first")
    found = problem(alice.post("/benchmarks", alice.benchmark_body(name="second")), 409, "too_many_rows")
    assert "1 benchmarks" in found["detail"]


def test_organisations_multiply_nothing(make_world: Make) -> None:
    world = make_world(mlcube_count=3)
    alice, bob = world.person("alice"), world.person("bob")
    first, second = (make_organisation(alice, f"Alice's {number}") for number in range(2))
    other = make_organisation(bob, "Bob's")
    join(bob, other, alice, ALL)
    for number, owner in enumerate((first, second, second)):
        assert cube(alice, f"cube {number}", owner=owner["id"]).status_code == 201
    for owner in (first, second):
        problem(cube(alice, "one more", owner=owner["id"]), 409, "too_many_rows")
    # her own, and those of somebody else's organisation, are others' rooms
    assert cube(alice, "mine").status_code == 201
    assert cube(alice, "theirs", owner=other["id"]).status_code == 201
    # members fill it with her
    join(alice, first, bob, ALL)
    problem(cube(bob, "one more", owner=first["id"]), 409, "too_many_rows")
    # what an admin makes has room of its own
    official = make_organisation(world.admin, "Official")
    more = make_organisation(world.admin, "Official too")
    for owner in (official, more):
        for number in range(3):
            assert cube(world.admin, f"cube {number}", owner=owner["id"]).status_code == 201
        problem(cube(world.admin, "one more", owner=owner["id"]), 409, "too_many_rows")


def test_datasets_of_an_owner(make_world: Make) -> None:
    world = make_world(dataset_count=2)
    alice, bob = world.person("alice"), world.person("bob")
    preparator = bob.make_cube("preparator", upload=False)["id"]
    first, second = (make_organisation(alice, f"Alice's {number}") for number in range(2))
    made = [make_dataset(alice, preparator, owner=owner["id"], statistics=None) for owner in (first, second)]
    bodies = [dataset_body(preparator, owner=owner["id"]) for owner in (first, second)]
    for body in bodies:
        assert "2 datasets" in problem(alice.post("/datasets", body), 409, "too_many_rows")["detail"]
    # what is there is answered again and can be changed; others, and she herself, have rooms of their own
    again = dict(bodies[0], uuid=made[0]["uuid"], identity=made[0]["identity"], name=made[0]["name"])
    assert alice.post("/datasets", again).status_code == 200
    assert alice.patch(f"/datasets/{made[0]['id']}", {"is_valid": False}, 1).status_code == 200
    make_dataset(alice, preparator)
    make_dataset(bob, preparator)
    assert world.sql("SELECT count(*) FROM datasets")[0][0] == 4


def test_associations_of_who_asks(make_world: Make) -> None:
    """They count for the side that asked first, so neither side fills the other's room."""
    world = make_world(association_count=2)
    alice, bob = world.person("alice"), world.person("bob")
    benchmark = open_benchmark(world, bob)
    group = make_organisation(alice, "Alice's")
    other = make_organisation(alice, "Alice's too")
    sets = [make_dataset(alice, benchmark["preparator"], owner=owner["id"]) for owner in (group, other, group)]
    asked = [ask(alice, asks_with_dataset(one, benchmark)) for one in sets[:2]]
    third = asks_with_dataset(sets[2], benchmark)
    assert "2 associations" in problem(alice.post("/associations", third), 409, "too_many_rows")["detail"]
    # an ended one asked for again is no row more
    assert decide(alice, asked[0], "CANCELLED").status_code == 200
    assert ask(alice, asks_with_dataset(sets[0], benchmark))["id"] == asked[0]["id"]
    path = f"/benchmarks/{benchmark['id']}/invitations"
    for number in range(3):
        model = alice.make_cube("model", name=f"model {number}", upload=False)
        answer = bob.post(path, invites(model=model["id"]))
        assert answer.status_code == (201 if number < 2 else 409), answer.text
    problem(answer, 409, "too_many_rows")
    assert world.sql("SELECT count(*) FROM associations")[0][0] == 4


def test_the_history_of_an_association_ends(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ASSOCIATION_ASKS", 3)
    alice, bob = world.person("alice"), world.person("bob")
    benchmark = open_benchmark(world, bob)
    dataset = make_dataset(alice, benchmark["preparator"])
    for _ in range(3):
        made = ask(alice, asks_with_dataset(dataset, benchmark))
        assert decide(bob, made, "REJECTED").status_code == 200
    problem(alice.post("/associations", asks_with_dataset(dataset, benchmark)), 409, "asked_too_often")
    problem(
        bob.post(f"/benchmarks/{benchmark['id']}/invitations", invites(dataset=dataset["id"])), 409, "asked_too_often"
    )
    assert world.sql("SELECT count(*) FROM association_events")[0][0] == 6


def test_executions_of_an_owner(make_world: Make) -> None:
    """They count for the dataset's owner, whichever benchmark they are in."""
    world = make_world(execution_count=2)
    data = world.person("data")
    first = make_organisation(data, "Data's")
    study = make_study(world, world.person("bench"), data, world.person("maker"), owner=first["id"])
    other = make_study(
        world, world.person("bench2"), data, world.person("maker2"), owner=make_organisation(data, "Data's too")["id"]
    )
    made = study.register()
    other.register()
    for one in (study, other):
        wanted = one.ids(model=one.benchmark["reference_model"])
        assert "2 executions" in problem(data.post("/executions", wanted), 409, "too_many_rows")["detail"]
    # the ones that are there go on
    assert study.register() == made
    study.finish(made, study.attempt(made))
    assert study.release(made).status_code == 201


def test_organisations_share_their_room_for_files(make_world: Make) -> None:
    world = make_world(asset_quota_bytes=100, asset_count=3)
    alice, bob = world.person("alice"), world.person("bob")
    first, second = (make_organisation(alice, f"Alice's {number}") for number in range(2))
    alice.upload(bytes(60), "large", owner=first["id"])
    found = problem(alice.announce(bytes(50), owner=second["id"]), 413, "quota_exceeded")
    assert "founder" in found["detail"]
    room = alice.get("/storage", params={"owner": second["id"]}).json()
    assert (room["bytes"], room["bytes_limit"], room["assets"], room["assets_limit"]) == (0, 40, 0, 2)
    # an unfinished upload takes its room, too
    assert alice.announce(bytes(30), owner=second["id"]).status_code == 201
    problem(alice.announce(bytes(11), owner=first["id"]), 413, "quota_exceeded")
    alice.upload(b"", "empty", owner=first["id"])
    problem(alice.announce(b"", "no room for names", owner=second["id"]), 413, "too_many_assets")
    for person, owner in ((alice, {}), (bob, {"owner": make_organisation(bob, "Bob's")["id"]})):
        person.upload(bytes(100), "all of it", **owner)


def test_uploads_of_one_founder_at_once(make_world: Make) -> None:
    world = make_world(asset_quota_bytes=100)
    alice = world.person("alice")
    owners = [make_organisation(alice, f"Alice's {number}")["id"] for number in range(4)]

    def announce(number: int) -> int:
        return int(alice.announce(bytes(30), f"file {number}", owner=owners[number % 4]).status_code)

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(announce, range(12)))
    assert answers.count(201) == 3
    assert set(answers) == {201, 413}


def test_logins(make_world: Make) -> None:
    world = make_world(login_count=3)
    alice = world.person("alice")
    others = [world.login("alice", PASSWORD) for _ in range(2)]
    assert alice.get("/me").status_code == 200
    newest = world.login("alice", PASSWORD)
    problem(alice.get("/me"), 401, "token_revoked")
    assert [person.get("/me").status_code for person in (*others, newest)] == [200, 200, 200]
    ended = world.sql("SELECT data FROM audit_events WHERE action = 'token.revoked'")
    assert [row[0] for row in ended] == ['{"reason":"too_many"}']
    assert world.admin.get("/me").status_code == 200


def test_logins_leave_few_rows(make_world: Make) -> None:
    world = make_world(login_count=2)
    alice = world.person("alice")
    for _ in range(5):
        assert world.login("alice", PASSWORD).send("DELETE", "/tokens/current").status_code == 204
    for _ in range(5):
        world.login("alice", PASSWORD)
    assert world.sql("SELECT count(*) FROM tokens WHERE user_id = ?", alice.id)[0][0] <= 5
    assert world.sql("SELECT count(*) FROM tokens WHERE user_id = ? AND revoked_at IS NULL", alice.id)[0][0] == 2


def test_logins_at_once(make_world: Make) -> None:
    world = make_world(login_count=2)
    alice = world.person("alice")
    with ThreadPoolExecutor(6) as pool:
        several = list(pool.map(lambda _: world.login("alice", PASSWORD), range(12)))
    assert len(several) == 12
    newest = [world.login("alice", PASSWORD) for _ in range(2)]
    assert [person.get("/me").status_code for person in newest] == [200, 200]
    assert world.sql("SELECT count(*) FROM tokens WHERE user_id = ? AND revoked_at IS NULL", alice.id)[0][0] == 2


def test_changes_over_days(make_world: Make) -> None:
    world = make_world(changes_burst=6, changes_per_second=0.001, anonymous_rate_per_second=0)
    alice, bob = world.person("alice"), world.person("bob")
    organisation = make_organisation(alice)
    invitations = f"/organisations/{organisation['id']}/invitations"
    sent = [alice.post(invitations, {"username": f"nobody{number}", "rights": ["operate"]}) for number in range(6)]
    answers = [answer.status_code for answer in sent]
    assert answers == [201] * 4 + [429] * 2  # the login and the organisation were the first two
    found = problem(sent[-1], 429, "too_many_requests")
    assert "changes more than 4 things an hour" in found["detail"]
    assert int(sent[-1].headers["Retry-After"]) > 60
    # reading goes on, and so do others; who logs in again is the same account
    assert alice.get(invitations).status_code == 200
    assert make_organisation(bob, "Bob's")
    login = world.client.post(f"{API}/tokens", json={"username": "alice", "password": PASSWORD})
    problem(login, 429, "too_many_requests")


def test_pieces_of_uploads_are_no_changes(make_world: Make) -> None:
    world = make_world(changes_burst=6, changes_per_second=0.001)
    alice = world.person("alice")
    content = bytes(30)
    upload = alice.announce(content).json()["id"]
    for offset in range(30):
        assert alice.send_piece(upload, offset, content[:1]).status_code == 204
    assert alice.post(f"/uploads/{upload}/completion").status_code == 201


def test_no_limit_of_changes() -> None:
    for options in ({"rate": 0, "changes_rate": 1}, {"rate": 1e9, "changes_rate": 0}):
        limiter = RateLimiter(burst=1e9, changes_burst=1, who="This account", **options)
        assert taken(limiter, 1, "POST") == 10_000


def test_changes_come_back() -> None:
    clock = Clock()
    limiter = RateLimiter(rate=100, burst=100, changes_rate=1, changes_burst=3, who="This account", clock=clock)
    assert taken(limiter, 1, "POST") == 3
    limiter.forget_change(1)
    assert taken(limiter, 1, "POST") == 1
    clock.now += 2
    assert taken(limiter, 1, "POST") == 2


def test_allowances_are_few_and_bounded() -> None:
    allowances = Allowances()
    assert not allowances.take("alice")
    allowances.give("alice", 10**9)
    assert sum(allowances.take("alice") for _ in range(1000)) == 64
    allowances.give("alice", 2)
    for number in range(10_000):
        allowances.give(number, 1)
    assert not allowances.take("alice")


def test_counting_is_rare(world: World) -> None:
    """Far from the limit most registrations cost no statement more."""
    alice = world.person("alice")
    costs = [world.statements(lambda number=number: cube(alice, f"cube {number}")) for number in range(12)]
    assert len(set(costs[1:])) == 1
    assert costs[0] - costs[1] == 2


@pytest.mark.parametrize("count", [0, 1])
def test_a_limit_that_is_met_already(make_world: Make, count: int) -> None:
    """One that was lowered: what is there stays, more is refused."""
    world = make_world(mlcube_count=count)
    alice = world.person("alice")
    assert cube(alice, "first").status_code == (201 if count else 409)
    problem(cube(alice, "second"), 409, "too_many_rows")


def test_the_last_of_the_disk(make_world: Make) -> None:
    """Registrations leave some of the disk to logins and to whoever tidies up, as uploads do."""
    world = make_world(reserve_bytes=2**62)
    alice = world.person("alice")
    problem(cube(alice, "no room"), 507, "storage_full")
    assert world.login("alice", PASSWORD).get("/me").status_code == 200


def test_the_log_ends(make_world: Make) -> None:
    world = make_world(log_bytes=2000)
    log = world.settings.log_file
    for _ in range(30):
        world.client.get(f"{API}/server")
    first = log.read_bytes()
    assert len(first) > 2000

    async def clean() -> None:
        await sweep(world.client.app.state.context, whole=False)  # type: ignore[attr-defined] # as the server does it now and then

    world.run(clean)
    older = log.with_name("server.log.1")
    assert older.read_bytes() == first
    assert older.stat().st_mode & 0o777 == 0o600
    assert log.stat().st_size == 0
    world.client.get(f"{API}/server")
    assert log.read_bytes().count(b"\n") == 1
    world.run(clean)
    assert older.read_bytes() == first  # a short one stays where it is
    assert {path.name for path in log.parent.glob("*server.log*")} == {"server.log", "server.log.1"}
