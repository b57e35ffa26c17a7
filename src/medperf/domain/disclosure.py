"""What leaves a site: the closed list. Whatever is not here stays there.

Log text, case ids and file names never leave; no field could hold one. The outbox is the only way out and calls `check_exit` on every body
before it shows it, keeps it and sends it. The server refuses unknown fields again, by its own models.
"""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from medperf.domain import limits
from medperf.domain.associations import Status
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.domain.executions import AttemptState, FailureClass
from medperf.domain.states import State


class Consent(StrEnum):
    """Who says yes before it goes."""

    ALWAYS_ASK = "always a person"
    BY_POLICY = "a person, unless the site's policy allows it"
    AUTOMATIC = "nobody again: it belongs to what a person or the policy agreed to"


class Setting(StrEnum):
    """The key of ``[release]`` in ``policy.toml`` that speaks for an exit."""

    REGISTRATION = "registration"
    STATISTICS = "statistics"
    STATE = "state"
    METRICS = "metrics"


class Shape(StrEnum):
    """What a field may hold. Null is always allowed; whether a field is needed is for the server's models."""

    ID = "an id"
    UUID = "a UUID"
    FLAG = "true or false"
    PERCENT = "a whole number from 0 to 100"
    DIGEST = "a sha256 digest"
    WORD = "one of a list of words"
    LINE = "one line that a person gave"
    TEXT = "text that a person gave"
    CONTRACT = "numbers and words that a contract declares"


class Exit(StrEnum):
    """Every kind of body that leaves a site."""

    DATASET_REGISTRATION = "dataset_registration"
    DATASET_UPDATE = "dataset_update"
    ASSOCIATION = "association"
    ASSOCIATION_APPROVAL = "association_approval"
    ASSOCIATION_END = "association_end"
    EXECUTION = "execution"
    ATTEMPT_STATE = "attempt_state"
    PROGRESS = "progress"
    STATISTICS = "statistics"
    METRICS = "metrics"
    WITHHOLDING = "withholding"
    RETRACTION = "retraction"


@dataclass(frozen=True, slots=True)
class Field:
    """One field.

    Args:
        name: dotted, from the top of the body. Below a field with a contract everything is that contract's business.
        words: all that a `Shape.WORD` may be.
        length: most characters of a `Shape.LINE` or `Shape.TEXT`.
    """

    name: str
    shape: Shape
    words: frozenset[str] = frozenset()
    length: int = 0


@dataclass(frozen=True, slots=True)
class ExitRule:
    """One line of the list.

    Args:
        setting: what of the policy speaks for it; None where no policy does.
        says: what it is, for whoever is asked and for the documentation.
    """

    fields: tuple[Field, ...]
    consent: Consent
    setting: Setting | None
    says: str

    @property
    def names(self) -> tuple[str, ...]:
        """The dotted names of all fields."""
        return tuple(field.name for field in self.fields)


#: Controls, surrogates, and the line breaks that are none of the controls.
_UNPRINTED = ("Cc", "Cs", "Zl", "Zp")


def _ids(*names: str) -> tuple[Field, ...]:
    return tuple(Field(name, Shape.ID) for name in names)


def _digests(*names: str) -> tuple[Field, ...]:
    return tuple(Field(name, Shape.DIGEST) for name in names)


def _word(name: str, *words: str) -> Field:
    return Field(name, Shape.WORD, words=frozenset(words))


def _line(name: str, length: int = limits.NAME_LENGTH) -> Field:
    return Field(name, Shape.LINE, length=length)


_UUID = Field("uuid", Shape.UUID)
_REASON = _line("reason", limits.REASON_LENGTH)
_TASK = _word("task", "prepare", "sanity_check", "statistics", "infer", "evaluate")
_DESCRIBED = (
    _line("name"),
    Field("description", Shape.TEXT, length=limits.DESCRIPTION_LENGTH),
    _line("location"),
    _line("site_label"),
    _word("state", *State),
)
_PINNED = tuple(
    field
    for cube in ("preparator", "model_cube", "evaluator")
    for field in (
        *_digests(f"{cube}.digest", f"{cube}.form_digest"),
        _word(f"{cube}.form", "oci", "sif", "python"),
    )
)

RULES: Mapping[Exit, ExitRule] = {
    Exit.DATASET_REGISTRATION: ExitRule(
        (_UUID, *_ids("owner", "preparator", "supersedes"), *_DESCRIBED, *_digests("identity", "raw_identity")),
        Consent.BY_POLICY,
        Setting.REGISTRATION,
        "what a dataset is called, who prepared it, and a salted digest that says nothing to whoever lacks the salt",
    ),
    Exit.DATASET_UPDATE: ExitRule(
        (
            *_ids("dataset"),
            *_DESCRIBED,
            *(Field(name, Shape.FLAG) for name in ("is_valid", "is_active")),
            *_digests("identity"),
        ),
        Consent.BY_POLICY,
        Setting.REGISTRATION,
        "a change of what is registered of a dataset",
    ),
    Exit.ASSOCIATION: ExitRule(
        (_UUID, *_ids("benchmark", "dataset", "preparator"), *_digests("identity", "statistics_digest")),
        Consent.BY_POLICY,
        Setting.REGISTRATION,
        "the request to join a benchmark, whose owner then sees the dataset and its statistics",
    ),
    Exit.ASSOCIATION_APPROVAL: ExitRule(
        (*_ids("association"), _word("status", Status.APPROVED), _REASON),
        Consent.BY_POLICY,
        Setting.REGISTRATION,
        "the yes to a benchmark's invitation, whose owner then sees the dataset and its statistics",
    ),
    # A person typed the command, and its reason with it; and fewer things leave from then on.
    Exit.ASSOCIATION_END: ExitRule(
        (*_ids("association"), _word("status", Status.REJECTED, Status.CANCELLED, Status.REVOKED), _REASON),
        Consent.AUTOMATIC,
        None,
        "that a dataset is not, or no longer, part of a benchmark",
    ),
    Exit.EXECUTION: ExitRule(
        (
            _UUID,
            *_ids("benchmark", "dataset", "model"),
            _REASON,
            *_PINNED,
            *_digests("identity", "contract"),
            _word("data_check", "metadata", "full"),
            _word("engine", "sandbox", "docker", "podman", "apptainer"),
            _word("architecture", "x86_64", "aarch64", "arm64", "ppc64le"),
        ),
        Consent.BY_POLICY,
        Setting.STATE,
        "that a model is about to run on a dataset, and the digests of everything that runs",
    ),
    Exit.ATTEMPT_STATE: ExitRule(
        (*_ids("execution", "attempt"), _word("state", *AttemptState), _word("failure", *FailureClass), _TASK),
        Consent.BY_POLICY,
        Setting.STATE,
        "how far an attempt came, and the class of its failure",
    ),
    Exit.PROGRESS: ExitRule(
        (*_ids("execution", "attempt", "dataset"), _TASK, Field("percent", Shape.PERCENT)),
        Consent.AUTOMATIC,
        None,
        "a sign of life, and how much of a task is done",
    ),
    Exit.STATISTICS: ExitRule(
        (*_ids("dataset", "benchmark"), Field("statistics", Shape.CONTRACT)),
        Consent.BY_POLICY,
        Setting.STATISTICS,
        "the preparator's statistics about a dataset",
    ),
    Exit.METRICS: ExitRule(
        (_UUID, *_ids("execution", "attempt"), Field("metrics", Shape.CONTRACT)),
        Consent.BY_POLICY,
        Setting.METRICS,
        "the metrics of one attempt",
    ),
    Exit.WITHHOLDING: ExitRule(
        (*_ids("execution", "attempt"), _REASON),
        Consent.ALWAYS_ASK,
        None,
        "that the metrics of an attempt stay at the site",
    ),
    Exit.RETRACTION: ExitRule(
        (*_ids("execution", "attempt"), _REASON),
        Consent.ALWAYS_ASK,
        None,
        "that released metrics count no more, and why",
    ),
}


def check_exit(kind: Exit, body: Mapping[str, Any]) -> None:
    """Refuse a body that holds anything but the fields of this exit, each of its shape.

    What stands under a contract is checked by that contract (`medperf.domain.metrics`, `medperf.domain.statistics`), not here. An error
    names a field only if it is on the list: a stray name may be that of a patient's file.

    Raises:
        InvalidInput: ``not_disclosed``: a field that is not listed; ``bad_disclosure``: one of the wrong shape.
    """
    fields = {field.name: field for field in RULES[kind].fields}
    for name, value in _leaves("", body, fields):
        field = fields.get(name)
        if field is None:
            raise InvalidInput(
                "not_disclosed",
                f"The body of {kind.value} holds a field that is not on the list of what leaves a site.",
                f"Nothing was sent. What may leave with it: {', '.join(fields)}.",
            )
        if value is not None and not _fits(field, value):
            raise InvalidInput(
                "bad_disclosure",
                f"The field {name!r} of {kind.value} does not hold {field.shape.value}.",
                "Nothing was sent.",
            )


def _leaves(above: str, body: Any, fields: Mapping[str, Field]) -> Iterator[tuple[str, Any]]:
    """Every value with its dotted name. A key with a dot in it could pass for another field, so it passes for none."""
    for key, value in body.items():
        name = f"{above}.{key}" if above else key
        if not isinstance(key, str) or "." in key:
            yield "", value
        elif isinstance(value, Mapping) and value and any(listed.startswith(f"{name}.") for listed in fields):
            yield from _leaves(name, value, fields)
        else:
            yield name, value


def _fits(field: Field, value: Any) -> bool:
    match field.shape:
        case Shape.FLAG:
            return isinstance(value, bool)
        case Shape.ID:
            return type(value) is int and 1 <= value <= limits.ID_MAX
        case Shape.PERCENT:
            return type(value) is int and 0 <= value <= 100
        case Shape.CONTRACT:
            return isinstance(value, Mapping)
    if not isinstance(value, str):
        return False
    match field.shape:
        case Shape.WORD:
            return value in field.words
        case Shape.UUID:
            return _is_uuid(value)
        case Shape.DIGEST:
            return _is_digest(value)
        case Shape.LINE | Shape.TEXT:
            breaks = "\r\n\t" if field.shape is Shape.TEXT else ""
            return len(value) <= field.length and not any(
                unicodedata.category(letter) in _UNPRINTED and letter not in breaks for letter in value
            )
    return False


def _is_uuid(value: str) -> bool:
    try:
        return str(uuid.UUID(value)) == value
    except ValueError:
        return False


def _is_digest(value: str) -> bool:
    try:
        return Digest(value) == value
    except InvalidInput:
        return False
