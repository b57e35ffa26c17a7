"""Statements about uploads."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa

from medperf.server.assets.tables import assets
from medperf.server.authz import owned
from medperf.server.db import Transaction
from medperf.server.parties.tables import parties
from medperf.server.uploads.tables import uploads

_COLUMNS = (
    uploads.c.id,
    uploads.c.name,
    uploads.c.digest,
    uploads.c.size,
    uploads.c.owner_id,
    parties.c.name.label("owner_name"),
    parties.c.kind.label("owner_kind"),
    uploads.c.asset_id,
    uploads.c.created_at,
    uploads.c.expires_at,
)
#: Of this account, for a party that it belongs to: who left an organisation has nothing there any more.
_MINE = (
    sa.select(*_COLUMNS)
    .join(parties, parties.c.id == uploads.c.owner_id)
    .where(
        uploads.c.user_id == sa.bindparam("user"),
        uploads.c.expires_at > sa.bindparam("moment"),
        owned(uploads.c.owner_id),
    )
)
_ONE = _MINE.where(uploads.c.id == sa.bindparam("upload"))
_OPEN = _MINE.where(uploads.c.asset_id.is_(None)).order_by(uploads.c.created_at, uploads.c.id)
_ONE_LOCKED = _ONE.with_for_update(of=uploads)
_UNFINISHED = (uploads.c.asset_id.is_(None), uploads.c.expires_at > sa.bindparam("moment"))
_OWNER = sa.select(parties.c.id, parties.c.name, parties.c.kind).where(parties.c.id == sa.bindparam("owner"))
_OWNER_LOCKED = _OWNER.with_for_update(key_share=True)
_OWNERS: sa.BindParameter[Any] = sa.bindparam("owners", expanding=True)
_USED = sa.select(
    sa.select(sa.func.coalesce(sa.func.sum(assets.c.size), 0))
    .where(assets.c.owner_id.in_(_OWNERS))
    .scalar_subquery()
    .label("asset_bytes"),
    sa.select(sa.func.count())
    .select_from(assets)
    .where(assets.c.owner_id.in_(_OWNERS))
    .scalar_subquery()
    .label("assets"),
    sa.select(sa.func.coalesce(sa.func.sum(uploads.c.size), 0))
    .where(uploads.c.owner_id.in_(_OWNERS), *_UNFINISHED)
    .scalar_subquery()
    .label("upload_bytes"),
    sa.select(sa.func.count())
    .select_from(uploads)
    .where(uploads.c.owner_id.in_(_OWNERS), *_UNFINISHED)
    .scalar_subquery()
    .label("uploads"),
)
_INSERT = sa.insert(uploads)
_EXTEND = (
    sa.update(uploads)
    .where(uploads.c.id == sa.bindparam("upload"), uploads.c.asset_id.is_(None))
    .values(expires_at=sa.bindparam("until"))
)
_COMPLETE = (
    sa.update(uploads)
    .where(uploads.c.id == sa.bindparam("upload"), uploads.c.asset_id.is_(None))
    .values(asset_id=sa.bindparam("asset"))
)
_CANCEL = sa.delete(uploads).where(
    uploads.c.id == sa.bindparam("upload"),
    uploads.c.user_id == sa.bindparam("user"),
    uploads.c.asset_id.is_(None),
)
_CANCEL_ALL = (
    sa.delete(uploads)
    .where(
        uploads.c.owner_id == sa.bindparam("owner"),
        uploads.c.user_id == sa.bindparam("user"),
        uploads.c.asset_id.is_(None),
    )
    .returning(uploads.c.id)
)
_LAPSED = (
    sa.select(uploads.c.id, uploads.c.asset_id)
    .where(uploads.c.expires_at <= sa.bindparam("moment"))
    .order_by(uploads.c.expires_at)
    .limit(100)
)
_EXPIRE = sa.delete(uploads).where(
    uploads.c.id == sa.bindparam("upload"), uploads.c.expires_at <= sa.bindparam("moment")
)
_FORGET = sa.delete(uploads).where(uploads.c.asset_id == sa.bindparam("asset"))
_UNFINISHED_IDS = sa.select(uploads.c.id).where(
    uploads.c.id.in_(sa.bindparam("ids", expanding=True)), uploads.c.asset_id.is_(None)
)


def view(row: sa.Row[Any], received: int) -> dict[str, Any]:
    """As `medperf.wire.assets.UploadView`."""
    return {
        "id": row.id,
        "name": row.name,
        "digest": row.digest,
        "size": row.size,
        "offset": received,
        "owner": {"id": row.owner_id, "name": row.owner_name, "kind": row.owner_kind},
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "asset": row.asset_id,
    }


async def get(
    tx: Transaction, *, user_id: int, upload_id: str, moment: str, change: bool = False
) -> sa.Row[Any] | None:
    """One upload of this account. ``change``: nobody else changes it before this transaction ends."""
    statement = _ONE_LOCKED if change else _ONE
    return await tx.first(statement, {"user": user_id, "actor_user": user_id, "upload": upload_id, "moment": moment})


async def unfinished(tx: Transaction, *, user_id: int, moment: str) -> list[sa.Row[Any]]:
    """This account's unfinished uploads, oldest first. There are few: see `Settings.upload_count`."""
    return list(await tx.all(_OPEN, {"user": user_id, "actor_user": user_id, "moment": moment}))


async def lock_owner(tx: Transaction, owner_id: int) -> None:
    """What an owner has is counted by one transaction at a time."""
    await tx.first(_OWNER_LOCKED, {"owner": owner_id})


async def owner_view(tx: Transaction, owner_id: int) -> dict[str, Any]:
    """A party as `medperf.wire.models.PartyRef`."""
    row = (await tx.execute(_OWNER, {"owner": owner_id})).one()
    return {"id": row.id, "name": row.name, "kind": row.kind}


async def used(tx: Transaction, owners: Collection[int], *, moment: str) -> sa.Row[Any]:
    """``asset_bytes``, ``assets``, ``upload_bytes`` and ``uploads`` of these owners together."""
    row = await tx.first(_USED, {"owners": list(owners), "moment": moment})
    assert row is not None
    return row


async def insert(tx: Transaction, values: dict[str, Any]) -> None:
    """A new upload."""
    await tx.execute(_INSERT, values)


async def extend(tx: Transaction, upload_id: str, *, until: str) -> None:
    """Keep it longer."""
    await tx.execute(_EXTEND, {"upload": upload_id, "until": until})


async def complete(tx: Transaction, upload_id: str, asset_id: int) -> bool:
    """It became an asset; False if it is not unfinished any more."""
    return (await tx.execute(_COMPLETE, {"upload": upload_id, "asset": asset_id})).rowcount == 1


async def cancel(tx: Transaction, *, user_id: int, upload_id: str) -> bool:
    """Remove an unfinished upload; False if there is none."""
    return (await tx.execute(_CANCEL, {"upload": upload_id, "user": user_id})).rowcount == 1


async def cancel_all(tx: Transaction, *, user_id: int, owner_id: int) -> list[str]:
    """Remove what an account has not finished for an owner; returns the ids. The sweep drops the bytes."""
    return [row.id for row in await tx.all(_CANCEL_ALL, {"user": user_id, "owner": owner_id})]


async def lapsed(tx: Transaction, *, moment: str) -> list[sa.Row[Any]]:
    """Some of those whose time is over."""
    return list(await tx.all(_LAPSED, {"moment": moment}))


async def expire(tx: Transaction, upload_id: str, *, moment: str) -> bool:
    """Remove one whose time is over; False if it was continued meanwhile."""
    return (await tx.execute(_EXPIRE, {"upload": upload_id, "moment": moment})).rowcount == 1


async def forget_asset(tx: Transaction, asset_id: int) -> None:
    """The asset goes, and with it what made it."""
    await tx.execute(_FORGET, {"asset": asset_id})


async def unfinished_among(tx: Transaction, ids: Collection[str]) -> frozenset[str]:
    """Those of ``ids`` that are unfinished uploads."""
    return frozenset(row.id for row in await tx.all(_UNFINISHED_IDS, {"ids": list(ids)}))
