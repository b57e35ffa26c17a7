"""What may not be done to accounts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from medperf.domain import limits
from medperf.domain.errors import Conflict, InvalidInput
from medperf.server.authz import Actor
from medperf.server.names import username_key

_ERASED = "erased-"


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


def erased_name(user_id: int) -> str:
    """What an erased account is called."""
    return f"{_ERASED}{user_id}"


def check_username(username: str) -> None:
    """Raises:
    InvalidInput: a name that erased accounts have.
    """
    if username_key(username).startswith(_ERASED):
        raise InvalidInput(
            "reserved_username",
            f"Usernames that begin with {_ERASED} are of erased accounts.",
            "Choose another username.",
        )


def check_enable(row: Any) -> None:
    """Raises:
    Conflict: the account was erased.
    """
    if row.username == erased_name(row.id):
        raise Conflict("account_erased", f"The account {row.id} was erased.", "Make a new one with: medperf user add")


def check_erase(row: Any) -> None:
    """Raises:
    Conflict: the account is still in use.
    """
    if row.is_active:
        raise Conflict(
            "still_active",
            f"The account {row.username} is not disabled.",
            f"Disable it first with: medperf user disable {row.username}",
        )


def check_managed(unmanaged: Sequence[int], *, leave: bool) -> None:
    """Raises:
    Conflict: ``last_manager``: organisations would be left without an active manager. All are named.
    """
    if unmanaged and not leave:
        ids = ", ".join(map(str, unmanaged))
        raise Conflict(
            "last_manager",
            f"No other active account manages what this one manages: organisation {ids}.",
            "Have another manager made first; or disable it all the same with --leave-unmanaged, and make one afterwards.",
            details={"organisations": list(unmanaged)},
        )
