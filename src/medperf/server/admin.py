"""What an admin does on the server's own machine: make a server, reset a development server, serve."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from medperf.domain import limits
from medperf.domain.errors import Conflict, InvalidInput, MedPerfError, UsageError
from medperf.domain.permissions import EVERY_RIGHT
from medperf.server.assets.store import AssetStore
from medperf.server.audit.folder import AuditFolder
from medperf.server.audit.service import Action
from medperf.server.auth import make_hasher
from medperf.server.certificate import make_certificate
from medperf.server.files import alone, sync_folder
from medperf.server.location import located, remember
from medperf.server.maintenance import empty, lock_out, look, place, transact
from medperf.server.migrate import backup, migrate
from medperf.server.names import username_key
from medperf.server.parties.repository import columns_of
from medperf.server.presence import already_there, check, check_empty_or_ours, check_none
from medperf.server.schema import REVISION, now
from medperf.server.serving import serve
from medperf.server.settings import PasswordCost, Settings
from medperf.server.tables import audit_events, memberships, parties, settings, users

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
    port: int = 8000,
    database: str | None = None,
    password_cost: PasswordCost = PasswordCost(),  # noqa: B008 - frozen
) -> InitReport:
    """Make a server: folder (0700), database, instance id, one admin; a development server gets a certificate and the password ``admin``.

    Args:
        database: address of an empty PostgreSQL database, remembered in ``data``; None: a SQLite file in ``data``, or what is
            remembered there.

    Raises:
        UsageError: a server that is not for development, without an admin password.
        InvalidInput: the admin's name or password breaks the limits.
        Conflict: there is a server already, or somebody else's tables.
        MedPerfError: the database cannot be reached or used.
    """
    if admin_password is None and not development:
        raise UsageError(
            "missing_password",
            "A server needs an admin password.",
            "Give one, or make a development server with --development.",
        )
    password = admin_password if admin_password is not None else DEVELOPMENT_ADMIN
    _check_account(admin_username, password, development=development)
    where = Settings(data=data, database=database)
    check_none(look(where), place(where))
    made = [folder for folder in (data, *data.parents) if not folder.exists()]
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    data.chmod(0o700)
    # First: a server that is there has its certificate, also where the power goes between the two.
    certificate, key = (data / "cert.crt", data / "cert.key") if development else (None, None)
    if certificate is not None and key is not None:
        with alone(data):  # of two at once, one would write the key and the other the certificate
            if not (certificate.exists() and key.exists()):
                make_certificate(certificate, key, _LOOPBACK_NAMES)
    url = located(where)
    if url is None:
        where.database_file.touch(mode=0o600)
    else:
        remember(where, url)
    for folder in (data, *(folder.parent for folder in made)):
        sync_folder(folder)
    instance_id = str(uuid.uuid4())
    hashed = make_hasher(password_cost).hash(password)

    def make(connection: sa.Connection) -> None:
        if sa.inspect(connection).has_table("alembic_version"):  # another one was faster
            raise already_there(place(where))
        migrate(connection)
        _fill(connection, instance_id, development, Action.SERVER_INITIALISED, admin_username, hashed)

    transact(where, make)
    scheme = "https" if development else "http"
    url_shown = f"{scheme}://{_LOOPBACK_NAMES[0]}:{port}"
    return InitReport(data, instance_id, development, admin_username, certificate, key, url_shown)


def reset(
    data: Path,
    *,
    force: bool = False,
    database: str | None = None,
    password_cost: PasswordCost = PasswordCost(),  # noqa: B008 - frozen
) -> ResetReport:
    """Remove everything that was registered and begin a new instance, in one transaction; a server may be running on it.

    A development server gets its admin/admin back; another one (``force``) keeps its first active admin with name and password.

    Raises:
        MedPerfError: there is no server, or of another version.
        Conflict: it is not marked for development and ``force`` is not given.
    """
    where = Settings(data=data, database=database)
    check(look(where), place(where))
    default = make_hasher(password_cost).hash(DEVELOPMENT_ADMIN)
    instance_id = str(uuid.uuid4())

    def renew(connection: sa.Connection) -> tuple[str, bool, str]:
        lock_out(connection)
        old_instance, development = connection.execute(sa.select(settings.c.instance_id, settings.c.development)).one()
        if not development and not force:
            raise Conflict(
                "not_development",
                f"The server in {place(where)} is not marked for development: a reset would remove real registrations.",
                "If that is what you want, add --force.",
            )
        username, hashed = DEVELOPMENT_ADMIN, default
        if not development:
            first = (
                sa.select(users.c.username, users.c.password_hash)
                .where(users.c.is_admin, users.c.is_active)
                .order_by(users.c.id)
                .limit(1)
            )
            username, hashed = connection.execute(first).one()
        empty(connection)
        _fill(connection, instance_id, development, Action.SERVER_RESET, username, hashed)
        return old_instance, development, username

    trail = AuditFolder(data)
    with trail.held():  # nobody seals the old instance meanwhile
        old_instance, development, username = transact(where, renew)
        trail.forget()
    AssetStore(where.assets).remove_instance(old_instance)
    return ResetReport(instance_id, development, username)


def prepare(data: Path, *, database: str | None = None, migrate_postgres: bool = False) -> Path | None:
    """Bring the database to this version's schema; returns the copy that was made before, None if there is none.

    A SQLite file is copied and migrated. A PostgreSQL database cannot be copied from here, so it is migrated only on demand.

    Raises:
        MedPerfError: there is no server in ``data``, a newer version wrote it, or it must be saved first.
    """
    where = Settings(data=data, database=database)
    found, url = look(where), located(where)
    check_empty_or_ours(found, place(where))
    if found.revision is None or found.revision >= REVISION:
        check(found, place(where))
        return None
    copy = None
    if url is None:
        copy = backup(where.database_file, revision=found.revision)
    elif not migrate_postgres:
        raise MedPerfError(
            "schema_older",
            f"{url.shown} has schema {found.revision}, this version needs {REVISION}.",
            f"Save it first: pg_dump --format=custom --file=medperf-{found.revision}.dump '{url.shown}'. Then: medperf server start --migrate",
        )
    transact(where, migrate)
    return copy


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
    user = connection.execute(
        sa.insert(users).values(
            username=username,
            username_key=username_key(username),
            email=None,
            password_hash=password_hash,
            is_admin=True,
            is_active=True,
            party_id=party[0],
            created_at=moment,
            modified_at=moment,
        )
    ).inserted_primary_key
    assert user is not None
    connection.execute(
        sa.insert(memberships).values(
            user_id=user[0], party_id=party[0], created_at=moment, modified_at=moment, **columns_of(EVERY_RIGHT)
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
