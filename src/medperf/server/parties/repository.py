"""Statements about parties."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.server.db import Transaction
from medperf.server.parties.tables import parties
from medperf.server.schema import now


async def insert_person(tx: Transaction, name: str) -> int:
    """The personal party of a new account; returns its id."""
    return await tx.insert(sa.insert(parties).values(kind="person", name=name, created_at=now()))
