"""How often one account, or one address without a login, may ask: buckets that fill again with time. In memory, per process.

With several workers each has its own buckets, so together they let through as many times more.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from medperf.server.errors import TooMany

_REMEMBERED = 10_000
#: A change costs a write to the disk, a listing microseconds.
_COST_OF_CHANGE = 5


class RateLimiter:
    """``burst`` requests at once, then ``rate`` a second; a change counts as five. ``rate`` 0: no limit.

    What it remembers is bounded: beyond ten thousand askers those go who have been silent longest.
    """

    def __init__(self, *, rate: float, burst: float, who: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._who = rate, burst, who
        self._clock = clock
        #: asker -> what it has left, and when that was so; whoever asked last is last.
        self._left: OrderedDict[int | str, tuple[float, float]] = OrderedDict()

    def take(self, asker: int | str, method: str) -> None:
        """Count one request.

        Raises:
            TooMany: the bucket is empty; ``retry_after`` says when there is enough again.
        """
        if not self._rate:
            return
        cost = 1 if method in ("GET", "HEAD") else _COST_OF_CHANGE
        now = self._clock()
        left, since = self._left.pop(asker, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._rate)
        if left < cost:
            self._left[asker] = (left, now)
            wait = max(1, math.ceil((cost - left) / self._rate))
            raise TooMany(
                "too_many_requests",
                f"{self._who} asks more than {self._rate:g} times a second.",
                f"Wait {wait} {'second' if wait == 1 else 'seconds'} and go on slower.",
                details={"retry_after": wait},
            )
        self._left[asker] = (left - cost, now)
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)

    @property
    def remembered(self) -> int:
        """How many askers are known."""
        return len(self._left)


def network_of(address: str) -> str:
    """What one asker without a login is: an IPv4 address, or an IPv6 network, for one machine has as many addresses there as it likes.

    A socket that listens on both kinds shows IPv4 addresses inside one IPv6 network, where all of them would be one asker.
    """
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((int(found), 64), strict=False))
