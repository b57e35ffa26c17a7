"""YAML and JSON from anybody, read within bounds: bytes, depth, nodes, no aliases, no duplicate keys, no NaN.

PyYAML and json are imported by the functions, so that importing this module costs nothing.
"""

from __future__ import annotations

import functools
from typing import Any

from medperf.domain import limits
from medperf.domain.errors import InvalidInput


def load_yaml(data: bytes, *, label: str, max_bytes: int = limits.MANIFEST_BYTES, allow_nan: bool = False) -> Any:
    """Parse one YAML document with the safe schema.

    Args:
        data: the raw bytes (UTF-8).
        label: how messages name the document, e.g. ``"mlcube.yaml"``.
        allow_nan: keep NaN and infinities as floats (metrics turn them into ``undefined``); else they are refused.

    Returns:
        dicts with string keys, lists, strings, ints, floats, booleans and None.

    Raises:
        InvalidInput: too large, not UTF-8, not YAML, tags, aliases, duplicate keys, too deep, numbers out of range.
    """
    text = _decode(data, label, max_bytes)
    import yaml

    try:
        _scan_yaml(text)
        return _bounded(yaml.load(text, Loader=_strict_loader()), label, allow_nan=allow_nan)  # noqa: S506 - a SafeLoader
    except InvalidInput:
        raise
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InvalidInput(
            "bad_yaml", f"{label} is not valid YAML{where}: {problem}.", "Mend the file and try again."
        ) from error
    except (ValueError, RecursionError, OverflowError) as error:
        raise InvalidInput(
            "bad_yaml", f"{label} cannot be read as YAML: {str(error)[:200]}.", "Mend the file and try again."
        ) from error


def load_json(data: bytes, *, label: str, max_bytes: int = limits.BODY_BYTES) -> Any:
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

    try:
        return _bounded(json.loads(text, object_pairs_hook=unique, parse_constant=refuse), label, allow_nan=False)
    except json.JSONDecodeError as error:
        raise InvalidInput(
            "bad_json", f"{label} is not valid JSON at line {error.lineno}: {error.msg}.", "Mend it and try again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            "bad_json", f"{label} cannot be read as JSON: {str(error)[:200]}.", "Mend it and try again."
        ) from error


def dump_yaml(value: Any) -> str:
    """YAML for people: block style, keys in the given order."""
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False, allow_unicode=True, default_flow_style=False))


def _decode(data: bytes, label: str, max_bytes: int) -> str:
    if len(data) > max_bytes:
        raise InvalidInput(
            "document_too_large",
            f"{label} has {len(data):,} bytes; at most {max_bytes:,} are read.",
            "Make it smaller.",
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(
            "bad_encoding", f"{label} is not UTF-8 text (byte {error.start}).", "Save it as UTF-8."
        ) from error
    if "\0" in text:
        raise InvalidInput("bad_encoding", f"{label} holds a NUL character.", "Remove it.")
    return text.removeprefix("﻿")


def _scan_yaml(text: str) -> None:
    """Refuse bombs on the event stream, before anything is built: aliases, tags, depth, number of nodes."""
    import yaml

    depth = nodes = 0
    for event in yaml.parse(text, Loader=_loader_base()):
        line = event.start_mark.line + 1 if event.start_mark is not None else 0
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases (*name) are not allowed (line {line})")
        if isinstance(event, yaml.NodeEvent):
            nodes += 1
            tag = getattr(event, "tag", None)
            if tag is not None and tag != "!":
                raise yaml.YAMLError(f"tags ({tag}) are not allowed (line {line})")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > limits.DOCUMENT_DEPTH or nodes > limits.DOCUMENT_NODES:
            raise yaml.YAMLError(
                f"nested deeper than {limits.DOCUMENT_DEPTH} or more than {limits.DOCUMENT_NODES:,} entries"
            )


def _loader_base() -> Any:
    """libyaml's safe loader where PyYAML has it (20 times faster), else the Python one."""
    import yaml

    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.cache
def _strict_loader() -> Any:
    """A safe loader that refuses duplicate keys and keys that are no scalars, and keeps dates as text."""
    import yaml

    base = _loader_base()

    class StrictLoader(base):  # type: ignore[misc,valid-type] # the base is chosen at run time
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                if not isinstance(key_node, yaml.ScalarNode):
                    raise yaml.constructor.ConstructorError(None, None, "keys must be plain text", key_node.start_mark)
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key_node.value!r} is given twice", key_node.start_mark
                    )
                seen.add(key_node.value)
            return super().construct_mapping(node, deep=deep)

    kept_as_text = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:merge")
    StrictLoader.yaml_implicit_resolvers = {
        letter: [(tag, pattern) for tag, pattern in found if tag not in kept_as_text]
        for letter, found in base.yaml_implicit_resolvers.items()
    }
    return StrictLoader


def _bounded(value: Any, label: str, *, allow_nan: bool) -> Any:
    """Walk once: string keys, bounded depth, nodes and numbers."""
    nodes = 0

    def walk(item: Any, depth: int) -> Any:
        nonlocal nodes
        nodes += 1
        if nodes > limits.DOCUMENT_NODES or depth > limits.DOCUMENT_DEPTH:
            raise InvalidInput(
                "document_too_large", f"{label} is nested too deeply or has too many entries.", "Make it simpler."
            )
        if isinstance(item, dict):
            return {_key(key, label): walk(entry, depth + 1) for key, entry in item.items()}
        if isinstance(item, list):
            return [walk(entry, depth + 1) for entry in item]
        if isinstance(item, str):
            return _text(item, label)
        if item is None or isinstance(item, bool):
            return item
        if isinstance(item, int):
            if abs(item) >= 10**limits.DOCUMENT_INT_DIGITS:
                raise InvalidInput(
                    "number_too_large",
                    f"{label} holds a whole number with more than {limits.DOCUMENT_INT_DIGITS} digits.",
                    "Use a smaller one.",
                )
            return item
        if isinstance(item, float):
            if not allow_nan and (item != item or item in (float("inf"), float("-inf"))):
                raise InvalidInput(
                    "not_a_number", f"{label} holds NaN or an infinity.", "Use null or leave the value out."
                )
            return item
        raise InvalidInput(
            "bad_document",
            f"{label} holds a value of type {type(item).__name__}.",
            "Use text, numbers, booleans, lists and mappings.",
        )

    return walk(value, 1)


def _key(key: Any, label: str) -> str:
    if not isinstance(key, str):
        key = str(key) if isinstance(key, int | float | bool) or key is None else None
    if key is None:
        raise InvalidInput("bad_document", f"{label} has a key that is no plain text.", "Use plain text keys.")
    return _text(key, label)


def _text(text: str, label: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidInput("bad_encoding", f"{label} holds a lone surrogate character.", "Remove it.") from error
    if "\0" in text:
        raise InvalidInput("bad_encoding", f"{label} holds a NUL character.", "Remove it.")
    return text
