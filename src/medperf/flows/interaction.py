"""How a flow asks a person: terminal, page or script stand behind one protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from medperf.domain.errors import InvalidInput, MedPerfError


class Interaction(Protocol):
    """Somebody who can answer."""

    def confirm(self, question: str, *, default: bool = False) -> bool:
        """A yes or no."""

    def text(self, question: str) -> str:
        """One line."""

    def secret(self, question: str) -> str:
        """One line that is not shown."""


def new_secret(ask: Interaction, question: str) -> str:
    """A secret that is asked for twice.

    Raises:
        InvalidInput: the two differ.
    """
    given = ask.secret(question)
    if given != ask.secret(f"{question}, again"):
        raise InvalidInput(
            "passwords_differ", "The two entries of the password differ.", "Nothing was done; try again."
        )
    return given


@dataclass(frozen=True)
class Scripted:
    """Answers known beforehand (tests, seeding). A question without an answer is an error, never a guess."""

    answers: Mapping[str, str] = field(default_factory=dict)

    def confirm(self, question: str, *, default: bool = False) -> bool:
        """See `Interaction.confirm`."""
        return self._answer(question).lower() in ("y", "yes") if question in self.answers else default

    def text(self, question: str) -> str:
        """See `Interaction.text`."""
        return self._answer(question)

    def secret(self, question: str) -> str:
        """See `Interaction.secret`."""
        return self._answer(question)

    def _answer(self, question: str) -> str:
        try:
            return self.answers[question]
        except KeyError:
            raise MedPerfError("no_answer", f"Nobody is there to answer: {question}", "Give it as an option.") from None
