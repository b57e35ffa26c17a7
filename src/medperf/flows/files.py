"""A file is a URL or a local path: how flows obtain one, check it and host it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.domain.events import StepFinished, StepStarted
from medperf.flows.paths import local_path
from medperf.flows.site import Site
from medperf.wire.models import AssetView, FileRef

#: What each registered file is called in ``deploy/``.
FILE_NAMES = {
    "manifest": "mlcube.yaml",
    "parameters": "parameters.yaml",
    "additional": "additional_files.tar.gz",
    "project": "project.tar.gz",
}
_REMOTE = re.compile(r"(https?://|asset:)", re.IGNORECASE)


@dataclass(frozen=True)
class Obtained:
    """A file whose bytes are here and whose digest is known. ``url`` None: it came from a local path and is hosted nowhere yet."""

    path: Path
    digest: Digest
    size: int
    source: str
    url: str | None


def is_remote(source: str) -> bool:
    """Whether ``source`` names a URL or an asset rather than a local path."""
    return _REMOTE.match(source) is not None


def obtain(site: Site, source: str, *, option: str, expected: str | None = None) -> Obtained:
    """Fetch a URL into the content store, or read a local path.

    Args:
        source: ``https://...``, ``asset:ID`` or a path.
        option: how messages name it, e.g. ``"--mlcube-file"``.
        expected: the digest the person gave, if any.

    Raises:
        InvalidInput: no such file, a digest that differs, a file inside a workspace.
        ServerUnavailable: the URL does not answer.
    """
    # The ancestor's documents write direct:<url> for a plain URL.
    source = source.removeprefix("direct:")
    wanted = Digest(expected) if expected else None
    if is_remote(source):
        known = site.workspace.store.path(wanted) if wanted else None
        if wanted is not None and known is not None:
            return Obtained(path=known, digest=wanted, size=known.stat().st_size, source=source, url=source)
        found = site.fetch_unknown(source)
        obtained = Obtained(path=found.path, digest=found.digest, size=found.size, source=source, url=source)
    else:
        path = local_path(source)
        if not source or not path.is_file():
            raise InvalidInput(
                "file_missing", f"{option} {source!r} is no file.", "Give a URL, or the path of a file that exists."
            )
        refuse_inside_home(site, path)
        digest, size = digest_file(path)
        obtained = Obtained(path=path.resolve(), digest=digest, size=size, source=source, url=None)
    if wanted is not None and obtained.digest != wanted:
        raise InvalidInput(
            "digest_mismatch",
            f"{option} {source!r} has the digest {obtained.digest}, but {wanted} was given.",
            "Check that the file is the one you mean, and its hash.",
        )
    return obtained


def digest_file(path: Path) -> tuple[Digest, int]:
    """Digest and size (bytes) of a file."""
    import hashlib

    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return Digest(f"sha256:{digest}"), stream.tell()


def refuse_inside_home(site: Site, path: Path) -> None:
    """Nothing inside a workspace is ever uploaded: prepared data and predictions live there.

    Raises:
        InvalidInput: ``path`` leads into the home folder of MedPerf.
    """
    if path.resolve().is_relative_to(site.home.resolve()):
        raise InvalidInput(
            "inside_workspace",
            f"{str(path)!r} lies inside a MedPerf workspace.",
            "Copy what you mean to publish elsewhere first.",
        )


def host(site: Site, file: Obtained, *, name: str) -> tuple[FileRef, AssetView | None]:
    """A FileRef for the server: the file's own URL, or an upload to the asset store."""
    if file.url is not None:
        return FileRef(digest=file.digest, size=file.size, urls=(file.url,)), None
    name = name[-limits.NAME_LENGTH :]  # the end tells which file it is
    title = f"Uploading {name}"
    site.emit(StepStarted(title))
    clock = site.clock()
    asset = site.api.assets.upload(file.path, name=name, digest=file.digest, size=file.size, emit=site.emit)
    site.emit(StepFinished(title, site.clock() - clock))
    return FileRef(digest=file.digest, size=file.size, urls=(f"asset:{asset.id}",)), asset
