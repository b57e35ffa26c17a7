"""Work that goes on when the request that began it is over: it ends by itself, or with the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from medperf.domain.errors import MedPerfError
from medperf.server.log import ServerLog


class Background:
    """Tasks of one server process, each under a name: what is running already is not begun twice."""

    def __init__(self, log: ServerLog) -> None:
        self._log = log
        self.tasks: dict[str, asyncio.Task[Any]] = {}

    def run(self, name: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> asyncio.Task[Any]:
        """Begin ``work``, or give the task of this name that is running. Its faults go to the log, refusals to whoever waits."""
        task = self.tasks.get(name)
        if task is None:
            task = self.tasks[name] = asyncio.get_running_loop().create_task(work(), name=name)
            task.add_done_callback(self._ended)
        return task

    async def settle(self) -> None:
        """Wait until everything that was begun by now has ended (for tests and for a calm end); what repeats for ever is cancelled."""
        await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    async def close(self) -> None:
        """End all of it."""
        tasks = list(self.tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.pop(task.get_name(), None)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, MedPerfError):
            self._log.fault(error, request_id="-", method="-", route=task.get_name().partition(" ")[0])
