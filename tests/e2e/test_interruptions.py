"""Ctrl-C and SIGKILL at any moment of ``medperf test run``: nothing stays alive, and the next run continues."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import threading
from pathlib import Path

import psutil
import pytest
from people import Person

from medperf.testing.workflows import Workflow

STEPS = ("prepare", "sanity_check", "statistics", "infer", "evaluate")
SLOW = 1.5  # seconds that every task of the slow workflow takes
pytestmark = pytest.mark.timeout(300)


def slow_down(workflow: Workflow, seconds: float) -> None:
    """Every task takes this long before it does its work, so that there is time to interrupt it."""
    start = 'if __name__ == "__main__":\n'
    for name in ("prep", "model", "metrics"):
        program = workflow.program(name)
        text = program.read_text()
        assert start in text
        program.write_text(text.replace(start, f"{start}    import time\n\n    time.sleep({seconds})\n", 1))


def done(text: str) -> dict[str, bool]:
    """Step -> whether it was found done already, of the steps that this run finished."""
    return {
        name: how == "already done"
        for name, how in re.findall(r"^(?:\W+ )?(\w+) (?:\.\.\. )?(already done|[\d.]+ \w+)", text, flags=re.MULTILINE)
        if name in STEPS
    }


def assert_gone(family: list[psutil.Process]) -> None:
    _, left = psutil.wait_procs(family, timeout=20)
    assert left == [], [process.cmdline() for process in left]


def test_ctrl_c_during_each_step(person: Person, workflow: Workflow) -> None:
    slow_down(workflow, SLOW)
    finished: set[str] = set()
    for step in STEPS:
        running = person.start(*workflow.test_arguments(), "--verbose")
        running.wait_for(rf"(?m)^{step} \.\.\.$")
        family = running.family()
        running.interrupt()
        code = running.end(timeout=30)
        assert_gone(family)
        assert code == 130, running.text
        assert "Interrupted" in running.text
        now = done(running.text)
        assert step not in now, running.text
        # What an earlier run finished is found again; only what was interrupted runs now.
        assert now == {name: name in finished for name in now}, running.text
        finished |= set(now)
    assert finished == set(STEPS[:-1])
    last = person.medperf(*workflow.test_arguments())
    assert last.code == 0, last.text
    assert done(last.text) == {name: name in finished for name in STEPS}, last.text


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(5, 25))])
def test_sigkill_at_any_moment(person: Person, workflow: Workflow, seed: int) -> None:
    slow_down(workflow, 0.3)
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
    watcher.join(30)
    assert_gone(list(family.values()))
    running.stop()
    before = done(running.text)

    continued = person.medperf(*workflow.test_arguments())
    assert continued.code == 0, continued.text
    now = done(continued.text)
    assert set(now) == set(STEPS), continued.text
    # A step that was reported as finished is never done again.
    assert all(now[step] for step in before), (before, now)
    leftovers = list(Path(person.environ["MEDPERF_HOME"]).rglob("*.tmp"))
    assert leftovers == []
