"""What ``/audit-events`` and ``/audit-checkpoints`` say."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from medperf.wire.models import View


class AuditEventView(View):
    """One change.

    Attributes:
        data: ids, digests and states. ``data["personal"]`` is the salted commitment to ``personal``.
        personal: names, addresses and free text of the event, as long as they were not erased.
        erased: there were personal values, and they were erased.
    """

    id: int
    at: datetime
    actor_id: int | None
    action: str
    target: str
    data: dict[str, Any]
    personal: dict[str, str] | None = None
    erased: bool = False


class CheckpointView(View):
    """A seal over the events from ``first_event`` to ``last_event``. Who keeps ``hash`` can tell later whether anything before it was changed.

    Attributes:
        events: how many; ids may have gaps.
        root: Merkle root over the events (RFC 6962).
        previous: hash of the checkpoint before.
        key, signature: Ed25519, hexadecimal.
    """

    id: int
    version: int
    instance_id: str
    first_event: int
    last_event: int
    events: int
    root: str
    previous: str
    sealed_at: datetime
    key: str
    hash: str
    signature: str
