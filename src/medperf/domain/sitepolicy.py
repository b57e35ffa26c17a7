"""A site's own yes: its policy, and what follows from it. What a policy does not say, a person is asked.

`medperf.domain.policyfile` reads one from ``policy.toml``. Nothing that a benchmark or the server says can change or widen it: they do not
appear here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from medperf.domain.confinement import Limits
from medperf.domain.digests import Digest
from medperf.domain.disclosure import RULES, Consent, Exit, Setting

FILE_NAME = "policy.toml"
FULL_CHECK_DAYS = 30
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")


class Accept(StrEnum):
    """Which models may run: each one that a person accepts, also those that are listed, or none."""

    ASK = "ask"
    LISTED = "listed"
    NEVER = "never"


class Mode(StrEnum):
    """Whether a person is asked each time."""

    ASK = "ask"
    AUTOMATIC = "automatic"


class Answer(StrEnum):
    """What a policy says to a model."""

    YES = "yes"
    NO = "no"
    ASK = "ask"


class Decision(NamedTuple):
    """An answer, and why, as one sentence for a plan."""

    answer: Answer
    reason: str


@dataclass(frozen=True, slots=True)
class ModelOffer:
    """A model as it would run here.

    Attributes:
        owner: id of the party that owns it.
        digest: of all that runs.
        form: the one that this site would run.
        image: the reference in a registry that the image is pulled from; None for what comes as a file.
    """

    owner: int
    digest: Digest
    form: Literal["oci", "sif", "python"]
    image: str | None = None


@dataclass(frozen=True, slots=True)
class Models:
    """``[models]``. None: nothing is restricted."""

    accept: Accept = Accept.ASK
    owners: frozenset[int] = frozenset()
    digests: frozenset[Digest] = frozenset()
    registries: tuple[str, ...] | None = None
    forms: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """``[limits.TASK]``, or what a command asks for. None: not said."""

    seconds: float | None = None
    memory_bytes: int | None = None
    cpus: float | None = None
    output_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Gpus:
    """``[gpus]``. ``devices``: their numbers; None: all that the machine has. ``per_task``: the most that one task gets."""

    devices: tuple[int, ...] | None = ()
    per_task: int = 1


@dataclass(frozen=True, slots=True)
class Retention:
    """``[retention]``. ``days``: how long kept predictions stay; None: until they are cleaned up by hand."""

    predictions: Literal["delete", "keep"] = "delete"
    days: int | None = None


@dataclass(frozen=True, slots=True)
class Release:
    """``[release]``: a mode for every `medperf.domain.disclosure.Setting`."""

    metrics: Mode = Mode.ASK
    statistics: Mode = Mode.ASK
    registration: Mode = Mode.ASK
    state: Mode = Mode.ASK

    def mode(self, setting: Setting) -> Mode:
        """The mode of one of them."""
        found: Mode = getattr(self, setting.value)
        return found


@dataclass(frozen=True, slots=True)
class SitePolicy:
    """All of ``policy.toml``. The defaults are those of a file that is empty or not there.

    Attributes:
        limits: by task.
        full_check_days: data is read again in full when that was longer ago; 0: before every run.
        allow_private: URLs may lead into the site's own network.
        waive: rules of the confinement that an engine here need not enforce.
    """

    models: Models = field(default_factory=Models)
    limits: Mapping[str, TaskLimits] = field(default_factory=lambda: MappingProxyType({}))
    gpus: Gpus = field(default_factory=Gpus)
    retention: Retention = field(default_factory=Retention)
    full_check_days: int = FULL_CHECK_DAYS
    release: Release = field(default_factory=Release)
    allow_private: bool = False
    waive: frozenset[str] = frozenset()

    def limits_for(self, task: str, asked: TaskLimits | None = None, *, base: Limits | None = None) -> Limits:
        """The limits of one task: those of the policy, or ``base`` where it says nothing. What is ``asked`` lowers, never raises, the policy's."""
        own, wish, found = self.limits.get(task, TaskLimits()), asked or TaskLimits(), base or Limits()
        output = _lower(own.output_bytes, wish.output_bytes)
        return replace(
            found,
            wall_seconds=_or(_lower(own.seconds, wish.seconds), found.wall_seconds),
            memory_bytes=_or(_lower(own.memory_bytes, wish.memory_bytes), found.memory_bytes),
            cpus=_lower(own.cpus, wish.cpus) or found.cpus,
            output_bytes=_or(output, found.output_bytes),
            file_bytes=_or(output, found.file_bytes),
        )


# ------------------------------------------------------------------------------------------------------------- deciding


def accepts_model(policy: SitePolicy, offer: ModelOffer, *, said: bool | None = None) -> Decision:
    """Whether a model may run here. A benchmark's approval plays no part.

    The first that speaks wins: ``accept = "never"``; a form or a registry that is not allowed; a person's no to this digest; its digest on
    the list; a person's yes; its owner on the list. Else a person is asked.

    Args:
        said: what a person here answered for this digest before; None: nobody was asked.
    """
    models, listed = policy.models, policy.models.accept is Accept.LISTED
    if models.accept is Accept.NEVER:
        return Decision(Answer.NO, f"{FILE_NAME} accepts no model ([models] accept).")
    if models.forms is not None and offer.form not in models.forms:
        return Decision(Answer.NO, f"{FILE_NAME} allows no model of the form {offer.form} ([models] forms).")
    if models.registries is not None and offer.image is not None and not _allowed(models.registries, offer.image):
        return Decision(
            Answer.NO, f"{FILE_NAME} does not allow the registry of {offer.image[:100]} ([models] registries)."
        )
    if said is False:
        return Decision(Answer.NO, "A person here refused this digest.")
    if listed and offer.digest in models.digests:
        return Decision(Answer.YES, f"{FILE_NAME} lists its digest ([models] digests).")
    if said:
        return Decision(Answer.YES, "A person here accepted this digest.")
    if listed and offer.owner in models.owners:
        return Decision(Answer.YES, f"{FILE_NAME} lists its owner, {offer.owner} ([models] owners).")
    return Decision(Answer.ASK, "Nobody here has accepted this digest.")


def may_go(policy: SitePolicy, exit: Exit) -> Mode:
    """Whether a body of this kind leaves without a person. What the closed list always asks for is always asked for."""
    rule = RULES[exit]
    if rule.consent is Consent.AUTOMATIC:
        return Mode.AUTOMATIC
    if rule.consent is Consent.BY_POLICY and rule.setting is not None:
        return policy.release.mode(rule.setting)
    return Mode.ASK


def registry_of(image: str) -> str:
    """An image reference as ``host/path``, without tag and digest: ``"python:3"`` is ``"docker.io/library/python"``."""
    name = image.strip().removeprefix("docker://").partition("@")[0]
    if ":" in name.rpartition("/")[2]:
        name = name.rpartition(":")[0]
    host, slash, path = name.partition("/")
    if not slash or not (set(".:") & set(host) or host == "localhost"):
        host, path = _DOCKER_HUB[0], name
    host = host_of(host)
    if host == _DOCKER_HUB[0]:
        path = path if "/" in path else f"library/{path}"
    return f"{host}/{path}"


def host_of(host: str) -> str:
    """A registry's host in small letters, and under one name where it has several."""
    found = host.lower()
    return _DOCKER_HUB[0] if found in _DOCKER_HUB else found


def _allowed(registries: tuple[str, ...], image: str) -> bool:
    """Part by part: ``ghcr.io/med`` does not allow ``ghcr.io/medicine``. No part of a reference climbs."""
    wanted = registry_of(image).split("/")
    return ".." not in wanted and any(wanted[: len(parts)] == parts for parts in (one.split("/") for one in registries))


def _lower(policy: float | None, asked: float | None) -> Any:
    return min((value for value in (policy, asked) if value is not None), default=None)


def _or(value: Any, otherwise: Any) -> Any:
    return otherwise if value is None else value
