"""How the terminal asks: questions go to stderr, answers come from stdin, and nothing ever waits for a line that cannot come."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from medperf.domain.errors import InvalidInput

if TYPE_CHECKING:
    from medperf.cli.draw import Drawer
    from medperf.cli.signals import Signals


class Terminal:
    """`medperf.flows.interaction.Interaction` for a terminal, or for a script that pipes one line per question.

    Args:
        quiet: questions are shown to people only: a program's stderr holds the error document and nothing else.
    """

    def __init__(self, stdin: Any, stderr: Any, *, drawer: Drawer, signals: Signals, quiet: bool = False) -> None:
        self._stdin = stdin
        self._stderr = stderr
        self._drawer = drawer
        self._signals = signals
        self._quiet = quiet

    def confirm(self, question: str, *, default: bool = False) -> bool:
        """Yes or no; an empty line means ``default``."""
        choices = "[Y/n]" if default else "[y/N]"
        for _ in range(3):
            answer = self._line(f"{question.rstrip()} {choices}: ").strip().lower()
            if not answer:
                return default
            if answer in ("y", "yes", "n", "no"):
                return answer.startswith("y")
        raise InvalidInput("no_answer", f"There was no yes or no to: {question}", "Answer y or n.")

    def text(self, question: str) -> str:
        """One line."""
        return self._line(_prompt(question)).strip()

    def secret(self, question: str) -> str:
        """One line that a terminal does not show."""
        if not self._people():
            return self._line(_prompt(question))
        from getpass import getpass

        with self._drawer.paused(), self._signals.asking():
            try:
                return getpass(_legible(_prompt(question)), stream=self._stderr)
            except EOFError:
                raise _no_answer(_prompt(question)) from None

    def _people(self) -> bool:
        return self._stdin is not None and not self._stdin.closed and bool(self._stdin.isatty())

    def _line(self, prompt: str) -> str:
        """Raises:
        InvalidInput: the input has ended, is closed or is no text.
        """
        with self._drawer.paused(), self._signals.asking():
            shown = self._people() or not self._quiet
            if shown:
                self._stderr.write(_legible(prompt))
                self._stderr.flush()
            try:
                line: str = "" if self._stdin is None or self._stdin.closed else self._stdin.readline()
            except (OSError, UnicodeDecodeError):
                line = ""
            if shown and not self._people():
                self._stderr.write("\n")
        if not line:
            raise _no_answer(prompt)
        return line.rstrip("\r\n")


def _prompt(question: str) -> str:
    question = question.rstrip(": ")
    return f"{question} " if question.endswith("?") else f"{question}: "


def _legible(prompt: str) -> str:
    """What others called things may be in a question: nothing of it moves the cursor, or hides what a person agrees to."""
    from medperf.cli.output import clean

    return "\n".join(clean(line) for line in prompt.split("\n"))


def _no_answer(prompt: str) -> InvalidInput:
    asked = prompt.strip().rstrip(":").rpartition("\n")[2]  # what stands above was shown already
    return InvalidInput(
        "no_answer",
        f"Nobody answered {asked!r}: the input has ended.",
        "Run it in a terminal, pipe one line per question, or give the answer as an option (see --help).",
    )
