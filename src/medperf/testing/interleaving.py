"""Several requests at once, statement by statement, in an order that the test chooses.

`SteppedDatabase` is given to the server instead of its own. What a `Stage` plays stops before every transaction, statement and
commit; the stage lets one of them go on at a time. Whoever waits for another's lock is seen waiting: on PostgreSQL by asking
it, on SQLite because there is one writer at a time. Nothing sleeps, and no outcome hangs on how fast something is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from medperf.server.db import Columns, Database, Result, Transaction, Values
from medperf.server.settings import Settings

_LIMIT_SECONDS = 30.0
_LOOK_SECONDS = 0.001

Work = Callable[[], Awaitable[Any]]
#: Who goes on, and by how many steps; None: as far as possible.
Move = tuple[str, int | None]


class _Player:
    """One of those that act at once.

    Attributes:
        inside: it is one whose statements cannot be stopped: another program on the same database.
        wants: it waits to write, on SQLite.
    """

    def __init__(self, name: str, stage: Stage, *, inside: bool = False) -> None:
        self.name = name
        self.inside = inside
        self.steps = 0
        self.begun = asyncio.Event()
        self.wants = inside
        self._stage = stage
        self._stopped: list[tuple[object, asyncio.Future[None]]] = []
        self._left = False
        self.task: asyncio.Task[Any] | None = None

    @property
    def is_done(self) -> bool:
        return self.task is not None and self.task.done()

    @property
    def is_stopped(self) -> bool:
        return bool(self._stopped)

    @property
    def is_settled(self) -> bool:
        return self.is_done or self.is_stopped or not self.begun.is_set()

    async def stop(self, what: object) -> None:
        """Wait for one's turn. What a request left behind when it was answered goes on by itself."""
        if self._left:
            return
        turn = asyncio.get_running_loop().create_future()
        self._stopped.append((what, turn))
        self._stage.changed.set()
        await turn

    def go_on(self) -> None:
        what, turn = self._stopped.pop(0)
        self.steps += 1
        self._stage.trace.append((self.name, what))
        turn.set_result(None)

    def leave(self) -> None:
        """It is answered."""
        self._left = True
        self.begun.set()
        while self._stopped:
            self._stopped.pop()[1].set_result(None)
        self._stage.changed.set()


_PLAYER: ContextVar[_Player | None] = ContextVar("player", default=None)


@dataclass
class Performance:
    """What came of it.

    Attributes:
        answers: name -> what its work returned.
        steps: name -> how many steps it took.
        trace: every step in order: who, and what.
        deadlock: all waited for each other.
    """

    answers: dict[str, Any] = field(default_factory=dict)
    steps: dict[str, int] = field(default_factory=dict)
    trace: list[tuple[str, object]] = field(default_factory=list)
    deadlock: bool = False

    def story(self) -> str:
        """The trace, to be read."""
        return "\n".join(f"  {name}: {' '.join(str(what).split())[:200]}" for name, what in self.trace)


class Stage:
    """Where it happens. Everything here runs in the event loop of the server.

    Args:
        waiting: how many of the database's connections wait for a lock; None on SQLite.
        patience: seconds after which one who does not stop is taken to wait for another one inside the server, where nobody can
            be asked. None: nobody does.
    """

    def __init__(self, waiting: Callable[[], Awaitable[int]] | None = None, *, patience: float | None = None) -> None:
        self.patience = patience
        self.changed = asyncio.Event()
        self.trace: list[tuple[str, object]] = []
        self.writer: _Player | None = None
        self._waiting = waiting
        self._players: dict[str, _Player] = {}

    async def play(
        self, works: Mapping[str, Work], moves: Iterable[Move], *, programs: Sequence[str] = ()
    ) -> Performance:
        """Do all of ``works``: first as ``moves`` say, then each to its end, in the order of ``works``.

        Args:
            programs: names of works that are other programs on the same database: one step each.
        """
        self.trace = []
        found = Performance(trace=self.trace)
        self._players = {name: _Player(name, self, inside=name in programs) for name in works}
        self.writer = None
        for name, work in works.items():
            player = self._players[name]
            player.task = asyncio.create_task(self._perform(player, work), name=name)
        try:
            await self._act(moves, found)
        except BaseException:
            for player in self._players.values():
                player.leave()
            raise
        for name, player in self._players.items():
            assert player.task is not None
            found.answers[name] = player.task.result()
            found.steps[name] = player.steps
        return found

    async def _act(self, moves: Iterable[Move], found: Performance) -> None:
        for name, steps in moves:
            await self._move(self._players[name], steps, found)
        while any(not player.is_done for player in self._players.values()):
            for player in self._players.values():
                await self._move(player, None, found)
            await self._settle(found)

    async def _perform(self, player: _Player, work: Work) -> Any:
        _PLAYER.set(player)
        await player.begun.wait()
        try:
            if player.inside:
                await player.stop("everything")
            return await work()
        finally:
            player.leave()

    async def _move(self, player: _Player, steps: int | None, found: Performance) -> None:
        done = 0
        if not player.begun.is_set():
            player.begun.set()
            await self._settle(found)
        while player.is_stopped and (steps is None or done < steps):
            player.go_on()
            done += 1
            await self._settle(found)

    async def _settle(self, found: Performance) -> None:
        """Until everybody has stopped, ended, or waits for the lock of one who has stopped."""
        clock = asyncio.get_running_loop().time
        began = clock()
        while moving := [player for player in self._players.values() if not player.is_settled]:
            self.changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), _LOOK_SECONDS)
                continue
            others = any(player.is_stopped for player in self._players.values())
            if await self._all_wait(moving):
                if others:
                    return
                found.deadlock = True  # the database will end it
            if others and self.patience is not None and clock() > began + self.patience:
                return
            assert clock() < began + _LIMIT_SECONDS, (
                f"{[player.name for player in moving]} never stopped:\n{found.story()}"
            )

    async def _all_wait(self, moving: list[_Player]) -> bool:
        if self._waiting is not None:
            # Only these run; so if as many connections wait as there are of them, each of them waits.
            return await self._waiting() == len(moving) and all(not player.is_settled for player in moving)
        writer = self.writer
        return writer is not None and writer.is_stopped and all(player.wants for player in moving)


class _SteppedTransaction(Transaction):
    __slots__ = ("_inner", "_player")

    def __init__(self, inner: Transaction, player: _Player) -> None:
        self._inner = inner
        self._player = player

    async def execute(self, statement: sa.Executable, parameters: Values | None = None) -> Result:
        await self._player.stop(statement)
        return await self._inner.execute(statement, parameters)

    async def execute_many(self, statement: sa.Executable, rows: Iterable[Values]) -> None:
        several = list(rows)
        if several:
            await self._player.stop(statement)
            await self._inner.execute_many(statement, several)

    async def all(self, statement: sa.Executable, parameters: Values | None = None) -> Sequence[sa.Row[Any]]:
        await self._player.stop(statement)
        return await self._inner.all(statement, parameters)

    async def first(self, statement: sa.Executable, parameters: Values | None = None) -> sa.Row[Any] | None:
        await self._player.stop(statement)
        return await self._inner.first(statement, parameters)

    async def insert(self, statement: sa.Insert, parameters: Values | None = None) -> int:
        await self._player.stop(statement)
        return await self._inner.insert(statement, parameters)

    async def insert_row_or_none(self, table: sa.Table, values: Values, columns: Columns = ()) -> sa.Row[Any] | None:
        await self._player.stop(f"insert into {table.name}")
        return await self._inner.insert_row_or_none(table, values, columns)

    async def lock_table(self, table: sa.Table) -> None:
        await self._player.stop(f"lock {table.name}")
        await self._inner.lock_table(table)


class SteppedDatabase(Database):
    """A database whose players stop.

    Args:
        each_statement: stop before each statement of a write too. On SQLite nobody comes in between, so it gives nothing new there.
    """

    def __init__(self, settings: Settings, *, each_statement: bool) -> None:
        super().__init__(settings)
        self._each = each_statement
        self.stage: Stage | None = None

    def single(self) -> AbstractAsyncContextManager[Transaction]:
        """See `Database.single`."""
        return self._stepped("read", super().single)

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        """See `Database.read`."""
        return self._stepped("read", super().read)

    def write(self) -> AbstractAsyncContextManager[Transaction]:
        """See `Database.write`."""
        return self._stepped("write", super().write)

    async def first(self, statement: sa.Executable, parameters: Values) -> sa.Row[Any] | None:
        """See `Database.first`."""
        player = _PLAYER.get()
        if player is not None:
            await player.stop(statement)
        return await super().first(statement, parameters)

    @asynccontextmanager
    async def _stepped(
        self, kind: str, opened: Callable[[], AbstractAsyncContextManager[Transaction]]
    ) -> AsyncIterator[Transaction]:
        player, stage = _PLAYER.get(), self.stage
        if player is None or stage is None:
            async with opened() as tx:
                yield tx
            return
        await player.stop(f"begin to {kind}")
        if kind == "read":
            async with opened() as tx:
                yield _SteppedTransaction(tx, player) if self._each else tx
            return
        player.wants = True
        try:
            async with opened() as tx:
                player.wants, stage.writer = False, player
                yield _SteppedTransaction(tx, player) if self._each else tx
                await player.stop("commit")
        finally:
            player.wants = False
            if stage.writer is player:
                stage.writer = None
