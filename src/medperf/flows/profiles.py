"""Servers and the settings of this site for each; the profiles themselves are kept by `medperf.client.profiles`."""

from __future__ import annotations

from pathlib import Path

from medperf.client import profiles
from medperf.client.profiles import (
    Profile,
    ProfileSummary,
    activate_profile,
    create_profile,
    list_profiles,
    set_profile,
    view_profile,
)

__all__ = [
    "Profile",
    "ProfileSummary",
    "activate_profile",
    "create_profile",
    "delete_profile",
    "list_profiles",
    "set_profile",
    "view_profile",
]


def delete_profile(home: Path, name: str) -> None:
    """Remove a profile and its login; what was remembered about its server stays.

    Raises:
        NotFound: no such profile.
        Conflict: it is the active or the built-in one.
    """
    from medperf.client.credentials import FileCredentialStore

    # The login first: killed between the two, this can be done again; the other way round the login would stay for good.
    profiles.delete_profile(home, name, first=lambda: FileCredentialStore(home).delete(name))
