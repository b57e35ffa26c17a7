"""What may not be done to accounts."""

from __future__ import annotations

from medperf.domain import limits
from medperf.domain.errors import Conflict, InvalidInput
from medperf.server.authz import Actor


def check_password(password: str, *, development: bool) -> None:
    """Raises:
    InvalidInput: too short for a server that is not marked for development.
    """
    if not development and len(password) < limits.REAL_PASSWORD_MIN_LENGTH:
        raise InvalidInput(
            "weak_password",
            f"A password has at least {limits.REAL_PASSWORD_MIN_LENGTH} characters on this server.",
            "Choose a longer one; several words do well.",
        )


def check_disable(actor: Actor, user_id: int, *, is_admin: bool, other_admins: int) -> None:
    """Raises:
    Conflict: one's own account, or the last active admin.
    """
    if user_id == actor.user_id:
        raise Conflict("own_account", "Nobody disables their own account.", "Ask another admin.")
    if is_admin and other_admins == 0:
        raise Conflict("last_admin", "This is the last active admin.", "Make another admin first.")
