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
        asset_bytes: largest single asset.
        asset_quota_bytes: all assets of one owner together.
        reserve_bytes: free space of the disk that uploads leave to the database, so that nobody stops the server by filling it.
        login_burst, login_refill_seconds: failed logins of one name from one address before it must wait, and how long for the next try.
        idempotency_seconds: how long the first answer is kept for a repeated key.
        log: write ``data/server.log``.
    """

    data: Path
    behind_proxy: bool = False
    token_seconds: int = 30 * 24 * 3600
    body_bytes: int = limits.BODY_BYTES
    asset_bytes: int = limits.ASSET_BYTES
    asset_quota_bytes: int = 1024**4
    reserve_bytes: int = 256 * 1024**2
    login_burst: int = 10
    login_refill_seconds: float = 6.0
    idempotency_seconds: int = 7 * 24 * 3600
    password_cost: PasswordCost = field(default_factory=PasswordCost)
    log: bool = True

    @property
    def database_file(self) -> Path:
        """The SQLite file."""
        return self.data / "db.sqlite3"

    @property
    def assets(self) -> Path:
        """Where the files are: one folder per instance id, so that a reset cannot touch what comes after it."""
        return self.data / "assets"

    @property
    def log_file(self) -> Path:
        """One JSON object per line: requests, and tracebacks of our own faults."""
        return self.data / "server.log"
