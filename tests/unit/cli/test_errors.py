from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from medperf.cli.signals import Signals
from medperf.domain.errors import (
    Conflict,
    InternalError,
    Interrupted,
    MedPerfError,
    TaskFailed,
    Unauthenticated,
    UsageError,
)
from medperf.wire.models import UserCreate, UserView

FAILED = TaskFailed(
    "task_failed",
    "The task infer failed.",
    "Mend the model.",
    details={
        "task": "infer",
        "reason": "exit",
        "exit_code": 3,
        "log": "/home/me/log.txt",
        "last_lines": ["Traceback:", "\x1b[31mboom"],
    },
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Conflict("taken", "The name is taken.", "Choose another."), 1),
        (UsageError("usage", "Two sources.", "Give one."), 2),
        (InternalError("internal", "Broken.", "Report it."), 70),
        (Interrupted(), 130),
        (ValueError("unforeseen"), 70),
        (BrokenPipeError("not ours"), 70),
        (OSError(28, "No space left on device", "/home/me/x"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_exit_codes_and_two_lines(shell: Any, error: BaseException, code: int) -> None:
    shell.flow("mlcubes.list_mlcubes", error)
    answer = shell.run("mlcube", "ls")
    assert answer.code == code
    assert answer.out == ""
    first, second = answer.err.splitlines()
    assert first.startswith("Error: ")
    assert second.startswith("What to do: ")
    as_json = shell.run("mlcube", "ls", "--format", "json")
    assert as_json.code == code
    assert as_json.out == ""
    assert set(as_json.error()) == {"code", "what", "fix", "details"}


def test_a_failed_task_shows_its_own_words(shell: Any) -> None:
    shell.flow("compatibility.run_test", FAILED)
    answer = shell.run("test", "run", "-b", "1")
    assert answer.code == 1
    assert answer.err == (
        "Error: The task infer failed.\n"
        "Exit code: 3\n"
        "The last lines of the task's own output:\n"
        "  | Traceback:\n"
        "  | \\x1b[31mboom\n"
        "Log: /home/me/log.txt\n"
        "What to do: Mend the model.\n"
    )
    assert shell.run("--format", "json", "test", "run", "-b", "1").error()["details"]["exit_code"] == 3


def test_a_failed_task_says_nothing_twice(shell: Any) -> None:
    details = {"task": "infer", "reason": "exit", "exit_code": 1, "log": "/l", "last_lines": []}
    failed = TaskFailed("task_exit", "The task infer of MLCube 2 (xrv) exited with 1.", "Mend it.", details=details)
    shell.flow("compatibility.run_test", failed)
    assert shell.run("test", "run", "-b", "1").err == (
        "Error: The task infer of MLCube 2 (xrv) exited with 1.\nIt printed nothing.\nLog: /l\nWhat to do: Mend it.\n"
    )
    shell.flow("compatibility.run_test", TaskFailed("x", "It failed.", "Mend it.", details={"task": "infer"}))
    assert shell.run("test", "run", "-b", "1").err == "Error: It failed.\nTask: infer\nWhat to do: Mend it.\n"


def test_a_fault_of_ours_goes_to_a_private_log_without_the_command_line(shell: Any, tmp_path: Path) -> None:
    shell.flow("accounts.login", RuntimeError("unforeseen"))
    answer = shell.run("login", "-u", "alice", "-p", "hunter2")
    assert answer.code == 70
    assert "Traceback" not in answer.err
    (log,) = (tmp_path / "home" / "logs").iterdir()
    assert str(log) in answer.err
    text = log.read_text()
    assert "Traceback" in text
    assert "RuntimeError: unforeseen" in text
    assert "hunter2" not in text
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(log.parent.parent.stat().st_mode) == 0o700


def test_verbose_shows_the_traceback(shell: Any) -> None:
    shell.flow("mlcubes.list_mlcubes", ValueError("unforeseen"))
    assert "Traceback" in shell.run("-v", "mlcube", "ls").err
    assert "Traceback" in shell.run("mlcube", "ls", "-v").err


def test_a_log_that_cannot_be_written_hides_nothing(shell: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    shell.monkeypatch.setenv("MEDPERF_HOME", str(tmp_path / "file" / "home"))
    shell.monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "file"))
    shell.flow("mlcubes.list_mlcubes", ValueError("unforeseen"))
    answer = shell.run("mlcube", "ls")
    assert answer.code == 70
    assert "--verbose" in answer.err


def test_what_the_person_gave_and_no_server_would_take(shell: Any) -> None:
    shell.flow(
        "accounts.add_user", lambda site, username, password, **_: UserCreate.of(username=username, password=password)
    )
    answer = shell.run("user", "add", "al ice", "-p", "x1")
    assert answer.code == 1
    assert "username: " in answer.err
    assert "x1" not in answer.err
    shell.flow("accounts.add_user", lambda site, **_: UserView.model_validate({}))
    assert shell.run("user", "add", "alice", "-p", "secret").code == 70  # an answer of the server, not the person's


def test_usage_errors_in_json(shell: Any) -> None:
    error = shell.run("--format", "json", "mlcub").error()
    assert error["code"] == "usage"
    assert error["details"]["possibilities"][0] == "mlcube"
    shell.monkeypatch.setenv("MEDPERF_FORMAT", "json")
    assert shell.run("mlcube", "ls", "--mien").error()["code"] == "usage"


def test_the_first_signal_asks_the_second_ends() -> None:
    signals, cancel = Signals(), threading.Event()
    before = signal.getsignal(signal.SIGINT)
    with signals, signals.watch(cancel, quiet=True):
        signal.raise_signal(signal.SIGTERM)
        assert cancel.wait(30)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_signal_ends_at_once_where_nothing_runs_or_somebody_is_asked() -> None:
    signals = Signals()
    with signals, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    signals, cancel = Signals(), threading.Event()
    with signals, signals.watch(cancel), signals.asking(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert not cancel.is_set()


def test_a_signal_that_comes_while_its_own_event_is_waited_for_blocks_nothing() -> None:
    signals, cancel = Signals(), threading.Event()
    with signals, signals.watch(cancel, quiet=True):
        with cancel._cond:  # type: ignore[attr-defined]  # as the main thread holds it between two steps of `wait`
            signal.raise_signal(signal.SIGINT)
        assert cancel.wait(30)


def test_ctrl_c_lets_a_test_stop_its_containers(shell: Any) -> None:
    def run_test(site: Any, request: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        assert site.cancel.wait(30)
        raise Interrupted

    shell.flow("compatibility.run_test", run_test)
    answer = shell.run("test", "run", "-b", "1")
    assert answer.code == 130
    assert "Run the same command again to continue." in answer.err
    assert shell.sites[-1].closed


PROGRAM = """
import sys, time
from medperf.cli.main import main
from medperf.flows import compatibility, site

class FakeSite:
    def __init__(self):
        import threading
        self.cancel = threading.Event()
    def __enter__(self): return self
    def __exit__(self, *unused): print("closed", file=sys.stderr, flush=True)

def run_test(site, request):
    print("running", flush=True)
    while GENTLE and not site.cancel.wait(0.01): pass
    while not GENTLE: time.sleep(60)
    from medperf.domain.errors import Interrupted
    raise Interrupted

site.Site.open = lambda *a, **b: FakeSite()
compatibility.run_test = run_test
sys.exit(main(["test", "run", "-b", "1"]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("gentle", [True, False])
def test_signals_end_a_process_with_130(number: signal.Signals, gentle: bool) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", f"GENTLE = {gentle}\n{PROGRAM}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdout.readline() == "running\n"
    process.send_signal(number)
    assert process.stderr.readline() == "\n"
    assert "Press Ctrl-C again" in process.stderr.readline()
    if not gentle:
        process.send_signal(number)
    err = process.stderr.read()
    assert process.wait(timeout=30) == 130
    process.stdout.close()
    process.stderr.close()
    assert "closed" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("buffering", [{}, {"PYTHONUNBUFFERED": "1"}])
def test_stdout_that_closes_or_fills_up(make: Any, buffering: dict[str, str]) -> None:
    program = """
import sys
from medperf.cli.main import main
from medperf.flows import site, mlcubes
class FakeSite:
    def __enter__(self): return self
    def __exit__(self, *unused): pass
site.Site.open = lambda *a, **b: FakeSite()
mlcubes.list_mlcubes = lambda site, **_: []
sys.exit(main(["mlcube", "ls"]))
"""
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | buffering

    def run(stdout: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program]
        return subprocess.run(command, env=environ, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)

    read, write = os.pipe()
    os.close(read)
    gone = run(write)
    os.close(write)
    assert (gone.returncode, gone.stderr) == (0, "")
    with Path("/dev/full").open("w") as full:
        filled = run(full.fileno())
    assert filled.returncode == 1
    assert "No space left" in filled.stderr
    assert "Exception ignored" not in filled.stderr


def test_medperf_error_is_an_exception_with_two_sentences() -> None:
    assert str(MedPerfError("a", "What.", "Fix.")) == "What. Fix."


PATHS = [
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EROFS,
    errno.EIO,
]


@pytest.mark.parametrize("number", PATHS, ids=errno.errorcode.get)
def test_a_path_that_does_not_work_is_the_persons_to_mend(shell: Any, number: int) -> None:
    shell.flow("mlcubes.list_mlcubes", OSError(number, os.strerror(number), "/data/x"))
    answer = shell.run("mlcube", "ls", "--format", "json")
    assert answer.code == 1
    assert "/data/x" in answer.error()["what"]
    assert answer.error()["fix"]


def test_a_fault_of_a_path_that_names_none_is_ours(shell: Any) -> None:
    shell.flow("mlcubes.list_mlcubes", OSError(errno.ENOENT, "No such file or directory"))
    assert shell.run("mlcube", "ls").code == 70


@pytest.mark.parametrize(
    "words",
    [
        ("mlcube", "ls", "--kind", "x", "--format", "json"),
        ("mlcube", "ls", "--nonsense", "--format=json"),
        ("mlcube", "nonsense", "--format", "json"),
        ("nonsense", "--format", "json"),
        ("--nonsense", "--format", "json"),
        ("--format", "xml", "mlcube", "ls", "--format", "json"),
        ("--format", "text", "mlcube", "ls", "--kind", "x", "--format", "json"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_is_answered_in_the_format_it_asks_for(shell: Any, words: tuple[str, ...]) -> None:
    answer = shell.run(*words)
    assert answer.code == 2
    assert answer.error()["fix"]
    assert "Value error" not in answer.error()["what"]


def test_programs_get_the_error_and_no_question(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medperf.flows.accounts.login", lambda site, **_: site.ask.text("username: "))
    answer = shell.run("login", "--format", "json")
    assert answer.error()["code"] == "no_answer"
    assert "username: \n" in shell.run("login").err


def test_a_login_is_asked_for_where_the_command_was_about(shell: Any) -> None:
    shell.flow("mlcubes.list_mlcubes", Unauthenticated("not_logged_in", "No.", "Log in with: medperf login"))
    assert shell.run("mlcube", "ls", "--profile", "lab").err.endswith("medperf login --profile lab\n")
    assert shell.run("mlcube", "ls").err.endswith("medperf login\n")


@pytest.mark.parametrize(
    ("words", "listing"),
    [
        (("asset", "view", "x"), "medperf asset ls"),
        (("organisation", "accept", "x"), "medperf organisation invitations"),
    ],
)
def test_whoever_gives_no_id_is_told_where_ids_are_listed(shell: Any, words: tuple[str, ...], listing: str) -> None:
    answer = shell.run(*words)
    assert (answer.code, f"List them with: {listing} ;" in answer.err) == (2, True), answer.err
