# ruff: noqa: PTH102, PTH208 - descriptors, plain path texts and folders of the sandbox
"""The sandbox engine's own parts: filters, groups, logs, trees, interpreters, refusals."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from medperf.domain.confinement import ConfinementPolicy, Limits
from medperf.domain.errors import InvalidInput, MedPerfError
from medperf.domain.manifests import parse_manifest
from medperf.runtime import trees
from medperf.runtime.engines.base import CubeFiles, Mount, TaskOutcome, TaskRun
from medperf.runtime.engines.sandbox import engine as engine_module
from medperf.runtime.engines.sandbox import seccomp
from medperf.runtime.engines.sandbox.cgroups import Controllers, find_controllers, make_group
from medperf.runtime.engines.sandbox.engine import SandboxEngine
from medperf.runtime.engines.sandbox.job import Bind, Job, bwrap_arguments
from medperf.runtime.engines.sandbox.log import CappedLog
from medperf.runtime.engines.sandbox.seccomp.build import compile_filter
from medperf.runtime.engines.sandbox.watch import OutputWatch
from medperf.runtime.images.interpreters import find_interpreter
from medperf.runtime.logs import last_lines
from medperf.runtime.trees import hand_back, measure, remove
from medperf.testing.engines import processes_with, until


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_shipped_filters_are_what_the_rules_give(machine: str) -> None:
    path = seccomp.filter_path(machine)
    assert path is not None
    assert path.read_bytes() == compile_filter(machine), "run: python -m medperf.runtime.engines.sandbox.seccomp.build"
    assert len(path.read_bytes()) % struct.calcsize("=HBBI") == 0


def test_another_machine_is_refused_unless_the_rule_is_waived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    sandbox, cube = SandboxEngine(cache=tmp_path / "cache"), make_cube(tmp_path)
    with pytest.raises(MedPerfError) as caught:
        run(sandbox, cube, tmp_path)
    assert caught.value.code == "rule_not_enforced"
    assert run(sandbox, cube, tmp_path, ConfinementPolicy(waived=frozenset({"seccomp"}))).ok
    rules = {rule.rule: rule for rule in sandbox.probe().rules}
    assert not rules["seccomp"].enforced


def make_cube(folder: Path, manifest: bytes = b"", code: str = "open('/tmp/x', 'w').close()\n") -> CubeFiles:
    (folder / "project").mkdir(exist_ok=True)
    (folder / "project" / "mlcube.py").write_text(code)
    (folder / "data").mkdir(exist_ok=True)
    text = (
        manifest
        or b"tasks: {go: {parameters: {inputs: {data_path: {type: directory, default: data}}}}}\npython: {project: ../project}\n"
    )
    return CubeFiles(parse_manifest(text), folder, folder, folder / "project", None, {})


def run(
    sandbox: SandboxEngine,
    cube: CubeFiles,
    folder: Path,
    policy: ConfinementPolicy | None = None,
    task: str = "go",
    data: Path | None = None,
) -> TaskOutcome:
    mounts = (Mount("data_path", data or folder / "data", "directory", output=False),)
    policy = (policy or ConfinementPolicy()).with_limits(wall_seconds=20.0)
    return sandbox.run(
        cube, sandbox.prepare(cube), TaskRun(task, mounts, folder / "log", policy), cancel=threading.Event()
    )


def test_probe_reports_every_rule(tmp_path: Path) -> None:
    report = SandboxEngine(cache=tmp_path).probe()
    assert report.available, (report.detail, report.fix)
    assert report.version
    assert [rule.rule for rule in report.rules] == list(ConfinementPolicy.RULES)
    assert all(rule.enforced and rule.how for rule in report.rules)


def test_without_bubblewrap_the_fix_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "tool", lambda name: None)
    report = SandboxEngine(cache=tmp_path).probe()
    assert not report.available
    assert report.fix == "apt-get install bubblewrap"


def test_refusals_come_before_anything_runs(tmp_path: Path) -> None:
    sandbox = SandboxEngine(cache=tmp_path / "cache")
    with pytest.raises(InvalidInput, match="no task"):
        run(sandbox, make_cube(tmp_path), tmp_path, task="train")
    writable = b"tasks: {go: {parameters: {inputs: {data_path: {type: directory, default: data, opts: rw}}}}}\npython: {project: ../project}\n"
    with pytest.raises(InvalidInput) as caught:
        run(sandbox, make_cube(tmp_path, writable), tmp_path)
    assert caught.value.code == "writable_input"
    with pytest.raises(InvalidInput) as caught:
        sandbox.prepare(make_cube(tmp_path, b"tasks: {go: {}}\ndocker: {image: a/b}\n"))
    assert caught.value.code == "no_python_form"
    assert not (tmp_path / "log").exists()


def test_ctrl_c_ends_the_task_and_is_passed_on(tmp_path: Path) -> None:
    sandbox = SandboxEngine(cache=tmp_path / "cache")
    cube = make_cube(tmp_path, code="import time\nprint('up', flush=True)\nwhile True: time.sleep(1)\n")
    log = tmp_path / "log"

    def press() -> None:
        until(lambda: log.exists() and log.read_bytes() != b"", 10)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    token = tmp_path / f"token-{time.monotonic_ns()}"
    (tmp_path / "data").rename(token)
    with pytest.raises(KeyboardInterrupt):
        run(sandbox, cube, tmp_path, data=token)
    assert processes_with(token.name) == []
    presser.join()
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("medperf-sandbox")] == []


_KILLED = """
import os, signal, sys, threading
from pathlib import Path
from medperf.domain.confinement import ConfinementPolicy
from medperf.runtime.engines.sandbox import session
from medperf.runtime.engines.sandbox.engine import SandboxEngine
from medperf.runtime.engines.sandbox.job import Job

class Popen(session.subprocess.Popen):
    def __init__(self, command, **options):
        super().__init__(command, **options)
        if "--args" in command:
            os.kill(os.getpid(), signal.SIGKILL)

host = SandboxEngine(cache=Path("cache")).host()
session.subprocess.Popen = Popen
job = Job(command=("/bin/sleep", "100", sys.argv[1]), binds=(), policy=ConfinementPolicy())
session.run_job(host, job, log=Path("log"), cancel=threading.Event())
"""


def test_killed_while_bubblewrap_starts(tmp_path: Path) -> None:
    for attempt in range(8):  # without the guard almost every one leaves a process
        token = f"token-{time.monotonic_ns()}"
        done = subprocess.run([sys.executable, "-c", _KILLED, token], cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == -signal.SIGKILL, (attempt, done.stderr)
        assert until(lambda token=token: processes_with(token) == [], 10), attempt


def test_nothing_is_leaked(tmp_path: Path) -> None:
    sandbox, cube = SandboxEngine(cache=tmp_path / "cache"), make_cube(tmp_path)
    run(sandbox, cube, tmp_path)
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        run(sandbox, cube, tmp_path)
    assert sorted(os.listdir("/proc/self/fd")) == before
    controllers = find_controllers()
    if controllers is not None:
        assert list(controllers.memory.glob(f"medperf-{os.getpid()}-*")) == []


def test_no_name_becomes_an_option(tmp_path: Path) -> None:
    bind = Bind(tmp_path / "--bind / /", "/mlcube_io0/--dev-bind", writable=False)
    job = Job(command=("x",), binds=(bind,), policy=ConfinementPolicy())
    arguments = bwrap_arguments(job, place=lambda path, mapped, writable: os.fspath(path), data=lambda content: 9)
    at = arguments.index(os.fspath(bind.source))
    assert arguments[at - 1 : at + 2] == ["--ro-bind", os.fspath(bind.source), "/mlcube_io0/--dev-bind"]
    assert all(path.startswith("/") for path in arguments[at : at + 2])


@pytest.mark.parametrize("requires", [">=99", "<3", "==3.11.99"])
def test_no_fitting_interpreter(requires: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        find_interpreter(requires)
    assert caught.value.code == "no_interpreter"
    assert requires in caught.value.what


def test_a_bad_version_specifier() -> None:
    with pytest.raises(InvalidInput, match="specifier"):
        find_interpreter("three")


def test_our_own_base_interpreter_comes_first(tmp_path: Path) -> None:
    found = find_interpreter(">=3.11")
    assert found.version == sys.version_info[:3]
    assert found.digest(tmp_path) == found.digest(tmp_path)
    assert found.digest(tmp_path).startswith("sha256:")


@pytest.mark.parametrize(("written", "kept"), [(10, 10), (1000, 1000), (100_000, 1000)])
def test_log_keeps_both_ends(tmp_path: Path, written: int, kept: int) -> None:
    log = CappedLog(tmp_path / "log", 1000)
    content = b"".join(b"%07d\n" % number for number in range(written // 8 + 1))[:written]
    for start in range(0, written, 333):
        log.write(content[start : start + 333])
    truncated = log.close()
    found = (tmp_path / "log").read_bytes()
    assert len(found) <= kept
    assert truncated == (written > 1000 - 80)
    assert found.startswith(content[:8])
    assert found.endswith(content[-8:])
    assert last_lines(tmp_path / "log", lines=1)


def test_group_of_version_two(tmp_path: Path) -> None:
    root, process = tmp_path / "cgroup", tmp_path / "proc"
    own = root / "user.slice" / "session.scope"
    own.mkdir(parents=True)
    process.mkdir()
    (process / "cgroup").write_text("0::/user.slice/session.scope\n")
    (process / "mountinfo").write_text(f"30 20 0:26 / {root} rw - cgroup2 cgroup2 rw\n")
    for folder in (own, own.parent, root):
        (folder / "cgroup.procs").write_text("")
    (own / "cgroup.subtree_control").write_text("")
    (own.parent / "cgroup.subtree_control").write_text("cpu memory pids\n")
    controllers = find_controllers(process=process)
    assert controllers is not None
    assert (controllers.version, controllers.memory, controllers.cpu) == (2, own.parent, own.parent)
    group = make_group(controllers, Limits(memory_bytes=1024, pids=5, cpus=0.5))
    assert (group.memory / "memory.max").read_text() == "1024"
    assert (group.memory / "pids.max").read_text() == "7"
    assert (group.memory / "cpu.max").read_text() == "50000 100000"
    (group.memory / "memory.events").write_text("oom 1\noom_kill 2\n")
    assert group.out_of_memory()
    (own.parent / "cgroup.subtree_control").write_text("cpu\n")
    assert find_controllers(process=process) is None


def test_the_end_of_a_log_is_clean(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"first\n\n\x1b[31mred\xff\n  \nlast \n")
    assert last_lines(tmp_path / "log", lines=2) == [" [31mred\ufffd", "last"]
    assert last_lines(tmp_path / "nothing") == []


def test_groups_of_a_killed_process_are_not_in_the_way(tmp_path: Path) -> None:
    """It had our number, and sweeping leaves alone what may be ours."""
    for number in range(100):
        (tmp_path / f"medperf-{os.getpid()}-{number}").mkdir()
    make_group(Controllers(2, tmp_path, tmp_path, None), Limits())


def test_hand_back_keeps_what_is_plain(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a").write_text("a")
    (folder / "sub" / "a").chmod(0o4777)
    (folder / "link").symlink_to("/etc")
    removed = hand_back(folder, owner=None, umask=0o077)
    assert removed == ("'link' is a symbolic link",)
    assert (folder / "sub" / "a").stat().st_mode & 0o7777 == 0o600
    assert (folder / "sub").stat().st_mode & 0o7777 == 0o700


def test_a_mode_is_never_changed_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "outside")
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(OSError, match="symbolic links"):
            trees._own("link", descriptor, None, 0o777)
    finally:
        os.close(descriptor)
    assert (tmp_path / "outside").stat().st_mode & 0o777 == 0o700


def test_endless_folders_are_removed(tmp_path: Path) -> None:
    top = tmp_path / "deep"
    top.mkdir()
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(top)
        for _ in range(1200):
            os.mkdir("d")
            os.chdir("d")
    finally:
        os.chdir(here)
        os.close(here)
    assert measure(top, stop_bytes=10**9, stop_entries=10**6).too_deep
    remove(top)
    assert not top.exists()


def test_the_last_of_the_disk_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        real = os.fstatvfs(folder)
        fields = ("f_frsize", "f_bfree", "f_ffree")
        left = {"f_frsize": 4096, "f_bfree": 10**6, "f_ffree": 10**6}
        monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(**{name: left[name] for name in fields}))
        watch = OutputWatch((folder, folder), Limits(output_bytes=real.f_frsize * real.f_blocks))
        assert watch.exceeded(os.getpid()) is None
        left["f_bfree"] = 16 * 1024 - 1
        assert "bytes left" in str(watch.exceeded(os.getpid()))
        left.update(f_bfree=10**6, f_ffree=1000)
        assert "files left" in str(watch.exceeded(os.getpid()))
    finally:
        os.close(folder)
