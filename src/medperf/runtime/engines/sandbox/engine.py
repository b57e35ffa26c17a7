"""The engine ``sandbox``: tasks of the ``python:`` form, under bubblewrap, as root or as an ordinary user."""

from __future__ import annotations

import contextlib
import os
import platform
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

from medperf.domain.confinement import ConfinementPolicy
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput, MedPerfError
from medperf.domain.events import Emit, ignore
from medperf.runtime.engines.base import CubeFiles, EngineReport, Form, PreparedForm, TaskOutcome, TaskRun
from medperf.runtime.engines.sandbox.cgroups import find_controllers, sweep
from medperf.runtime.engines.sandbox.job import PROJECT, VENV, Bind, Job, site_packages
from medperf.runtime.engines.sandbox.outputs import Outputs
from medperf.runtime.engines.sandbox.session import Ended, Host, run_job
from medperf.runtime.engines.sandbox.staging import OwnerMaps
from medperf.runtime.images.interpreters import Interpreter, find_interpreter, tool
from medperf.runtime.images.wheels import Environment, Wheels
from medperf.runtime.logs import last_lines
from medperf.runtime.trees import special_entry

#: The host user a root caller's tasks run as. It needs no entry in the user table; not 65534, which file systems favour.
DROP_ID = 64001


@dataclass(frozen=True)
class Handle:
    """What `SandboxEngine.prepare` found. ``environment`` None: no requirements."""

    interpreter: Interpreter
    environment: Environment | None


class SandboxEngine:
    """Runs ``python:`` projects under bubblewrap.

    Args:
        cache: folder for wheels and unpacked environments (content-addressed, shared by processes).
        wheelhouse: a folder of wheels to use instead of a package index.
        cgroups: False: never use control groups; None or True: where this account may.
        drop_id: the host user and group a root caller's tasks run as.
    """

    name = "sandbox"
    form: Form = "python"

    def __init__(
        self, *, cache: Path, wheelhouse: Path | None = None, cgroups: bool | None = None, drop_id: int = DROP_ID
    ) -> None:
        self._cache = cache
        self._wheels = Wheels(cache=cache, wheelhouse=wheelhouse)
        self._cgroups = cgroups is not False
        self._drop = (drop_id, drop_id) if os.geteuid() == 0 else None
        self._owners = OwnerMaps(drop_id, drop_id) if self._drop else None
        self._host: Host | None = None
        self._lock = threading.Lock()
        self._looks: dict[Digest, Future[bool]] = {}

    def probe(self) -> EngineReport:
        """Is bubblewrap usable here, and how is each rule enforced? Runs a program of nothing. Never raises."""
        from medperf.runtime.engines.sandbox.probe import report

        return report(self)

    def host(self) -> Host:
        """What this account can do here, found once.

        Raises:
            MedPerfError: a program is missing.
        """
        with self._lock:
            if self._host is None:
                programs = {name: tool(name) for name in ("bwrap", "prlimit")}
                for name, package in (("bwrap", "bubblewrap"), ("prlimit", "util-linux")):
                    if programs[name] is None:
                        raise MedPerfError(
                            "engine_missing",
                            f"The sandbox needs the program {name}, which is not installed.",
                            f"apt-get install {package}",
                        )
                controllers = find_controllers() if self._cgroups else None
                if controllers is not None:
                    sweep(controllers)
                self._host = Host(
                    str(programs["bwrap"]), str(programs["prlimit"]), self._drop, self._owners, controllers
                )
            return self._host

    def prepare(self, cube: CubeFiles, *, emit: Emit = ignore) -> PreparedForm:
        """Find the interpreter, fetch and unpack the wheels. With all there already: some file stats, no process.

        Raises:
            InvalidInput: no ``python:`` form, no fitting interpreter, requirements that are not locked.
            MedPerfError: wheels cannot be fetched.
        """
        form = cube.manifest.python
        if form is None or cube.project is None:
            raise InvalidInput(
                "no_python_form",
                f"The MLCube {cube.manifest.name!r} has no 'python:' section, which the engine 'sandbox' runs.",
                "Use an engine for its image (docker, podman, apptainer), or ask its owner to add a 'python:' section.",
            )
        interpreter = find_interpreter(form.requires_python, label=f"The MLCube {cube.manifest.name!r}")
        environment = None
        if form.requirements is not None:
            environment = self._wheels.ensure(
                cube.project / form.requirements, interpreter, compiler=self._compile, emit=emit
            )
        digests = {
            "interpreter": interpreter.digest(self._cache),
            "wheels": environment.digest if environment else Digest.of(b""),
            "architecture": platform.machine(),
        }
        return PreparedForm(form="python", digests=digests, handle=Handle(interpreter, environment))

    def run(
        self,
        cube: CubeFiles,
        prepared: PreparedForm,
        run: TaskRun,
        *,
        cancel: threading.Event,
        emit: Emit = ignore,  # noqa: ARG002 - the contract has it
    ) -> TaskOutcome:
        """See `Engine.run`. On KeyboardInterrupt everything is ended and cleaned up before it is raised again.

        Raises:
            InvalidInput: an input is missing, of the wrong type, wants to be written, or holds a socket, pipe or device.
            MedPerfError: a rule cannot be enforced here, or bubblewrap cannot start.
        """
        host = self.host()
        form = cube.manifest.python
        handle: Handle = prepared.handle
        if form is None or cube.project is None:
            raise InvalidInput("no_python_form", "This MLCube has no 'python:' section.", "Use another engine.")
        _check_inputs(cube, run)
        with Outputs(run.mounts, owner=self._drop) as outputs:
            command = [f"{VENV}/bin/python", f"{PROJECT}/{form.entrypoint}", run.task]
            command += [f"--{mount.parameter}={outputs.inside(index)}" for index, mount in enumerate(run.mounts)]
            binds = [Bind(cube.project, PROJECT, mapped=True)]
            if handle.environment is not None:
                binds.append(Bind(handle.environment.site, site_packages(handle.interpreter)))
            job = Job(
                command=tuple(command),
                binds=(*binds, *outputs.binds()),
                policy=run.policy,
                interpreter=handle.interpreter,
                environment=run.environment,
                folder=PROJECT,
            )
            with self._verified(handle.environment):
                ended = run_job(host, job, log=run.log, cancel=cancel)
            if not ended.started:
                raise MedPerfError(
                    "sandbox_failed",
                    f"bubblewrap could not start the task: {' '.join(last_lines(run.log, lines=3)) or 'it gave no reason'}.",
                    "Run 'medperf doctor' to see what is missing.",
                )
            ended = _explain(outputs.collect(ended, run.policy), run)
        return TaskOutcome(
            reason=ended.reason,
            exit_code=ended.exit_code,
            seconds=ended.seconds,
            log=run.log,
            log_truncated=ended.truncated,
            peak_memory_bytes=ended.peak,
            message=ended.message,
        )

    @contextlib.contextmanager
    def _verified(self, environment: Environment | None) -> Iterator[None]:
        """Look at every file of the environment while the task runs, which costs it no time; what was changed does not count.

        Raises:
            MedPerfError: a file is not the one that was unpacked.
        """
        if environment is None:
            yield
            return
        with self._lock:
            look = self._looks.get(environment.digest)
            if look is None or look.done():  # one under way serves all that start beside it
                pool = ThreadPoolExecutor(1, thread_name_prefix="medperf-verify")
                look = self._looks[environment.digest] = pool.submit(self._wheels.verify, environment)
                pool.shutdown(wait=False)
        try:
            yield
        finally:
            wait([look])
        if not look.result():
            raise MedPerfError(
                "environment_changed",
                f"The unpacked packages in {environment.site} were changed by somebody; this run does not count.",
                "Run the same command again: they are unpacked anew.",
            )

    def _compile(self, site: Path, interpreter: Interpreter) -> None:
        """Compile a fresh environment to bytecode, inside the sandbox: nothing of the wheels is imported, and a fault costs only speed."""
        policy = ConfinementPolicy().with_limits(wall_seconds=900.0, output_files=4_000_000)
        target = site_packages(interpreter)
        quiet = ("-q", "-q", "-j", "0", "--invalidation-mode", "unchecked-hash")
        job = Job(
            command=(interpreter.executable, "-I", "-S", "-m", "compileall", *quiet, target),
            binds=(Bind(site, target, writable=True),),
            policy=policy,
            interpreter=interpreter,
        )
        with Outputs.of_folder(site, owner=self._drop) as outputs:
            log = site.parent / "compile.log"
            ended = run_job(self.host(), job, log=log, cancel=threading.Event())
            outputs.collect(ended, policy)
            log.unlink(missing_ok=True)


def _check_inputs(cube: CubeFiles, run: TaskRun) -> None:
    task = cube.manifest.tasks.get(run.task)
    if task is None:
        raise InvalidInput(
            "unknown_task",
            f"The MLCube {cube.manifest.name!r} has no task {run.task!r}.",
            f"It has {', '.join(cube.manifest.tasks)}.",
        )
    for mount in run.mounts:
        if mount.output:
            continue
        declared = task.input(mount.parameter)
        if declared is not None and declared.writable_input:
            raise InvalidInput(
                "writable_input",
                f"Task {run.task!r} wants to write to its input {mount.parameter!r}; inputs are read-only.",
                "Ask the MLCube's owner to remove 'opts: rw' and to write to an output.",
            )
        is_right = mount.host.is_dir() if mount.type == "directory" else mount.host.is_file()
        if not is_right:
            raise InvalidInput(
                "missing_input",
                f"The input {mount.parameter!r} is no {mount.type}: {mount.host}.",
                "Give an existing path.",
            )
        found = special_entry(mount.host) if mount.type == "directory" else None
        if found is not None:
            raise InvalidInput(
                "special_input",
                f"The input {mount.parameter!r} holds a socket, pipe or device: {found}.",
                "Remove it: data are plain files.",
            )


def _explain(ended: Ended, run: TaskRun) -> Ended:
    """Without a control group the kernel refuses memory instead of killing; the program's last words tell."""
    if ended.reason in ("exit", "signal") and ended.peak is not None:
        words = " ".join(last_lines(run.log, lines=5))
        if any(word in words for word in ("MemoryError", "std::bad_alloc", "Cannot allocate memory")):
            return replace(
                ended,
                reason="memory-limit",
                message=f"it asked for more than {run.policy.limits.memory_bytes:,} bytes of memory",
            )
    return ended
