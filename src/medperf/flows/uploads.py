"""Create things on the server exactly once, and leave no upload behind when that fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self, TypeVar

from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict, Interrupted, MedPerfError, ServerUnavailable, Unauthenticated
from medperf.domain.events import Note, StepFinished, StepStarted
from medperf.flows.files import Obtained
from medperf.flows.organisations import owned_by, owner_filter
from medperf.flows.site import Site
from medperf.wire.assets import UploadCreate
from medperf.wire.models import AssetView, BenchmarkView, Body, FileRef, MLCubeView

if TYPE_CHECKING:
    from medperf.workspace.outgoing import Claim

#: There is nothing to go on with: it begins anew.
_GONE = ("upload_gone", "no_such_upload")
Created = TypeVar("Created")
Sent = TypeVar("Sent", bound=Body)


class Uploads:
    """Assets uploaded on the way to something.

    Unless `keep` is called they are removed again when that something is refused. Where nothing was refused (Ctrl-C, a cut, a kill), they
    and what is half sent stay, and the same command goes on from there.

    Args:
        owner: the party that will own them; None: the account itself.
    """

    def __init__(self, site: Site, *, owner: int | None = None) -> None:
        self._site = site
        self._owner = owner
        self._assets: list[AssetView] = []
        self._claims: list[Claim] = []

    def host(self, file: Obtained, *, name: str) -> FileRef:
        """A FileRef for the server: the file's own URL, or an upload to the asset store."""
        if file.url is not None:
            return FileRef(digest=file.digest, size=file.size, urls=(file.url,))
        asset = self.send(file, name=name)
        return FileRef(digest=file.digest, size=file.size, urls=(f"asset:{asset.id}",))

    def send(self, file: Obtained, *, name: str) -> AssetView:
        """Upload a local file, or go on with an upload that was cut.

        Raises:
            InvalidInput: ``file_changed``; or the server refuses it.
            ServerUnavailable: cut again and again.
        """
        from medperf.workspace.outgoing import Outgoing

        site = self._site
        name = name[-limits.NAME_LENGTH :]  # the end tells which file it is
        title = f"Uploading {name}"
        announced = UploadCreate.of(name=name, size=file.size, digest=file.digest, owner=self._owner)
        body = announced.model_dump_json().encode()
        outgoing = Outgoing(site.workspace.path / "uploads", site.workspace.pending)
        instance_id = site.credential().instance_id
        site.emit(StepStarted(title))
        clock = site.clock()
        for again in (True, False):
            claim = outgoing.claim(instance_id, body)
            self._claims.append(claim)
            try:
                asset = site.api.assets.upload(
                    file.path,
                    name=name,
                    digest=file.digest,
                    size=file.size,
                    owner=self._owner,
                    emit=site.emit_or_stop,
                    idempotency_key=claim.key,
                )
            except MedPerfError as error:
                if not _is_open(error):
                    claim.forget()
                if not again or error.code not in _GONE:
                    raise
            else:
                break
        self._assets.append(asset)
        site.emit(StepFinished(title, site.clock() - clock))
        return asset

    def keep(self) -> None:
        """What they were uploaded for exists now."""
        self._assets.clear()
        for claim in self._claims:
            claim.forget()
        self._claims.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and _is_open(error):
            for claim in self._claims:
                claim.close()
            if self._claims:
                self._site.emit(Note("What was uploaded is kept for some days: the same command goes on from there."))
            return
        for asset in reversed(self._assets):
            try:
                self._site.api.assets.delete(asset.id)
            except MedPerfError as problem:
                # The first error is what the person must see; this one is said beside it.
                self._site.emit(
                    Note(f"The uploaded asset {asset.id} could not be removed: {problem.what}", level="warning")
                )
                if isinstance(problem, ServerUnavailable):
                    break  # the others would fail as slowly
        for claim in self._claims:
            claim.forget()


def _is_open(error: BaseException) -> bool:
    """Whether nothing was refused, so that trying again (after a login that ended meanwhile: once logged in) may do better."""
    return not isinstance(error, MedPerfError) or isinstance(error, Interrupted | ServerUnavailable | Unauthenticated)


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
        if not isinstance(error, ServerUnavailable):
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


def forget_arrived(site: Site, kind: Literal["mlcube", "benchmark"], name: str) -> bool:
    """It is on the server, so nothing about it is pending: neither its creation nor the uploads that it names.

    Returns:
        whether an earlier try had not heard the answer.
    """
    import json

    from medperf.workspace.outgoing import KIND

    pending = site.workspace.pending
    for entry in pending.ls(site.credential().instance_id):
        if entry.kind == KIND and str(json.loads(entry.body).get("name")).startswith(f"{name}-"):
            pending.forget(entry.key)
    return forget_unanswered(site, kind, name)


def refuse_taken_name(site: Site, kind: Literal["mlcube", "benchmark"], name: str, *, owner: int | None = None) -> None:
    """Found before anything is uploaded or run; in the words that fit how the name came to be taken.

    Args:
        owner: the organisation that will own it; None: the account itself.

    Raises:
        Conflict: that owner has one of this name.
    """
    views: Iterable[MLCubeView] | Iterable[BenchmarkView]
    if kind == "mlcube":
        views = site.api.mlcubes.list(owner=owner_filter(owner), name=name)
    else:
        views = site.api.benchmarks.list(owner=owner_filter(owner), name=name)
    taken_id = next((view.id for view in views if owned_by(view.owner, owner)), None)
    if taken_id is None:
        forget_unanswered(site, kind, name)
        return
    unanswered = forget_arrived(site, kind, name)
    noun = {"mlcube": "an MLCube", "benchmark": "a benchmark"}[kind]
    look = f"look at it: medperf {kind} view {taken_id}"
    if unanswered:
        raise Conflict(
            "name_taken",
            f"Your earlier try reached the server: {name!r} is {kind} {taken_id}, although its answer was lost.",
            f"Nothing is left to do if its files are still the ones you mean; {look}",
        )
    raise Conflict(
        "name_taken",
        f"{'You' if owner is None else 'This organisation'} already {'have' if owner is None else 'has'} {noun} named {name!r} (id {taken_id}).",
        f"Choose another name, or {look}",
    )
