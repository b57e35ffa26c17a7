"""Create things on the server exactly once, and leave no upload behind when that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Literal, Self, TypeVar

from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict, MedPerfError, ServerUnavailable
from medperf.domain.events import Note
from medperf.flows.site import Site
from medperf.wire.models import AssetView, BenchmarkView, Body, MLCubeView

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
                if isinstance(problem, ServerUnavailable):
                    return  # the others would fail as slowly


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


def forget_unanswered(site: Site, kind: str, name: str) -> bool:
    """Whether an earlier try to create ``name`` was sent without hearing the answer.

    The server's list tells by now whether it arrived, so it is pending no longer. It is not sent again: what is to be created may
    have changed since.
    """
    import json

    found = False
    for entry in site.workspace.pending.ls(site.credential().instance_id):
        if entry.kind == kind and json.loads(entry.body).get("name") == name:
            site.workspace.pending.forget(entry.key)
            found = True
    return found


def refuse_taken_name(site: Site, kind: Literal["mlcube", "benchmark"], name: str) -> None:
    """Found before anything is uploaded or run; in the words that fit how the name came to be taken.

    Raises:
        Conflict: the account has one of this name.
    """
    mine: Iterable[MLCubeView] | Iterable[BenchmarkView]
    if kind == "mlcube":
        mine = site.api.mlcubes.list(owner="me", name=name, limit=1)
    else:
        mine = site.api.benchmarks.list(owner="me", name=name, limit=1)
    taken_id = next((view.id for view in mine), None)
    unanswered = forget_unanswered(site, kind, name)
    if taken_id is None:
        return
    noun = {"mlcube": "an MLCube", "benchmark": "a benchmark"}[kind]
    look = f"look at it: medperf {kind} view {taken_id}"
    if unanswered:
        raise Conflict(
            "name_taken",
            f"Your earlier try reached the server: {name!r} is {kind} {taken_id}, although its answer was lost.",
            f"Nothing is left to do if its files are still the ones you mean; {look}",
        )
    raise Conflict(
        "name_taken", f"You already have {noun} named {name!r} (id {taken_id}).", f"Choose another name, or {look}"
    )
