"""Logins, accounts and passwords."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import API, PASSWORD, World, problem


def test_server_is_told_to_anybody(world: World) -> None:
    answer = world.client.get(f"{API}/server")
    assert answer.json()["development"] is True
    assert answer.headers["Medperf-Instance"] == answer.json()["instance_id"]


def test_login_me_logout(world: World) -> None:
    person = world.person("alice")
    me = person.get("/me").json()
    assert (me["username"], me["is_admin"], me["is_active"]) == ("alice", False, True)
    assert person.send("DELETE", "/tokens/current").status_code == 204
    problem(person.get("/me"), 401, "token_revoked")


@pytest.mark.parametrize(("name", "password"), [("alice", "wrong"), ("nobody", PASSWORD), ("", "")])
def test_wrong_name_and_wrong_password_look_the_same(world: World, name: str, password: str) -> None:
    world.person("alice")
    found = problem(world.client.post(f"{API}/tokens", json={"username": name, "password": password}), 401, "bad_login")
    assert found["detail"] == "The username or the password is wrong."


def test_unknown_name_costs_a_hash_too(make_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = make_world()
    passwords = world.context.passwords
    hashes: list[str] = []
    verify = passwords._hasher.__class__.verify
    monkeypatch.setattr(
        passwords._hasher.__class__,
        "verify",
        lambda self, stored, given: hashes.append(stored) or verify(self, stored, given),
    )
    for name in ("admin", "nobody"):
        world.client.post(f"{API}/tokens", json={"username": name, "password": "wrong"})
    assert len(hashes) == 2


def test_usernames_differ_by_more_than_capitals(world: World) -> None:
    world.person("alice")
    problem(world.admin.post("/users", {"username": "ALICE", "password": PASSWORD}), 409, "username_taken")
    assert world.login("Alice", PASSWORD).name == "Alice"


def test_failed_logins_are_limited_and_forgiven(make_world: Any) -> None:
    world = make_world(login_burst=3, login_refill_seconds=1000)
    world.person("alice")
    world.person("bob")
    for _ in range(2):
        problem(world.client.post(f"{API}/tokens", json={"username": "alice", "password": "x"}), 401, "bad_login")
    world.login("alice", PASSWORD)  # forgives
    for _ in range(3):
        problem(world.client.post(f"{API}/tokens", json={"username": "alice", "password": "x"}), 401, "bad_login")
    answer = world.client.post(f"{API}/tokens", json={"username": "alice", "password": PASSWORD})
    problem(answer, 429, "too_many_logins")
    assert 1 <= int(answer.headers["retry-after"]) <= 1000
    world.login("bob", PASSWORD)


def test_limiter_refills() -> None:
    from medperf.server.errors import TooMany
    from medperf.server.tokens.limiter import LoginLimiter

    moment = [0.0]
    limiter = LoginLimiter(burst=2, refill_seconds=10, clock=lambda: moment[0])
    limiter.take("a", "x")
    limiter.take("A", "x")
    with pytest.raises(TooMany):
        limiter.take("a", "x")
    limiter.take("a", "y")
    moment[0] = 11
    limiter.take("a", "x")
    with pytest.raises(TooMany):
        limiter.take("a", "x")


def test_token_expires(world: World) -> None:
    person = world.person("alice")
    world.sql("UPDATE tokens SET expires_at = '2020-01-01T00:00:00.000000Z' WHERE user_id = ?", person.id)
    problem(person.get("/me"), 401, "token_expired")


def test_no_token_and_nonsense(world: World) -> None:
    problem(world.client.get(f"{API}/me"), 401, "login_required")
    for value in ("Bearer x", "Basic YTpi", "Bearer", "x" * 5000):
        answer = world.client.get(f"{API}/me", headers={"Authorization": value})
        problem(answer, 401, "bad_token")
        assert answer.headers["www-authenticate"] == "Bearer"


def test_password_change_ends_other_logins(world: World) -> None:
    first = world.person("alice")
    other = world.login("alice", PASSWORD)
    problem(first.post("/me/password", {"current": "wrong", "new": "another one"}), 401, "bad_login")
    assert first.post("/me/password", {"current": PASSWORD, "new": "another one"}).status_code == 204
    assert first.get("/me").status_code == 200
    problem(other.get("/me"), 401, "token_revoked")
    world.login("alice", "another one")


def test_disabled_account(world: World) -> None:
    person = world.person("alice")
    assert world.admin.patch(f"/users/{person.id}", {"is_active": False}).json()["is_active"] is False
    problem(person.get("/me"), 401, "token_revoked")
    problem(
        world.client.post(f"{API}/tokens", json={"username": "alice", "password": PASSWORD}), 401, "account_disabled"
    )
    assert world.admin.patch(f"/users/{person.id}", {"is_active": True}).json()["is_active"] is True
    problem(person.get("/me"), 401, "token_revoked")
    world.login("alice", PASSWORD)


def test_disabled_account_whose_token_lives(world: World) -> None:
    person = world.person("alice")
    world.sql("UPDATE users SET is_active = false WHERE id = ?", person.id)
    problem(person.get("/me"), 401, "account_disabled")


def test_no_admin_locks_the_door_behind_them(world: World) -> None:
    problem(world.admin.patch(f"/users/{world.admin.id}", {"is_active": False}), 409, "own_account")
    second = world.person("root", admin=True)
    assert second.patch(f"/users/{world.admin.id}", {"is_active": False}).status_code == 200
    world.sql("UPDATE users SET is_active = true WHERE id = ?", world.admin.id)
    # the last one: whoever asks was an admin when the request began
    world.sql("UPDATE users SET is_admin = false WHERE id = ?", world.admin.id)
    problem(second.patch(f"/users/{second.id}", {"is_active": False}), 409, "own_account")


def test_last_admin() -> None:
    from medperf.domain.errors import Conflict
    from medperf.server.authz import Actor
    from medperf.server.users.policy import check_disable

    actor = Actor(1, 1, True, "instance", "hash")
    with pytest.raises(Conflict) as raised:
        check_disable(actor, 2, is_admin=True, other_admins=0)
    assert raised.value.code == "last_admin"


def test_users_are_for_admins(world: World) -> None:
    person = world.person("alice")
    for answer in (
        person.get("/users"),
        person.get("/users/1"),
        person.post("/users", {"username": "x", "password": PASSWORD}),
    ):
        problem(answer, 403, "admin_only")
    assert [user["username"] for user in world.admin.get("/users").json()["items"]] == ["admin", "alice"]
    problem(world.admin.get("/users/99"), 404, "no_such_user")


def test_logins_do_not_stop_other_requests(make_world: Any) -> None:
    """Hashing is in threads: while logins wait, anonymous requests are answered."""
    import concurrent.futures

    from medperf.server.settings import PasswordCost

    world = make_world(password_cost=PasswordCost(time=2, memory_kib=32 * 1024, lanes=1))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        logins = [
            pool.submit(world.client.post, f"{API}/tokens", json={"username": f"nobody{i}", "password": "x"})
            for i in range(4)
        ]
        answered = 0
        while not all(login.done() for login in logins):
            assert world.client.get(f"{API}/server").status_code == 200
            answered += 1
    assert answered > 2 * len(logins)  # where they stop the others, one gets in between two of them at best
    assert {login.result().status_code for login in logins} == {401}
