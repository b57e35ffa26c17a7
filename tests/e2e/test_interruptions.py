"""Ctrl-C and SIGKILL at any moment of ``medperf test run``: nothing stays alive, and the next run continues.

What is asserted holds however slow the machine is: which step is caught in the middle depends on the timing, the rules do not.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from people import Person

from medperf.testing.workflows import Workflow

STEPS = ("prepare", "sanity_check", "statistics", "infer", "evaluate")
SLOW = 1.5  # seconds that a task of the preparator takes
ENDLESS = 3600.0  # seconds: longer than any test, so that such a task is always caught in the middle
GUARD = 'if __name__ == "__main__":\n'
pytestmark = pytest.mark.timeout(600)


def slow_down(workflow: Workflow, name: str, seconds: float) -> Callable[[], object]:
    """Every task of this MLCube takes so long before it does its work. Returns what takes that back."""
    program = workflow.program(name)
    text = program.read_text()
    assert GUARD in text
    program.write_text(text.replace(GUARD, f"{GUARD}    import time\n\n    time.sleep({seconds})\n", 1))
    return lambda: program.write_text(text)


def done(text: str) -> dict[str, bool]:
    """Step -> whether it was found done already, of the steps that this run finished."""
    return {
        name: how == "already done"
        for name, how in re.findall(r"^(?:\W+ )?(\w+) (?:\.\.\. )?(already done|[\d.]+ \w+)", text, flags=re.MULTILINE)
        if name in STEPS
    }


def sealed(person: Person) -> dict[str, tuple[int, int]]:
    """Sealed steps on disk: key -> what changes when the step is done again."""
    folders = Path(person.environ["MEDPERF_HOME"]).glob("*/steps/" + "[0-9a-f]" * 64)
    return {folder.name: ((info := (folder / "facts.json").stat()).st_ino, info.st_mtime_ns) for folder in folders}


def assert_gone(family: list[psutil.Process]) -> None:
    _, left = psutil.wait_procs(family, timeout=60)
    assert left == [], left


def assert_tidy(person: Person) -> None:
    """Nothing temporary is left, and nothing is held."""
    home = Path(person.environ["MEDPERF_HOME"])
    assert [path for path in home.rglob("*") if path.name.startswith(("tmp-", "."))] == []
    assert list(Path(person.environ["TMPDIR"]).iterdir()) == []
    for database in home.glob("*/facts.db"):
        with closing(sqlite3.connect(database, timeout=60)) as connection:
            assert connection.execute("SELECT task, holder FROM leases").fetchall() == []


@pytest.fixture(autouse=True)
def temporary(person: Person, tmp_path: Path) -> Path:
    """A folder for temporary files that nobody else uses."""
    folder = tmp_path / "temporary"
    folder.mkdir(mode=0o755)
    person.environ["TMPDIR"] = str(folder)
    return folder


def test_ctrl_c_during_each_step(person: Person, workflow: Workflow) -> None:
    # sanity_check, statistics and infer run side by side, and each is sealed when it ends. The model and the evaluator never
    # end by themselves, so every run can be interrupted, and infer and evaluate are in the middle when it is.
    slow_down(workflow, "prep", SLOW)
    finish = {"infer": slow_down(workflow, "model", ENDLESS), "evaluate": slow_down(workflow, "metrics", ENDLESS)}
    finished: set[str] = set()
    for step in STEPS:
        before = sealed(person)
        running = person.start(*workflow.test_arguments(), "--verbose")
        running.wait_for(rf"(?m)^{step} \.\.\.", timeout=120)
        family = running.family()
        running.interrupt()
        code = running.end(timeout=120)
        assert_gone(family)
        assert code == 130, running.text
        assert "Interrupted" in running.text
        assert_tidy(person)
        # What was sealed is found again, and stays as it was; what was in the middle is not sealed.
        now = done(running.text)
        assert all(now[name] for name in finished & set(now)), (finished, running.text)
        assert before.items() <= sealed(person).items(), running.text
        assert not set(now) & set(finish), running.text
        finished |= set(now)
        assert len(sealed(person)) == len(finished), (finished, running.text)
        if step in finish:
            finish.pop(step)()
    last = person.medperf(*workflow.test_arguments())
    assert last.code == 0, last.text
    now = done(last.text)
    assert set(now) == set(STEPS)
    assert all(now[name] for name in finished), (finished, last.text)
    assert not now["evaluate"], last.text
    assert len(sealed(person)) == len(STEPS)
    assert_tidy(person)


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(5, 25))])
def test_sigkill_at_any_moment(person: Person, workflow: Workflow, seed: int) -> None:
    for name in ("prep", "model", "metrics"):
        slow_down(workflow, name, 0.3)
    after = random.Random(seed).uniform(0.1, 5.0)
    running = person.start(*workflow.test_arguments(), "--verbose")
    family: dict[int, psutil.Process] = {}
    ended = threading.Event()
    watcher = threading.Thread(target=lambda: running.process.wait() is not None and ended.set())
    watcher.start()
    for _ in range(int(after / 0.02)):
        family |= {process.pid: process for process in running.family()}
        if ended.wait(0.02):
            break
    family |= {process.pid: process for process in running.family()}
    with contextlib.suppress(ProcessLookupError):
        os.kill(running.process.pid, signal.SIGKILL)
    watcher.join(60)
    assert_gone(list(family.values()))
    running.stop()
    before = done(running.text)

    continued = person.medperf(*workflow.test_arguments())
    assert continued.code == 0, continued.text
    now = done(continued.text)
    assert set(now) == set(STEPS), continued.text
    # A step that was reported as finished is never done again.
    assert all(now[step] for step in before), (before, now)
    assert len(sealed(person)) == len(STEPS)
    assert_tidy(person)
