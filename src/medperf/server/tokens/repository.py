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


_MINE = sa.select(tokens.c.id).where(tokens.c.user_id == sa.bindparam("user")).order_by(tokens.c.id.desc())
_LIVE = (tokens.c.revoked_at.is_(None), tokens.c.expires_at > sa.bindparam("moment"))
#: Those that nobody has locked: one that is being used, or ended, at this moment is the next login's matter.
_BEYOND = (
    sa.select(tokens.c.id)
    .where(
        tokens.c.user_id == sa.bindparam("user"),
        *_LIVE,
        tokens.c.id <= _MINE.where(*_LIVE).limit(1).offset(sa.bindparam("most")).scalar_subquery(),
    )
    .order_by(tokens.c.id)
    .limit(100)
    .with_for_update(skip_locked=True)
)
_END = sa.update(tokens).where(tokens.c.id == sa.bindparam("token")).values(revoked_at=sa.bindparam("moment"))
_FORGET = sa.delete(tokens).where(
    tokens.c.id.in_(
        sa.select(tokens.c.id)
        .where(
            tokens.c.user_id == sa.bindparam("user"),
            ~sa.and_(*_LIVE),
            tokens.c.id <= _MINE.limit(1).offset(sa.bindparam("most")).scalar_subquery(),
        )
        .order_by(tokens.c.id)
        .limit(100)
        .with_for_update(skip_locked=True)
    )
)


async def end_oldest(tx: Transaction, user_id: int, *, most: int) -> list[int]:
    """End an account's oldest logins, so that ``most`` go on; returns their ids. Of those that ended as many are remembered, so that who
    still uses one is told that it ended.
    """
    values = {"user": user_id, "moment": now(), "most": most}
    ended = [row.id for row in await tx.all(_BEYOND, values)]
    for token_id in ended:
        await tx.execute(_END, {"token": token_id, "moment": values["moment"]})
    await tx.execute(_FORGET, {**values, "most": 2 * most})
    return ended


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
