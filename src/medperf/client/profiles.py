"""Profiles: a server and the settings of this site for it, in ``config.toml`` of the home folder.

The profile ``local`` is there without any file.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from medperf.client.private import locked, read_private, write_private
from medperf.domain.addresses import host_port, is_loopback, split_url
from medperf.domain.errors import Conflict, InvalidInput, MedPerfError, NotFound
from medperf.domain.steps import COMPATIBILITY_TASKS

BUILT_IN = "local"
LOCAL_SERVER = "https://localhost:8000"
#: Values of `Profile.certificate` that are no path.
AUTOMATIC, SYSTEM = "automatic", "system"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MIN_MEMORY = 64 * 1024**2


@dataclass(frozen=True)
class Profile:
    """A server and how this site works with it.

    Attributes:
        server: URL.
        certificate: ``automatic``, ``system`` or the absolute path of a PEM file that is trusted exclusively.
        engine: ``auto`` or the name of one.
        wheelhouse: folder with wheels for sites without internet; None: none.
        memory_bytes: limit of a task; None: the policy's default.
        timeouts: seconds by task; tasks that are missing have the policy's default.
    """

    name: str
    server: str = LOCAL_SERVER
    certificate: str = AUTOMATIC
    engine: str = "auto"
    wheelhouse: str | None = None
    memory_bytes: int | None = None
    timeouts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ProfileSummary:
    """One line of a listing."""

    name: str
    server: str
    active: bool
    built_in: bool


def load_profile(home: Path, *, name: str | None = None, server: str | None = None) -> Profile:
    """The profile ``name``, or the active one; ``server`` replaces its server for this once.

    Raises:
        NotFound: no such profile.
        InvalidInput: ``server`` is no URL, or ``config.toml`` is damaged.
    """
    config = _Config.read(home)
    profile = config.get(name or config.active)
    if server is None or _server(server) == profile.server:
        return profile
    # A certificate that was chosen for another server says nothing about this one.
    return replace(profile, server=_server(server), certificate=AUTOMATIC)


def list_profiles(home: Path) -> list[ProfileSummary]:
    """All profiles, the built-in one first."""
    config = _Config.read(home)
    return [
        ProfileSummary(entry.name, entry.server, entry.name == config.active, entry.name == BUILT_IN)
        for entry in config.profiles.values()
    ]


def view_profile(home: Path, name: str | None = None) -> Profile:
    """One profile; None = the active one.

    Raises:
        NotFound: no such profile.
    """
    return load_profile(home, name=name)


def create_profile(home: Path, name: str, *, server: str, **settings: Any) -> Profile:
    """Add a profile. ``settings``: further fields of `Profile`.

    Raises:
        Conflict: the name is taken.
        InvalidInput: a bad name, server or setting.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "bad_profile_name",
            f"{name[:100]!r} cannot name a profile.",
            "Use 1 to 64 letters, digits, dots, dashes and underscores.",
        )
    with locked(home / _FILE):
        config = _Config.read(home)
        if name in config.profiles:
            raise Conflict(
                "profile_exists", f"There is a profile {name!r} already.", f"Change it with: medperf profile set {name}"
            )
        return config.put(_checked(Profile(name=name), {"server": server, **settings}))


def set_profile(home: Path, name: str | None = None, **changes: Any) -> Profile:
    """Change fields of a profile; None = the active one. ``timeouts`` are merged: a task with None goes back to the default.

    Raises:
        NotFound: no such profile.
        InvalidInput: a bad setting.
    """
    with locked(home / _FILE):
        config = _Config.read(home)
        return config.put(_checked(config.get(name or config.active), changes))


def activate_profile(home: Path, name: str) -> Profile:
    """Use a profile from now on.

    Raises:
        NotFound: no such profile.
    """
    with locked(home / _FILE):
        config = _Config.read(home)
        profile = config.get(name)
        config.active = name
        config.write()
    return profile


def delete_profile(home: Path, name: str, *, first: Callable[[], None] = lambda: None) -> None:
    """Remove a profile; what was remembered about its server stays.

    Args:
        first: done just before, when it is sure that the profile can go.

    Raises:
        NotFound: no such profile.
        Conflict: it is the active or the built-in one.
    """
    with locked(home / _FILE):
        config = _Config.read(home)
        config.get(name)
        if name == BUILT_IN:
            raise Conflict(
                "profile_built_in", f"The profile {BUILT_IN!r} is built in.", "It can be changed, not deleted."
            )
        if name == config.active:
            raise Conflict(
                "profile_active",
                f"The profile {name!r} is the active one.",
                f"Activate another first: medperf profile activate {BUILT_IN}",
            )
        first()
        del config.profiles[name]
        config.write()


def find_certificate(home: Path, profile: Profile, *, given: str | None = None, cwd: Path) -> Path | None:
    """The PEM file to trust exclusively, or None for the system's authorities.

    ``automatic`` takes ``server/cert.crt`` below the current folder for a server on this machine, then ``trust/<host_port>.crt`` in
    the home folder.

    Args:
        given: what the person said for this one call, as the setting.

    Raises:
        InvalidInput: ``certificate_missing``: a path that is no file.
    """
    setting = given or profile.certificate
    if setting == SYSTEM:
        return None
    if setting != AUTOMATIC:
        path = cwd / _expanded(setting)
        if not path.is_file():
            raise InvalidInput(
                "certificate_missing",
                f"The certificate {setting!r} is no file.",
                "Give the path of a PEM file with --certificate.",
            )
        return path
    candidates = [home / "trust" / f"{host_port(profile.server)}.crt"]
    if is_loopback(str(split_url(profile.server).hostname)):
        # Only for this machine: a folder somebody prepared must not decide whom we trust elsewhere.
        candidates.insert(0, cwd / "server" / "cert.crt")
    return next((path for path in candidates if path.is_file()), None)


def trust_certificate(home: Path, server: str, pem: bytes) -> Path:
    """Keep a server's certificate where ``automatic`` finds it."""
    path = home / "trust" / f"{host_port(server)}.crt"
    with locked(path):
        write_private(path, pem)
    return path


# ---------------------------------------------------------------------------------------------------------------- checks


def _server(url: str) -> str:
    parts = split_url(url)
    if parts.query or parts.fragment:
        raise InvalidInput("bad_url", f"{url[:200]!r} is no server.", "Write it like https://localhost:8000.")
    if parts.scheme == "http" and not is_loopback(str(parts.hostname)):
        raise InvalidInput("insecure_server", f"{url} would send your login unencrypted.", "Use an https:// address.")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _checked(profile: Profile, changes: Mapping[str, Any]) -> Profile:
    """``profile`` with ``changes``, each checked."""
    known = {entry.name for entry in fields(Profile)} - {"name"}
    unknown = sorted(set(changes) - known)
    if unknown:
        raise InvalidInput(
            "unknown_setting", f"There is no setting {unknown[0]!r}.", f"Settings are {', '.join(sorted(known))}."
        )
    found = dict(changes)
    for name in ("server", "certificate", "engine"):
        if name in found and not isinstance(found[name], str):
            raise _bad(name, "text")
    if "server" in found:
        found["server"] = _server(found["server"])
    if "certificate" in found and found["certificate"] not in (AUTOMATIC, SYSTEM):
        found["certificate"] = _existing(found["certificate"], "certificate", folder=False)
    if found.get("wheelhouse") is not None:
        found["wheelhouse"] = _existing(found["wheelhouse"], "wheelhouse", folder=True)
    if "engine" in found and not re.fullmatch(r"[a-z][a-z0-9_-]{0,31}", found["engine"]):
        raise _bad("engine", "the name of an engine, or auto")
    memory = found.get("memory_bytes")
    if memory is not None and not (type(memory) is int and memory >= _MIN_MEMORY):
        raise _bad("memory_bytes", f"a number of bytes, at least {_MIN_MEMORY:,}")
    if "timeouts" in found:
        found["timeouts"] = _timeouts({**profile.timeouts, **found["timeouts"]})
    return replace(profile, **found)


def _timeouts(given: Mapping[str, Any]) -> dict[str, float]:
    for task, seconds in given.items():
        if task not in COMPATIBILITY_TASKS:
            raise InvalidInput(
                "unknown_task", f"There is no task {task!r}.", f"Tasks are {', '.join(COMPATIBILITY_TASKS)}."
            )
        if seconds is not None and not (type(seconds) in (int, float) and 0 < seconds <= 366 * 86_400):
            raise _bad(f"{task} timeout", "a number of seconds above 0")
    return {task: float(seconds) for task, seconds in given.items() if seconds is not None}


def _expanded(text: str) -> Path:
    """``~`` and ``~name`` resolved; what names no account stays as it is, and is then no path that exists."""
    return Path(os.path.expanduser(text))  # noqa: PTH111 - pathlib's raises where there is no such account


def _existing(text: Any, setting: str, *, folder: bool) -> str:
    path = _expanded(str(text)).absolute()
    if not (path.is_dir() if folder else path.is_file()):
        raise InvalidInput(
            f"{setting}_missing",
            f"The {setting} {str(text)!r} is no {'folder' if folder else 'file'}.",
            "Give a path that exists.",
        )
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise _bad(setting, "a path in UTF-8") from error
    return str(path)


def _bad(setting: str, wanted: str) -> InvalidInput:
    return InvalidInput("bad_setting", f"The setting {setting} is wrong.", f"Give {wanted}.")


# ------------------------------------------------------------------------------------------------------------------ file

_FILE = "config.toml"


class _Config:
    """The file's content: the active profile and all profiles, the built-in one always among them."""

    def __init__(self, path: Path, active: str, profiles: dict[str, Profile]) -> None:
        self.path = path
        self.active = active
        self.profiles = profiles

    @classmethod
    def read(cls, home: Path) -> _Config:
        path = home / _FILE
        profiles = {BUILT_IN: Profile(name=BUILT_IN)}
        try:
            found = read_private(path)
        except OSError as error:
            raise MedPerfError(
                "config_unreadable",
                f"{path} cannot be read: {error.strerror}.",
                f"Give your account the right to read it; or begin anew with: {_aside(path)}",
            ) from error
        if found is None:
            return cls(path, BUILT_IN, profiles)
        import tomllib

        try:
            document = tomllib.loads(found[0].decode())
            tables = document.get("profiles", {})
            profiles |= {name: _from_table(name, table) for name, table in tables.items()}
            active = document.get("active", BUILT_IN)
            if active not in profiles:
                raise ValueError(f"it makes the profile {active!r} active, which is not there")
        except (ValueError, TypeError, AttributeError, RecursionError, InvalidInput) as error:
            raise InvalidInput(
                "bad_config",
                f"{path} cannot be understood: {error}",
                f"Mend the file, or begin anew with: {_aside(path)}",
            ) from error
        return cls(path, active, profiles)

    def get(self, name: str) -> Profile:
        if name not in self.profiles:
            raise NotFound("unknown_profile", f"There is no profile {name!r}.", "List them with: medperf profile ls")
        return self.profiles[name]

    def put(self, profile: Profile) -> Profile:
        self.profiles[profile.name] = profile
        self.write()
        return profile

    def write(self) -> None:
        lines = ["# Written by medperf profile; change it with that command.", f"active = {_text(self.active)}"]
        for profile in self.profiles.values():
            if profile == Profile(name=BUILT_IN):
                continue
            lines += ["", f"[profiles.{_text(profile.name)}]"]
            lines += [
                f"{name} = {_value(getattr(profile, name))}" for name in _PLAIN if getattr(profile, name) is not None
            ]
            lines += [f"timeouts.{task} = {seconds!r}" for task, seconds in profile.timeouts.items()]
        write_private(self.path, "\n".join(lines).encode() + b"\n")


def _aside(path: Path) -> str:
    return shlex.join(["mv", str(path), f"{path}.damaged"])


_PLAIN = ("server", "certificate", "engine", "wheelhouse", "memory_bytes")


def _from_table(name: str, table: Mapping[str, Any]) -> Profile:
    """A profile as the file says. Paths are not looked at: a disk may be away today."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name[:100]!r} cannot name a profile")
    found = dict(table)
    paths = {key: str(found.pop(key)) for key in ("certificate", "wheelhouse") if key in found}
    return replace(_checked(Profile(name=name), found), **paths)  # type: ignore[arg-type] # both are text


def _value(value: str | int) -> str:
    return str(value) if isinstance(value, int) else _text(value)


def _text(text: str) -> str:
    """A basic TOML string."""
    escaped = "".join(f"\\u{ord(letter):04x}" if ord(letter) < 32 or letter in '"\\\x7f' else letter for letter in text)
    return f'"{escaped}"'
