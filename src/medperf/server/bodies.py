"""Bodies on their way in: how long, how slow, and how much of all of them is in memory at the same time."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive

from medperf.domain.errors import ServerUnavailable
from medperf.server.errors import TooLarge, TooMany, TooSlow

#: Of somebody without a login, who has nothing longer to say than a name and a password.
ANONYMOUS_BYTES = 16 * 1024


class BodyBudget:
    """Bytes that are held for all requests of a process, and for one asker's.

    So neither many askers nor one with many connections can fill the memory with bodies that are never complete.
    """

    def __init__(self, *, total: int, each: int) -> None:
        self._total, self._each = total, each
        self._held: dict[object, int] = {}
        self.held = 0

    def take(self, asker: object, size: int) -> None:
        """Raises:
        TooMany: one asker's bodies exceed its share.
        ServerUnavailable: all together exceed theirs.
        """
        mine = self._held.get(asker, 0) + size
        if mine > self._each:
            raise TooMany(
                "too_many_bodies",
                f"More than {self._each:,} bytes of your requests are on their way at once.",
                "Send them one after the other.",
                details={"retry_after": 1},
            )
        if self.held + size > self._total:
            raise ServerUnavailable(
                "too_many_bodies",
                "The server is receiving as much as it can hold.",
                "Try again in a moment.",
                details={"retry_after": 1},
            )
        self.held += size
        self._held[asker] = mine

    def give(self, asker: object, size: int) -> None:
        """A request has ended."""
        if not size:
            return
        self.held -= size
        left = self._held[asker] - size
        if left:
            self._held[asker] = left
        else:
            del self._held[asker]


class Bounded:
    """The body of one request.

    Args:
        limit: bytes it may have.
        seconds: from the first time that it is waited for.
    """

    def __init__(self, receive: Receive, budget: BodyBudget, *, asker: object, limit: int, seconds: float) -> None:
        self._receive, self._budget, self._asker = receive, budget, asker
        self._limit, self._seconds = limit, seconds
        self._size = 0
        self._deadline: float | None = None

    async def receive(self) -> Message:
        """The next piece.

        Raises:
            TooLarge, TooSlow, TooMany, ServerUnavailable: see `BodyBudget`.
        """
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + self._seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            raise TooSlow(
                "body_too_slow", f"The body did not come within {self._seconds:g} seconds.", "Send it faster."
            ) from None
        if message["type"] == "http.request" and (size := len(message.get("body", b""))):
            if self._size + size > self._limit:
                raise too_large(self._limit)
            self._budget.take(self._asker, size)
            self._size += size
        return message

    def end(self) -> None:
        """Nothing of it is held any more."""
        self._budget.give(self._asker, self._size)
        self._size = 0


def too_large(limit: int) -> TooLarge:
    """The error of a body over its limit."""
    return TooLarge(
        "body_too_large", f"The body has more than {limit:,} bytes.", "Send less; files go to POST /uploads."
    )
