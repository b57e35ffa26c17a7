"""Uploads on their way: the key under which a killed process's upload is found again, held by one process at a time."""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from medperf.domain.digests import Digest
from medperf.workspace.files import explained, hold, make_private
from medperf.workspace.pending import Pending

KIND = "upload"
#: The server forgets an unfinished upload sooner.
KEEP = timedelta(days=30)


@dataclass
class Claim:
    """An upload that is this process's alone. Closing it lets another process go on with it; forgetting it ends it.

    Attributes:
        key: its Idempotency-Key.
    """

    key: str
    _pending: Pending
    _path: Path | None
    _descriptor: int | None

    def forget(self) -> None:
        """It became what it should, or never will."""
        if self._path is not None:
            self._pending.forget(self.key)
            self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Give it up for now."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class Outgoing:
    """Uploads of one workspace."""

    def __init__(self, folder: Path, pending: Pending) -> None:
        """``folder``: of the locks."""
        self._folder = folder
        self._pending = pending

    def claim(self, instance_id: str, body: bytes) -> Claim:
        """The upload that ``body`` announces to this instance: the unfinished one, unless another process is at it, or a new one."""
        digest = Digest.of(instance_id.encode() + b"\0" + body)
        with explained(self._folder):
            make_private(self._folder)
            path = self._folder / f"{digest.hex}.lock"
            descriptor = hold(path)
        if descriptor is None:
            return Claim(str(uuid.uuid4()), self._pending, None, None)
        try:
            self._drop_old(instance_id)
            key = self._pending.remember(KIND, instance_id, Digest.of(body), body)
        except BaseException:
            os.close(descriptor)
            raise
        return Claim(key, self._pending, path, descriptor)

    def _drop_old(self, instance_id: str) -> None:
        oldest = datetime.now(UTC) - KEEP
        for entry in self._pending.ls(instance_id):
            if entry.kind == KIND and datetime.fromisoformat(entry.created_at) < oldest:
                self._pending.forget(entry.key)
