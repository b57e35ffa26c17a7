"""Where tokens are kept: one per profile."""

from __future__ import annotations

import json
import os
import shlex
import stat
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from medperf.client.private import locked, read_private, write_private
from medperf.domain.errors import MedPerfError, Unauthenticated


@dataclass(frozen=True)
class Credential:
    """A login. ``expires_at`` is aware; ``instance_id``: the server instance that gave the token."""

    server: str
    token: str
    expires_at: datetime
    username: str
    is_admin: bool
    instance_id: str

    def __repr__(self) -> str:
        """Without the token: representations end up in logs."""
        return f"Credential({self.username!r} at {self.server!r} until {self.expires_at.isoformat()})"

    @property
    def expired(self) -> bool:
        """Whether the token is of no use any more."""
        return datetime.now(UTC) >= self.expires_at

    def check(self) -> None:
        """Raises:
        Unauthenticated: ``token_expired``.
        """
        if self.expired:
            when = self.expires_at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
            raise Unauthenticated(
                "token_expired", f"Your login to {self.server} expired at {when}.", "Log in again with: medperf login"
            )


class CredentialStore(Protocol):
    """Keeps one credential per profile. `medperf.testing.stores.CredentialStoreContract` says how."""

    def get(self, profile: str) -> Credential | None:
        """The credential, expired or not; None when there is none."""

    def set(self, profile: str, credential: Credential) -> None:
        """Keep it in the place of an older one."""

    def delete(self, profile: str) -> None:
        """Forget it; nothing there is fine."""


class FileCredentialStore:
    """``credentials.json`` in the home folder, readable by its owner alone.

    Args:
        home: made when the first credential is written.
    """

    def __init__(self, home: Path) -> None:
        self.path = home / "credentials.json"

    def get(self, profile: str) -> Credential | None:
        """See `CredentialStore`.

        Raises:
            MedPerfError: ``credentials_exposed``: others can read the file; ``credentials_damaged``.
        """
        entry = self._read().get(profile)
        if entry is None:
            return None
        try:
            expires_at = datetime.fromisoformat(entry["expires_at"])
            credential = Credential(
                **{**entry, "expires_at": expires_at if expires_at.tzinfo else expires_at.replace(tzinfo=UTC)}
            )
        except (TypeError, KeyError, ValueError) as error:
            raise self._damaged() from error
        words = (credential.token, credential.instance_id)  # both are sent as headers
        if not all(isinstance(word, str) and word.isascii() and word.isprintable() for word in words):
            raise self._damaged()
        if not isinstance(credential.is_admin, bool) or not isinstance(credential.username, str):
            raise self._damaged()
        return credential

    def set(self, profile: str, credential: Credential) -> None:
        """See `CredentialStore`."""
        with locked(self.path):
            entries = self._read()
            entries[profile] = {**asdict(credential), "expires_at": credential.expires_at.isoformat()}
            self._write(entries)

    def delete(self, profile: str) -> None:
        """See `CredentialStore`."""
        if not self.path.exists():
            return
        with locked(self.path):
            entries = self._read()
            if entries.pop(profile, None) is not None:
                self._write(entries)

    def _read(self) -> dict[str, Any]:
        try:
            found = read_private(self.path, follow=False)
        except OSError as error:
            raise MedPerfError(
                "credentials_unreadable",
                f"{self.path} cannot be read: {error.strerror}.",
                f"Remove it (rm -r {shlex.quote(str(self.path))}) and log in again: medperf login",
            ) from error
        if found is None:
            return {}
        data, info = found
        if info.st_uid != os.geteuid() and os.geteuid() != 0:
            raise MedPerfError(
                "credentials_exposed",
                f"{self.path} belongs to another account.",
                f"Remove it (rm {shlex.quote(str(self.path))}) and log in again: medperf login",
            )
        if stat.S_IMODE(info.st_mode) & 0o077:
            raise MedPerfError(
                "credentials_exposed",
                f"{self.path} can be read by others (mode {stat.S_IMODE(info.st_mode):04o}), so its tokens may be known.",
                f"Run: chmod 600 {shlex.quote(str(self.path))} and then end those logins with: medperf logout",
            )
        try:
            entries = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise self._damaged() from error
        if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
            raise self._damaged()
        return entries

    def _write(self, entries: dict[str, Any]) -> None:
        write_private(self.path, json.dumps(entries, indent=1, sort_keys=True).encode() + b"\n")

    def _damaged(self) -> MedPerfError:
        return MedPerfError(
            "credentials_damaged",
            f"{self.path} cannot be understood.",
            f"Remove it (rm {shlex.quote(str(self.path))}) and log in again: medperf login",
        )
