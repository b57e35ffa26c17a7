"""Where a site keeps what it remembers."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path

from medperf.domain.addresses import host_port
from medperf.domain.errors import InvalidInput, MedPerfError


def home(environ: Mapping[str, str]) -> Path:
    """``MEDPERF_HOME``, or ``~/.medperf``; absolute, not necessarily there yet.

    Raises:
        InvalidInput: it begins with the ``~name`` of an account that does not exist; or nothing says where home is.
        MedPerfError: ``home_exposed``: others can put into it what they like.
    """
    return _ours(_named(environ))


def _ours(folder: Path) -> Path:
    """On a shared machine somebody else may have made it first, with logins, files and finished steps of theirs."""
    try:
        info = folder.stat()
    except OSError:  # not there yet; or whoever opens it will say why it cannot be
        return folder
    if info.st_uid not in (os.geteuid(), 0) and os.geteuid() != 0:
        raise MedPerfError(
            "home_exposed",
            f"{folder} belongs to another account.",
            "Set MEDPERF_HOME to a folder of your own.",
        )
    if info.st_mode & stat.S_IWOTH:
        raise MedPerfError(
            "home_exposed",
            f"Others can write in {folder}, so what is there may be theirs.",
            f"Look through it, then keep it to yourself with: chmod 700 {shlex.quote(str(folder))}",
        )
    return folder


def _named(environ: Mapping[str, str]) -> Path:
    moved = environ.get("MEDPERF_HOME")
    if moved:
        try:
            return Path(moved).expanduser().absolute()
        except RuntimeError as error:
            raise InvalidInput(
                "bad_home",
                f"MEDPERF_HOME is {moved[:200]!r}: there is no such account.",
                "Set it to the path of a folder.",
            ) from error
    user = environ.get("HOME")
    return (Path(user) if user else _account_home()).absolute() / ".medperf"


def _account_home() -> Path:
    """The home folder that the system has for this account: services and jobs often run without HOME."""
    import pwd

    try:
        return Path(pwd.getpwuid(os.geteuid()).pw_dir)
    except KeyError as error:
        raise InvalidInput(
            "no_home",
            "HOME is not set, and the system knows no home folder of this account.",
            "Set MEDPERF_HOME to a folder on a local disk, e.g.: export MEDPERF_HOME=/var/tmp/medperf-$(id -u)",
        ) from error


def workspace_path(home: Path, server_url: str) -> Path:
    """The folder for one server, e.g. ``~/.medperf/localhost_8000``.

    Raises:
        InvalidInput: ``server_url`` is no http(s) URL.
    """
    return home / host_port(server_url)
