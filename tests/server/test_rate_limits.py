"""Nobody can keep a server busy alone: accounts and addresses have buckets, and a client waits as it is told."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from medperf.client.client import MedPerfClient
from medperf.client.http import Transport
from medperf.domain.errors import ServerUnavailable
from medperf.domain.events import Event, Note
from medperf.server.errors import TooMany
from medperf.server.limiter import RateLimiter, network_of
from medperf.server.settings import Settings
from medperf.wire.models import TokenCreate

from .conftest import API, World, problem
from .real import serving


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def limiter(*, rate: float = 10, burst: float = 20) -> tuple[RateLimiter, Clock]:
    clock = Clock()
    return RateLimiter(rate=rate, burst=burst, who="This account", clock=clock), clock


def taken(found: RateLimiter, asker: int | str, method: str = "GET") -> int:
    """How many go through before one is refused."""
    for number in range(10_000):
        try:
            found.take(asker, method)
        except TooMany:
            return number
    return 10_000


def test_buckets() -> None:
    found, clock = limiter()
    assert taken(found, 1) == 20
    assert taken(found, 2, "POST") == 4  # a change counts as five
    assert taken(found, 1) == 0
    clock.now += 0.5
    assert taken(found, 1) == 5
    clock.now += 1000
    assert taken(found, 1) == 20
    assert taken(limiter(rate=0)[0], 1) == 10_000


def test_what_is_remembered_is_bounded() -> None:
    """Ten thousand: who asked before all of those is forgotten, and has a full bucket again."""
    found, _ = limiter()
    assert [taken(found, asker) for asker in ("first", "second")] == [20, 20]
    for number in range(9_999):
        found.take(f"10.0.{number}", "GET")
    assert [taken(found, asker) for asker in ("second", "first")] == [0, 20]


def test_networks() -> None:
    assert network_of("10.1.2.3") == "10.1.2.3"
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1") != network_of("2001:db8:1:3::1")
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("testclient") == "testclient"


def test_accounts_and_addresses_are_apart(make_world: Callable[..., World]) -> None:
    world = make_world(rate_burst=60, rate_per_second=0.5, anonymous_rate_burst=40, anonymous_rate_per_second=0.5)
    alice = world.person("alice")
    while world.client.get(f"{API}/server").status_code == 200:
        pass
    answer = world.client.get(f"{API}/server")
    problem(answer, 429, "too_many_requests")
    assert 1 <= int(answer.headers["Retry-After"]) <= 2
    assert answer.headers["Medperf-Instance"]
    # a login that is no good is an address like any other
    assert world.client.get(f"{API}/me", headers={"Authorization": "Bearer nonsense"}).status_code == 429
    assert world.client.post(f"{API}/tokens", json={"username": "alice", "password": "x"}).status_code == 429
    while alice.get("/me").status_code == 200:
        pass
    problem(alice.get("/me"), 429, "too_many_requests")
    assert world.admin.get("/me").status_code == 200
    assert alice.post("/mlcubes", {}).status_code == 429


def test_defaults_do_not_meet_a_busy_client(settings: Settings) -> None:
    """All pages of a listing of a million, one after the other as fast as a server answers, are no flood."""
    found = RateLimiter(rate=settings.rate_per_second, burst=settings.rate_burst, who="This account")
    pages = 1_000_000 // 256
    for _ in range(pages):
        found.take(1, "GET")


@pytest.fixture
def slow(settings: Settings) -> Settings:
    return replace(settings, rate_burst=10, rate_per_second=4, log=False)


def test_the_client_waits(slow: Settings) -> None:
    told: list[Event] = []
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(seconds)

    with serving(slow) as url:
        token = MedPerfClient(Transport(url)).tokens.create(TokenCreate(username="admin", password="admin")).token
        client = MedPerfClient(Transport(url, token=token, sleep=sleep, emit=told.append))
        for _ in range(14):
            assert client.me.get().username == "admin"
        client.close()
    assert waits == [1.0]
    assert isinstance(told[0], Note)
    assert "asks to wait" in told[0].text


def test_the_client_gives_up_in_the_end(slow: Settings) -> None:
    waits: list[float] = []
    with serving(replace(slow, rate_per_second=0.02)) as url:
        token = MedPerfClient(Transport(url)).tokens.create(TokenCreate(username="admin", password="admin")).token
        client = MedPerfClient(Transport(url, token=token, sleep=waits.append))
        for _ in range(10):
            client.me.get()
        with pytest.raises(ServerUnavailable) as caught:
            client.me.get()
        client.close()
    assert (caught.value.code, len(waits)) == ("too_many_requests", 1)
    assert "Wait" in caught.value.fix


def test_busy_is_said_with_a_time(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from medperf.server import trouble
    from medperf.server.users import repository

    def busy(_row: Any) -> Any:
        raise trouble.busy()

    monkeypatch.setattr(repository, "view", busy)
    answer = world.admin.get("/me")
    problem(answer, 503, "database_busy")
    assert int(answer.headers["Retry-After"]) >= 1
