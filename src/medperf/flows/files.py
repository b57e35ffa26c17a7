"""A file is a URL or a local path: how flows obtain one, check it and host it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.flows.paths import local_path
from medperf.flows.publishing import refuse_file
from medperf.flows.site import Site
from medperf.wire.models import FileRef

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


def obtain(
    site: Site, source: str, *, option: str, expected: str | None = None, limit: int = limits.ASSET_BYTES
) -> Obtained:
    """Fetch a URL into the content store, or read a local path.

    Args:
        source: ``https://...``, ``asset:ID`` or a path.
        option: how messages name it, e.g. ``"--mlcube-file"``.
        expected: the digest the person gave, if any.
        limit: bytes that are downloaded at most.

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
        found = site.fetch_unknown(source, expected=wanted, limit=limit)
        obtained = Obtained(path=found.path, digest=found.digest, size=found.size, source=source, url=source)
    else:
        path = local_path(source)
        if not source or not path.is_file():
            raise InvalidInput(
                "file_missing", f"{option} {source!r} is no file.", "Give a URL, or the path of a file that exists."
            )
        refuse_file(site.home, path)
        digest, size = digest_file(path)
        obtained = Obtained(path=path.resolve(), digest=digest, size=size, source=source, url=None)
    if wanted is not None and obtained.digest != wanted:
        raise InvalidInput(
            "digest_mismatch",
            f"{option} {source!r} has the digest {obtained.digest}, but {wanted} was given.",
            "Check that the file is the one you mean, and its hash.",
        )
    return obtained


def obtain_registered(site: Site, ref: FileRef, *, name: str) -> Obtained:
    """A registered file: from the content store, or the first of its URLs that has it.

    Raises:
        MedPerfError: as `medperf.client.downloads.Downloader.fetch` does.
    """
    found = site.fetch(ref, name=name)
    url = ref.urls[0] if ref.urls else None
    return Obtained(path=found.path, digest=found.digest, size=found.size, source=url or name, url=url)


def digest_file(path: Path) -> tuple[Digest, int]:
    """Digest and size (bytes) of a file."""
    import hashlib

    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        return Digest(f"sha256:{digest}"), stream.tell()
