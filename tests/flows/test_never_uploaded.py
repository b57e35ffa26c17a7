"""Nothing of a workspace is uploaded or packed, however it is reached."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medperf.domain.errors import MedPerfError

from .conftest import Command


@pytest.fixture
def secret(online: Command, home: Path) -> Path:
    """A file in a workspace of another server than the active profile's."""
    folder = home / "hospital_8000" / "steps" / "prepared"
    folder.mkdir(parents=True)
    path = folder / "patients.csv"
    path.write_bytes(b"private")
    return path


def disguises(secret: Path, tmp_path: Path, home: Path) -> Iterator[tuple[str, str]]:
    yield "plain", str(secret)
    yield "relative", os.path.relpath(secret)
    yield "dots", f"{secret.parent}/../{secret.parent.name}/{secret.name}"
    link = tmp_path / "link.csv"
    link.symlink_to(secret)
    yield "symlink", str(link)
    (tmp_path / "chain").symlink_to(secret.parent)
    yield "linked folder", str(tmp_path / "chain" / secret.name)
    hard = tmp_path / "hard.csv"
    hard.hardlink_to(secret)
    yield "hard link", str(hard)
    yield "of the process", f"/proc/self/root{secret}"


def test_nothing_of_a_workspace_is_uploaded(online: Command, secret: Path, tmp_path: Path, home: Path) -> None:
    manifest = tmp_path / "mlcube.yaml"
    manifest.write_text("name: m\n")
    opened = os.open(secret, os.O_RDONLY)
    try:
        for disguise, path in (*disguises(secret, tmp_path, home), ("descriptor", f"/proc/self/fd/{opened}")):
            for words in (("asset", "upload"), ("mlcube", "submit", "-n", "m", "--mlcube-file")):
                answer = online(*words, path, "--format", "json")
                assert answer.error["code"] == "inside_workspace", (disguise, words, answer.err)
    finally:
        os.close(opened)
    assert online("asset", "ls", "--mine", "--format", "json").json["items"] == []


def test_every_file_of_a_submission_is_looked_at(
    registered: Command, workflow: Any, secret: Path, tmp_path: Path, home: Path
) -> None:
    folder = workflow.folder / "model" / "mlcube" / "deploy"
    hard = tmp_path / "hard.csv"
    hard.hardlink_to(secret)
    for option in ("--parameters-file", "--additional-file", "--image-file", "--project-file"):
        words = ["mlcube", "submit", "-n", "m", "--mlcube-file", folder / "mlcube.yaml"]
        if option != "--parameters-file":
            words += ["--parameters-file", folder / "parameters.yaml"]
        assert registered(*words, option, hard, "--format", "json").error["code"] == "inside_workspace", option
    answer = registered(
        "benchmark", "submit", "-n", "b", "-d", "d", "--demo-url", hard, "-p", 1, "-m", 2, "-e", 3, "--format", "json"
    )
    assert answer.error["code"] == "inside_workspace"


def test_folders_that_hold_something_of_a_workspace_are_not_packed(
    online: Command, workflow: Any, secret: Path, home: Path
) -> None:
    cube = workflow.folder / "model" / "mlcube"
    additional = cube / "workspace" / "additional_files"
    additional.mkdir(parents=True, exist_ok=True)
    (additional / "weights").hardlink_to(secret)
    answer = online("mlcube", "package", cube, "--format", "json")
    assert answer.error["code"] == "inside_workspace"
    (additional / "weights").unlink()
    other = additional / "elsewhere"
    other.mkdir()
    for name in ("facts.db", "facts.lock"):
        (other / name).write_bytes(b"")
    assert online("mlcube", "package", cube, "--format", "json").error["code"] == "inside_workspace"
    assert not (cube / "deploy").exists()


def test_a_mount_of_a_workspace_is_seen_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the kernel's table, so that no mount is needed to test it."""
    from medperf.flows import publishing

    home, mounted = tmp_path / "home", tmp_path / "mnt"
    (home / "w").mkdir(parents=True)
    mounted.mkdir()
    file = mounted / "patients.csv"
    file.write_bytes(b"x")
    table = tmp_path / "mountinfo"
    monkeypatch.setattr(publishing, "_MOUNTS", table)
    plain = "1 0 8:1 / / rw - ext4 /dev/a rw\n"
    table.write_text(plain)
    publishing.refuse_file(home, file)
    for line in (
        f"2 1 8:1 {home}/w/steps {mounted} rw - ext4 /dev/a rw\n",
        f"2 1 8:2 /data {home}/w rw - ext4 /dev/b rw\n3 1 8:2 /data/steps {mounted} rw - ext4 /dev/b rw\n",
    ):
        table.write_text(plain + line)
        with pytest.raises(MedPerfError) as error:
            publishing.refuse_file(home, file)
        assert error.value.code == "inside_workspace"
        with pytest.raises(MedPerfError):
            publishing.refuse_folder(home, tmp_path / "mnt")
