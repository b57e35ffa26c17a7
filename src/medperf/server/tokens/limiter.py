"""Failed logins, limited per name and address: a bucket that fills again with time. In memory, per process."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable

from medperf.server.errors import TooMany
from medperf.server.limiter import network_of

_REMEMBERED = 10_000


class LoginLimiter:
    """Per name and network (`network_of`) ``burst`` failures at once, then one more try per ``refill_seconds``. A success forgives."""

    def __init__(self, *, burst: int, refill_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._burst = burst
        self._refill = refill_seconds
        self._clock = clock
        self._failures: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def take(self, username: str, address: str) -> None:
        """Count a try as failed until `forgive` says otherwise, so that many at once gain nothing.

        Raises:
            TooMany: the bucket is empty; ``retry_after`` says when it is not.
        """
        key, now = (username.lower(), network_of(address)), self._clock()
        used, since = self._failures.pop(key, (0.0, now))
        used = max(0.0, used - (now - since) / self._refill)
        if used > self._burst - 1:
            self._failures[key] = (used, now)
            wait = max(1, math.ceil((used - self._burst + 1) * self._refill))
            raise TooMany(
                "too_many_logins",
                "Too many failed logins for this account.",
                f"Wait {wait} seconds and try again.",
                details={"retry_after": wait},
            )
        self._failures[key] = (used + 1, now)
        while len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)

    def forgive(self, username: str, address: str) -> None:
        """The login succeeded."""
        self._failures.pop((username.lower(), network_of(address)), None)
