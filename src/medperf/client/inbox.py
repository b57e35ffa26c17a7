"""``/inbox``."""

from __future__ import annotations

from medperf.client.base import Part
from medperf.client.http import Transport
from medperf.wire.inbox import InboxView


class InboxPart(Part[InboxView]):
    """``/inbox``."""

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, "/inbox", InboxView)

    def get(self) -> InboxView:
        """What waits for the account."""
        return self._get()
