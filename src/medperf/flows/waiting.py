"""Two commands that need the very same step: one does it, the others wait for it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict, Interrupted
from medperf.domain.events import Note
from medperf.flows.site import Site
from medperf.workspace.steps import StepFolder

_LOOK_SECONDS = 0.2


@contextlib.contextmanager
def held(
    site: Site, key: Digest, *, task: str, what: str, cancel: threading.Event | None = None
) -> Iterator[StepFolder]:
    """`Steps.begin` that waits while another process does this step, and says so once.

    After a wait the step was probably sealed by the other, so look it up again inside.

    Args:
        what: the step in a sentence, e.g. ``"infer of MLCube my-model"``.
        cancel: what ends the waiting; None: Ctrl-C at the site.

    Raises:
        Interrupted: Ctrl-C while waiting.
    """
    stop = cancel or site.cancel
    told: set[int] = set()

    def wait(held_by: Conflict) -> None:
        pid = int(held_by.details["pid"])
        if pid not in told:
            told.add(pid)
            site.emit(Note(f"Waiting for process {pid}, which is doing {what} already (end it with: kill {pid})."))
        stop.wait(_LOOK_SECONDS)
        if stop.is_set():
            raise Interrupted(f"Interrupted while waiting for process {pid}, which goes on.")

    with site.workspace.steps.begin(key, task=task, wait=wait) as step:
        yield step
