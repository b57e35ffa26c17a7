"""``medperf server audit``: the audit trail of the server on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medperf.cli.base import Session, example, noun, session_of
from medperf.cli.options import YesOption
from medperf.cli.server_database import Database, database_of
from medperf.cli.server_folder import Data, folder_of, installed
from medperf.domain.errors import MedPerfError

if TYPE_CHECKING:
    from medperf.server.audit.verifier import VerifyReport
    from medperf.server.settings import Settings

app = noun("audit", "Seal and verify who changed what on the server.", "medperf server audit verify")


@example(
    app,
    "verify",
    "medperf server audit verify",
    "medperf server audit verify --data /srv/medperf --head sha256:4f1c... --format json",
)
def verify(
    ctx: typer.Context,
    data: Data = None,
    database: Database = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="HASH", help="Also look for this checkpoint, whose hash you kept.")
    ] = None,
) -> None:
    """Check every event before the newest checkpoint: none was edited, removed, inserted or moved. Also while the server runs."""
    session = session_of(ctx)
    with installed():
        from medperf.server.audit import commands

        with session.drawer as drawer:
            found = commands.verify(_settings(session, data, database), copy=head, emit=drawer)
    session.out.answer(found, _how_far(found))
    if found.fault is not None:
        raise found.fault.error()
    if session.out.as_json:
        return
    if found.unsealed:
        session.out.line(f"Later events, not sealed yet: {found.unsealed:,}.")
    if found.head is not None:
        session.out.line(f"Newest checkpoint: {found.head}")
        session.out.line("Keep it elsewhere, and give it back later with --head.")


@example(app, "seal", "medperf server audit seal")
def seal(ctx: typer.Context, data: Data = None, database: Database = None) -> None:
    """Seal every event there is in checkpoints. A running server does it by itself, every minute or every thousand events."""
    session = session_of(ctx)
    with installed():
        from medperf.server.audit import commands

        with session.drawer as drawer:
            done = commands.seal(_settings(session, data, database), emit=drawer)
    if session.out.as_json:
        session.out.json(done)
        return
    session.out.line(f"Sealed events: {done.events:,}." if done.events else "Every event is sealed already.")
    if done.head is not None:
        session.out.line(f"Newest checkpoint: {done.head.hash}")


@example(app, "key", "medperf server audit key")
def key(ctx: typer.Context, data: Data = None, database: Database = None) -> None:
    """Show the public key that checkpoints are signed with (Ed25519, hexadecimal)."""
    session = session_of(ctx)
    with installed():
        from medperf.server.audit import commands

        public = commands.public_key(_settings(session, data, database))
    session.out.answer({"public_key": public}, public)


@example(app, "accept", "medperf server audit accept --data /srv/medperf")
def accept(
    ctx: typer.Context,
    data: Data = None,
    database: Database = None,
    yes: YesOption = False,
) -> None:
    """After you restored or moved the database on purpose: go on from the trail that is in it. An event says that you did."""
    session = session_of(ctx)
    folder = folder_of(session, data)
    if not yes and not session.ask.confirm(f"Did you restore or move the database of {folder} yourself?"):
        raise MedPerfError(
            "declined", "Nothing was accepted.", "Find out who changed the database, or restore a copy that verifies."
        )
    with installed():
        from medperf.server.audit import commands

        with session.drawer as drawer:
            done = commands.accept(_settings(session, folder, database), emit=drawer)
    if session.out.as_json:
        session.out.json(done)
        return
    session.out.line("Accepted the audit trail that is in the database.")
    if done.before is not None:
        session.out.line(f"Before: checkpoint {done.before.checkpoint}, up to event {done.before.last_event}.")
    if done.after is not None:
        session.out.line(f"Now: checkpoint {done.after.checkpoint}, up to event {done.after.last_event}.")


def _settings(session: Session, data: Path | None, database: str | None) -> Settings:
    """Of the server that is meant."""
    from medperf.server.settings import Settings

    return Settings(data=folder_of(session, data), database=database_of(session, database))


def _how_far(found: VerifyReport) -> str:
    """Up to where the trail is whole; with a fault, that is before it."""
    fault = found.fault
    if found.head is None:
        return "Nothing was sealed yet." if fault is None else "The audit trail is not whole from its beginning on."
    if fault is not None and fault.event is not None and fault.event <= found.last_event:
        return f"The audit trail is whole before event {fault.event}."
    verified = f"(events: {found.events:,}, checkpoints: {found.checkpoints:,})"
    return f"The audit trail is whole up to event {found.last_event} {verified}{', no further' if fault is not None else ''}."
