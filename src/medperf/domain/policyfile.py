"""``policy.toml``: the file in which a person at the hospital says what may happen there without asking.

`KEYS` is the schema: parsing, its messages and the page docs/concepts/site-policy.md follow it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from medperf.domain import limits
from medperf.domain.confinement import ConfinementPolicy
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.domain.sitepolicy import (
    FILE_NAME,
    FULL_CHECK_DAYS,
    Accept,
    Gpus,
    Mode,
    Models,
    Release,
    Retention,
    SitePolicy,
    TaskLimits,
    host_of,
)
from medperf.domain.steps import COMPATIBILITY_TASKS

FORMS = ("oci", "sif", "python")
#: Rules without which results would mean nothing, or data could leave. No policy waives them.
NEVER_WAIVED = ("no-network", "read-only-inputs", "fresh-outputs")

_YEAR = 366 * 24 * 3600
_REGISTRY = re.compile(r"[a-z0-9][a-z0-9.-]*(:[0-9]{1,5})?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")


class _Wrong(Exception):
    """A value that a key cannot have. Its text is what the key can be."""


Read = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the file.

    Attributes:
        section: its table; ``limits.TASK`` stands for one for each task.
        default: as it is written on the page; empty: not there.
        says: all that it can be.
        read: the value as the policy holds it; raises `_Wrong`.
    """

    section: str
    name: str
    default: str
    says: str
    read: Read


def _choice(*values: str) -> tuple[str, Read]:
    says = " or ".join((", ".join(f'"{value}"' for value in values[:-1]), f'"{values[-1]}"'))

    def read(value: Any) -> str:
        if not isinstance(value, str) or value not in values:
            raise _Wrong
        return value

    return says, read


def _number(least: float, most: float, *, whole: bool = True, unit: str) -> tuple[str, Read]:
    what = "a whole number" if whole else "a number"

    def read(value: Any) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int if whole else int | float)
            or not least <= value <= most
        ):
            raise _Wrong  # NaN is in no range
        found: float = value
        return found

    return f"{what} of {unit} from {least:,} to {most:,}", read


def _list(says: str, entry: Callable[[Any], Any]) -> tuple[str, Read]:
    def read(value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list) or not 0 < len(value) <= limits.POLICY_ENTRIES:
            raise _Wrong
        found = tuple(map(entry, value))
        if len(set(found)) != len(found):
            raise _Wrong
        return found

    return f"a list of {says}, each once", read


def _digest(value: Any) -> Digest:
    try:
        return Digest(value if isinstance(value, str) else "")
    except InvalidInput as error:
        raise _Wrong from error


def _registry(value: Any) -> str:
    text = value.lower() if isinstance(value, str) else ""
    host, _, path = text.partition("/")
    if (
        not _REGISTRY.fullmatch(text)
        or len(text) > limits.URL_LENGTH
        or not (set(".:") & set(host) or host == "localhost")
    ):
        raise _Wrong
    return "/".join(filter(None, (host_of(host), path)))


def _one_of(*values: str) -> Callable[[Any], str]:
    return _choice(*values)[1]


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong
    return value


_DEVICES = _list("device numbers from 0 to 63", _number(0, 63, unit="")[1])


def _devices(value: Any) -> tuple[int, ...] | None:
    if value == "all":
        return None
    if value == []:
        return ()
    found: tuple[int, ...] = _DEVICES[1](value)
    return found


_WAIVABLE = tuple(rule for rule in ConfinementPolicy.RULES if rule not in NEVER_WAIVED)
_IDS = _number(1, limits.ID_MAX, unit="")[1]

KEYS: tuple[Key, ...] = (
    Key("models", "accept", '"ask"', *_choice("ask", "listed", "never")),
    Key("models", "owners", "", *_list("the numbers (not names) of users and organisations", _IDS)),
    Key("models", "digests", "", *_list("sha256 digests", _digest)),
    Key("models", "registries", "", *_list('registries such as "ghcr.io" or "ghcr.io/mlcommons"', _registry)),
    Key("models", "forms", "", *_list('"oci", "sif" and "python"', _one_of(*FORMS))),
    Key("limits.TASK", "seconds", "", *_number(1, _YEAR, whole=False, unit="seconds")),
    Key("limits.TASK", "memory_bytes", "", *_number(1024**2, 2**50, unit="bytes")),
    Key("limits.TASK", "cpus", "", *_number(0.1, 4096, whole=False, unit="processors")),
    Key("limits.TASK", "output_bytes", "", *_number(1024, 2**50, unit="bytes")),
    Key("gpus", "devices", "[]", f'"all", [] for none, or {_DEVICES[0]}', _devices),
    Key("gpus", "per_task", "1", *_number(1, 64, unit="devices")),
    Key("retention", "predictions", '"delete"', *_choice("delete", "keep")),
    Key("retention", "days", "", *_number(1, 36500, unit="days")),
    Key("data", "full_check_days", str(FULL_CHECK_DAYS), *_number(0, 36500, unit="days")),
    Key("release", "metrics", '"ask"', *_choice(*Mode)),
    Key("release", "statistics", '"ask"', *_choice(*Mode)),
    Key("release", "registration", '"ask"', *_choice(*Mode)),
    Key("release", "state", '"ask"', *_choice(*Mode)),
    Key("downloads", "allow_private", "false", "true or false", _flag),
    Key("engine", "waive", "", *_list(f"rules of the confinement: {', '.join(_WAIVABLE)}", _one_of(*_WAIVABLE))),
)
_SECTIONS = tuple(dict.fromkeys(key.section.partition(".")[0] for key in KEYS))


def parse_policy(text: str) -> SitePolicy:
    """Read ``policy.toml``. An empty text is the default policy.

    Raises:
        InvalidInput: ``bad_policy``: too large (before it is parsed), no TOML, a section, task or key that is unknown, a value that a key cannot
            have, keys that contradict each other. Each names the place and all that can stand there.
    """
    found = _read(_load(text))
    models, retention, release = found["models"], found["retention"], found["release"]
    policy = SitePolicy(
        models=Models(
            accept=Accept(models.get("accept", "ask")),
            owners=frozenset(models.get("owners", ())),
            digests=frozenset(models.get("digests", ())),
            registries=models.get("registries"),
            forms=models.get("forms"),
        ),
        limits=MappingProxyType({task: TaskLimits(**values) for task, values in found["limits"].items()}),
        gpus=Gpus(**found["gpus"]),
        retention=Retention(**retention),
        full_check_days=found["data"].get("full_check_days", FULL_CHECK_DAYS),
        release=Release(**{name: Mode(value) for name, value in release.items()}),
        allow_private=found["downloads"].get("allow_private", False),
        waive=frozenset(found["engine"].get("waive", ())),
    )
    if policy.models.accept is Accept.LISTED and not (policy.models.owners or policy.models.digests):
        raise _bad('[models] accept is "listed", but neither owners nor digests lists anything', "List some, or ask.")
    if policy.retention.days is not None and policy.retention.predictions == "delete":
        raise _bad(
            "[retention] days says how long predictions are kept, but they are deleted", 'Write predictions = "keep".'
        )
    return policy


def _load(text: str) -> dict[str, Any]:
    if len(text.encode(errors="replace")) > limits.POLICY_BYTES:
        raise _bad(f"it has more than {limits.POLICY_BYTES:,} bytes", "Make it smaller.")
    import tomllib

    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # besides bad TOML: whole numbers of thousands of digits
        raise _bad(f"it is no TOML ({str(error)[:200]})", "Mend that place.") from error


def _read(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The values of each section, by key; those of ``limits`` by task and key."""
    for name in document:
        _known(name, _SECTIONS, "section", "the file")
    found: dict[str, dict[str, Any]] = {}
    for section in _SECTIONS:
        table = _table(document.get(section, {}), section)
        if section == "limits":
            for task in table:
                _known(task, COMPATIBILITY_TASKS, "task", f"[{section}]")
            found[section] = {
                task: _values(_table(entry, f"{section}.{task}"), "limits.TASK", f"[{section}.{task}]")
                for task, entry in table.items()
            }
        else:
            found[section] = _values(table, section, f"[{section}]")
    return found


def _values(table: Mapping[str, Any], section: str, place: str) -> dict[str, Any]:
    keys = {key.name: key for key in KEYS if key.section == section}
    found = {}
    for name, value in table.items():
        _known(name, keys, "key", place)
        try:
            found[name] = keys[name].read(value)
        except _Wrong:
            raise _bad(f"{place} {name} is {_shown(value)}", f"It can be {keys[name].says}.") from None
    return found


def _known(name: str, names: Iterable[str], noun: str, place: str) -> None:
    if name not in names:
        raise _bad(f"{place} has the unknown {noun} {name[:60]!r}", f"Known are {', '.join(names)}.")


def _table(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _bad(
            f"{name} is {_shown(value)}, not a section", f"Write [{name}] on a line of its own, and its keys below."
        )
    return value


def _shown(value: Any) -> str:
    text = {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _bad(what: str, fix: str) -> InvalidInput:
    return InvalidInput("bad_policy", f"The site's {FILE_NAME} cannot be used: {what}.", fix)
