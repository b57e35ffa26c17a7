"""What happens during a flow, as typed events. Flows and the rooms below emit them; the CLI draws them, pages stream them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """Base of all events."""


@dataclass(frozen=True)
class Note(Event):
    """One sentence for the person, e.g. ``"Nothing changed: no container was started."``."""

    text: str
    level: str = "info"  # info | success | warning


@dataclass(frozen=True)
class StepStarted(Event):
    """A named piece of a flow begins, e.g. ``"Uploading mlcube.yaml"``."""

    text: str


@dataclass(frozen=True)
class StepFinished(Event):
    """The piece of that name ended. ``cached``: it was not done again because nothing it depends on changed."""

    text: str
    seconds: float
    cached: bool = False


@dataclass(frozen=True)
class Progress(Event):
    """How far a long piece of work is. ``total`` None = unknown; ``unit`` is ``"bytes"`` or a plural noun."""

    text: str
    done: int
    total: int | None
    unit: str = "bytes"


Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An `Emit` that drops everything."""
