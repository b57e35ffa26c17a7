"""Files that the server hosts, so that nobody needs a web host."""

from __future__ import annotations

from pathlib import Path

from medperf.domain.errors import InvalidInput
from medperf.flows.files import host, is_remote, obtain
from medperf.flows.paths import local_path
from medperf.flows.site import Site
from medperf.wire.models import AssetView


def upload_asset(site: Site, path: str | Path, *, name: str | None = None) -> AssetView:
    """Upload a local file.

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
    _, asset = host(site, file, name=name or file.path.name)
    assert asset is not None  # a local file is always uploaded
    return asset


def list_assets(
    site: Site, *, mine: bool = False, name: str | None = None, limit: int | None = None
) -> list[AssetView]:
    """Assets the account may read, oldest first."""
    return list(site.api.assets.list(owner="me" if mine else None, name=name, limit=limit))
