"""How many rows an owner may have, and which owners have them together.

An account makes organisations freely, so what those own counts together: else each of them would multiply what one account may fill.
An organisation that an admin made has its own room.
"""

from __future__ import annotations

import sqlalchemy as sa

from medperf.domain.errors import Conflict
from medperf.server.context import ServerContext
from medperf.server.db import Transaction
from medperf.server.organisations.tables import organisations
from medperf.server.users.tables import users

_others = organisations.alias("others")
_TOGETHER = (
    sa.select(_others.c.party_id)
    .join(organisations, organisations.c.created_by == _others.c.created_by)
    .join(users, users.c.id == organisations.c.created_by)
    .where(organisations.c.party_id == sa.bindparam("owner"), ~users.c.is_admin)
    .order_by(_others.c.party_id)
)


async def together(tx: Transaction, owner_id: int) -> list[int]:
    """The owners whose things count together with this owner's, itself among them, by id."""
    found = [row.party_id for row in await tx.all(_TOGETHER, {"owner": owner_id})]
    return found or [owner_id]


async def check_room(
    server: ServerContext,
    tx: Transaction,
    table: sa.Table,
    owner_id: int,
    *,
    most: int,
    things: str,
    column: str = "owner_id",
) -> None:
    """Refuse one row more than an owner may have. Rows are counted once in a while: see `medperf.server.limiter.Allowances`.

    Some that come at once may exceed it by their number.

    Args:
        table: has ``column``, which names an owner, with an index that begins with it.
        things: what its rows are, for people.

    Raises:
        Conflict: ``too_many_rows``.
        StorageFull: the disk is almost full.
    """
    allowances = server.rates.allowances
    if allowances.take((table.name, owner_id)):
        return
    server.store.check_room(0)  # the last of the disk is for logins, and for whoever tidies up
    owners = await together(tx, owner_id)
    counted = sa.select(sa.func.count()).select_from(
        sa.select(table.c.id).where(table.c[column].in_(owners)).limit(most).subquery()
    )
    have = int((await tx.execute(counted)).scalar_one())
    if have >= most:
        whose = "This owner" if len(owners) == 1 else f"This owner and the {len(owners) - 1} others of the same founder"
        raise Conflict(
            "too_many_rows",
            f"{whose} registered {have:,} {things}, the most allowed.",
            "Use what is registered, or ask an admin of this server to make an organisation for you: it has its own room.",
        )
    allowances.give((table.name, owner_id), (most - have) // _UNCOUNTED_SHARE)


#: Of the room that is left one in so many is made without a look; so several processes and organisations together stay below it.
_UNCOUNTED_SHARE = 256
