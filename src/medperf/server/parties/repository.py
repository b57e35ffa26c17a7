"""Statements about parties and memberships."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal

import sqlalchemy as sa

from medperf.domain.permissions import EVERY_RIGHT, Right
from medperf.server.db import Transaction
from medperf.server.parties.tables import memberships, parties
from medperf.server.schema import now


async def insert_party(tx: Transaction, kind: Literal["person", "organisation"], name: str) -> int:
    """A new party without members; returns its id. `insert_owner` follows."""
    return await tx.insert(sa.insert(parties).values(kind=kind, name=name, created_at=now()))


async def insert_owner(tx: Transaction, party_id: int, user_id: int) -> None:
    """The first member of a new party, with every right."""
    moment = now()
    await tx.execute(
        sa.insert(memberships).values(
            party_id=party_id, user_id=user_id, created_at=moment, modified_at=moment, **columns_of(EVERY_RIGHT)
        )
    )


def columns_of(rights: Collection[Right]) -> dict[str, Any]:
    """Rights as columns of memberships."""
    return {f"can_{right.value}": right in rights for right in Right}
