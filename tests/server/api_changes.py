"""What a change of the API's description breaks for those who were written for the one before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Document = dict[str, Any]


def breaking(before: Document, after: Document) -> list[str]:
    """Sentences, one for each thing that an older client or an older request would trip over."""
    found: list[str] = []
    for path, operations in before["paths"].items():
        for method, operation in operations.items():
            label = f"{method.upper()} {path}"
            now = after["paths"].get(path, {}).get(method)
            if now is None:
                found.append(f"{label} is gone")
                continue
            found += [f"{label}: {fault}" for fault in _operation(operation, now, before, after)]
    return found


def _operation(before: Document, after: Document, old: Document, new: Document) -> Iterator[str]:
    known = {(entry["in"], entry["name"]): entry for entry in before.get("parameters", ())}
    for place, entry in {(entry["in"], entry["name"]): entry for entry in after.get("parameters", ())}.items():
        was = known.pop(place, None)
        if was is None and entry["required"]:
            yield f"the parameter {place[1]} is new and required"
        elif was is not None:
            if entry["required"] and not was["required"]:
                yield f"the parameter {place[1]} became required"
            yield from _taken(was["schema"], entry["schema"], old, new, f"the parameter {place[1]}")
    for _, name in known:
        yield f"the parameter {name} is gone"
    if not before["security"] and after["security"]:
        yield "it needs a login now"
    yield from _bodies(before, after, old, new)
    for status, answer in before["responses"].items():
        if not status.startswith("2"):
            continue
        if status not in after["responses"]:
            yield f"it does not answer {status} any more"
            continue
        schema = _json(answer)
        if schema is not None:
            yield from _given(schema, _json(after["responses"][status]) or {}, old, new, f"the answer {status}")


def _bodies(before: Document, after: Document, old: Document, new: Document) -> Iterator[str]:
    was, now = before.get("requestBody"), after.get("requestBody")
    if was is None:
        if now is not None and now.get("required"):
            yield "it needs a body now"
        return
    for media, content in was["content"].items():
        if now is None or media not in now["content"]:
            yield f"it does not read {media} any more"
        elif "schema" in content:
            yield from _taken(content["schema"], now["content"][media]["schema"], old, new, "the body")


def _json(answer: Document) -> Document | None:
    found: Document | None = answer.get("content", {}).get("application/json", {}).get("schema")
    return found


def _resolved(schema: Document, document: Document) -> Document:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    found: Document = document["components"]["schemas"][reference.rpartition("/")[2]]
    return found


def _taken(was: Document, now: Document, old: Document, new: Document, where: str, depth: int = 0) -> Iterator[str]:
    """What a request may hold must stay what it may hold."""
    was, now = _resolved(was, old), _resolved(now, new)
    if depth > 8:
        return
    for value in _narrowed(was, now):
        yield f"{where} does not take {value!r} any more"
    for limit, narrower in (
        ("maxLength", min),
        ("maximum", min),
        ("maxItems", min),
        ("minLength", max),
        ("minimum", max),
    ):
        if limit in now and (limit not in was or narrower(was[limit], now[limit]) != was[limit]):
            yield f"{where} has a narrower {limit}"
    if "pattern" in now and now["pattern"] != was.get("pattern"):
        yield f"{where} has another pattern"
    for name in now.get("required", ()):
        if name not in was.get("required", ()):
            yield f"{where} needs the field {name} now"
    for name, entry in was.get("properties", {}).items():
        if name not in now.get("properties", {}):
            yield f"{where} does not take the field {name} any more"
        else:
            yield from _taken(entry, now["properties"][name], old, new, f"{where}, field {name}", depth + 1)
    if "items" in was and "items" in now:
        yield from _taken(was["items"], now["items"], old, new, f"{where}, entry", depth + 1)
    for one, other in zip(was.get("anyOf", ()), now.get("anyOf", ()), strict=False):
        yield from _taken(one, other, old, new, where, depth + 1)


def _given(was: Document, now: Document, old: Document, new: Document, where: str, depth: int = 0) -> Iterator[str]:
    """What an answer holds must stay there. More may come: clients read over it."""
    was, now = _resolved(was, old), _resolved(now, new)
    if depth > 8:
        return
    if _types(was) and not _types(now) <= _types(was):
        yield f"{where} is {', '.join(sorted(_types(now)))} now"
    for name, entry in was.get("properties", {}).items():
        if name not in now.get("properties", {}):
            yield f"{where} has the field {name} no more"
            continue
        if name in was.get("required", ()) and name not in now.get("required", ()):
            yield f"{where} may lack the field {name} now"
        yield from _given(entry, now["properties"][name], old, new, f"{where}, field {name}", depth + 1)
    if "items" in was and "items" in now:
        yield from _given(was["items"], now["items"], old, new, f"{where}, entry", depth + 1)


def _narrowed(was: Document, now: Document) -> list[Any]:
    if "enum" in now:
        if "enum" not in was:
            return ["values beyond " + ", ".join(map(str, now["enum"]))]
        return [value for value in was["enum"] if value not in now["enum"]]
    return sorted(_types(was) - _types(now)) if _types(now) else []


def _types(schema: Document) -> set[str]:
    found = schema.get("type", ())
    return {found} if isinstance(found, str) else set(found)
