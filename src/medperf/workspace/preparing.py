"""Data on its way to a dataset: folders that a preparation fills, below ``preparing/``.

A preparation that can be continued keeps its folder over failures and kills. Any other works in a folder that is gone with its process,
until it is done and gets its name.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medperf.domain.digests import Digest, canonical_json
from medperf.domain.errors import InvalidInput
from medperf.workspace.database import Database
from medperf.workspace.files import (
    explained,
    make_private,
    remove,
    size_of,
    sweep_temporary,
    sync_folder,
    sync_tree,
    temporary_name,
)

#: What a finished preparation says of itself, beside its outputs.
FACTS = "facts.json"


def read_facts(folder: Path) -> dict[str, Any] | None:
    """What `PreparingFolder.finish` wrote down; None: the preparation never ended."""
    try:
        document = json.loads((folder / FACTS).read_bytes())
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


@dataclass
class PreparingFolder:
    """One preparation. ``facts`` None: it goes on, or begins."""

    key: Digest
    folder: Path
    facts: dict[str, Any] | None

    @property
    def outputs(self) -> Path:
        """Where the task writes."""
        return self.folder / "outputs"

    @property
    def log(self) -> Path:
        """What the task says."""
        return self.folder / "log"

    @property
    def begun(self) -> bool:
        """Whether an earlier call wrote something here."""
        return any(self.outputs.iterdir())

    def finish(self, facts: Mapping[str, Any]) -> None:
        """It is done: whole, with its lasting name, and safe from a power loss.

        Args:
            facts: JSON types; what a later call needs to know whether it may use it.
        """
        final = self.folder.parent / self.key.hex
        with explained(self.folder):
            fresh = self.folder / temporary_name()
            fresh.write_bytes(canonical_json({**facts, "key": self.key}) + b"\n")
            sync_tree(self.folder)
            fresh.replace(self.folder / FACTS)
            sync_folder(self.folder)
            if self.folder != final:
                remove(final)
                self.folder.rename(final)
                sync_folder(final.parent)
        self.folder = final
        self.facts = read_facts(final)


@dataclass(frozen=True)
class Unfinished:
    """A preparation that lies here. ``modified_at``: ISO 8601, UTC."""

    key: Digest
    folder: Path
    finished: bool
    bytes: int
    modified_at: str


class Preparing:
    """All preparations of a workspace. Whoever opens one holds its lease (`medperf.workspace.steps.Steps.begin` of the same key)."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self._database = database

    def find(self, key: Digest) -> PreparingFolder | None:
        """One that ended."""
        facts = read_facts(self.folder / key.hex)
        return PreparingFolder(key, self.folder / key.hex, facts) if facts is not None else None

    def begin(self, key: Digest, *, keep: bool) -> PreparingFolder:
        """A folder to work in. What ended here before counts no longer.

        Args:
            keep: it outlives failures and kills, with what an earlier call wrote.

        Raises:
            MedPerfError: the workspace cannot be written.
        """
        self._database.prepare()
        folder = self.folder / (key.hex if keep else temporary_name())
        with explained(self.folder):
            make_private(self.folder)
            if not keep:
                remove(self.folder / key.hex)
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            with contextlib.suppress(FileExistsError):
                (folder / "outputs").mkdir(mode=0o755)
            (folder / FACTS).unlink(missing_ok=True)
            for path in (folder / "outputs").iterdir():
                if path.name.startswith("."):  # an engine's own, of a process that was killed
                    remove(path)
        return PreparingFolder(key, folder, None)

    def ls(self) -> list[Unfinished]:
        """What lies here, for whoever cleans up."""
        found = []
        if self.folder.is_dir():
            for folder in sorted(self.folder.iterdir()):
                with contextlib.suppress(InvalidInput, FileNotFoundError):
                    at = datetime.fromtimestamp(folder.stat().st_mtime, UTC).isoformat(timespec="seconds")
                    found.append(
                        Unfinished(Digest(folder.name), folder, read_facts(folder) is not None, size_of(folder), at)
                    )
        return found

    def remove(self, key: Digest) -> None:
        """Delete one, with all that was done."""
        with explained(self.folder):
            trash = self.folder / temporary_name()
            with contextlib.suppress(FileNotFoundError):
                (self.folder / key.hex).rename(trash)
            remove(trash)

    def sweep(self) -> int:
        """Remove folders of dead processes that none can continue."""
        return sweep_temporary(self.folder)
