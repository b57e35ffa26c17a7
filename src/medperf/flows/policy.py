"""The site's own yes: ``policy.toml`` in the workspace, read anew by each command; a file that is not there is the default, which asks."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from medperf.domain.errors import InvalidInput

if TYPE_CHECKING:
    from medperf.domain.confinement import ConfinementPolicy
    from medperf.domain.sitepolicy import SitePolicy, TaskLimits
    from medperf.flows.site import Site


def policy_path(site: Site) -> Path:
    """Where a person writes the policy of this site towards this server."""
    from medperf.domain.sitepolicy import FILE_NAME

    return site.workspace.path / FILE_NAME


def site_policy(site: Site) -> SitePolicy:
    """The policy as it stands now. No server and no benchmark has a part in it.

    Raises:
        InvalidInput: ``bad_policy``: it breaks the schema; ``policy_exposed``: others can write it; or it cannot be read.
    """
    from medperf.domain.policyfile import parse_policy

    path = policy_path(site)
    try:
        info = path.stat()
    except FileNotFoundError:
        return parse_policy("")
    except OSError as error:
        raise InvalidInput(
            "unreadable", f"The site's policy {path} cannot be read: {error.strerror}.", "Check who may read it."
        ) from error
    _check_ours(path, info)
    try:
        return parse_policy(_text(path))
    except InvalidInput as error:
        raise InvalidInput(
            error.code, error.what, f"{error.fix} It is the file {path}.", details=error.details
        ) from error


def run_confinement(site: Site, policy: SitePolicy, task: str, asked: TaskLimits | None = None) -> ConfinementPolicy:
    """What confines a task on real data: the policy's limits, which the profile and ``asked`` lower and never raise."""
    from dataclasses import replace

    from medperf.domain.sitepolicy import TaskLimits

    wish, profile = asked or TaskLimits(), site.profile
    wish = replace(
        wish,
        seconds=profile.timeouts.get(task) if wish.seconds is None else wish.seconds,
        memory_bytes=profile.memory_bytes if wish.memory_bytes is None else wish.memory_bytes,
    )
    base = site.policy(task)
    limits = policy.limits_for(task, wish, base=base.limits)
    return replace(base, limits=limits, waived=base.waived | policy.waive)


def _text(path: Path) -> str:
    from medperf.domain import limits
    from medperf.runtime.manifests.files import read_plain

    data = read_plain(path, limits.POLICY_BYTES, "site's policy", follow=True)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput("bad_policy", f"The site's policy {path} is no UTF-8 text.", "Save it as UTF-8.") from error


def _check_ours(path: Path, info: os.stat_result) -> None:
    """Whoever can write it says what leaves the site."""
    if info.st_uid not in (os.geteuid(), 0) or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InvalidInput(
            "policy_exposed",
            f"Others can write the site's policy {path}, so what it says may not be this site's word.",
            "Read it through, then keep it to yourself: own it, and chmod 600 it.",
        )
