"""What a server is told when it starts: one frozen value, passed in, never read from the environment behind anybody's back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from medperf.domain import limits


@dataclass(frozen=True)
class PasswordCost:
    """Argon2id parameters. The default is the low-memory recommendation of RFC 9106."""

    time: int = 3
    memory_kib: int = 64 * 1024
    lanes: int = 4


@dataclass(frozen=True)
class Settings:
    """One server.

    Attributes:
        data: folder of the database, the assets and the log; mode 0700.
        behind_proxy: TLS ends at a proxy on this host, whose X-Forwarded-For names the client.
        token_seconds: how long a login lasts.
        body_bytes: longest JSON body.
        body_seconds: how long it may take to come.
        bodies_bytes, bodies_bytes_each: bodies in memory at once, per worker, of all and of one account or address.
        asset_bytes: largest single asset.
        asset_quota_bytes: all assets of one owner together.
        asset_count: assets and unfinished uploads of one owner.
        upload_count: unfinished uploads of one owner.
        upload_seconds: how long an unfinished upload is kept after it was last continued (at least half of it), and how long the
            completion of a finished one can be asked for again.
        verify_wait_seconds: how long a request waits for a file to be verified before it is told to ask again.
        sweep_seconds: how often what nobody needs is removed.
        reserve_bytes: free space of the disk that uploads leave to the database, so that nobody stops the server by filling it.
        login_burst, login_refill_seconds: failed logins of one name from one address before it must wait, and how long for the next try.
        rate_per_second, rate_burst: requests of one account, per worker; a change counts as five. 0 a second: no limit.
        anonymous_rate_per_second, anonymous_rate_burst: the same for one address, without a login or with one that is no good.
        changes_per_second, changes_burst: changes of one account, per worker, over hours and days: each leaves something for ever.
            Pieces of uploads leave nothing.
        joined_count: datasets that are approved in one benchmark, and so many models.
        mlcube_count, benchmark_count, dataset_count, association_count, execution_count: of one owner, and of all organisations together that one account made (`medperf.server.rows`);
            so are ``asset_quota_bytes`` and ``asset_count``.
        login_count: logins of one account that go on at the same time; a new one ends the oldest.
        idempotency_seconds: how long the first answer is kept for a repeated key.
        database: the PostgreSQL database's address, which may hold a password; None: the one remembered in the data folder, else a
            SQLite file there.
        database_connections: to PostgreSQL, per worker; requests beyond wait their turn.
        query_seconds: one statement of a request; longer ones are stopped (``query_too_slow``).
        wait_seconds: for a turn to write, for a lock, or for a connection, before ``database_busy``.
        connect_seconds: to connect to PostgreSQL.
        seal_seconds, seal_events: audit events are sealed when they have waited so long, or when there are so many.
        log: write ``data/server.log``.
        log_bytes: a longer log becomes ``server.log.1``, in the place of the one before. Looked at every ``sweep_seconds``.
    """

    data: Path
    database: str | None = field(default=None, repr=False)
    database_connections: int = 10
    query_seconds: float = 10.0
    wait_seconds: float = 10.0
    connect_seconds: float = 5.0
    behind_proxy: bool = False
    token_seconds: int = 30 * 24 * 3600
    body_bytes: int = limits.BODY_BYTES
    body_seconds: float = 60.0
    bodies_bytes: int = 64 * 1024**2
    bodies_bytes_each: int = 16 * 1024**2
    asset_bytes: int = limits.ASSET_BYTES
    asset_quota_bytes: int = limits.OWNER_BYTES
    asset_count: int = limits.ASSETS_PER_OWNER
    upload_count: int = limits.UPLOADS_PER_OWNER
    upload_seconds: float = 7 * 24 * 3600
    verify_wait_seconds: float = 10.0
    sweep_seconds: float = 600.0
    reserve_bytes: int = 256 * 1024**2
    login_burst: int = 10
    login_refill_seconds: float = 6.0
    rate_per_second: float = 500.0
    rate_burst: int = 5000
    anonymous_rate_per_second: float = 50.0
    anonymous_rate_burst: int = 500
    changes_per_second: float = limits.CHANGES_PER_HOUR / 3600
    changes_burst: int = limits.CHANGES_AT_ONCE
    mlcube_count: int = limits.MLCUBES_PER_OWNER
    benchmark_count: int = limits.BENCHMARKS_PER_OWNER
    dataset_count: int = limits.DATASETS_PER_OWNER
    association_count: int = limits.ASSOCIATIONS_PER_OWNER
    joined_count: int = limits.JOINED_PER_BENCHMARK
    execution_count: int = limits.EXECUTIONS_PER_OWNER
    login_count: int = limits.LOGINS_PER_ACCOUNT
    idempotency_seconds: int = 7 * 24 * 3600
    password_cost: PasswordCost = field(default_factory=PasswordCost)
    seal_seconds: float = 60.0
    seal_events: int = 1000
    log: bool = True
    log_bytes: int = limits.LOG_BYTES

    @property
    def database_file(self) -> Path:
        """The SQLite file."""
        return self.data / "db.sqlite3"

    @property
    def database_url_file(self) -> Path:
        """Holds the address of the PostgreSQL database, where that is used."""
        return self.data / "database.url"

    @property
    def assets(self) -> Path:
        """Where the files are: one folder per instance id, so that a reset cannot touch what comes after it."""
        return self.data / "assets"

    @property
    def log_file(self) -> Path:
        """One JSON object per line: requests, and tracebacks of our own faults."""
        return self.data / "server.log"
