"""Whose folder it is where a site keeps what it remembers: on a shared machine somebody else may have made it first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from medperf.domain.errors import MedPerfError
from medperf.workspace.paths import home


def of(folder: Path) -> Path:
    return home({"MEDPERF_HOME": str(folder)})


def test_one_that_is_ours_or_not_there_yet(tmp_path: Path) -> None:
    assert of(tmp_path / "new") == tmp_path / "new"
    for mode in (0o700, 0o755, 0o775):
        tmp_path.chmod(mode)
        assert of(tmp_path) == tmp_path


def test_one_where_everybody_writes(tmp_path: Path) -> None:
    """Whoever writes there could put files and "already done" steps of theirs into the place of ours."""
    folder = tmp_path / "medperf"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(MedPerfError) as refused:
        of(folder)
    assert refused.value.code == "home_exposed"
    assert f"chmod 700 {folder}" in refused.value.fix
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(MedPerfError, match="Others can write"):
        of(link)


def test_one_that_is_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "medperf"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, 4242, 4242)
    owner = folder.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(MedPerfError) as refused:
        of(folder)
    assert refused.value.code == "home_exposed"
    assert "belongs to another account" in refused.value.what
    assert "MEDPERF_HOME" in refused.value.fix
    monkeypatch.setattr(os, "geteuid", lambda: owner)
    assert of(folder) == folder
    monkeypatch.setattr(os, "geteuid", lambda: 0)  # containers often run so on folders of others
    assert of(folder) == folder
