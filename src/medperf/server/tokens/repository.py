"""Statements about tokens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from medperf.server.db import Transaction
from medperf.server.schema import as_text, now
from medperf.server.tokens.tables import tokens


async def insert(tx: Transaction, *, token_hash: str, user_id: int, seconds: int) -> tuple[int, str]:
    """A new token; returns its id and when it expires. Tokens that expired long ago go."""
    moment = datetime.now(UTC)
    await tx.execute(
        sa.delete(tokens).where(tokens.c.user_id == user_id, tokens.c.expires_at < as_text(moment - timedelta(days=30)))
    )
    expires_at = as_text(moment + timedelta(seconds=seconds))
    token_id = await tx.insert(
        sa.insert(tokens).values(
            hash=token_hash, user_id=user_id, created_at=as_text(moment), expires_at=expires_at, revoked_at=None
        )
    )
    return token_id, expires_at


async def revoke(tx: Transaction, token_hash: str) -> int:
    """End one login; returns its id."""
    statement = sa.update(tokens).where(tokens.c.hash == token_hash).values(revoked_at=now()).returning(tokens.c.id)
    return int((await tx.execute(statement)).scalar_one())


async def revoke_all(tx: Transaction, user_id: int, *, but: str | None = None) -> None:
    """End all logins of an account, except the one with hash ``but``."""
    statement = sa.update(tokens).where(tokens.c.user_id == user_id, tokens.c.revoked_at.is_(None))
    if but is not None:
        statement = statement.where(tokens.c.hash != but)
    await tx.execute(statement.values(revoked_at=now()))
