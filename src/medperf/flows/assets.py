"""Files that the server hosts, so that nobody needs a web host."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from medperf.domain.errors import Conflict, InvalidInput, MedPerfError
from medperf.domain.sorting import Sort
from medperf.flows.files import is_remote, obtain
from medperf.flows.organisations import owner_id
from medperf.flows.paths import local_path
from medperf.flows.site import Site
from medperf.flows.uploads import Uploads
from medperf.wire.assets import StorageView, UploadView
from medperf.wire.models import AssetView, FileRef
from medperf.workspace.files import scratch, sweep_scratch


@dataclass(frozen=True)
class Downloaded:
    """An asset that is a file here now."""

    asset: AssetView
    path: Path


@dataclass(frozen=True)
class Quota:
    """How much room an owner's files take, and the account's own unfinished uploads."""

    storage: StorageView
    unfinished: tuple[UploadView, ...]


def upload_asset(site: Site, path: str | Path, *, name: str | None = None, owner: str | None = None) -> AssetView:
    """Upload a local file; given again after a cut or a kill, it goes on from there.

    Args:
        owner: the organisation that will own it; None: the account itself.

    Raises:
        InvalidInput: no such file, a URL, or it lies inside a workspace.
    """
    if is_remote(str(path)):
        raise InvalidInput(
            "not_local",
            f"{str(path)[:200]!r} is no file on this machine.",
            "Download it first; or give the URL itself wherever a URL is asked for.",
        )
    if not path or not local_path(path).is_file():
        raise InvalidInput("file_missing", f"{str(path)[:200]!r} is no file.", "Give the path of a file that exists.")
    file = obtain(site, str(path), option="PATH")
    with Uploads(site, owner=owner_id(site, owner)) as uploads:
        asset = uploads.send(file, name=name or file.path.name)
        uploads.keep()
    return asset


def list_assets(
    site: Site,
    *,
    mine: bool = False,
    name: str | None = None,
    digest: str | None = None,
    search: str | None = None,
    sort: Sort | None = None,
    limit: int | None = None,
) -> list[AssetView]:
    """Assets the account may read, oldest first unless ``sort`` or ``search`` says otherwise."""
    owner = "me" if mine else None
    return list(site.api.assets.list(owner=owner, name=name, digest=digest, search=search, sort=sort, limit=limit))


def view_asset(site: Site, asset_id: int) -> AssetView:
    """What an asset is."""
    return site.api.assets.get(asset_id)


def download_asset(site: Site, asset_id: int, *, output: Path | None = None) -> Downloaded:
    """Fetch an asset into the content store (continued after cuts, by a later command too), and copy it to a file.

    Args:
        output: the file, or the folder to put it in; None: the asset's name, in the current folder.

    Raises:
        Conflict: there is a file of that name.
        NotFound: no such asset, or the account may not read it.
        MedPerfError: ``folder_unwritable``.
    """
    asset = site.api.assets.get(asset_id)
    # The name was chosen by a stranger: only its last part counts, and never as a path.
    name = asset.name.replace("\\", "/").rpartition("/")[2].lstrip(".") or f"asset-{asset_id}"
    target = local_path(output) if output is not None else Path(name)
    if target.is_dir():
        target /= name
    sweep_scratch(target.parent, prefix=_scratch(target))
    if target.exists() or target.is_symlink():
        raise _taken(target)
    ref = FileRef(digest=asset.digest, size=asset.size, urls=(f"asset:{asset.id}",))
    fetched = site.fetch(ref, name=name)
    _copy(fetched.path, target)
    return Downloaded(asset, target)


def delete_asset(site: Site, asset_id: int) -> AssetView:
    """Take back an asset that nothing registered names; returns what it was.

    Raises:
        NotFound, Forbidden: not there, or somebody else's.
        Conflict: ``asset_in_use``.
    """
    asset = site.api.assets.get(asset_id)
    site.api.assets.delete(asset_id)
    return asset


def read_quota(site: Site, *, owner: str | None = None) -> Quota:
    """How much room there is. ``owner``: an organisation; None: the account itself."""
    return Quota(site.api.assets.storage(owner=owner_id(site, owner)), site.api.uploads.list())


def cancel_upload(site: Site, upload_id: str) -> UploadView:
    """Give up an unfinished upload; returns what it was.

    Raises:
        NotFound: none of the account's.
    """
    import uuid

    try:
        upload_id = str(uuid.UUID(upload_id))
    except ValueError as error:
        raise InvalidInput(
            "bad_id", f"{upload_id[:80]!r} is no upload.", "List the unfinished ones with: medperf asset quota"
        ) from error
    found = site.api.uploads.get(upload_id)
    site.api.uploads.cancel(upload_id)
    return found


def _copy(source: Path, target: Path) -> None:
    """Copy to a name that is not taken: whole or not at all."""
    try:
        with scratch(target.parent, prefix=_scratch(target)) as temporary:
            shutil.copyfile(source, temporary / "copy")
            os.link(temporary / "copy", target)  # unlike a rename it refuses a taken name
    except FileExistsError as error:
        raise _taken(target) from error
    except OSError as error:
        raise MedPerfError(
            "folder_unwritable",
            f"{str(target)!r} cannot be written: {os.strerror(error.errno or 0)}.",
            "Give another place with --output; what was downloaded is kept and need not come again.",
        ) from error


def _scratch(target: Path) -> str:
    return f".{target.name[:100]}-"


def _taken(target: Path) -> Conflict:
    return Conflict(
        "file_exists", f"There is already {str(target)!r}.", "Move it away, or give another name with --output."
    )
