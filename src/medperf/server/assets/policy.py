"""Who may see assets, and who may read their bytes."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.server.assets.tables import assets, opened_assets
from medperf.server.authz import operated, owned

#: What everybody may read: `medperf.server.assets.openings` keeps it.
PUBLIC: dict[str, bool] = {"is_public": True}


def readable_by(is_admin: bool, *, to_name: bool = False) -> sa.ColumnElement[bool]:
    """Members of its owner (``to_name``: who may operate for it, as to delete it takes); and whoever sees a benchmark reads that benchmark's demo data and its preparator's and evaluator's files.

    A reference model's files are for its owner's members alone. Being an admin opens no content.
    """
    opened = opened_assets.c.asset_id == assets.c.id  # by any benchmark: an admin sees them all
    if not is_admin:
        opened &= owned(opened_assets.c.party_id)
    public = sa.and_(*(assets.c[name] == sa.literal(value) for name, value in PUBLIC.items()))
    mine = operated(assets.c.owner_id) if to_name else owned(assets.c.owner_id)
    return sa.or_(mine, public, sa.exists().where(opened))


def visible_to(is_admin: bool) -> sa.ColumnElement[bool]:
    """Whoever reads the bytes sees the entry; an admin sees all entries."""
    return sa.true() if is_admin else readable_by(is_admin)
