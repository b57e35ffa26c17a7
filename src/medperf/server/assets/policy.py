"""Who may see assets, and who may read their bytes."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.server.assets.tables import assets, opened_assets
from medperf.server.authz import operated, owned

#: What everybody may read: `medperf.server.assets.openings` keeps it.
PUBLIC: dict[str, bool] = {"is_public": True}


def readable_by(is_admin: bool, *, to_name: bool = False, joined: bool = True) -> sa.ColumnElement[bool]:
    """Members of its owner (``to_name``: who may operate for it, as to delete it takes); whoever sees a benchmark reads that benchmark's
    demo data and its preparator's and evaluator's files; and (``joined``) the owners of datasets that joined a benchmark read the files of
    the models in it, to run them.

    Else a model's files are for its owner's members alone. Being an admin opens no content.
    """
    to_them = owned(opened_assets.c.party_id)
    # By a benchmark, of which an admin sees all; or by an association.
    by_benchmark, by_association = ~opened_assets.c.is_joined, opened_assets.c.is_joined & to_them
    condition = by_benchmark if is_admin else by_benchmark & to_them
    if joined:
        condition = sa.or_(condition, by_association) if is_admin else to_them
    opened = sa.exists().where(opened_assets.c.asset_id == assets.c.id, condition)
    public = sa.and_(*(assets.c[name] == sa.literal(value) for name, value in PUBLIC.items()))
    mine = operated(assets.c.owner_id) if to_name else owned(assets.c.owner_id)
    return sa.or_(mine, public, opened)


def visible_to(is_admin: bool) -> sa.ColumnElement[bool]:
    """Whoever reads the bytes sees the entry; an admin sees all entries."""
    return sa.true() if is_admin else readable_by(is_admin)
