"""One run of bubblewrap from start to the last process gone, on a thread of its own."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import resource
import select
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from medperf.domain.errors import MedPerfError
from medperf.runtime.engines.base import Reason
from medperf.runtime.engines.sandbox.cgroups import Controllers, Group, make_group
from medperf.runtime.engines.sandbox.job import Job, bwrap_arguments
from medperf.runtime.engines.sandbox.log import CappedLog
from medperf.runtime.engines.sandbox.seccomp import filter_path
from medperf.runtime.engines.sandbox.staging import OwnerMaps, Stage
from medperf.runtime.engines.sandbox.watch import MemoryWatch, OutputWatch, descendants

_TICK = 0.015  # seconds between looks at the clock, the cancel event and the outputs
_CANCEL_GRACE = 1.0
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Host:
    """What this account can do here: the programs, who the sandbox runs as, and where limits are set."""

    bwrap: str
    prlimit: str
    drop_to: tuple[int, int] | None  # root only: uid and gid
    owners: OwnerMaps | None  # root only: for `Stage`
    controllers: Controllers | None


@dataclass
class Ended:
    """How the program ended, before its outputs are looked at. ``started`` False: bubblewrap itself failed."""

    reason: Reason = "engine"
    exit_code: int | None = None
    seconds: float = 0.0
    started: bool = False
    truncated: bool = False
    peak: int | None = None
    message: str = ""


def run_job(host: Host, job: Job, *, log: Path, cancel: threading.Event) -> Ended:
    """Run to the end. Nothing of it is alive afterwards.

    The thread that starts bubblewrap must outlive it (the kernel ends it with that thread) and leaves the machine's mount
    table, so it is one of its own.

    Raises:
        MedPerfError: a source cannot be shown to the sandbox, or a limit cannot be set.
        OSError: bubblewrap cannot be started.
    """
    result: list[Ended | BaseException] = []
    stop, done = threading.Event(), threading.Event()

    def work() -> None:
        try:
            result.append(_Session(host, job, log, (cancel, stop)).run())
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread
            result.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=work, name="medperf-sandbox")
    thread.start()
    try:
        done.wait()  # not join(): Python takes a thread whose join was interrupted for ended
    except BaseException:  # Ctrl-C: end the program first, whatever else is pressed meanwhile
        stop.set()
        while not done.is_set():
            with contextlib.suppress(KeyboardInterrupt):
                done.wait()
        raise
    finally:
        thread.join()
    (ended,) = result
    if isinstance(ended, BaseException):
        raise ended
    return ended


class _Session:
    def __init__(self, host: Host, job: Job, log: Path, cancels: tuple[threading.Event, ...]) -> None:
        self._host, self._job, self._log_path, self._cancels = host, job, log, cancels
        self._limits = job.policy.limits
        self._waived = job.policy.waived
        self._child = -1  # process 1 of the sandbox, as the host numbers it
        self._child_fd = -1
        self._status = b""
        self._ended = Ended()
        self._files: list[int] = []  # descriptors that bubblewrap reads

    def run(self) -> Ended:
        with contextlib.ExitStack() as stack:
            group = stack.enter_context(self._group())
            log = CappedLog(self._log_path, self._limits.log_bytes)
            try:
                self._supervise(group, log, stack, self._output_watch(stack))
            finally:
                self._ended.truncated = log.close()
            if group is not None:
                self._ended.peak = group.peak_memory()
                if group.out_of_memory() and self._ended.reason in ("ok", "exit", "signal"):
                    self._ended.reason = "memory-limit"
                    self._ended.message = f"it needed more than {self._limits.memory_bytes:,} bytes of memory"
        return self._ended

    @contextlib.contextmanager
    def _group(self) -> Iterator[Group | None]:
        if self._host.controllers is None:
            yield None
            return
        group = make_group(self._host.controllers, self._limits)
        try:
            yield group
        finally:
            group.remove()

    def _output_watch(self, stack: contextlib.ExitStack) -> OutputWatch:
        folders = []
        for path in self._job.outputs if "output-limit" not in self._waived else ():
            folders.append(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            stack.callback(os.close, folders[-1])
        return OutputWatch(tuple(folders), self._limits)

    # ------------------------------------------------------------------------------------------------------- start

    def _start(self, stack: contextlib.ExitStack) -> tuple[subprocess.Popen[bytes], int, int, int]:
        """Start bubblewrap; returns it and our ends: log, status, gate."""
        stage = None
        if self._host.owners is not None:
            with contextlib.suppress(
                OSError
            ):  # without the right to mount, plain paths serve where others may read them
                stage = Stage(self._host.owners)
                stack.callback(stage.close)

        def place(path: Path, mapped: bool, writable: bool) -> str:
            return stage.add(path, mapped=mapped, read_only=not writable) if stage is not None else os.fspath(path)

        stack.callback(self._close_files)
        arguments = bwrap_arguments(self._job, place=place, data=self._data)
        (log_read, log_write), (status_read, status_write), (gate_read, gate_write) = os.pipe(), os.pipe(), os.pipe()
        for descriptor in (log_read, status_read):
            stack.callback(os.close, descriptor)
        ours = [log_write, status_write, gate_read]
        stack.callback(_close_all, ours)
        arguments += ["--json-status-fd", str(status_write)]
        if "seccomp" not in self._waived:
            arguments += ["--seccomp", str(self._filter())]
        packed = self._data(b"".join(os.fsencode(argument) + b"\0" for argument in arguments))
        if stage is not None:
            stage.open()
        guard = stack.enter_context(_guard())
        command = [self._host.bwrap, "--args", str(packed), "--", *self._limited(), *self._job.command]
        drop = self._host.drop_to
        identity = {"user": drop[0], "group": drop[1], "extra_groups": []} if drop else {}
        try:
            process = subprocess.Popen(  # type: ignore[call-overload] # the identity is keyword by keyword
                command,
                stdin=gate_read,
                stdout=log_write,
                stderr=log_write,
                pass_fds=(status_write, *self._files),
                process_group=guard,  # the terminal's Ctrl-C reaches us, not the program
                env={},
                cwd="/",
                **identity,
            )
        except BaseException:
            os.close(gate_write)
            raise
        _close_all(ours)
        self._close_files()
        return process, log_read, status_read, gate_write

    def _limited(self) -> list[str]:
        """Resource limits, then a gate: the program starts when we write a line, and never if we are gone by then."""
        limits = self._limits
        hard_files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        files = 4096 if hard_files == resource.RLIM_INFINITY else min(4096, hard_files)
        arguments = [
            self._host.prlimit,
            "--core=0",
            f"--nofile={files}",
            f"--fsize={min(limits.file_bytes, limits.output_bytes)}",
        ]
        if "process-limit" not in self._waived:
            arguments.append(f"--nproc={limits.pids + 1}")
        if self._host.controllers is None and "memory-limit" not in self._waived:
            # A process may not have more than all together; the watching parent sees to the sum.
            arguments.append(f"--data={limits.memory_bytes}")
        return [*arguments, "/bin/sh", "-c", 'read -r go && exec "$@" </dev/null', "sandbox"]

    def _filter(self) -> int:
        path = filter_path(platform.machine())
        if path is None:
            raise MedPerfError(
                "rule_not_enforced",
                f"There is no system call filter for {platform.machine()} machines, so the rule 'seccomp' cannot be enforced.",
                "Run on x86_64 or aarch64, or waive the rule 'seccomp' in the site's policy.",
            )
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._files.append(descriptor)
        return descriptor

    def _data(self, content: bytes) -> int:
        descriptor = os.memfd_create("medperf", os.MFD_CLOEXEC)
        os.write(descriptor, content)
        os.lseek(descriptor, 0, os.SEEK_SET)
        self._files.append(descriptor)
        return descriptor

    def _close_files(self) -> None:
        _close_all(self._files)

    # ------------------------------------------------------------------------------------------------------- watch

    def _supervise(
        self, group: Group | None, log: CappedLog, stack: contextlib.ExitStack, outputs: OutputWatch
    ) -> None:
        begin = time.monotonic()
        process, log_read, status_read, gate = self._start(stack)
        watched = _Watched(process, log_read, status_read, gate)
        try:
            self._loop(watched, group, log, outputs, begin)
        finally:
            self._kill(process)
            if watched.gate >= 0:
                os.close(watched.gate)
            process.wait()
            self._await_child()
            self._drain(log_read, log)
            self._read_status(status_read)
            self._ended.seconds = time.monotonic() - begin
        self._classify()

    def _loop(self, watched: _Watched, group: Group | None, log: CappedLog, outputs: OutputWatch, begin: float) -> None:
        os.set_blocking(watched.log, False)
        os.set_blocking(watched.status, False)
        monitor = os.pidfd_open(watched.process.pid)
        poll = select.poll()
        for descriptor in (watched.log, watched.status, monitor):
            poll.register(descriptor, select.POLLIN)
        memory = (
            MemoryWatch(self._limits.memory_bytes) if group is None and "memory-limit" not in self._waived else None
        )
        deadline = begin + self._limits.wall_seconds if "time-limit" not in self._waived else float("inf")
        kill_at = float("inf")
        try:
            while True:
                ready = {descriptor for descriptor, _ in poll.poll(_TICK * 1000)}
                if watched.log in ready and not self._copy(watched.log, log):
                    poll.unregister(watched.log)
                if watched.status in ready and not self._read_status(watched.status):
                    poll.unregister(watched.status)
                if self._child >= 0 and watched.gate >= 0:
                    self._open_gate(watched, group)
                if monitor in ready:
                    return
                now = time.monotonic()
                if now >= kill_at:
                    return
                if (
                    self._ended.reason == "engine"
                    and self._child >= 0
                    and self._judge(now >= deadline, outputs, memory, group)
                ):
                    grace = self._limits.grace_seconds
                    grace = {"time-limit": grace, "cancelled": min(grace, _CANCEL_GRACE)}.get(self._ended.reason, 0.0)
                    self._terminate()
                    kill_at = time.monotonic() + grace
        finally:
            os.close(monitor)
            if memory is not None:
                self._ended.peak = memory.peak or None

    def _judge(self, late: bool, outputs: OutputWatch, memory: MemoryWatch | None, group: Group | None) -> bool:
        """Whether it must end now; if so, why is in ``_ended``."""
        if any(event.is_set() for event in self._cancels):
            self._ended.reason = "cancelled"
        elif late:
            self._ended.reason = "time-limit"
            self._ended.message = f"it ran longer than {self._limits.wall_seconds:g} seconds"
        elif (memory is not None and memory.exceeded(self._child)) or (group is not None and group.out_of_memory()):
            self._ended.reason = "memory-limit"
            self._ended.message = f"it needed more than {self._limits.memory_bytes:,} bytes of memory"
        elif over := outputs.exceeded(self._child):
            self._ended.reason = "output-limit"
            self._ended.message = over
        return self._ended.reason != "engine"

    def _open_gate(self, watched: _Watched, group: Group | None) -> None:
        """Put the sandbox under its limits, then let the program start."""
        try:
            self._child_fd = os.pidfd_open(self._child)
            if group is not None:
                group.add(self._child)  # what it starts from here on is in; then what it had started before
                for pid in descendants(self._child)[1:]:
                    with contextlib.suppress(ProcessLookupError):
                        group.add(pid)
            cpus = self._limits.cpus
            if cpus is not None:
                for pid in descendants(self._child):
                    with contextlib.suppress(ProcessLookupError):
                        os.sched_setaffinity(pid, sorted(os.sched_getaffinity(0))[: max(1, int(cpus + 0.999))])
            with contextlib.suppress(BrokenPipeError):
                os.write(watched.gate, b"go\n")
        except ProcessLookupError:  # it failed before it began; its exit says why
            pass
        finally:
            os.close(watched.gate)
            watched.gate = -1

    # --------------------------------------------------------------------------------------------------------- end

    def _terminate(self) -> None:
        """SIGTERM to the program itself: a signal to bubblewrap would end everything without grace."""
        for pid in descendants(self._child)[1:]:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGTERM)

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        """SIGKILL to process 1 of the sandbox, which takes all others with it, and to bubblewrap outside."""
        if self._child_fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._child_fd, signal.SIGKILL)
        process.kill()

    def _await_child(self) -> None:
        """Bubblewrap outside may be gone before process 1 inside; that one is gone only after all of its own."""
        if self._child_fd < 0:
            return
        waiting = select.poll()
        waiting.register(self._child_fd, select.POLLIN)
        waiting.poll()
        os.close(self._child_fd)
        self._child_fd = -1

    def _copy(self, descriptor: int, log: CappedLog) -> bool:
        """Move what is there to the log; False at the end."""
        for _ in range(16):
            try:
                data = os.read(descriptor, _CHUNK)
            except BlockingIOError:
                return True
            if not data:
                return False
            log.write(data)
        return True

    def _drain(self, descriptor: int, log: CappedLog) -> None:
        os.set_blocking(descriptor, False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(descriptor, _CHUNK):
                log.write(data)

    def _read_status(self, descriptor: int) -> bool:
        """Take bubblewrap's reports; False at their end."""
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            return True
        self._status += data
        *lines, self._status = self._status.split(b"\n")
        for line in lines:
            report = json.loads(line)
            self._child = report.get("child-pid", self._child)
            self._ended.exit_code = report.get("exit-code", self._ended.exit_code)
        return bool(data)

    def _classify(self) -> None:
        ended = self._ended
        ended.started = ended.exit_code is not None or ended.reason != "engine"
        if not ended.started and any(event.is_set() for event in self._cancels):
            ended.reason = "cancelled"  # Ctrl-C took bubblewrap with us, before it was out of our process group
        if ended.reason != "engine" or ended.exit_code is None:
            return
        if ended.exit_code == 0:
            ended.reason = "ok"
        elif ended.exit_code > 128:
            ended.reason = "signal"
            ended.message = f"it was ended by signal {ended.exit_code - 128}"
        else:
            ended.reason = "exit"
            ended.message = f"it ended with exit code {ended.exit_code}"


@contextlib.contextmanager
def _guard() -> Iterator[int]:
    """A process group that is killed when this process ends within, however it ends; yields its number.

    Bubblewrap asks the kernel to end it with us, but not soon enough: killed by that, or by the closed pipe of its status,
    while its child waits to be told of its user ids, it leaves that child waiting for ever.
    """
    # Ctrl-C goes to our process group, which it is in until it has its own. It needs no signal that can be blocked.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", "read -r ended || kill -KILL 0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
            env={},
            cwd="/",
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with process:
        try:
            yield process.pid
        finally:
            process.communicate(b"ended\n")


@dataclass
class _Watched:
    process: subprocess.Popen[bytes]
    log: int
    status: int
    gate: int


def _close_all(descriptors: list[int]) -> None:
    """Close them, once."""
    while descriptors:
        os.close(descriptors.pop())
