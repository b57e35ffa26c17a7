"""Where a site keeps what it remembers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from medperf.domain.addresses import host_port


def home(environ: Mapping[str, str]) -> Path:
    """``MEDPERF_HOME``, or ``~/.medperf``; absolute, not necessarily there yet."""
    moved = environ.get("MEDPERF_HOME")
    if moved:
        return Path(moved).expanduser().absolute()
    user = environ.get("HOME")
    return (Path(user) if user else Path.home()).absolute() / ".medperf"


def workspace_path(home: Path, server_url: str) -> Path:
    """The folder for one server, e.g. ``~/.medperf/localhost_8000``.

    Raises:
        InvalidInput: ``server_url`` is no http(s) URL.
    """
    return home / host_port(server_url)
