"""One site: its settings, the server it talks to, what it remembers and what runs containers, built once by the door."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from medperf.domain.errors import Interrupted, Unauthenticated
from medperf.domain.events import Emit, Event, ignore
from medperf.flows.interaction import Interaction, Scripted

if TYPE_CHECKING:
    from medperf.client.client import MedPerfClient
    from medperf.client.credentials import Credential, FileCredentialStore
    from medperf.client.downloads import Fetched
    from medperf.client.profiles import Profile
    from medperf.domain.confinement import ConfinementPolicy
    from medperf.domain.digests import Digest
    from medperf.runtime.engines.base import Engine
    from medperf.wire.models import FileRef
    from medperf.workspace.workspace import Workspace


@dataclass(frozen=True)
class SiteOptions:
    """What the person said for this one call; None = as the active profile says."""

    profile: str | None = None
    server: str | None = None
    certificate: str | None = None


@dataclass
class Site:
    """Everything a flow needs. Parts are made when first used, so that a command pays only for what it touches."""

    home: Path
    profile: Profile
    certificate: Path | None
    environ: Mapping[str, str]
    cwd: Path
    emit: Emit = ignore
    ask: Interaction = field(default_factory=Scripted)
    cancel: threading.Event = field(default_factory=threading.Event)
    clock: Callable[[], float] = time.monotonic
    cache: Path | None = None  # wheels and environments; None: below home

    @classmethod
    def open(
        cls,
        options: SiteOptions,
        *,
        environ: Mapping[str, str],
        cwd: Path,
        emit: Emit = ignore,
        ask: Interaction | None = None,
    ) -> Self:
        """Read the profile; nothing is written and no server is asked.

        Raises:
            MedPerfError: no such profile, or a certificate that is no file.
        """
        from medperf.client.profiles import find_certificate, load_profile
        from medperf.workspace.paths import home

        folder = home(environ)
        profile = load_profile(folder, name=options.profile or environ.get("MEDPERF_PROFILE"), server=options.server)
        return cls(
            home=folder,
            profile=profile,
            certificate=find_certificate(folder, profile, given=options.certificate, cwd=cwd),
            environ=environ,
            cwd=cwd,
            emit=emit,
            ask=ask or Scripted(),
        )

    # -- the server ------------------------------------------------------------------------------------------------

    @cached_property
    def credentials(self) -> FileCredentialStore:
        """Tokens per profile."""
        from medperf.client.credentials import FileCredentialStore

        return FileCredentialStore(self.home)

    def credential(self) -> Credential:
        """The account this profile is logged in with.

        Raises:
            Unauthenticated: never logged in, or the token expired.
        """
        found = self.credentials.get(self.profile.name)
        if found is None or found.server != self.profile.server:
            raise Unauthenticated(
                "not_logged_in", f"You are not logged in to {self.profile.server}.", "Log in with: medperf login"
            )
        found.check()
        return found

    @cached_property
    def api(self) -> MedPerfClient:
        """The server as the logged-in account."""
        credential = self.credential()
        return self._client(token=credential.token, instance_id=credential.instance_id)

    @cached_property
    def anonymous_api(self) -> MedPerfClient:
        """The server as nobody: for logging in and for asking who it is."""
        return self._client(token=None, instance_id=None)

    def _client(self, *, token: str | None, instance_id: str | None) -> MedPerfClient:
        from medperf.client.client import MedPerfClient
        from medperf.client.http import Transport

        return MedPerfClient(
            Transport(
                self.profile.server,
                token=token,
                instance_id=instance_id,
                verify=self.certificate,
                sleep=self.sleep,
                emit=self.emit,
            )
        )

    def sleep(self, seconds: float) -> None:
        """Wait, but not longer than until Ctrl-C.

        Raises:
            Interrupted: Ctrl-C.
        """
        self.cancel.wait(seconds)
        self.check_cancelled()

    def fetch_unknown(self, url: str, *, expected: Digest | None = None, limit: int) -> Fetched:
        """Download a URL that the person gave, whose size is not known yet, into the content store.

        Args:
            expected: the digest it must have, if the person knows it.
            limit: bytes it may have at most.
        """
        from medperf.client.downloads import Downloader

        api = self.api if url.lower().startswith("asset:") else None
        downloader = Downloader(self.workspace.store, api=api, cancel=self.cancel)
        return downloader.probe(url, expected=expected, limit=limit, emit=self.emit)

    def fetch(self, ref: FileRef, *, name: str) -> Fetched:
        """A registered file from the content store, downloaded and verified if it is not there yet.

        Args:
            name: what messages and progress call it.
        """
        from medperf.client.downloads import Downloader
        from medperf.domain.addresses import is_loopback, split_url

        downloader = Downloader(
            self.workspace.store,
            api=self.api if any(url.startswith("asset:") for url in ref.urls) else None,
            cancel=self.cancel,
            # Somebody else wrote these URLs: they may name this machine only where the server that took them is this machine.
            allow_loopback=is_loopback(str(split_url(self.profile.server).hostname)),
        )
        return downloader.fetch(ref, name=name, emit=self.emit)

    # -- this machine ----------------------------------------------------------------------------------------------

    @cached_property
    def workspace(self) -> Workspace:
        """What this site remembers of this server."""
        from medperf.workspace.paths import workspace_path
        from medperf.workspace.workspace import Workspace

        return Workspace.open(workspace_path(self.home, self.profile.server))

    @cached_property
    def engine(self) -> Engine:
        """What runs containers here."""
        from medperf.flows.engines import choose_engine

        return choose_engine(self)

    def policy(self, task: str) -> ConfinementPolicy:
        """The confinement policy for a task, with the profile's limits."""
        from medperf.flows.engines import policy_for

        return policy_for(self.profile, task)

    def check_cancelled(self) -> None:
        """Raises:
        Interrupted: the person pressed Ctrl-C.
        """
        if self.cancel.is_set():
            raise Interrupted

    def emit_or_stop(self, event: Event) -> None:
        """`emit` for long work of our own (reading data, packing, unpacking), which stops here on Ctrl-C.

        Raises:
            Interrupted: the person pressed Ctrl-C.
        """
        self.check_cancelled()
        self.emit(event)

    def close(self) -> None:
        """Close what was opened."""
        for name in ("api", "anonymous_api", "workspace"):
            part = self.__dict__.pop(name, None)
            if part is not None:
                part.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
