"""The log has an end: anybody who asks makes it longer."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path


def rotate(log: Path, *, most: int) -> bool:
    """Move what is in a log that is longer than ``most`` bytes to ``<log>.1``, over what was there; returns whether it was.

    The file stays, and is emptied: every process of the server has it open for appending. Lines that come meanwhile may be lost.
    """
    with suppress(FileNotFoundError):
        descriptor = os.open(log, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_size <= most:
                return False
            older, draft = log.with_name(f"{log.name}.1"), log.with_name(f".{log.name}.1")
            with suppress(OSError):  # on a full disk there is no room for a copy, but all the more need to end it
                draft.unlink(missing_ok=True)
                copy = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(copy, "wb") as target, os.fdopen(os.dup(descriptor), "rb") as source:
                    shutil.copyfileobj(source, target, 1024 * 1024)
                draft.replace(older)
            draft.unlink(missing_ok=True)
            os.ftruncate(descriptor, 0)
        except BlockingIOError:  # another process is at it
            return False
        finally:
            os.close(descriptor)
        return True
    return False
