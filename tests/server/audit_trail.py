"""The audit trail of a server that runs, for tests that write in its database behind its back."""

from __future__ import annotations

import itertools
import re
from typing import Any

import sqlalchemy as sa

from medperf.server.audit import chain
from medperf.server.audit.folder import AuditFolder, SigningKey
from medperf.server.audit.sealer import Sealer, SealReport
from medperf.server.audit.service import Action, record
from medperf.server.audit.verifier import Verifier, VerifyReport

from .conftest import World


class Trail:
    """The audit trail of a server that runs, and somebody who writes in its database."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.data = world.settings.data

    def sql(self, statement: str, *parameters: Any) -> list[Any]:
        """As `World.sql`; on PostgreSQL on the server's own connections, which are open already."""
        if self.world.settings.database_file.exists():
            return [tuple(row) for row in self.world.sql(statement, *parameters)]
        numbers = itertools.count()
        named = sa.text(re.sub(r"\?", lambda _: f":p{next(numbers)}", statement))

        async def work() -> list[Any]:
            async with self.world.database.write() as tx:
                values = {f"p{number}": value for number, value in enumerate(parameters)}
                done = await tx.execute(named, values)
                return [tuple(row) for row in done.all()] if statement.startswith("SELECT") else []

        return self.world.run(work)

    def add(self, count: int, *, personal: bool = False) -> None:
        """Events as the server writes them."""

        async def work() -> None:
            async with self.world.database.write() as tx:
                for number in range(count):
                    said = {"address": f"10.0.0.{number}"} if personal and number % 2 else None
                    await record(tx, 1, Action.ASSET_CREATED, f"asset:{number}", {"n": number}, personal=said)

        self.world.run(work)

    def seal(self) -> SealReport | None:
        return self.world.run(lambda: Sealer(self.world.database, self.data).seal(wait_seconds=5))

    def verify(self, **options: Any) -> VerifyReport:
        return self.world.run(lambda: Verifier(self.world.database, self.data, **options).run())

    def ids(self) -> list[int]:
        return [row[0] for row in self.sql("SELECT id FROM audit_events ORDER BY id")]

    def clear(self) -> None:
        for table in ("audit_personal", "audit_checkpoints", "audit_events"):
            self.sql(f"DELETE FROM {table}")
        AuditFolder(self.data).forget()

    def swap_ids(self, one: int, other: int) -> None:
        self.unlink()
        self.sql("UPDATE audit_events SET id = -999 WHERE id = ?", one)
        self.sql("UPDATE audit_events SET id = ? WHERE id = ?", one, other)
        self.sql("UPDATE audit_events SET id = ? WHERE id = -999", other)

    def delete(self, event: int) -> None:
        self.sql("DELETE FROM audit_personal WHERE event_id = ?", event)
        self.sql("DELETE FROM audit_events WHERE id = ?", event)

    def unlink(self) -> None:
        """Personal values hold their events' ids; they may be gone, as after an erasure."""
        self.sql("DELETE FROM audit_personal")

    def insert(self, event: int) -> None:
        self.sql(
            "INSERT INTO audit_events (id, at, actor_id, action, target, data) VALUES (?, '2026', NULL, 'x', 'y', '{}')",
            event,
        )

    def forge(self, key: SigningKey, *, claim: str | None = None) -> None:
        """Make checkpoints that fit the events as they are now, as whoever knows our code and the database could."""
        rows = self.sql("SELECT id, version, instance_id, last_event, sealed_at FROM audit_checkpoints ORDER BY id")
        self.sql("DELETE FROM audit_checkpoints")
        previous, after = chain.GENESIS, -(2**31)
        for number, version, instance, last, sealed_at in rows:
            events = self.sql(
                "SELECT id, at, actor_id, action, target, data FROM audit_events WHERE id > ? AND id <= ? ORDER BY id",
                after,
                last,
            )
            entries = [(event[0], chain.leaf(tuple(event))) for event in events]
            made = chain.Checkpoint(
                number,
                version,
                instance,
                entries[0][0],
                entries[-1][0],
                len(entries),
                chain.merkle_root([leaf for _, leaf in entries]),
                previous,
                sealed_at,
                claim or key.public,
            )
            self.sql(
                "INSERT INTO audit_checkpoints VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *(number, version, instance, made.first_event, made.last_event, made.events, made.root, previous),
                *(sealed_at, made.key, made.hash(), key.sign(made.hash()), chain.pack(entries)),
            )
            previous, after = made.hash(), last
