"""Servers and the settings of this site for each; the profiles themselves are kept by `medperf.client.profiles`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from medperf.client import profiles
from medperf.client.private import make_folder as make_home
from medperf.client.profiles import (
    Profile,
    ProfileSummary,
    activate_profile,
    create_profile,
    list_profiles,
    set_profile,
    view_profile,
)
from medperf.domain.addresses import is_loopback, split_url

__all__ = [
    "Profile",
    "ProfileSummary",
    "activate_profile",
    "create_profile",
    "delete_profile",
    "list_profiles",
    "make_home",
    "set_profile",
    "trust_own_server",
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


def trust_own_server(home: Path, urls: Iterable[str], certificate: Path) -> None:
    """The account that runs a server on this machine trusts it, from whatever folder it logs in.

    Args:
        urls: the names of the server; those that are not this machine's, or without TLS, are passed over.
        certificate: the server's own.
    """
    for url in urls:
        parts = split_url(url)
        if parts.scheme == "https" and is_loopback(str(parts.hostname)):
            profiles.trust_certificate(home, url, certificate.read_bytes())
