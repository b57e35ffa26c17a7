"""Steps: done once, sealed by an atomic rename, held by a lease while they run."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medperf.domain.digests import Digest, canonical_json
from medperf.domain.errors import Conflict, InternalError
from medperf.workspace.database import Database
from medperf.workspace.files import (
    explained,
    make_private,
    remove,
    sweep_temporary,
    sync_folder,
    sync_tree,
    temporary_name,
)
from medperf.workspace.processes import Process


@dataclass(frozen=True)
class SealedStep:
    """A step that was done, whole. ``facts``: what the one who sealed it wrote down (JSON types)."""

    key: Digest
    task: str
    folder: Path
    facts: dict[str, Any]
    sealed_at: str

    @property
    def outputs(self) -> Path:
        """The folder with the outputs."""
        return self.folder / "outputs"


class StepFolder:
    """A step being done: fill `outputs`, write `log`, then `seal`."""

    def __init__(self, steps: Steps, key: Digest, task: str, folder: Path) -> None:
        self.key = key
        self.task = task
        self.folder = folder
        self.outputs = folder / "outputs"
        self.log = folder / "log"
        self._steps = steps
        self._sealed = False

    def seal(self, facts: dict[str, Any]) -> SealedStep:
        """Keep the outputs for good. Only for a step that succeeded.

        Args:
            facts: JSON types; what later readers want to know beside the outputs.

        Raises:
            MedPerfError: ``disk_full``; nothing is kept.
        """
        if self._sealed:
            raise InternalError("sealed_twice", f"The step {self.key} was sealed twice.")
        sealed = self._steps._seal(self, facts)  # noqa: SLF001 - the folder is the other half of Steps
        self._sealed = True
        return sealed


class Steps:
    """All steps of a workspace, below ``steps/``."""

    def __init__(self, folder: Path, database: Database) -> None:
        self._folder = folder
        self._database = database

    def lookup(self, key: Digest) -> SealedStep | None:
        """The sealed step, if its outputs are exactly those that were sealed; one that was touched or is gone is forgotten."""
        for _ in range(2):  # a second look: another process may seal it anew between reading the row and the folder
            with self._database.reading() as connection:
                row = (
                    connection.execute(
                        "SELECT task, facts, outputs, sealed_at FROM steps WHERE key = ?", (key,)
                    ).fetchone()
                    if connection
                    else None
                )
            if row is None:
                return None
            task, facts, outputs, sealed_at = row
            folder = self._folder / key.hex
            if _index(folder / "outputs") == outputs:
                return SealedStep(key, task, folder, json.loads(facts), sealed_at)
        with self._database.writing() as connection:
            connection.execute("DELETE FROM steps WHERE key = ? AND outputs = ?", (key, outputs))
        return None

    @contextlib.contextmanager
    def begin(self, key: Digest, *, task: str, wait: Callable[[Conflict], None] | None = None) -> Iterator[StepFolder]:
        """Hold the step and get a fresh folder for it. Leaving without `StepFolder.seal` removes the folder.

        Args:
            wait: called while a living process holds the step, again and again until it does not: pauses a little, or raises.
                Whoever waited looks the step up again: it was probably sealed meanwhile. None: nobody waits.

        Raises:
            Conflict: ``step_running``: a living process is doing this very step, and ``wait`` is None.
            MedPerfError: the workspace cannot be written.
        """
        self._database.prepare()
        me = Process.current()
        while True:
            try:
                taken_over = self._take_lease(key, task, me)
                break
            except Conflict as held:
                if wait is None:
                    raise
                wait(held)
        if taken_over:
            sweep_temporary(self._folder)  # it died after this process swept: what it was filling lies there still
        folder = self._folder / temporary_name()
        try:
            with explained(self._folder):
                make_private(self._folder)
                folder.mkdir(mode=0o700)
                (folder / "outputs").mkdir(mode=0o755)
            yield StepFolder(self, key, task, folder)
        finally:
            remove(folder)
            with self._database.writing() as connection:
                connection.execute("DELETE FROM leases WHERE key = ? AND holder = ?", (key, me.token))

    def ls(self) -> list[SealedStep]:
        """All sealed steps, oldest first, for whoever cleans up; whether their outputs are intact is not looked at."""
        with self._database.reading() as connection:
            rows = (
                connection.execute("SELECT key, task, facts, sealed_at FROM steps ORDER BY sealed_at").fetchall()
                if connection
                else []
            )
        return [
            SealedStep(Digest(key), task, self._folder / Digest(key).hex, json.loads(facts), sealed_at)
            for key, task, facts, sealed_at in rows
        ]

    def folder(self, key: Digest) -> Path:
        """Where the outputs of this step lie, if it was sealed."""
        return self._folder / key.hex

    def holds(self, key: Digest) -> bool:
        """Whether outputs of this step lie here, intact or not."""
        return self.folder(key).is_dir()

    def running(self) -> list[tuple[str, int]]:
        """What living processes are doing: task and process id."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT task, holder FROM leases").fetchall() if connection else []
        holders = [(task, Process.parse(holder)) for task, holder in rows]
        return [(task, holder.pid) for task, holder in holders if holder is not None and holder.alive]

    def remove(self, key: Digest) -> bool:
        """Forget a sealed step and delete its outputs. A kill in between leaves nothing that would be taken for a step."""
        trash = self._folder / temporary_name()
        with self._database.writing() as connection, explained(self._folder):
            known = connection.execute("DELETE FROM steps WHERE key = ?", (key,)).rowcount
            with contextlib.suppress(FileNotFoundError):
                (self._folder / key.hex).rename(trash)
        remove(trash)
        return bool(known)

    def sweep(self) -> int:
        """Remove folders and leases of dead processes, and folders that no row names. Returns how many."""
        removed = 0
        orphans = []
        with self._database.writing() as connection:
            for (holder,) in connection.execute("SELECT DISTINCT holder FROM leases").fetchall():
                maker = Process.parse(holder)
                if maker is None or not maker.alive:
                    removed += connection.execute("DELETE FROM leases WHERE holder = ?", (holder,)).rowcount
            # Inside the transaction: a process that seals holds the same lock from its rename to its row.
            if self._folder.is_dir():
                known = {Digest(key).hex for (key,) in connection.execute("SELECT key FROM steps")}
                names = {path.name for path in self._folder.iterdir()}
                for name in names - known:
                    if len(name) == 64:
                        trash = self._folder / temporary_name()
                        (self._folder / name).rename(trash)
                        orphans.append(trash)
        for trash in orphans:
            remove(trash)
        return removed + len(orphans) + sweep_temporary(self._folder)

    def _take_lease(self, key: Digest, task: str, me: Process) -> bool:
        """Whether it was taken over from a process that died."""
        with self._database.writing() as connection:
            row = connection.execute("SELECT holder, taken_at FROM leases WHERE key = ?", (key,)).fetchone()
            holder = Process.parse(row[0]) if row else None
            if holder is not None and holder.alive:
                raise Conflict(
                    "step_running",
                    f"The step {task} is being done by process {holder.pid} since {row[1]}.",
                    f"Wait until it ends, then run the same command again (or end it: kill {holder.pid}).",
                    details={"pid": holder.pid, "key": str(key), "task": task},
                )
            connection.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?)", (key, task, me.token, _now()))
        return row is not None

    def _seal(self, step: StepFolder, facts: dict[str, Any]) -> SealedStep:
        final = self._folder / step.key.hex
        sealed_at = _now()
        text = canonical_json(facts).decode()
        with explained(self._folder):
            (step.folder / "facts.json").write_bytes(
                canonical_json({"key": step.key, "task": step.task, "facts": facts, "sealed_at": sealed_at}) + b"\n"
            )
            sync_tree(step.folder)
        outputs = _index(step.outputs)
        if outputs is None:
            raise InternalError("no_outputs", f"The step {step.task} lost its outputs folder.")
        trash: Path | None = None
        # A kill before the commit leaves a folder without its row, or with an older row that does not match it: never a step.
        with self._database.writing() as connection, explained(self._folder):
            if final.exists():
                trash = self._folder / temporary_name()
                final.rename(trash)
            step.folder.rename(final)
            sync_folder(self._folder)
            connection.execute(
                "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?)", (step.key, step.task, text, outputs, sealed_at)
            )
        if trash is not None:
            remove(trash)
        return SealedStep(step.key, step.task, final, json.loads(text), sealed_at)


def _index(folder: Path) -> str | None:
    """Digest over path, type, size, mtime, ctime and inode of everything below ``folder``; None when it is not there."""
    try:
        if not os.path.samestat(folder.lstat(), folder.stat()):
            return None
    except FileNotFoundError:
        return None
    found: list[list[Any]] = []
    stack = [("", os.fspath(folder))]
    while stack:
        prefix, place = stack.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                name = prefix + entry.name
                info = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    found.append([os.fsencode(name).hex(), "d", info.st_ino])
                    stack.append((name + "/", entry.path))
                else:
                    found.append(
                        [
                            os.fsencode(name).hex(),
                            info.st_mode,
                            info.st_size,
                            info.st_mtime_ns,
                            info.st_ctime_ns,
                            info.st_ino,
                        ]
                    )
    return str(Digest.of_document(sorted(found, key=lambda item: str(item[0]))))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
