"""The file of facts: SQLite with short transactions, safe for several processes and for a kill at any instant."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from medperf.domain.errors import MedPerfError
from medperf.workspace.files import disk_full, explained, free_bytes, make_private, take_lock
from medperf.workspace.mounts import refuse_network

BUSY_SECONDS = 30.0
#: What SQLite says of a file that has not the tables that its version promises.
_OTHER_TABLES = re.compile(r"^no such (table|column)|^table \w+ (already exists|has )")
_SQLITE_BYTES = 128 * 1024

TABLES = (
    *("files", "steps", "leases", "reports", "pending"),
    *("datasets", "dataset_indexes", "dataset_registrations", "egress", "egress_events"),
    *("runs", "acceptances"),
)
#: Each entry brings the schema from its index to the next version, in one transaction.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE files (
            digest TEXT PRIMARY KEY, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, ctime_ns INTEGER NOT NULL, inode INTEGER NOT NULL
        ) WITHOUT ROWID""",
        "CREATE TABLE steps (key TEXT PRIMARY KEY, task TEXT NOT NULL, facts TEXT NOT NULL, outputs TEXT NOT NULL, sealed_at TEXT NOT NULL)",
        "CREATE TABLE leases (key TEXT PRIMARY KEY, task TEXT NOT NULL, holder TEXT NOT NULL, taken_at TEXT NOT NULL)",
        "CREATE TABLE reports (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL, report TEXT NOT NULL)",
        """CREATE TABLE pending (
            key TEXT PRIMARY KEY, kind TEXT NOT NULL, instance_id TEXT NOT NULL, body_digest TEXT NOT NULL, body BLOB NOT NULL,
            created_at TEXT NOT NULL, UNIQUE (instance_id, kind, body_digest)
        )""",
    ),
    (
        """CREATE TABLE datasets (
            uuid TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, root TEXT NOT NULL, prepared_from TEXT NOT NULL UNIQUE, salt BLOB NOT NULL,
            facts TEXT NOT NULL, created_at TEXT NOT NULL, checked_at TEXT NOT NULL, full_checked_at TEXT NOT NULL
        )""",
        "CREATE TABLE dataset_indexes (dataset TEXT PRIMARY KEY REFERENCES datasets (uuid), content BLOB NOT NULL) WITHOUT ROWID",
        """CREATE TABLE dataset_registrations (
            dataset TEXT NOT NULL REFERENCES datasets (uuid), instance_id TEXT NOT NULL, registered INTEGER NOT NULL, at TEXT NOT NULL,
            PRIMARY KEY (dataset, instance_id), UNIQUE (instance_id, registered)
        ) WITHOUT ROWID""",
        """CREATE TABLE egress (
            number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, kind TEXT NOT NULL, instance_id TEXT NOT NULL, server TEXT NOT NULL,
            about TEXT NOT NULL,
            consent TEXT NOT NULL, body BLOB NOT NULL, at TEXT NOT NULL, UNIQUE (instance_id, key)
        )""",
        """CREATE TABLE egress_events (
            entry INTEGER NOT NULL REFERENCES egress (number), event TEXT NOT NULL, detail TEXT NOT NULL, at TEXT NOT NULL
        )""",
        "CREATE INDEX egress_events_entry ON egress_events (entry)",
        *(
            f"CREATE TRIGGER {table}_no_{action.lower()} BEFORE {action} ON {table} "
            "BEGIN SELECT RAISE(ABORT, 'the egress journal is append-only'); END"
            for table in ("egress", "egress_events")
            for action in ("UPDATE", "DELETE")
        ),
    ),
    (
        """CREATE TABLE runs (
            number INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL UNIQUE, instance_id TEXT NOT NULL, benchmark INTEGER NOT NULL,
            dataset TEXT NOT NULL, dataset_id INTEGER NOT NULL, model INTEGER NOT NULL, model_name TEXT NOT NULL, execution INTEGER,
            attempt INTEGER, state TEXT NOT NULL, failure TEXT, message TEXT NOT NULL, log TEXT NOT NULL, metrics TEXT,
            contract TEXT NOT NULL, steps TEXT NOT NULL, disclosure TEXT, holder TEXT NOT NULL, created_at TEXT NOT NULL,
            modified_at TEXT NOT NULL, UNIQUE (instance_id, execution, attempt)
        )""",
        "CREATE INDEX runs_of ON runs (instance_id, benchmark, dataset, model)",
        """CREATE TABLE acceptances (
            digest TEXT NOT NULL, form TEXT NOT NULL, accepted INTEGER NOT NULL, model INTEGER NOT NULL, name TEXT NOT NULL,
            owner INTEGER NOT NULL, owner_name TEXT NOT NULL, resources TEXT NOT NULL, who TEXT NOT NULL, at TEXT NOT NULL,
            PRIMARY KEY (digest, form)
        ) WITHOUT ROWID""",
    ),
)


class Database:
    """``facts.db`` in a workspace folder. Made by the first write; reading makes nothing.

    Args:
        folder: the workspace.
        prepared: called once, after the first write of this object made or found everything.
    """

    def __init__(self, folder: Path, *, prepared: Callable[[], None]) -> None:
        self.path = folder / "facts.db"
        self._folder = folder
        self._prepared = prepared
        self._ready = False
        self._connection: tuple[int, sqlite3.Connection] | None = None
        self._lock = threading.RLock()

    def prepare(self) -> None:
        """Make the folder and the database if they are not there.

        Raises:
            MedPerfError: network file system, no right to write, or a newer version's workspace.
        """
        with self._lock:
            if self._ready:
                return
            refuse_network(self._folder)
            with explained(self._folder):
                make_private(self._folder)
            with self._explained():
                self._connect()
            self._ready = True
        self._prepared()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection | None]:
        """A connection for SELECTs; None when nothing was ever written here."""
        if self._connection is None:
            with explained(self._folder):
                there = self.path.exists()
            if not there:
                yield None
                return
        with self._lock, self._explained():
            yield self._connect()

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One ``BEGIN IMMEDIATE`` transaction: committed at the end, rolled back by an exception."""
        self.prepare()
        with self._lock, self._explained():
            connection = self._connect()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def damaged(self, why: str) -> MedPerfError:
        """The error for a file that is not what MedPerf wrote; it names the command that leads back."""
        aside = shlex.quote(f"{self._folder}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S}")
        return MedPerfError(
            "workspace_damaged",
            f"{self.path} is damaged: {why}.",
            f"Put it aside with: mv {shlex.quote(str(self._folder))} {aside} - MedPerf then makes a new workspace, and "
            "downloads or computes again what it needs.",
        )

    def check(self) -> None:
        """Read the whole file; nothing is made where nothing is.

        Raises:
            MedPerfError: ``workspace_damaged``, ``workspace_busy``, ``workspace_unwritable`` or a newer version's workspace.
        """
        with self.reading() as connection:
            if connection is None:
                return
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if found != "ok":
                raise self.damaged(str(found).splitlines()[-1])
            for table in TABLES:
                connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()  # noqa: S608 - names of ours

    def _busy(self) -> MedPerfError:
        return MedPerfError(
            "workspace_busy",
            f"Another process has kept {self._folder} locked for more than {BUSY_SECONDS:.0f} seconds.",
            "Wait for it, or end it, and run the same command again.",
        )

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._lock:
            if self._connection is not None and self._connection[0] == os.getpid():
                self._connection[1].close()
            self._connection = None

    def _connect(self) -> sqlite3.Connection:
        # A connection carried across a fork would corrupt the file; the child opens its own.
        if self._connection is None or self._connection[0] != os.getpid():
            # Lock before making: two first writers would otherwise race for the change to WAL, which waits for nobody.
            with explained(self._folder):
                descriptor = os.open(self._folder / "facts.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if not take_lock(descriptor, seconds=BUSY_SECONDS):
                    raise self._busy()
                with explained(self._folder):
                    os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                self._connection = (os.getpid(), self._open())
            finally:
                os.close(descriptor)
        return self._connection[1]

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version < 0:
                raise self.damaged(f"it says that it is version {version}")
            if version > len(MIGRATIONS):
                raise MedPerfError(
                    "workspace_too_new",
                    f"The workspace {self._folder} was written by a newer MedPerf (version {version}; this one knows {len(MIGRATIONS)}).",
                    "Upgrade MedPerf, or set MEDPERF_HOME to another folder.",
                )
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            if version < len(MIGRATIONS):
                _migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            # With no room for its shared memory SQLite says only that something failed.
            full = code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN) and free_bytes(self._folder) < _SQLITE_BYTES
            if code == sqlite3.SQLITE_FULL or full:
                raise disk_full(self._folder) from error
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise self._busy() from error
            if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB) or _OTHER_TABLES.search(str(error)):
                raise self.damaged(str(error)) from error
            if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM):
                raise MedPerfError(
                    "workspace_unwritable",
                    f"{self.path} cannot be written: {error}.",
                    "Check the rights and the space there, or move the workspace by setting MEDPERF_HOME.",
                ) from error
            raise


def _migrate(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        for statements in MIGRATIONS[version:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
