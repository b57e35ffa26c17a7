"""YAML and JSON from anybody, read within bounds: bytes, depth, nodes, no aliases, no tags, no duplicate keys, no NaN.

A document of either kind costs time and memory in proportion to its bytes, whatever it holds: nothing is expanded, every
bound is enforced while it is read, and numbers are looked at before they are computed. YAML is taken from libyaml's events
and built here, so that what a value means does not depend on PyYAML's constructors.

PyYAML and json are imported by the functions, so that importing this module costs nothing.
"""

from __future__ import annotations

import math
import re
from typing import Any

from medperf.domain import limits
from medperf.domain.errors import InvalidInput

_WORDS: dict[str, bool | None] = {"": None, "~": None}
_WORDS |= dict.fromkeys(("null", "Null", "NULL"))
_WORDS |= {form: True for word in ("yes", "true", "on") for form in (word, word.capitalize(), word.upper())}
_WORDS |= {form: False for word in ("no", "false", "off") for form in (word, word.capitalize(), word.upper())}
_INTEGER = re.compile(r"[-+]?(?:(0b[01][01_]*)|(0x[0-9a-fA-F][0-9a-fA-F_]*)|(0[0-7_]+)|(0|[1-9][0-9_]*))")
_BASES = (2, 16, 8, 10)
#: Also ``1e-05``, as JSON writes it and YAML 1.1 takes for text; with its sign, so that ``12e34`` of a hash stays text.
_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[eE][-+][0-9]+)|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))"
    r"|\.(?:nan|NaN|NAN)"
)
_NAMED = re.compile(r"\.(inf|nan)", re.IGNORECASE)
_NUMERIC = frozenset("+-.0123456789")
_INTEGERS = 10**limits.DOCUMENT_INT_DIGITS
#: Text of a whole number. What is longer has too many digits in any base, and is not computed.
_INTEGER_LENGTH = 96
#: JSON strings, closed or not; each is passed over once.
_STRINGS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)


def load_yaml(
    data: bytes,
    *,
    label: str,
    max_bytes: int = limits.MANIFEST_BYTES,
    max_nodes: int = limits.DOCUMENT_NODES,
    allow_nan: bool = False,
) -> Any:
    """Parse one YAML document: mappings with plain text keys, lists, and the scalars of YAML 1.1 less dates and base 60.

    Args:
        data: the raw bytes (UTF-8).
        label: how messages name the document, e.g. ``"mlcube.yaml"``.
        max_nodes: values and collections together.
        allow_nan: keep NaN and infinities as floats (metrics turn them into ``undefined``); else they are refused.

    Returns:
        dicts with string keys (as they are written), lists, strings, ints, floats, booleans and None.

    Raises:
        InvalidInput: too large, not UTF-8, not YAML, tags, aliases, duplicate keys, too deep, numbers out of range.
    """
    text = _decode(data, label, max_bytes)
    import yaml

    try:
        return _read_events(text, _Builder(label, max_nodes=max_nodes, allow_nan=allow_nan))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise _bad_yaml(f"{label} is not valid YAML{where}: {_short(str(problem), 200)}.") from error
    except (ValueError, RecursionError) as error:
        raise _bad_yaml(f"{label} cannot be read as YAML: {_short(str(error), 200)}.") from error


def load_json(
    data: bytes, *, label: str, max_bytes: int = limits.BODY_BYTES, max_nodes: int = limits.DOCUMENT_NODES
) -> Any:
    """Parse one JSON document under the same bounds as `load_yaml`.

    Raises:
        InvalidInput: too large, not UTF-8, not JSON, NaN or infinities, duplicate keys, too deep, numbers out of range.
    """
    text = _decode(data, label, max_bytes)
    import json

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise InvalidInput("bad_json", f"{label} repeats a key in one object.", "Give each key once.")
        return found

    def refuse(name: str) -> Any:
        raise InvalidInput(
            "bad_json", f"{label} holds {name}, which JSON has no form for.", "Use null or leave the value out."
        )

    _check_entries(text, label, max_nodes)
    try:
        return _bounded(json.loads(text, object_pairs_hook=unique, parse_constant=refuse), label, max_nodes)
    except json.JSONDecodeError as error:
        raise InvalidInput(
            "bad_json", f"{label} is not valid JSON at line {error.lineno}: {error.msg}.", "Mend it and try again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            "bad_json", f"{label} cannot be read as JSON: {_short(str(error), 200)}.", "Mend it and try again."
        ) from error


def _decode(data: bytes, label: str, max_bytes: int) -> str:
    if len(data) > max_bytes:
        raise InvalidInput(
            "document_too_large",
            f"{label} has {len(data):,} bytes; at most {max_bytes:,} are read.",
            "Make it smaller.",
        )
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InvalidInput("bad_encoding", f"{label} is UTF-16 or UTF-32 text.", "Save it as UTF-8.")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            "bad_encoding", f"{label} is not UTF-8 text (byte {error.start}).", "Save it as UTF-8."
        ) from error
    if "\0" in text:
        raise InvalidInput("bad_encoding", f"{label} holds a NUL character.", "Remove it.")
    return text.removeprefix("\ufeff")


# ----------------------------------------------------------------------------------------------------------------- YAML


class _Builder:
    """A document's value, put together node by node; every bound holds before the next one is asked for."""

    def __init__(self, label: str, *, max_nodes: int, allow_nan: bool) -> None:
        self.label = label
        self.result: Any = None
        self._allow_nan = allow_nan
        self._left = self._max = max_nodes
        self._open: list[dict[str, Any] | list[Any]] = []  # the collections around the next node, the innermost last
        self._mapping: dict[str, Any] | None = None  # the innermost one, whichever it is
        self._list: list[Any] | None = None
        self._key: str | None = None  # of the innermost mapping, while its value is still to come

    def scalar(self, event: Any) -> None:
        """A key, or a value."""
        text = event.value
        _check_tag(event, self.label)
        if "\0" in text:
            raise _nul(self.label)
        if self._mapping is None or self._key is not None:
            self._put(_plain(text, self.label, allow_nan=self._allow_nan) if event.implicit[0] else text)
        elif text in self._mapping:
            raise _bad_yaml(f"{self.label} gives the key {_short(text)!r} twice{_line(event)}.", "Give each key once.")
        else:
            self._key = text

    def start(self, event: Any, value: dict[str, Any] | list[Any]) -> None:
        """A collection begins."""
        _check_tag(event, self.label)
        if self._mapping is not None and self._key is None:
            raise _bad_yaml(f"{self.label} has a key that is no plain text{_line(event)}.", "Use plain text keys.")
        self._put(value)
        self._open.append(value)
        self._enter()

    def end(self) -> None:
        """The innermost collection is complete."""
        self._open.pop()
        self._enter()

    def _enter(self) -> None:
        innermost = self._open[-1] if self._open else None
        self._mapping = innermost if isinstance(innermost, dict) else None
        self._list = innermost if isinstance(innermost, list) else None

    def _put(self, value: Any) -> None:
        self._left -= 1
        if self._left < 0 or len(self._open) >= limits.DOCUMENT_DEPTH:
            raise _too_large(self.label, self._max)
        if self._list is not None:
            self._list.append(value)
        elif self._mapping is not None and self._key is not None:
            self._mapping[self._key] = value
            self._key = None
        else:
            self.result = value


def _read_events(text: str, builder: _Builder) -> Any:
    """Feed libyaml's events to the builder."""
    import yaml

    if text.startswith("%TAG") or "\n%TAG" in text:  # libyaml compares each with all before it
        raise _bad_yaml(f"{builder.label}: %TAG directives are not allowed.", "Leave them out.")
    documents = 0
    # libyaml where PyYAML has it (20 times faster), else the same in Python.
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        kind = type(event)
        if kind is yaml.ScalarEvent:
            builder.scalar(event)
        elif kind is yaml.MappingStartEvent:
            builder.start(event, {})
        elif kind is yaml.SequenceStartEvent:
            builder.start(event, [])
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            builder.end()
        elif kind is yaml.AliasEvent:
            raise _bad_yaml(f"{builder.label}: aliases (*name) are not allowed{_line(event)}.", "Write the value out.")
        elif kind is yaml.DocumentStartEvent:
            documents += 1
            if documents > 1:
                raise _bad_yaml(f"{builder.label} holds more than one document{_line(event)}.", "Keep one of them.")
    return builder.result


def _plain(text: str, label: str, *, allow_nan: bool) -> Any:
    """What an unquoted scalar means."""
    if text[:1] not in _NUMERIC:
        return _WORDS.get(text, text)
    found = _INTEGER.fullmatch(text)
    if found is not None:
        if len(text) > _INTEGER_LENGTH:
            raise _large_integer(label)
        digits = next(group for group in found.groups() if group)
        value = int(digits.replace("_", ""), _BASES[(found.lastindex or 4) - 1])
        return _checked_integer(-value if text[0] == "-" else value, label)
    if _FLOAT.fullmatch(text) is None:
        return text
    return _checked_float(float(_NAMED.sub(r"\1", text.replace("_", ""))), label, allow_nan=allow_nan)


def _check_tag(event: Any, label: str) -> None:
    if event.tag is not None:
        raise _bad_yaml(f"{label}: tags ({_short(event.tag)}) are not allowed{_line(event)}.", "Leave the tag out.")


# ----------------------------------------------------------------------------------------------------------------- JSON


def _check_entries(text: str, label: str, max_nodes: int) -> None:
    """Refuse too many entries before they cost memory. Only the commas are counted; `_bounded` counts the rest."""
    if text.count(",") >= max_nodes and _STRINGS.sub("", text).count(",") >= max_nodes:
        raise _too_large(label, max_nodes)


def _bounded(value: Any, label: str, max_nodes: int) -> Any:
    """Walk once: bounded depth, nodes and numbers, clean text."""
    left = max_nodes

    def walk(item: Any, depth: int) -> None:
        nonlocal left
        left -= 1
        if left < 0 or depth > limits.DOCUMENT_DEPTH:
            raise _too_large(label, max_nodes)
        kind = type(item)
        if kind is str:
            _check_text(item, label)
        elif kind is int:
            _checked_integer(item, label)
        elif kind is float:
            _checked_float(item, label, allow_nan=False)
        elif kind is dict:
            for key, entry in item.items():
                _check_text(key, label)
                walk(entry, depth + 1)
        elif kind is list:
            for entry in item:
                walk(entry, depth + 1)

    walk(value, 1)
    return value


def _check_text(text: str, label: str) -> None:
    if text.isascii():
        if "\0" in text:
            raise _nul(label)
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput("bad_encoding", f"{label} holds a lone surrogate character.", "Remove it.") from error
    if "\0" in text:
        raise _nul(label)


# --------------------------------------------------------------------------------------------------------- both of them


def _checked_integer(value: int, label: str) -> int:
    if not -_INTEGERS < value < _INTEGERS:
        raise _large_integer(label)
    return value


def _checked_float(value: float, label: str, *, allow_nan: bool) -> float:
    if not allow_nan and not math.isfinite(value):
        raise InvalidInput(
            "not_a_number",
            f"{label} holds NaN, an infinity, or a number beyond 1.8e308.",
            "Use null or leave the value out.",
        )
    return value


def _large_integer(label: str) -> InvalidInput:
    return InvalidInput(
        "number_too_large",
        f"{label} holds a whole number with more than {limits.DOCUMENT_INT_DIGITS} digits.",
        "Use a smaller one, or quote it to make it text.",
    )


def _too_large(label: str, max_nodes: int) -> InvalidInput:
    return InvalidInput(
        "document_too_large",
        f"{label} is nested deeper than {limits.DOCUMENT_DEPTH} or has more than {max_nodes:,} entries.",
        "Make it simpler.",
    )


def _nul(label: str) -> InvalidInput:
    return InvalidInput("bad_encoding", f"{label} holds a NUL character.", "Remove it.")


def _bad_yaml(what: str, fix: str = "Mend the file and try again.") -> InvalidInput:
    return InvalidInput("bad_yaml", what, fix)


def _line(event: Any) -> str:
    return f" (line {event.start_mark.line + 1})" if event.start_mark is not None else ""


def _short(text: str, most: int = 60) -> str:
    """The beginning of what somebody else wrote: an error never grows with the document."""
    return text if len(text) <= most else f"{text[:most]}..."
