"""What can be wrong with an audit trail, said for the admin who must act."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from medperf.domain.errors import Conflict
from medperf.server.audit.folder import Head

INVESTIGATE = (
    "Keep this data folder and its database as they are, and find out who could write in the database. "
    "To go on, restore a copy that verifies."
)
ACCEPT = "If you restored or moved it on purpose, run: medperf server audit accept. If not: " + INVESTIGATE


class FaultKind(StrEnum):
    """What was found first. Names never change their meaning."""

    EVENT_CHANGED = "event_changed"
    EVENT_REMOVED = "event_removed"
    EVENT_INSERTED = "event_inserted"
    PERSONAL_CHANGED = "personal_changed"
    PERSONAL_REMOVED = "personal_removed"
    CHECKPOINT_CHANGED = "checkpoint_changed"
    CHECKPOINT_REMOVED = "checkpoint_removed"
    UNKNOWN_KEY = "unknown_key"
    OTHER_SERVER = "other_server"
    HEAD_MISSING = "head_missing"
    END_MISSING = "end_missing"
    COPY_DIFFERS = "copy_differs"


#: What an admin may have caused by restoring or moving: the trail itself is whole.
ACCEPTABLE = frozenset({FaultKind.UNKNOWN_KEY, FaultKind.OTHER_SERVER, FaultKind.HEAD_MISSING, FaultKind.END_MISSING})


@dataclass(frozen=True)
class Fault:
    """The first fault. ``event`` and ``checkpoint``: where it is, if it is in one."""

    kind: FaultKind
    what: str
    fix: str = INVESTIGATE
    event: int | None = None
    checkpoint: int | None = None

    def error(self) -> Conflict:
        """For those who cannot go on."""
        return Conflict(f"audit_{self.kind.value}", self.what, self.fix)


def changed_event(event_id: int, checkpoint: int) -> Fault:
    """Edited, or swapped with another."""
    return Fault(
        FaultKind.EVENT_CHANGED,
        f"Event {event_id} is not what was sealed in checkpoint {checkpoint}: it was edited or swapped with another.",
        event=event_id,
        checkpoint=checkpoint,
    )


def changed_checkpoint(number: int, detail: str) -> Fault:
    """A checkpoint that is not as it was written."""
    return Fault(FaultKind.CHECKPOINT_CHANGED, f"Checkpoint {number} was changed: {detail}.", checkpoint=number)


def check_head(head: Head | None, *, instance_id: str, last: int, hash_at_head: str | None) -> Fault | None:
    """Does the database still hold what this data folder has seen?

    Args:
        last: number of the database's newest checkpoint, 0 for none.
        hash_at_head: hash of its checkpoint with the number that ``head`` names, None where there is none.
    """
    if head is None:
        if last == 0:
            return None
        return Fault(
            FaultKind.HEAD_MISSING,
            f"The database has {last} checkpoints, but this data folder has not seen any of them: audit_head.json is missing.",
            ACCEPT,
            checkpoint=last,
        )
    seen = f"checkpoint {head.checkpoint} (up to event {head.last_event}, sealed {head.sealed_at})"
    if head.instance_id != instance_id:
        return Fault(
            FaultKind.OTHER_SERVER,
            f"The database is of server {instance_id}; this data folder has seen {seen} of server {head.instance_id}.",
            ACCEPT,
        )
    if hash_at_head is None:
        return Fault(
            FaultKind.END_MISSING,
            f"The database ends at checkpoint {last}, but this data folder has seen {seen}: "
            "it was restored from an older copy, or its end was cut off.",
            ACCEPT,
            checkpoint=last + 1,
        )
    if hash_at_head != head.hash:
        return Fault(
            FaultKind.END_MISSING,
            f"The database's checkpoint {head.checkpoint} is not the one that this data folder has seen ({seen}): "
            "it was restored from an older copy and went on, or it was rewritten.",
            ACCEPT,
            checkpoint=head.checkpoint,
        )
    return None
