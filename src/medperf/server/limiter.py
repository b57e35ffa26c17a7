"""How often one account, or one address without a login, may ask: buckets that fill again with time. In memory, per process.

With several workers each has its own buckets, so together they let through as many times more.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from medperf.server.errors import TooMany

_REMEMBERED = 10_000
_UNCOUNTED = 64
#: A change costs a write to the disk, a listing microseconds.
_COST_OF_CHANGE = 5


class Buckets:
    """One for each asker: ``burst`` at once, then ``rate`` a second.

    What is remembered is bounded: beyond ten thousand askers those go who have been silent longest.
    """

    def __init__(self, *, rate: float, burst: float, clock: Callable[[], float]) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        #: asker -> what it has left, and when that was so; whoever asked last is last.
        self._left: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def take(self, asker: Hashable, cost: int = 1) -> int:
        """Take ``cost`` and return 0; where there is less, take nothing and return in how many seconds there is enough."""
        now = self._clock()
        left, since = self._left.pop(asker, (self._burst, now))
        left = min(self._burst, left + (now - since) * self._rate)
        if left < cost:
            self._left[asker] = (left, now)
            return max(1, math.ceil((cost - left) / self._rate))
        self._left[asker] = (left - cost, now)
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)
        return 0

    def fill(self, asker: Hashable, part: int | None = None) -> None:
        """Give back all that was taken, or a part of it."""
        if part is None:
            self._left.pop(asker, None)
        elif asker in self._left:
            left, since = self._left[asker]
            self._left[asker] = (left + part, since)


class Allowances:
    """How many more rows an owner may have before they are counted again: to count them each time would cost more than to make them."""

    def __init__(self) -> None:
        self._left: OrderedDict[Hashable, int] = OrderedDict()

    def take(self, owner: Hashable) -> bool:
        """Whether one more needs no count."""
        left = self._left.get(owner, 0)
        if left:
            self._left[owner] = left - 1
        return left > 0

    def give(self, owner: Hashable, number: int) -> None:
        """They were counted, and there is room for more than ``number``."""
        self._left[owner] = min(number, _UNCOUNTED)
        self._left.move_to_end(owner)
        if len(self._left) > _REMEMBERED:
            self._left.popitem(last=False)


class RateLimiter:
    """``burst`` requests at once, then ``rate`` a second; a change counts as five. ``rate`` 0: no limit.

    Each change leaves something that stays, at least in the audit trail. So there is another limit for changes, of hours and days:
    ``changes_burst``, then ``changes_rate`` a second; 0: none.

    Attributes:
        allowances: see `Allowances`.
    """

    def __init__(
        self,
        *,
        rate: float,
        burst: float,
        who: str,
        changes_rate: float = 0,
        changes_burst: float = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate, self._who = rate, who
        self._buckets = Buckets(rate=rate, burst=burst, clock=clock)
        self._changes_rate = changes_rate
        self._changes = Buckets(rate=changes_rate, burst=changes_burst, clock=clock)
        self.allowances = Allowances()

    def take(self, asker: int | str, method: str) -> None:
        """Count one request.

        Raises:
            TooMany: the bucket is empty; ``retry_after`` says when there is enough again.
        """
        if not self._rate:
            return
        change = method not in ("GET", "HEAD")
        self._take(
            self._buckets, asker, _COST_OF_CHANGE if change else 1, f"asks more than {self._rate:g} times a second"
        )
        if change:
            self.take_change(asker)

    def take_change(self, asker: int | str) -> None:
        """Count a change that is no request of this asker's, as a login is.

        Raises:
            TooMany: as `take`.
        """
        if self._rate and self._changes_rate:
            self._take(self._changes, asker, 1, f"changes more than {self._changes_rate * 3600:,.0f} things an hour")

    def forget_change(self, asker: int) -> None:
        """What was counted as a change leaves nothing."""
        self._changes.fill(asker, 1)

    def _take(self, buckets: Buckets, asker: int | str, cost: int, does: str) -> None:
        wait = buckets.take(asker, cost)
        if wait:
            raise TooMany(
                "too_many_requests",
                f"{self._who} {does}.",
                f"Wait {wait} {'second' if wait == 1 else 'seconds'} and go on slower.",
                details={"retry_after": wait},
            )


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
