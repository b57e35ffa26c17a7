"""What flows say about a task that failed, about this machine and about a login: short, once, and with what to do."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from medperf.client.credentials import Credential
from medperf.domain.confinement import ConfinementPolicy
from medperf.domain.errors import InvalidInput, TaskFailed
from medperf.domain.states import Kind
from medperf.flows.accounts import status
from medperf.flows.assets import upload_asset
from medperf.flows.doctor import examine
from medperf.flows.site import Site, SiteOptions
from medperf.flows.steps import StepRunner
from medperf.runtime.engines.base import TaskOutcome

OUTCOMES = [
    ("exit", 1, "it ended with exit code 1", "exited with 1"),
    ("signal", 137, "it was ended by signal 9", "was killed by signal 9"),
    ("time-limit", 143, "it ran longer than 3600 seconds", "took longer than its time limit of 3600 s and was stopped"),
    ("memory-limit", 137, "it needed more than 4,294,967,296 bytes of memory", "needed more memory than its limit of 4 GiB"),
    ("output-limit", 137, "the outputs hold more than 17,179,869,184 bytes", "broke its output limit: the outputs hold more than 16 GiB"),
    ("missing-output", 0, "it wrote nothing to its output 'x'", "ended, but it wrote nothing to its output 'x'"),
    ("bad-output", 0, "the outputs held what is no plain file or folder: a", "failed: the outputs held what is no plain file or folder: a"),
    ("engine", None, "", "could not be run"),
]  # fmt: skip


@pytest.mark.parametrize(("reason", "exit_code", "message", "said"), OUTCOMES, ids=[one[0] for one in OUTCOMES])
def test_a_failed_task_is_one_sentence(tmp_path: Path, reason: Any, exit_code: int, message: str, said: str) -> None:
    site: Any = SimpleNamespace(policy=lambda task: ConfinementPolicy(), workspace=SimpleNamespace(path=tmp_path))
    log = tmp_path / "log"
    log.write_text("boom\n")
    ready: Any = SimpleNamespace(label="MLCube 2 (xrv)")
    outcome = TaskOutcome(reason=reason, exit_code=exit_code, seconds=1.0, log=log, message=message)
    error = StepRunner(site, use_cache=False)._failure(ready, "infer", outcome)
    assert isinstance(error, TaskFailed)
    assert error.what == f"The task infer of MLCube 2 (xrv) {said}."
    assert error.details["exit_code"] == exit_code
    assert error.details["last_lines"] == ["boom"]
    assert "below" not in error.fix
    if reason == "memory-limit":
        assert error.fix.endswith("--memory-bytes 8589934592")


def open_site(tmp_path: Path) -> Site:
    return Site.open(SiteOptions(), environ={"MEDPERF_HOME": str(tmp_path / "home")}, cwd=tmp_path)


def test_a_home_that_others_can_enter_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o755)
    (tmp_path / "home").chmod(0o755)
    with open_site(tmp_path) as site:
        check = next(one for one in examine(site).checks if one.name == "home")
    assert check.ok is None
    assert check.fix.endswith(f"chmod 700 {tmp_path / 'home'}")


def test_a_home_made_for_the_engines_cache_is_private(tmp_path: Path) -> None:
    with open_site(tmp_path) as site:

        def prepare(cube: Any, *, emit: Any) -> Any:
            (site.home / "cache").mkdir(parents=True, exist_ok=True)
            return SimpleNamespace()

        site.__dict__["engine"] = SimpleNamespace(prepare=prepare)
        ready: Any = SimpleNamespace(cube=SimpleNamespace(folder=tmp_path))
        StepRunner(site, use_cache=False).prepared(ready)
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700


def test_a_login_of_another_server_is_none(tmp_path: Path) -> None:
    with open_site(tmp_path) as site:
        login = Credential(
            server="https://elsewhere.example.org",
            token="secret",
            expires_at=datetime.now(UTC) + timedelta(days=1),
            username="alice",
            is_admin=True,
            instance_id="one",
        )
        site.credentials.set(site.profile.name, login)
        report = status(site)
    assert (report.username, report.is_admin, report.expires_at) == (None, False, None)


def test_an_upload_asks_for_a_path(tmp_path: Path) -> None:
    with open_site(tmp_path) as site, pytest.raises(InvalidInput) as caught:
        upload_asset(site, str(tmp_path / "nothing"))
    assert "URL" not in caught.value.fix


def test_articles() -> None:
    assert [kind.with_article for kind in Kind] == ["a preparator", "a model", "an evaluator"]
