"""What works on this machine, what does not, and the command that mends it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from medperf.domain.errors import MedPerfError, Unauthenticated
from medperf.flows.site import Site

LOW_DISK_BYTES = 5 * 1024**3


@dataclass(frozen=True)
class Check:
    """One finding. ``ok`` None: neither good nor bad, just so; with a ``fix`` it is a warning."""

    name: str
    ok: bool | None
    detail: str
    fix: str = ""


@dataclass(frozen=True)
class DoctorReport:
    """All findings; ``ok`` is False when one of them is a problem."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(check.ok is not False for check in self.checks)


def examine(site: Site) -> DoctorReport:
    """Look at everything; problems are findings, never exceptions."""
    checks = [_python(), *_machine(site), _workspace(site), *_engine(site), _server(site), _login(site)]
    return DoctorReport(checks=tuple(checks))


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Check(
        "python", sys.version_info >= (3, 11), f"{version} at {sys.executable}", "Install Python 3.11 or newer."
    )


def _machine(site: Site) -> list[Check]:
    existing = next(path for path in (site.home, *site.home.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    checks = [
        Check(
            "disk",
            free >= LOW_DISK_BYTES,
            f"{_gib(free)} free for {site.home}",
            "Free some space, or move the workspace by setting MEDPERF_HOME.",
        ),
        Check("memory", None, f"{_gib(memory)}, {len(os.sched_getaffinity(0))} processors"),
    ]
    if site.home.exists() and site.home.stat().st_mode & 0o077:
        fix = f"Keep it to yourself with: chmod 700 {shlex.quote(str(site.home))}"
        checks.append(Check("home", None, f"{site.home} can be entered by others; logins in it cannot be read", fix))
    gpus = sorted(path.name for path in Path("/dev").glob("nvidia[0-9]*"))
    checks.append(Check("gpu", None, ", ".join(gpus) or "none"))
    return checks


def _engine(site: Site) -> list[Check]:
    try:
        report = site.engine.probe()
    except MedPerfError as error:
        return [Check("engine", False, error.what, error.fix)]
    checks = [Check(f"engine {report.name}", report.available, f"{report.version} {report.detail}".strip(), report.fix)]
    checks += [Check(f"{report.name}: {rule.rule}", rule.enforced, rule.how, rule.fix) for rule in report.rules]
    return checks


def _workspace(site: Site) -> Check:
    """Whether what this site remembers can be read; the fix is the way back."""
    try:
        site.workspace.check()
    except MedPerfError as error:
        return Check("workspace", False, error.what, error.fix)
    path = site.workspace.path
    return Check("workspace", True, f"{path}" if path.exists() else f"{path}: nothing was written there yet")


def _server(site: Site) -> Check:
    try:
        server = site.anonymous_api.server.get()
    except MedPerfError as error:
        return Check("server", False, error.what, error.fix)
    kind = ", for development" if server.development else ""
    return Check("server", True, f"{site.profile.server} runs MedPerf {server.version}{kind}")


def _login(site: Site) -> Check:
    try:
        credential = site.credential()
    except Unauthenticated as error:
        return Check("login", None, error.what, error.fix)
    except MedPerfError as error:  # the file with the logins is damaged or open to others
        return Check("login", False, error.what, error.fix)
    return Check("login", True, f"{credential.username}, until {credential.expires_at:%Y-%m-%d %H:%M} UTC")


def _gib(count: int) -> str:
    return f"{count / 1024**3:.1f} GiB"
