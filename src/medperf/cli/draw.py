"""Draws events on stderr: a live line on a terminal, one plain line per finished step elsewhere."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any, Self

from medperf.cli.output import clean, human_bytes, human_seconds, is_terminal
from medperf.domain.events import Event, Note, Progress, StepFinished, StepStarted


class Drawer:
    """An `Emit`. Safe to call from several threads; drawing never ends a flow, even when nobody reads stderr any more.

    Args:
        stream: stderr.
        silent: draw nothing.
        plain: lines even on a terminal.
        verbose: also say when a step starts.
        terminal: None = look at the stream.
        width: columns; None = ask the terminal.
    """

    def __init__(
        self,
        stream: Any,
        *,
        silent: bool = False,
        plain: bool = False,
        verbose: bool = False,
        terminal: bool | None = None,
        width: int | None = None,
    ) -> None:
        self._stream = stream
        self._silent = silent or stream is None
        self._verbose = verbose
        self._live = not plain and not silent and (is_terminal(stream) if terminal is None else terminal)
        self._width = width
        self._lock = threading.RLock()
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}
        self._steps: set[str] = set()  # tasks that a step began: they end with it, others with their last byte

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        with self._lock:
            self._tasks.clear()
            self._stop()

    def __call__(self, event: Event) -> None:
        """Draw one event."""
        if self._silent:
            return
        with self._lock, contextlib.suppress(OSError):
            if isinstance(event, StepStarted):
                self._started(event)
            elif isinstance(event, StepFinished):
                self._finished(event)
            elif isinstance(event, Progress):
                self._progress(event)
            elif isinstance(event, Note):
                self._line(("Warning: " if event.level == "warning" else "") + event.text)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """While somebody is asked, nothing moves."""
        with self._lock:
            running = self._bar is not None
            self._stop(keep=True)
        try:
            yield
        finally:
            with self._lock:
                if running and self._tasks:
                    self._bar.start()

    def _started(self, event: StepStarted) -> None:
        if self._live:
            self._steps.add(event.text)
            self._task(event.text)
        elif self._verbose:
            self._line(f"{event.text} ...")

    def _finished(self, event: StepFinished) -> None:
        how = "already done" if event.cached else human_seconds(event.seconds)
        if not self._live:
            self._line(f"{event.text} ... {how}")
            return
        self._steps.discard(event.text)
        task = self._tasks.pop(event.text, None)
        if task is not None:
            self._bar.remove_task(task)
        self._line(f"{self._mark()} {event.text}  {how}")
        if not self._tasks:
            self._stop()

    def _progress(self, event: Progress) -> None:
        if not self._live:
            return
        task = self._task(event.text)
        self._bar.update(task, completed=event.done, total=event.total, amount=_amount(event))
        if event.total is not None and event.done >= event.total and event.text not in self._steps:
            self._bar.remove_task(self._tasks.pop(event.text))
            if not self._tasks:
                self._stop()

    def _line(self, text: str) -> None:
        if self._bar is not None:
            from rich.text import Text

            self._bar.console.print(Text(clean(text)))
        else:
            self._stream.write(clean(text) + "\n")
            self._stream.flush()

    def _task(self, text: str) -> Any:
        if self._bar is None:
            self._bar = _progress_bar(self._stream, self._width)
            self._bar.start()
        if text not in self._tasks:
            self._tasks[text] = self._bar.add_task(clean(text), total=None, amount="")
        return self._tasks[text]

    def _stop(self, *, keep: bool = False) -> None:
        if self._bar is not None:
            with contextlib.suppress(OSError):
                self._bar.stop()
            if not keep:
                self._bar = None

    def _mark(self) -> str:
        try:
            "\u2713".encode(getattr(self._stream, "encoding", None) or "utf-8")
        except UnicodeEncodeError:
            return "ok"
        return "\u2713"


def _amount(event: Progress) -> str:
    if event.unit == "bytes":
        return human_bytes(event.done) + (f" of {human_bytes(event.total)}" if event.total is not None else "")
    return f"{event.done}" + (f" of {event.total}" if event.total is not None else "") + f" {event.unit}"


def _progress_bar(stream: Any, width: int | None) -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    return Bar(
        SpinnerColumn("line"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[amount]}", markup=False),
        TimeElapsedColumn(),
        console=Console(file=stream, force_terminal=True, width=width, highlight=False),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
