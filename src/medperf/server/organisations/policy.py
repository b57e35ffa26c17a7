"""Who may see organisations. What may be done with them is decided in the service, by the table of `medperf.domain.permissions`."""

from __future__ import annotations

import sqlalchemy as sa

from medperf.server.authz import owned
from medperf.server.organisations.tables import organisations


def visible_to(is_admin: bool) -> sa.ColumnElement[bool]:
    """Members, admins."""
    return sa.true() if is_admin else owned(organisations.c.party_id)
