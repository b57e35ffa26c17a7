"""Create things on the server exactly once, and leave no upload behind when that fails."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from medperf.domain.digests import Digest
from medperf.domain.errors import MedPerfError
from medperf.domain.events import Note
from medperf.flows.site import Site
from medperf.wire.models import AssetView, Body

Created = TypeVar("Created")
Sent = TypeVar("Sent", bound=Body)


class Uploads:
    """Assets uploaded on the way to something: removed again unless `keep` is called."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._assets: list[AssetView] = []

    def add(self, asset: AssetView | None) -> None:
        """Remember an upload; None (a file hosted elsewhere) is fine."""
        if asset is not None:
            self._assets.append(asset)

    def keep(self) -> None:
        """What they were uploaded for exists now."""
        self._assets.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for asset in reversed(self._assets):
            try:
                self._site.api.assets.delete(asset.id)
            except MedPerfError as problem:
                # The first error is what the person must see; this one is said beside it.
                self._site.emit(
                    Note(f"The uploaded asset {asset.id} could not be removed: {problem.what}", level="warning")
                )


def create_once(site: Site, kind: str, body: Sent, create: Callable[..., Created]) -> Created:
    """POST ``body`` with an idempotency key that survives this process.

    A process killed between sending and hearing the answer leaves the key in the workspace; the same body sent again then gets the
    first answer instead of a second thing.
    """
    payload = body.model_dump_json().encode()
    instance_id = site.credential().instance_id
    pending = site.workspace.pending
    key = pending.remember(kind, instance_id, Digest.of(payload), payload)
    try:
        created = create(body, idempotency_key=key)
    except MedPerfError as error:
        # A refusal is an answer: nothing was made. Silence is none: the key stays for the next try.
        if error.code not in ("server_unavailable", "server_timeout", "connection_lost"):
            pending.forget(key)
        raise
    pending.forget(key)
    return created
