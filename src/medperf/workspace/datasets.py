"""Prepared datasets of this site: facts, index of files, and the folder that prepare filled, moved here once and never copied.

A dataset is there, whole, from the commit of its row on. Its folder is renamed just before that, within the same transaction; a kill
in between leaves a folder that no row names, and the next process puts it back where it came from.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from medperf.domain.digests import Digest, canonical_json
from medperf.domain.errors import Conflict, InvalidInput, NotFound
from medperf.workspace.database import Database
from medperf.workspace.files import (
    TEMPORARY,
    explained,
    make_private,
    remove,
    sweep_temporary,
    sync_folder,
    temporary_name,
)
from medperf.workspace.preparing import FACTS, read_facts

_FIX = "List them with: medperf dataset ls"


class Standing(StrEnum):
    """Whether a server knows the dataset."""

    LOCAL = "LOCAL"
    SUBMITTED = "SUBMITTED"


@dataclass(frozen=True)
class DatasetFacts:
    """What was found when the dataset was made. JSON types only.

    Attributes:
        preparator: id of the MLCube; None: a folder of this machine, which cannot be registered.
        preparator_files: digests of the MLCube, by the name of each file.
        benchmark: whose statistics contract was kept; None: numbers only.
        raw_data, raw_labels: where the records lay.
        raw_root: identity of records and labels before preparation; stays here.
        identities: role (``data``, and ``labels`` where they are separated) -> identity of that folder alone, for step keys.
        places: role -> folder, relative to the dataset's.
        statistics: as the preparator reported them, nested, checked.
    """

    description: str
    location: str
    site_label: str
    preparator: int | None
    preparator_label: str
    preparator_files: Mapping[str, str]
    benchmark: int | None
    raw_data: str
    raw_labels: str
    raw_root: str
    identities: Mapping[str, str]
    places: Mapping[str, str]
    statistics: Mapping[str, Any]
    statistics_digest: str
    files: int
    bytes: int


@dataclass(frozen=True)
class LocalDataset:
    """One dataset of this site.

    Attributes:
        uuid: its id here, and what a server is told, so that nothing is registered twice.
        root: identity of the prepared data and labels. It and ``salt`` never leave.
        registered: instance id of a server -> the dataset's id there.
        created_at, checked_at, full_checked_at: ISO 8601, UTC.
    """

    uuid: str
    name: str
    root: Digest
    salt: bytes = field(repr=False)
    facts: DatasetFacts
    folder: Path
    created_at: str
    checked_at: str
    full_checked_at: str
    registered: Mapping[str, int] = field(default_factory=dict)

    @property
    def paths(self) -> dict[str, Path]:
        """Role -> folder of the prepared data; the names under which its identity counts them."""
        return {role: self.folder / place for role, place in self.facts.places.items()}

    @property
    def data(self) -> Path:
        """What models read."""
        return self.paths["data"]

    @property
    def labels(self) -> Path:
        """What evaluators read: the same folder where the preparator separates no labels."""
        return self.paths.get("labels", self.data)

    def standing(self, instance_id: str) -> Standing:
        """Whether this server knows it."""
        return Standing.SUBMITTED if instance_id in self.registered else Standing.LOCAL


_ALL = "SELECT uuid, name, root, salt, facts, created_at, checked_at, full_checked_at FROM datasets ORDER BY rowid"


class Datasets:
    """All datasets of a workspace, below ``datasets/``.

    Args:
        preparing: the folder of preparations, which become datasets.
    """

    def __init__(self, folder: Path, database: Database, *, preparing: Path) -> None:
        self._folder = folder
        self._database = database
        self._preparing = preparing

    # -- making ------------------------------------------------------------------------------------------------------

    def adopt(
        self,
        source: Path,
        *,
        uuid: str,
        name: str,
        root: Digest,
        salt: bytes,
        prepared_from: Digest,
        facts: DatasetFacts,
        index: bytes,
    ) -> LocalDataset:
        """Make the folder of a finished preparation a dataset.

        Args:
            source: the folder; it is renamed.
            prepared_from: digest of the preparator and the records; two datasets of one kind are one.
            index: `medperf.runtime.hashindex.DataIndex.dump`.

        Raises:
            Conflict: ``dataset_name_taken``, ``dataset_exists``; ``prepared_gone``: another process took the folder.
        """
        now = _now()
        final = self._folder / uuid
        with explained(self._folder):
            make_private(self._folder)
        with self._database.writing() as connection:
            self._refuse(connection, name, prepared_from)
            connection.execute(
                "INSERT INTO datasets (uuid, name, root, prepared_from, salt, facts, created_at, checked_at, full_checked_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (uuid, name, root, prepared_from, salt, canonical_json(asdict(facts)).decode(), now, now, now),
            )
            connection.execute("INSERT INTO dataset_indexes VALUES (?, ?)", (uuid, index))
            with explained(self._folder):
                try:
                    source.rename(final)
                except FileNotFoundError as error:
                    raise Conflict(
                        "prepared_gone", "Another process took the prepared data.", "Run the same command again."
                    ) from error
                sync_folder(self._folder)
                sync_folder(source.parent)
        return self.get(uuid)

    def refuse_known(self, name: str, prepared_from: Digest) -> None:
        """Found before the long work.

        Raises:
            Conflict: ``dataset_name_taken``; ``dataset_exists``: of the same records by the same preparator.
        """
        with self._database.reading() as connection:
            if connection is not None:
                self._refuse(connection, name, prepared_from)

    def recover(self) -> int:
        """Put back what a process moved and, killed, never wrote down. Returns how many folders."""
        if not self._folder.is_dir():
            return 0
        moved = 0
        # Inside the transaction: a process that adopts holds the same lock from its rename to its row.
        with self._database.writing() as connection, explained(self._folder):
            known = {uuid for (uuid,) in connection.execute("SELECT uuid FROM datasets")}
            for folder in [path for path in self._folder.iterdir() if path.name not in known]:
                if not folder.name.startswith(TEMPORARY):
                    self._put_back(folder)
                    moved += 1
        return moved + sweep_temporary(self._folder)

    # -- knowing -----------------------------------------------------------------------------------------------------

    def ls(self) -> list[LocalDataset]:
        """All of them, oldest first."""
        with self._database.reading() as connection:
            return self._read(connection) if connection is not None else []

    def get(self, reference: str, *, instance_id: str | None = None) -> LocalDataset:
        """One dataset by its name, its id on a server, or the beginning of its id here.

        Raises:
            NotFound: there is none.
            InvalidInput: several begin like this.
        """
        wanted = reference.strip()
        every = self.ls()
        for found in (
            [one for one in every if one.name == wanted or one.uuid == wanted.lower()],
            [one for one in every if instance_id and str(one.registered.get(instance_id)) == wanted],
            [one for one in every if len(wanted) >= 4 and one.uuid.startswith(wanted.lower())],
        ):
            if len(found) > 1:
                raise InvalidInput(
                    "ambiguous_dataset",
                    f"More than one dataset of this site begins with {wanted!r}.",
                    f"Give more of its id. {_FIX}",
                )
            if found:
                return found[0]
        raise NotFound("unknown_local_dataset", f"This site has no dataset {wanted[:100]!r}.", _FIX)

    def index(self, uuid: str) -> bytes | None:
        """What was kept of the dataset's files."""
        with self._database.reading() as connection:
            row = (
                connection.execute("SELECT content FROM dataset_indexes WHERE dataset = ?", (uuid,)).fetchone()
                if connection
                else None
            )
        return bytes(row[0]) if row else None

    def checked(self, uuid: str, *, full: bool, index: bytes | None = None) -> None:
        """Its files were found to be those that were prepared.

        Args:
            full: every byte was read.
            index: where the files' times changed, but no content did.
        """
        now = _now()
        with self._database.writing() as connection:
            connection.execute("UPDATE datasets SET checked_at = ? WHERE uuid = ?", (now, uuid))
            if full:
                connection.execute("UPDATE datasets SET full_checked_at = ? WHERE uuid = ?", (now, uuid))
            if index is not None:
                connection.execute("UPDATE dataset_indexes SET content = ? WHERE dataset = ?", (index, uuid))

    def register(self, uuid: str, *, instance_id: str, registered: int) -> LocalDataset:
        """The server gave it this id."""
        with self._database.writing() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO dataset_registrations VALUES (?, ?, ?, ?)",
                (uuid, instance_id, registered, _now()),
            )
        return self.get(uuid)

    def describe(self, uuid: str, *, name: str | None = None, **facts: str) -> LocalDataset:
        """Say other words of it. ``facts``: description, location, site_label.

        Raises:
            Conflict: ``dataset_name_taken``.
        """
        dataset = self.get(uuid)
        words = canonical_json(asdict(replace(dataset.facts, **facts))).decode()  # type: ignore[arg-type] # texts, by name
        with self._database.writing() as connection:
            if name is not None and name != dataset.name:
                self._refuse_name(connection, name)
            connection.execute(
                "UPDATE datasets SET name = ?, facts = ? WHERE uuid = ?", (name or dataset.name, words, uuid)
            )
        return self.get(uuid)

    def remove(self, uuid: str) -> None:
        """Forget a dataset and delete its prepared data, the records it was made from stay."""
        folder, trash = self._folder / uuid, self._folder / temporary_name()
        with self._database.writing() as connection:
            connection.execute("DELETE FROM dataset_registrations WHERE dataset = ?", (uuid,))
            connection.execute("DELETE FROM dataset_indexes WHERE dataset = ?", (uuid,))
            connection.execute("DELETE FROM datasets WHERE uuid = ?", (uuid,))
            with explained(self._folder):
                (folder / FACTS).unlink(missing_ok=True)  # so that nobody puts it back
        with explained(self._folder), contextlib.suppress(FileNotFoundError):
            folder.rename(trash)
        remove(trash)

    # -- within ------------------------------------------------------------------------------------------------------

    def _refuse(self, connection: sqlite3.Connection, name: str, prepared_from: Digest) -> None:
        same = connection.execute(
            "SELECT name, uuid FROM datasets WHERE prepared_from = ?", (prepared_from,)
        ).fetchone()
        if same is not None:
            raise Conflict(
                "dataset_exists",
                f"These records were prepared by this MLCube already: dataset {same[0]!r} ({same[1][:8]}).",
                f"Use that one: medperf dataset submit {same[1][:8]} registers it; look at it with: medperf dataset view {same[1][:8]}",
                details={"dataset": same[1]},
            )
        self._refuse_name(connection, name)

    def _refuse_name(self, connection: sqlite3.Connection, name: str) -> None:
        taken = connection.execute("SELECT uuid FROM datasets WHERE name = ?", (name,)).fetchone()
        if taken is not None:
            raise Conflict(
                "dataset_name_taken",
                f"This site has a dataset named {name!r} ({taken[0][:8]}).",
                f"Choose another --name, or look at it: medperf dataset view {taken[0][:8]}",
            )

    def _put_back(self, folder: Path) -> None:
        """Move a folder that no row names to where it came from; what no longer belongs anywhere is removed."""
        try:
            key = Digest(str((read_facts(folder) or {}).get("key")))
        except InvalidInput:
            key = None
        if key is None or (self._preparing / key.hex).exists():
            remove(folder)
            return
        make_private(self._preparing)
        folder.rename(self._preparing / key.hex)
        sync_folder(self._preparing)
        sync_folder(self._folder)

    def _read(self, connection: sqlite3.Connection) -> list[LocalDataset]:
        rows = connection.execute(_ALL).fetchall()
        found = connection.execute("SELECT dataset, instance_id, registered FROM dataset_registrations").fetchall()
        known = {entry.name for entry in fields(DatasetFacts)}
        return [
            LocalDataset(
                uuid=uuid,
                name=name,
                root=Digest(root),
                salt=bytes(salt),
                facts=DatasetFacts(**{key: value for key, value in json.loads(facts).items() if key in known}),
                folder=self._folder / uuid,
                created_at=created_at,
                checked_at=checked_at,
                full_checked_at=full_checked_at,
                registered={instance: number for owner, instance, number in found if owner == uuid},
            )
            for uuid, name, root, salt, facts, created_at, checked_at, full_checked_at in rows
        ]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
