# ruff: noqa: D102 - the names of the tests say what they show
"""The contract of an engine as a suite of tests: subclass `EngineContract`, give it an engine, and every rule is tried.

The tasks are small Python programs that do what a hostile or clumsy container would do. A test fails, and never skips,
where the engine cannot run at all.
"""

from __future__ import annotations

import concurrent.futures.thread
import os
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medperf.domain.confinement import ConfinementPolicy
from medperf.domain.errors import InvalidInput
from medperf.runtime.engines.base import Engine
from medperf.runtime.trees import remove
from medperf.testing.engine_bench import Bench, Mode, Trial, modes, processes_with, until

__all__ = ["Bench", "EngineContract", "Mode", "Trial", "modes", "processes_with", "until"]


class EngineContract:
    """Subclass it, define `make_engine` and the fixture ``mode`` (parametrised with `modes`)."""

    @staticmethod
    def make_engine(cache: Path, **options: Any) -> Engine:
        """A new engine; ``options`` are those of a `Mode`."""
        raise NotImplementedError

    @pytest.fixture
    def bench(self, mode: Mode) -> Iterator[Bench]:
        """A folder of its own, owned by whoever runs the engine, mode 0700 like a workspace."""
        folder = Path(tempfile.mkdtemp(prefix="medperf-contract-"))
        yield Bench(self.make_engine, mode, folder)
        remove(folder)

    # ------------------------------------------------------------------------------------------------- what must work

    def test_reads_inputs_and_writes_outputs(self, bench: Bench) -> None:
        code = """
with open(os.path.join(data, "case.txt")) as file, open(parameters) as other:
    content = file.read() + other.read()
os.makedirs(os.path.join(out, "deep", "er"))
with open(os.path.join(out, "deep", "er", "copy ü.txt"), "w") as file:
    file.write(content)
with open(report, "w") as file:
    file.write("done: true")
print("sum", os.getcwd(), task)
"""
        trial = bench.run(code)
        assert trial.outcome.ok, trial.log
        copied = trial.out / "deep" / "er" / "copy ü.txt"
        assert copied.read_text() == "patientlimit: 1\n"
        assert trial.report.read_text() == "done: true"
        owner = os.geteuid() if bench.mode.uid is None else bench.mode.uid
        assert {path.stat().st_uid for path in (trial.out, copied, copied.parent, trial.report)} == {owner}
        assert " go" in trial.log
        assert [path.name for path in bench.folder.iterdir() if path.name.startswith(".")] == []

    def test_threads_subprocesses_and_shared_memory_work(self, bench: Bench) -> None:
        code = """
import subprocess, multiprocessing
thread = threading.Thread(target=finish); thread.start(); thread.join()
print(subprocess.run([sys.executable, "-c", "print('inner', 6 * 7)"], capture_output=True, text=True, check=True).stdout)
with multiprocessing.get_context("fork").Pool(2) as pool:
    print("pool", sum(pool.map(abs, [-1, -2])))
"""
        trial = bench.run(code)
        assert trial.outcome.ok, trial.log
        assert "inner 42" in trial.log
        assert "pool 3" in trial.log

    def test_outcome_holds_the_exit_code(self, bench: Bench) -> None:
        trial = bench.run("finish(); print('bad day'); sys.exit(7)")
        assert (trial.outcome.reason, trial.outcome.exit_code) == ("exit", 7)
        assert "bad day" in trial.log

    def test_outcome_names_a_signal(self, bench: Bench) -> None:
        trial = bench.run("finish(); os.kill(os.getpid(), 11)")
        assert (trial.outcome.reason, trial.outcome.exit_code) == ("signal", 139)

    def test_writing_nothing_is_missing_output(self, bench: Bench) -> None:
        assert bench.run("print('lazy')").outcome.reason == "missing-output"

    def test_an_empty_file_is_missing_output(self, bench: Bench) -> None:
        assert bench.run("finish(); open(report, 'w').close()").outcome.reason == "missing-output"

    def test_environment_holds_nothing_of_ours(self, bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MEDPERF_SECRET_TOKEN", "hush")
        trial = bench.run("finish(); print(sorted(os.environ)); print(os.environ)")
        assert trial.outcome.ok, trial.log
        assert "hush" not in trial.log

    # ------------------------------------------------------------------------------------------------------- network

    _DIAL = """
attempt("tcp", lambda: socket.create_connection(("127.0.0.1", PORT), timeout=1).close())
attempt("outside", lambda: socket.create_connection(("192.0.2.1", 9), timeout=1).close())
attempt("dns", lambda: socket.getaddrinfo("example.org", 80))
def dial(address):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(address)
attempt("unix", lambda: dial(PATH))
attempt("abstract", lambda: dial("\\0" + NAME))
finish()
"""

    def _dial(self, bench: Bench, policy: ConfinementPolicy | None = None) -> Trial:
        name = f"medperf-{os.getpid()}-{time.monotonic_ns()}"
        path = bench.folder / "socket"
        with (
            socket.create_server(("127.0.0.1", 0)) as tcp,
            socket.socket(socket.AF_UNIX) as unix,
            socket.socket(socket.AF_UNIX) as abstract,
        ):
            unix.bind(str(path))
            path.chmod(0o777)
            unix.listen()
            abstract.bind("\0" + name)
            abstract.listen()
            code = (
                self._DIAL.replace("PORT", str(tcp.getsockname()[1]))
                .replace("PATH", repr(str(path)))
                .replace("NAME", repr(name))
            )
            return bench.run(code, policy=policy)

    def test_no_network(self, bench: Bench) -> None:
        trial = self._dial(bench)
        assert trial.outcome.ok, trial.log
        assert "open:" not in trial.log
        assert trial.log.count("blocked:") == 5

    def test_the_network_probe_is_real(self, bench: Bench) -> None:
        """Without the rule the same program does get through, so the test above can fail."""
        trial = self._dial(bench, ConfinementPolicy(waived=frozenset({"no-network"})))
        assert "open:tcp" in trial.log
        assert "open:abstract" in trial.log

    def test_a_socket_among_the_inputs_opens_no_way(self, bench: Bench) -> None:
        path = bench.data / "s"
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(str(path))
            path.chmod(0o777)
            unix.listen()
            code = "one = socket.socket(socket.AF_UNIX)\nattempt('unix', lambda: one.connect(os.path.join(data, 's')))\nfinish()"
            try:
                trial = bench.run(code)
            except InvalidInput:
                return
            assert "open:" not in trial.log

    # --------------------------------------------------------------------------------------------------- the machine

    def test_inputs_cannot_be_written(self, bench: Bench) -> None:
        code = """
attempt("change", lambda: open(os.path.join(data, "case.txt"), "a"))
attempt("create", lambda: open(os.path.join(data, "new"), "w"))
attempt("remove", lambda: os.unlink(os.path.join(data, "case.txt")))
attempt("mode", lambda: os.chmod(os.path.join(data, "case.txt"), 0o777))
attempt("file", lambda: open(parameters, "a"))
attempt("project", lambda: open(__file__, "a"))
finish()
"""
        trial = bench.run(code)
        assert trial.outcome.ok, trial.log
        assert "open:" not in trial.log
        assert (bench.data / "case.txt").read_text() == "patient"

    def test_nothing_else_can_be_written(self, bench: Bench) -> None:
        code = """
for folder in ("/", "/usr", "/etc", "/dev", "/var", "/run", "/home", "/root", "/opt", "/mlcube_python", os.path.dirname(data)):
    attempt(folder, lambda: open(os.path.join(folder, "planted"), "w"))
for path in ("/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/dev/mem", "/dev/sda"):
    attempt(path, lambda: open(path, "r+b"))
open("/tmp/mine", "w").close()
open("/dev/shm/mine", "w").close()
finish()
"""
        trial = bench.run(code)
        assert trial.outcome.ok, trial.log
        assert "open:" not in trial.log

    def test_home_folders_and_secrets_are_not_there(self, bench: Bench) -> None:
        secret = bench.folder / "token"
        secret.write_text("hush")
        code = f"""
for path in ({str(secret)!r}, "/etc/shadow", "/etc/hosts", "/root/.bashrc", "/var/log"):
    attempt(path, lambda: os.stat(path))
print("homes", os.path.exists("/home"))
finish()
"""
        trial = bench.run(code)
        assert trial.outcome.ok, trial.log
        assert "open:" not in trial.log
        assert "homes False" in trial.log

    def test_no_privileges(self, bench: Bench) -> None:
        code = """
with open("/proc/self/status") as file:
    status = dict(line.rstrip("\\n").split(":\\t", 1) for line in file if ":\\t" in line)
print("caps", *(status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")))
print("nnp", status["NoNewPrivs"], "seccomp", status["Seccomp"], "uid", os.getuid() != 0)
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
print("unshare", libc.unshare(0x10000000), "mount", libc.mount(b"none", b"/tmp", b"tmpfs", 0, None), "ptrace", libc.ptrace(16, 1, 0, 0))
attempt("netlink", lambda: socket.socket(16, 3))
attempt("packet", lambda: socket.socket(17, 3))
attempt("vsock", lambda: socket.socket(40, 1))
finish()
"""
        trial = bench.run(code)
        assert trial.outcome.ok, trial.log
        assert "caps " + " ".join(["0" * 16] * 5) in trial.log
        assert "nnp 1 seccomp 2 uid True" in trial.log
        assert "unshare -1 mount -1 ptrace -1" in trial.log
        assert "open:" not in trial.log

    def test_processes_of_the_machine_are_hidden(self, bench: Bench) -> None:
        code = f"""
pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
print("count", len(pids))
attempt("signal", lambda: os.kill({os.getpid()}, 0))
finish()
"""
        trial = bench.run(code)
        assert trial.outcome.ok, trial.log
        assert int(trial.log.split("count ")[1].split()[0]) <= 5
        assert "open:" not in trial.log

    # --------------------------------------------------------------------------------------------------- time and end

    def test_time_limit_with_a_last_word(self, bench: Bench) -> None:
        code = """
import signal
def leave(number, frame):
    print("leaving", flush=True); sys.exit(0)
signal.signal(signal.SIGTERM, leave)
finish()
while True: time.sleep(1)
"""
        trial = bench.run(code, wall_seconds=0.6, grace_seconds=5.0)
        assert trial.outcome.reason == "time-limit"
        assert "leaving" in trial.log
        assert trial.outcome.seconds < 4

    def test_time_limit_when_sigterm_is_ignored(self, bench: Bench) -> None:
        code = (
            "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('busy', flush=True)\nwhile True: pass"
        )
        trial = bench.run(code, wall_seconds=0.5)
        assert trial.outcome.reason == "time-limit"
        assert 0.5 <= trial.outcome.seconds < 4

    def test_daemons_do_not_outlive_the_task(self, bench: Bench) -> None:
        bench.out = bench.out.parent / f"token-{time.monotonic_ns()}"
        code = """
finish()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        while True: time.sleep(1)
    os._exit(0)
os.wait()
"""
        trial = bench.run(code)
        assert trial.outcome.ok, trial.log
        assert processes_with(bench.out.name) == []
        assert trial.outcome.seconds < 10

    def test_cancel_ends_it_promptly(self, bench: Bench) -> None:
        cancel = threading.Event()

        def watch() -> None:
            until(lambda: (bench.out / "started").exists(), 10)
            cancel.set()

        watcher = threading.Thread(target=watch)
        watcher.start()
        trial = bench.run("started()\nwhile True: time.sleep(1)", cancel=cancel)
        watcher.join()
        assert trial.outcome.reason == "cancelled"
        assert trial.outcome.seconds < 5

    def test_two_runs_at_once_do_not_see_each_other(self, bench: Bench, mode: Mode) -> None:
        folder = Path(tempfile.mkdtemp(prefix="medperf-contract-"))
        other = Bench(self.make_engine, mode, folder)
        code = """
finish()
for _ in range(20):
    time.sleep(0.01)
print("count", len([name for name in os.listdir("/proc") if name.isdigit()]), os.listdir(os.path.dirname(out)))
"""
        try:
            if mode.uid is not None:  # that helper forks, which is not for threads
                assert bench.run(code).outcome.ok
                return
            with concurrent.futures.thread.ThreadPoolExecutor(2) as pool:
                trials = [future.result() for future in [pool.submit(bench.run, code), pool.submit(other.run, code)]]
            for trial in trials:
                assert trial.outcome.ok, trial.log
                assert int(trial.log.split("count ")[1].split()[0]) <= 5
        finally:
            remove(folder)

    def test_our_own_death_ends_it(self, bench: Bench) -> None:
        token = f"token-{time.monotonic_ns()}"
        bench.out = bench.out.parent / token
        bench.start_and_kill("started()\nos.fork()\nwhile True: time.sleep(1)")
        assert until(lambda: processes_with(token) == [], 3)

    # -------------------------------------------------------------------------------------------------------- limits

    def test_memory_of_one_process(self, bench: Bench) -> None:
        code = "finish()\nhold = []\nwhile True: hold.append(bytearray(8 * 1024**2))"
        trial = bench.run(code, memory_bytes=96 * 1024**2)
        assert trial.outcome.reason == "memory-limit", (trial.outcome, trial.log)

    def test_memory_of_many_processes(self, bench: Bench) -> None:
        code = """
finish()
for _ in range(4):
    if os.fork() == 0:
        hold = [bytearray(b"x" * 1024**2) for _ in range(70)]
        time.sleep(20)
time.sleep(20)
"""
        trial = bench.run(code, memory_bytes=160 * 1024**2, wall_seconds=10.0)
        assert trial.outcome.reason == "memory-limit", trial.outcome
        assert trial.outcome.seconds < 5
        assert trial.outcome.peak_memory_bytes is None or trial.outcome.peak_memory_bytes < 300 * 1024**2

    def test_fork_bomb(self, bench: Bench) -> None:
        code = """
made = 0
try:
    while made < 300:
        if os.fork() == 0:
            time.sleep(20); os._exit(0)
        made += 1
except OSError as error:
    print("stopped", error)
print("made", made)
finish()
os._exit(0)
"""
        trial = bench.run(code, pids=32)
        assert trial.outcome.ok, trial.log
        assert int(trial.log.split("made ")[1].split()[0]) <= 33

    def test_one_large_file(self, bench: Bench) -> None:
        code = """
finish()
with open(os.path.join(out, "large"), "wb") as file:
    for _ in range(64): file.write(b"x" * 1024**2); file.flush()
"""
        trial = bench.run(code, output_bytes=8 * 1024**2)
        assert trial.outcome.reason == "output-limit", (trial.outcome, trial.log)
        assert not (trial.out / "large").exists()

    def test_many_large_files(self, bench: Bench) -> None:
        code = """
finish()
for number in range(400):
    with open(os.path.join(out, str(number)), "wb") as file: file.write(b"x" * 4 * 1024**2)
while True: time.sleep(1)
"""
        trial = bench.run(code, output_bytes=24 * 1024**2)
        assert trial.outcome.reason == "output-limit", (trial.outcome, trial.log)
        assert not any(trial.out.iterdir())
        assert trial.outcome.seconds < 10

    def test_deleted_files_count(self, bench: Bench) -> None:
        code = """
finish()
hold = []
for number in range(60):
    path = os.path.join(out, str(number))
    hold.append(open(path, "wb")); os.unlink(path); hold[-1].write(b"x" * 4 * 1024**2); hold[-1].flush()
    time.sleep(0.01)
while True: time.sleep(1)
"""
        assert bench.run(code, output_bytes=24 * 1024**2, wall_seconds=8.0).outcome.reason == "output-limit"

    @pytest.mark.parametrize("how", ["mapped", "sent"])
    def test_deleted_files_count_wherever_they_are_held(self, bench: Bench, how: str) -> None:
        code = """
import array, ctypes
libc = ctypes.CDLL(None)
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
hold = []
def keep(descriptor):
    if how == "mapped":
        libc.mmap(None, 4096, 1, 1, descriptor, 0)
    else:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))])
        hold.append(theirs)
def fill():
    for number in range(25):
        path = os.path.join(out, str(number))
        with open(path, "w+b") as file:
            file.write(b"x" * 4 * 1024**2); file.flush()
            os.unlink(path)
            keep(file.fileno())
        time.sleep(0.01)
    time.sleep(8)
finish()
fill()
"""
        outcome = bench.run(f"how = {how!r}\n{code}", output_bytes=24 * 1024**2, wall_seconds=8.0).outcome
        assert outcome.reason == "output-limit", outcome

    def test_many_files(self, bench: Bench) -> None:
        code = """
finish()
for number in range(100000): open(os.path.join(out, str(number)), "w").close()
"""
        trial = bench.run(code, output_files=500)
        assert trial.outcome.reason == "output-limit", (trial.outcome, trial.log)

    def test_temporary_space(self, bench: Bench) -> None:
        code = """
def fill(path):
    with open(path, "wb", buffering=0) as file:
        for _ in range(40):
            if file.write(b"x" * 1024**2) < 1024**2: raise OSError(28, "full")
attempt("tmp", lambda: fill("/tmp/large"))
os.unlink("/tmp/large")
attempt("shm", lambda: fill("/dev/shm/large"))
finish()
"""
        trial = bench.run(code, tmp_bytes=8 * 1024**2)
        assert trial.outcome.ok, trial.log
        assert "open:" not in trial.log

    def test_log_flood(self, bench: Bench) -> None:
        code = "print('first line', flush=True)\nfor _ in range(400): os.write(1, b'spam\\n' * 20000)\nprint('last line')\nfinish()"
        trial = bench.run(code, log_bytes=64 * 1024)
        assert trial.outcome.ok, trial.log[-300:]
        assert trial.outcome.log_truncated
        assert trial.outcome.log.stat().st_size <= 64 * 1024
        assert trial.log.startswith("first line")
        assert trial.log.endswith("last line\n")
        assert trial.outcome.seconds < 5

    # ------------------------------------------------------------------------------------------------------- outputs

    @pytest.mark.parametrize(
        "code",
        [
            "os.symlink('/etc/passwd', os.path.join(out, 'link'))",
            "os.symlink('/', os.path.join(out, 'folder'))",
            "os.link(os.path.join(out, 'result.txt'), os.path.join(out, 'again'))",
            "os.mkfifo(os.path.join(out, 'pipe'))",
            "socket.socket(socket.AF_UNIX).bind(os.path.join(out, 'socket'))",
            "open(os.path.join(out, 'new\\nline'), 'w').close()",
            "open(os.path.join(os.fsencode(out), b'\\xff'), 'w').close()",
            "os.unlink(report); os.symlink('/etc/passwd', report)",
        ],
        ids=[
            "link",
            "link-to-folder",
            "hard-link",
            "pipe",
            "socket",
            "control-character",
            "not-utf-8",
            "file-output-is-link",
        ],
    )
    def test_what_is_not_plain_is_refused(self, bench: Bench, code: str) -> None:
        trial = bench.run(f"finish()\n{code}")
        if "mkfifo" in code and trial.outcome.reason == "exit":
            return  # it could not even be made
        assert trial.outcome.reason == "bad-output", (trial.outcome, trial.log)
        assert not trial.out.exists() or not any(trial.out.iterdir())
        assert not trial.report.is_symlink()

    def test_endless_nesting_is_refused(self, bench: Bench) -> None:
        code = "finish()\nos.chdir(out)\nfor _ in range(1500):\n    os.mkdir('d'); os.chdir('d')"
        trial = bench.run(code)
        assert trial.outcome.reason in ("bad-output", "output-limit")
        assert not any(trial.out.iterdir())

    def test_modes_are_made_plain(self, bench: Bench) -> None:
        code = """
path = os.path.join(out, "tool")
open(path, "w").close()
attempt("setuid", lambda: os.chmod(path, 0o6777))
os.mkdir(os.path.join(out, "closed"), 0)
os.chmod(os.path.join(out, "result.txt"), 0) if os.path.exists(os.path.join(out, "result.txt")) else None
finish()
os.chmod(os.path.join(out, "result.txt"), 0)
"""
        trial = bench.run(code)
        assert trial.outcome.ok, trial.log
        assert "open:setuid" not in trial.log
        for name in ("tool", "result.txt", "closed"):
            mode = (trial.out / name).stat().st_mode
            assert mode & 0o7000 == 0
            assert mode & 0o600 == 0o600
        assert (trial.out / "closed").stat().st_mode & 0o700 == 0o700

    def test_access_lists_and_attributes_do_not_outlive_the_task(self, bench: Bench) -> None:
        code = """
import struct
everything = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, 7, 2**32 - 1) for tag in (1, 4, 0x20))
finish()
for path in (out, os.path.join(out, "result.txt"), report):
    for name, value in (("system.posix_acl_default", everything), ("user.note", b"x")):
        attempt(name, lambda: os.setxattr(path, name, value))
"""
        trial = bench.run(code)
        assert trial.outcome.ok, trial.log
        for path in (trial.out, trial.out / "result.txt", trial.report):
            assert not [name for name in os.listxattr(path) if name.startswith(("user.", "system."))]

    def test_a_file_that_was_taken_away_is_missing(self, bench: Bench) -> None:
        bench.report.write_text("part: 1")
        assert bench.run("finish()\nos.unlink(report)").outcome.reason == "missing-output"

    def test_a_folder_that_was_filled_is_continued(self, bench: Bench) -> None:
        bench.out.mkdir()
        (bench.out / "earlier.txt").write_text("kept")
        bench.report.write_text("part: 1")
        code = "print('found', open(os.path.join(out, 'earlier.txt')).read(), open(report).read())\nfinish()"
        trial = bench.run(code)
        assert trial.outcome.ok, trial.log
        assert "found kept part: 1" in trial.log
        assert (trial.out / "earlier.txt").read_text() == "kept"
        assert trial.report.read_text() == "done: true"
