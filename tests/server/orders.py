"""Two requests (or three) at once against the server, in every order that matters."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import asyncpg
import httpx2
from starlette.testclient import TestClient

from medperf.server.app import create_app
from medperf.server.location import located
from medperf.server.settings import Settings
from medperf.testing.interleaving import Move, Performance, Stage, SteppedDatabase, Work
from medperf.testing.postgres import Cluster

from .conftest import API, Person, World

#: What each was answered: ``"201"``, ``"409 name_taken"``.
Outcome = tuple[str, ...]
_WAITING = """SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pid IN
(SELECT pid FROM pg_stat_activity WHERE datname = current_database())"""


@dataclass(frozen=True)
class Scene:
    """What is done at once, prepared anew for every order.

    Attributes:
        works: who does what, by name.
        holds: looks at what there is afterwards; gets the outcome.
        alike: they do the same, so who is first changes nothing.
        programs: those of ``works`` that are other programs on the same database.
    """

    works: dict[str, Work]
    holds: Callable[[Outcome], None] = lambda _: None
    alike: bool = False
    programs: tuple[str, ...] = ()


def told(answer: Any) -> str:
    """An answer in short."""
    if not isinstance(answer, httpx2.Response):
        return str(answer)
    code = answer.json().get("code", "") if answer.status_code >= 400 else ""
    return f"{answer.status_code} {code}".strip()


@dataclass
class Theatre:
    """A server whose requests go on when told."""

    world: World
    database: SteppedDatabase
    stage: Stage
    client: httpx2.AsyncClient
    #: A connection of its own, on PostgreSQL.
    watch: Any = None
    #: At every step, and at every third the other one stopped at every third of its own; else at every second step.
    thorough: bool = False
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    #: For every play: the outcome and the order of steps.
    played: list[tuple[Outcome, Performance]] = field(default_factory=list)

    def sql(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """As `World.sql`, without connecting anew each time."""
        if self.watch is None:
            return self.world.sql(statement, *parameters)
        numbers = itertools.count(1)
        numbered = re.sub(r"\?", lambda _: f"${next(numbers)}", statement)
        return [tuple(row) for row in self.world.run(lambda: self.watch.fetch(numbered, *parameters))]

    def name(self, what: str = "x") -> str:
        """A name that nobody has."""
        return f"{what}{next(self.numbers)}"

    def person(self, *, admin: bool = False) -> Person:
        """A new account."""
        return self.world.person(self.name("person"), admin=admin)

    def ask(self, person: Person, method: str, path: str, body: Any = None, **headers: str) -> Work:
        """A request, to be made in the server's event loop; ``If_Match`` is the header If-Match."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if person.token:
            sent["Authorization"] = f"Bearer {person.token}"

        async def work() -> httpx2.Response:
            return await self.client.request(method, f"{API}{path}", json=body, headers=sent)

        return work

    def post(self, person: Person, path: str, body: Any = None, *, key: str | None = None) -> Work:
        """POST with an idempotency key."""
        return self.ask(person, "POST", path, body, **({} if key is None else {"Idempotency_Key": key}))

    def edit(self, person: Person, path: str, body: Any, *, version: int = 1) -> Work:
        """PATCH of a version."""
        return self.ask(person, "PATCH", path, body, If_Match=f'"{version}"')

    def delete(self, person: Person, path: str) -> Work:
        """DELETE."""
        return self.ask(person, "DELETE", path)

    async def forgetting(self) -> None:
        """Wait until what was deleted is forgotten."""
        tasks = self.world.context.background.tasks
        await asyncio.gather(*(task for name, task in tasks.items() if name != "sweep"))

    # -- playing -----------------------------------------------------------------------------------------------------

    def play(self, scene: Scene, moves: list[Move]) -> tuple[Outcome, Performance, list[str]]:
        """Once; returns the outcome and the audit events it made."""
        last = self.sql("SELECT coalesce(max(id), 0) FROM audit_events")[0][0]
        found = self.world.run(lambda: self.stage.play(scene.works, moves, programs=scene.programs))
        outcome = tuple(told(found.answers[name]) for name in scene.works)
        events = [row[0] for row in self.sql("SELECT action FROM audit_events WHERE id > ? ORDER BY action", last)]
        return outcome, found, events

    def orders(self, prepare: Callable[[], Scene]) -> Iterator[tuple[Scene, list[Move]]]:
        """Each before each; and each coming in between the steps of each other. See ``thorough``."""
        scene = prepare()
        names = list(scene.works)
        if scene.alike:
            yield prepare(), [(names[1], None)]
        for first, second, *others in [tuple(names)] if scene.alike else itertools.permutations(names):
            then: list[Move] = [(other, None) for other in (*others, first)]
            for steps in itertools.count(1, 1 if self.thorough or self.watch is None else 2):
                for inner in itertools.count(1, 3) if self.thorough and steps % 3 == 1 else (None,):
                    yield prepare(), [(first, steps), (second, inner), *then]
                    trace = [name for name, _ in self.played[-1][1].trace]
                    if inner is not None and trace.count(second) <= inner:
                        break
                if trace.count(first) <= steps:
                    break

    def all_orders(
        self,
        prepare: Callable[[], Scene],
        expect: dict[Outcome, list[str]],
        *,
        between: dict[Outcome, list[str]] | None = None,
    ) -> None:
        """Play every order.

        Args:
            expect: what may come of it, and the audit events then; each of these does come of some order.
            between: what may come of it besides.
        """
        allowed = {**expect, **(between or {})}
        for scene, moves in self.orders(prepare):
            outcome, found, events = self.play(scene, moves)
            self.played.append((outcome, found))
            try:
                assert not found.deadlock, "a deadlock"
                assert outcome in allowed, "nobody expects this outcome"
                assert events == sorted(allowed[outcome]), "other events"
                scene.holds(outcome)
            except AssertionError as error:
                raise AssertionError(f"{error}: {moves} -> {outcome} {events}\n{found.story()}") from error
        assert set(expect) <= {outcome for outcome, _ in self.played}
        self.played.clear()


@contextmanager
def theatre(settings: Settings, cluster: Cluster | None, *, thorough: bool = False) -> Iterator[Theatre]:
    """A running one."""
    calm = replace(settings, seal_seconds=1e6, seal_events=10**9, rate_per_second=0, anonymous_rate_per_second=0)
    database = SteppedDatabase(calm, each_statement=cluster is not None)
    with TestClient(create_app(calm, database=database)) as client:
        world = World(client, calm, cluster)
        url = located(calm)
        watch = None if url is None else world.run(lambda: _connect(url.text))

        async def waiting() -> int:
            assert watch is not None
            return int(await watch.fetchval(_WAITING))

        database.stage = stage = Stage(None if watch is None else waiting)
        asgi = httpx2.AsyncClient(transport=httpx2.ASGITransport(client.app), base_url="http://server")
        try:
            yield Theatre(world, database, stage, asgi, watch, thorough)
        finally:
            world.run(lambda: _close(asgi, watch))


async def _connect(url: str) -> Any:
    return await asyncpg.connect(url)


async def _close(client: httpx2.AsyncClient, watch: Any) -> None:
    await client.aclose()
    if watch is not None:
        await watch.close()


def thread(function: Callable[[], object], name: str) -> Callable[[], Awaitable[str]]:
    """A program's work, which does not run in the event loop."""

    async def work() -> str:
        await asyncio.to_thread(function)
        return name

    return work
