"""What an admin may not do to accounts."""

from __future__ import annotations

from medperf.domain.errors import Conflict
from medperf.server.authz import Actor


def check_disable(actor: Actor, user_id: int, *, is_admin: bool, other_admins: int) -> None:
    """Raises:
    Conflict: one's own account, or the last active admin.
    """
    if user_id == actor.user_id:
        raise Conflict("own_account", "Nobody disables their own account.", "Ask another admin.")
    if is_admin and other_admins == 0:
        raise Conflict("last_admin", "This is the last active admin.", "Make another admin first.")
