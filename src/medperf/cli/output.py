"""The answer on stdout: tables, key-value views and JSON. Presentation only."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, NamedTuple, TypeVar

from medperf.domain.errors import MedPerfError


class OutputClosed(Exception):
    """Whoever read our output has gone (``medperf mlcube ls | head -1``)."""


Item = TypeVar("Item")
_SHORT = 16  # what a narrow terminal shows of a digest
_GAP = 3  # between two columns on a terminal
_MANY = 500  # rows


class Column(NamedTuple):
    """A column of a table. ``right``: numbers. ``short``: cut on a narrow terminal; ``extra``: left out there. A pipe gets everything."""

    title: str
    right: bool = False
    short: bool = False
    extra: bool = False


class Output:
    """Writes one answer to a stream.

    Args:
        stream: stdout; None = closed, everything is dropped.
        as_json: one JSON document instead of text.
        terminal: None = look at the stream.
        width: columns of the terminal; None = ask it.
    """

    def __init__(
        self, stream: Any, *, as_json: bool = False, terminal: bool | None = None, width: int | None = None
    ) -> None:
        self.as_json = as_json
        self._stream = stream
        self._terminal = is_terminal(stream) if terminal is None else terminal
        self._width = width

    def line(self, text: str = "") -> None:
        """One line of text; control characters are made visible, so that nothing a server says can steer the terminal."""
        self.write(clean(text) + "\n")

    def json(self, value: Any) -> None:
        """``value`` as one JSON document."""
        plain_ascii = (
            not str(getattr(self._stream, "encoding", None) or "utf-8").lower().replace("-", "").startswith("utf8")
        )
        self.write(json.dumps(document(value), indent=2, ensure_ascii=plain_ascii, allow_nan=False) + "\n")

    def table(self, columns: Sequence[Column], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
        """A table: fitted to a terminal, plain aligned columns elsewhere; ``empty`` is said when there are no rows."""
        cells = [[clean(cell(value)) for value in row] for row in rows]
        if not cells:
            self.line(empty)
        elif self._terminal and len(cells) > _MANY:
            self._long_table(columns, cells)
        elif self._terminal:
            self._rich_table(columns, cells)
        else:
            self._plain_table(columns, cells)

    def fits(self, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> bool:
        """Whether a table of all these columns needs no folding; a pipe takes any."""
        cells = [[clean(cell(value)) for value in row] for row in rows]
        if not self._terminal or not cells:
            return True
        return _natural(columns, cells, range(len(columns))) <= (self._width or terminal_width(self._stream))

    def answer(self, value: Any, text: str) -> None:
        """``value`` for programs, one line for people."""
        if self.as_json:
            self.json(value)
        else:
            self.line(text)

    def listing(
        self,
        found: Iterable[Item],
        columns: Sequence[Column],
        row: Callable[[Item], Sequence[Any]],
        *,
        empty: str,
        without: Sequence[str] = (),
    ) -> None:
        """Things of one kind: all they hold for programs, a table for people.

        Args:
            row: the cells of one thing.
            empty: said when there is none.
            without: keys that only the detail of one thing holds; None would say that there is nothing.
        """
        if self.as_json:
            plain = [document(one) for one in found]
            self.json({"items": [{key: value for key, value in one.items() if key not in without} for one in plain]})
        else:
            self.table(columns, map(row, found), empty=empty)

    def facts(self, *pairs: tuple[str, Any]) -> None:
        """A short page: one ``name: value`` a line; without those that are None or empty."""
        for name, value in pairs:
            if value not in (None, ""):
                self.line(f"{name}: {cell(value)}")

    def view(self, value: Any) -> None:
        """An object as YAML."""
        self.write(as_yaml(document(value)))

    def show(self, value: Any) -> None:
        """An object in the format asked for."""
        if self.as_json:
            self.json(value)
        else:
            self.view(value)

    def save(self, value: Any, path: Path) -> None:
        """An object into a file, and say so.

        Raises:
            MedPerfError: the file cannot be written.
        """
        try:
            with path.open("w", encoding="utf-8", errors="backslashreplace") as stream:
                Output(stream, as_json=self.as_json).show(value)
        except OSError as error:
            raise MedPerfError(
                "output_failed", f"The file {str(path)!r} cannot be written: {error.strerror}.", "Choose another file."
            ) from error
        self.wrote(path)

    def wrote(self, path: PurePath) -> None:
        """Say that a file was written."""
        if self.as_json:
            self.json({"file": path})
        else:
            self.line(f"Wrote {path}.")

    def created(self, noun: str, identity: int | str, name: str, *, then: str = "") -> None:
        """Say what was made, and the command to go on with."""
        self.line(f"Created {noun} {identity} ({name}).")
        if then:
            self.line(f"Next: {then}")

    def write(self, text: str) -> None:
        """Raw text.

        Raises:
            OutputClosed: the reader has gone.
            MedPerfError: stdout cannot be written (a full disk).
        """
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError as error:
            raise OutputClosed from error
        except OSError as error:
            raise MedPerfError(
                "output_failed", f"The answer cannot be written: {error.strerror}.", "Write it somewhere else."
            ) from error

    def _plain_table(self, columns: Sequence[Column], rows: list[list[str]]) -> None:
        lines = [[column.title.upper() for column in columns], *rows]
        widths = [max(_cells(line[index]) for line in lines) for index in range(len(columns))]
        text = []
        for line in lines:
            parts = []
            for column, width, value in zip(columns, widths, line, strict=True):
                padding = " " * (width - _cells(value))
                parts.append(padding + value if column.right else value + padding)
            text.append("  ".join(parts).rstrip() + "\n")
        self.write("".join(text))

    def _long_table(self, columns: Sequence[Column], rows: list[list[str]]) -> None:
        """As a pipe gets it, with the columns that fit: laying out thousands of rows as `_rich_table` does takes seconds."""
        shown = _fitting(columns, rows, self._width or terminal_width(self._stream))
        self._plain_table([columns[index] for index in shown], [[row[index] for index in shown] for row in rows])

    def _rich_table(self, columns: Sequence[Column], rows: list[list[str]]) -> None:
        import io

        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        width = self._width or terminal_width(self._stream)
        shown = _fitting(columns, rows, width)
        whole = sum(max(map(_cells, (columns[i].title, *(row[i] for row in rows)))) + _GAP for i in shown) - _GAP
        cut = _SHORT if whole > width else None
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
        for column in (columns[index] for index in shown):
            table.add_column(
                column.title,
                justify="right" if column.right else "left",
                overflow="ellipsis" if column.short else "fold",
                no_wrap=column.short or column.right,
                min_width=len(column.title),
                max_width=cut if column.short else None,
            )
        for row in rows:
            table.add_row(*(Text(row[index]) for index in shown))
        buffer = io.StringIO()
        Console(file=buffer, force_terminal=True, width=width, highlight=False).print(table)
        self.write("\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n")


def _fitting(columns: Sequence[Column], rows: list[list[str]], width: int) -> list[int]:
    """Which columns a terminal shows: all, or without the last ``extra`` ones until the rest fits."""
    shown = list(range(len(columns)))
    for index in reversed(range(len(columns))):
        if columns[index].extra and _natural(columns, rows, shown) > width:
            shown.remove(index)
    return shown


def _natural(columns: Sequence[Column], rows: list[list[str]], shown: Sequence[int]) -> int:
    """The width of a table in which nothing is folded; a ``short`` column counts as cut."""
    widths = []
    for index in shown:
        widest = max(_cells(row[index]) for row in rows)
        widths.append(max(len(columns[index].title), min(widest, _SHORT) if columns[index].short else widest))
    return sum(widths) + _GAP * (len(shown) - 1)


def is_terminal(stream: Any) -> bool:
    """Whether a person looks at this stream on a terminal that can be drawn on."""
    try:
        return stream is not None and bool(stream.isatty()) and os.environ.get("TERM") != "dumb"
    except ValueError:  # closed
        return False


def terminal_width(stream: Any) -> int:
    """Columns of the terminal; 80 when nobody knows."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80


def clean(text: str) -> str:
    """``text`` with control, direction-changing and undecodable characters made visible; line breaks and tabs become spaces."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(letter) for letter in text)


def _visible(letter: str) -> str:
    if letter in "\n\t":
        return " "
    return (
        letter
        if letter == "\u00a0" or unicodedata.category(letter) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
        else letter.encode("unicode_escape").decode()
    )


def cell(value: Any) -> str:
    """One value in a table."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        moment = value.astimezone(UTC) if value.tzinfo else value
        return moment.strftime("%Y-%m-%d %H:%M UTC")
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, list | tuple):
        return ", ".join(cell(entry) for entry in value)
    return str(value)


def human_bytes(count: float) -> str:
    """``1536`` as ``1.5 kB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def human_seconds(seconds: float) -> str:
    """``0.84`` as ``0.84 s``, ``125`` as ``2 min 05 s``."""
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"


def document(value: Any) -> Any:
    """Anything a flow returns, as JSON types. What is no number becomes null."""
    if hasattr(value, "model_dump"):
        return document(value.model_dump(mode="json"))
    if hasattr(value, "as_document"):
        return document(value.as_document())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {entry.name: document(getattr(value, entry.name)) for entry in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {cell(key): document(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [document(entry) for entry in value]
    if isinstance(value, Enum):
        return document(value.value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)  # text, paths, digests


def as_yaml(value: Any, *, indent: int = 0) -> str:
    """JSON types as YAML that a person likes to read."""
    space = " " * indent
    if isinstance(value, dict) and value:
        return "".join(f"{space}{_scalar(key)}:{_entry(entry, indent)}" for key, entry in value.items())
    if isinstance(value, list) and value:
        text = []
        for entry in value:
            if isinstance(entry, dict | list) and entry:
                inner = as_yaml(entry, indent=indent + 2)
                text.append(f"{space}- {inner[indent + 2 :]}")
            else:
                text.append(f"{space}- {_scalar(entry)}\n")
        return "".join(text)
    return f"{space}{_scalar(value)}\n"


def _entry(value: Any, indent: int) -> str:
    if isinstance(value, dict | list) and value:
        return "\n" + as_yaml(value, indent=indent + 2)
    if isinstance(value, str) and "\n" in value and _blockable(value):
        lines = (f"{' ' * (indent + 2)}{line}" if line else "" for line in value[:-1].split("\n"))
        return " |\n" + "\n".join(lines) + "\n"
    return f" {_scalar(value)}\n"


def _blockable(text: str) -> bool:
    """Whether a YAML block scalar shows it as it is."""
    return (
        text.endswith("\n")
        and not text.endswith("\n\n")
        and text[0] not in " \n"
        and all(clean(line) == line for line in text.split("\n"))
    )


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value if _plain(value) and clean(value) == value else f'"{"".join(map(_quoted, value))}"'
    return (
        json.dumps(value)
        if value is None or isinstance(value, bool | int | float)
        else ("{}" if isinstance(value, dict) else "[]")
    )


def _quoted(letter: str) -> str:
    """One letter between double quotes in YAML."""
    if letter in '"\\':
        return "\\" + letter
    return letter.encode("unicode_escape").decode() if letter in "\n\t" else _visible(letter)


def _plain(text: str) -> bool:
    """Whether YAML reads ``text`` back as this string without quotes."""
    return (
        bool(text)
        and text == text.strip()
        and (text[0].isalpha() or text[0] in "/._")
        and ": " not in text
        and " #" not in text
        and not text.endswith(":")
        and text.lower() not in ("null", "true", "false", "yes", "no", "on", "off", "y", "n", ".nan", ".inf")
        and not text.lstrip("._").replace(".", "").replace("_", "").isdigit()
    )


def _cells(text: str) -> int:
    """Columns that ``text`` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )
