"""What an admin does on the server's own machine: make a server, reset a development server, serve."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from medperf.domain import limits
from medperf.domain.errors import Conflict, InvalidInput, MedPerfError, UsageError
from medperf.server.assets.store import AssetStore
from medperf.server.audit.service import Action
from medperf.server.auth import make_hasher
from medperf.server.certificate import make_certificate
from medperf.server.db import check_schema, schema_revision, sqlite_engine
from medperf.server.migrate import backup, migrate
from medperf.server.schema import REVISION, now
from medperf.server.serving import serve
from medperf.server.settings import PasswordCost, Settings
from medperf.server.tables import audit_events, metadata, parties, settings, users

__all__ = ["InitReport", "ResetReport", "init", "prepare", "reset", "serve"]

DEVELOPMENT_ADMIN = "admin"
_LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class InitReport:
    """What was made. ``certificate`` and ``key``: the development certificate, None for other servers."""

    data: Path
    instance_id: str
    development: bool
    admin_username: str
    certificate: Path | None
    key: Path | None
    url: str


@dataclass(frozen=True)
class ResetReport:
    """What a reset left: a new instance with one admin."""

    instance_id: str
    development: bool
    admin_username: str


def init(
    data: Path,
    *,
    development: bool,
    admin_username: str = DEVELOPMENT_ADMIN,
    admin_password: str | None = None,
    hostnames: Sequence[str] = ("localhost", "127.0.0.1"),
    port: int = 8000,
    password_cost: PasswordCost = PasswordCost(),  # noqa: B008 - frozen
) -> InitReport:
    """Make a server: folder (0700), database, instance id, one admin; a development server gets a certificate and the password ``admin``.

    Raises:
        UsageError: a server that is not for development, without an admin password.
        InvalidInput: the admin's name or password breaks the limits.
        Conflict: there is a server already.
    """
    if admin_password is None and not development:
        raise UsageError(
            "missing_password",
            "A server needs an admin password.",
            "Give one, or make a development server with --development.",
        )
    password = admin_password if admin_password is not None else DEVELOPMENT_ADMIN
    _check_account(admin_username, password, development=development)
    where = Settings(data=data)
    if schema_revision(where.database_file) is not None:
        raise Conflict(
            "already_initialised", f"There is a server in {data} already.", "Start it with: medperf server start"
        )
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    data.chmod(0o700)
    # First: a server that is there has its certificate, also where the power goes between the two.
    certificate, key = (data / "cert.crt", data / "cert.key") if development else (None, None)
    if certificate is not None and key is not None and not (certificate.exists() and key.exists()):
        make_certificate(certificate, key, [*hostnames, *_LOOPBACK_NAMES])
    where.database_file.touch(mode=0o600)
    instance_id = str(uuid.uuid4())
    hashed = make_hasher(password_cost).hash(password)
    with transaction(where.database_file) as connection:
        migrate(connection)
        _fill(connection, instance_id, development, Action.SERVER_INITIALISED, admin_username, hashed)
    scheme = "https" if development else "http"
    return InitReport(
        data, instance_id, development, admin_username, certificate, key, f"{scheme}://{hostnames[0]}:{port}"
    )


def reset(data: Path, *, force: bool = False, password_cost: PasswordCost = PasswordCost()) -> ResetReport:  # noqa: B008 - frozen
    """Remove everything that was registered and begin a new instance, in one transaction; a server may be running on it.

    A development server gets its admin/admin back; another one (``force``) keeps its first active admin with name and password.

    Raises:
        MedPerfError: there is no server, or of another version.
        Conflict: it is not marked for development and ``force`` is not given.
    """
    where = Settings(data=data)
    check_schema(where.database_file)
    hashed = make_hasher(password_cost).hash(DEVELOPMENT_ADMIN)
    instance_id = str(uuid.uuid4())
    with transaction(where.database_file) as connection:
        old_instance, development = connection.execute(sa.select(settings.c.instance_id, settings.c.development)).one()
        if not development and not force:
            raise Conflict(
                "not_development",
                f"The server in {data} is not marked for development: a reset would remove real registrations.",
                "If that is what you want, add --force.",
            )
        username = DEVELOPMENT_ADMIN
        if not development:
            first = (
                sa.select(users.c.username, users.c.password_hash)
                .where(users.c.is_admin, users.c.is_active)
                .order_by(users.c.id)
                .limit(1)
            )
            username, hashed = connection.execute(first).one()
        for table in reversed(metadata.sorted_tables):
            connection.execute(sa.delete(table))
        connection.exec_driver_sql("DELETE FROM sqlite_sequence")
        _fill(connection, instance_id, development, Action.SERVER_RESET, username, hashed)
    AssetStore(where.assets).remove_instance(old_instance)
    return ResetReport(instance_id, development, username)


def prepare(data: Path) -> Path | None:
    """Bring the database to this version's schema; returns the copy that was made before, None if nothing was to do.

    Raises:
        MedPerfError: there is no server in ``data``, or a newer version wrote it.
    """
    database = Settings(data=data).database_file
    found = schema_revision(database)
    if found is None or found >= REVISION:
        check_schema(database)
        return None
    copy = backup(database, revision=found)
    with transaction(database) as connection:
        migrate(connection)
    return copy


@contextmanager
def transaction(database: Path) -> Iterator[sa.Connection]:
    """One write transaction on the file, waiting for others."""
    engine = sqlite_engine(database, wait_seconds=30)
    try:
        # Alembic leaves alone what it is told has begun, so SQLAlchemy is told too; the driver does the beginning and the end.
        with engine.connect() as connection, connection.begin():
            raw = connection.connection.dbapi_connection
            assert isinstance(raw, sqlite3.Connection)
            try:
                raw.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                raise MedPerfError(
                    "database_busy", f"{database} is locked by another program.", "Stop it and try again."
                ) from error
            yield connection
    finally:
        engine.dispose()


def _fill(
    connection: sa.Connection, instance_id: str, development: bool, action: Action, username: str, password_hash: str
) -> None:
    """The rows of a new instance."""
    moment = now()
    connection.execute(
        sa.insert(settings).values(id=1, instance_id=instance_id, development=development, created_at=moment)
    )
    party = connection.execute(
        sa.insert(parties).values(kind="person", name=username, created_at=moment)
    ).inserted_primary_key
    assert party is not None
    connection.execute(
        sa.insert(users).values(
            username=username,
            username_key=username.lower(),
            email=None,
            password_hash=password_hash,
            is_admin=True,
            is_active=True,
            party_id=party[0],
            created_at=moment,
            modified_at=moment,
        )
    )
    connection.execute(
        sa.insert(audit_events).values(at=moment, actor_id=None, action=action.value, target="server", data="{}")
    )


def _check_account(username: str, password: str, *, development: bool) -> None:
    from pydantic import ValidationError

    from medperf.server.users.policy import check_password
    from medperf.wire.models import UserCreate

    check_password(password, development=development)
    try:
        UserCreate(username=username, password=password)
    except ValidationError as error:
        raise InvalidInput(
            "bad_account",
            f"The admin's {error.errors()[0]['loc'][0]} is not allowed.",
            f"A username has letters, digits and ._@+-; a password has {limits.PASSWORD_MIN_LENGTH} to {limits.PASSWORD_LENGTH} characters.",
        ) from None
