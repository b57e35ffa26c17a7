"""Signs of life of running attempts, and whether they may still run: one thread for all that run side by side."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self

from medperf.domain import limits
from medperf.domain.disclosure import Exit
from medperf.domain.errors import Conflict, Forbidden, Interrupted, MedPerfError, NotFound
from medperf.domain.events import Note
from medperf.flows.egress import send
from medperf.flows.eligible import look_up
from medperf.flows.site import Site
from medperf.flows.steps import LinkedEvent

if TYPE_CHECKING:
    from medperf.wire.executions import TaskName
    from medperf.workspace.runs import LocalRun

#: Answers after which an attempt has no business to go on. That nobody answers is none.
_FINAL = (Conflict, Forbidden, NotFound)


class Live:
    """An attempt that runs.

    Attributes:
        task: where it stands.
        steps: task -> step key of what is finished.
        stop: set when it has to end: by Ctrl-C, or because of ``refusal``.
        refusal: why it may not go on; None: it may.
        ended: the server says that the attempt has ended, so nothing more is told of it.
    """

    def __init__(self, run: LocalRun, parent: threading.Event) -> None:
        self.run = run
        self.task: TaskName = "infer"
        self.steps: dict[str, str] = {}
        self.stop = LinkedEvent(parent)
        self.refusal: MedPerfError | None = None
        self.ended = False

    def end(self, refusal: MedPerfError) -> None:
        """It may not go on."""
        if self.refusal is None:
            self.refusal = refusal
            self.ended = refusal.code == "attempt_ended"
        self.stop.set()


class Pulse:
    """A context: its thread lives as long.

    Args:
        benchmark, dataset: ids at the server, which are looked up at each beat too: what was revoked or deactivated stops what runs.
        every: seconds between two beats.
    """

    def __init__(
        self, site: Site, *, benchmark: int, dataset: int, about: str, every: float = limits.HEARTBEAT_SECONDS
    ) -> None:
        self._site = site
        self._benchmark = benchmark
        self._dataset = dataset
        self._about = about
        self._every = every
        self._live: list[Live] = []
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._silent = False
        self._thread = threading.Thread(target=self._beats, name="medperf-pulse", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._end.set()
        self._thread.join()

    @contextlib.contextmanager
    def of(self, run: LocalRun, stop: threading.Event) -> Iterator[Live]:
        """While inside, signs of life are given of this run."""
        live = Live(run, stop)
        with self._lock:
            self._live.append(live)
        try:
            yield live
        finally:
            with self._lock:
                self._live.remove(live)

    def _beats(self) -> None:
        while not self._end.wait(self._every):
            with self._lock:
                running = tuple(self._live)
            try:
                for live in running:
                    self._beat(live)
                if running and not self._end.is_set():
                    self._look(running)
                self._silent = False
            except Interrupted:  # Ctrl-C while a request was waiting
                return
            except MedPerfError as error:  # no answer: what runs goes on, and is told of later
                if not self._silent:
                    self._site.emit(
                        Note(f"No sign of life could be given: {error.what} What runs goes on.", level="warning")
                    )
                self._silent = True

    def _beat(self, live: Live) -> None:
        from medperf.wire.executions import ProgressReport

        run = live.run
        assert run.execution is not None
        assert run.attempt is not None
        body = ProgressReport(execution=run.execution, attempt=run.attempt, task=live.task)
        deliver = self._site.api.executions.progress
        try:
            send(self._site, Exit.PROGRESS, body, deliver, about=self._about, fleeting=True)
        except _FINAL as error:
            live.end(error)

    def _look(self, running: tuple[Live, ...]) -> None:
        """Whether everything is still as it must be for an attempt."""
        models = [live.run.model for live in running]
        try:
            standing = look_up(self._site, self._site.api.benchmarks.get(self._benchmark), self._dataset, models)
        except _FINAL as error:
            for live in running:
                live.end(error)
            return
        common = standing.common()
        for live in running:
            refusals = common or standing.refusals(live.run.model)
            if refusals:
                live.end(refusals[0])
