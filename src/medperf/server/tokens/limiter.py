"""Failed logins, limited per name and address. In memory, per process."""

from __future__ import annotations

import time
from collections.abc import Callable

from medperf.server.errors import TooMany
from medperf.server.limiter import Buckets, network_of
from medperf.server.names import username_key


class LoginLimiter:
    """Per name and network (`network_of`) ``burst`` failures at once, then one more try per ``refill_seconds``. A success forgives."""

    def __init__(self, *, burst: int, refill_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._buckets = Buckets(rate=1 / refill_seconds, burst=burst, clock=clock)

    def take(self, username: str, address: str) -> None:
        """Count a try as failed until `forgive` says otherwise, so that many at once gain nothing.

        Raises:
            TooMany: the bucket is empty; ``retry_after`` says when it is not.
        """
        wait = self._buckets.take((username_key(username), network_of(address)))
        if wait:
            raise TooMany(
                "too_many_logins",
                "Too many failed logins for this account.",
                f"Wait {wait} {'second' if wait == 1 else 'seconds'} and try again.",
                details={"retry_after": wait},
            )

    def forgive(self, username: str, address: str) -> None:
        """The login succeeded."""
        self._buckets.fill((username_key(username), network_of(address)))
