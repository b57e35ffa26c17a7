"""Local MLCubes: found, checked, given digests that do not depend on where they lie."""

from __future__ import annotations

from pathlib import Path

import pytest

from medperf.domain.errors import InvalidInput
from medperf.runtime.archives import pack_folder, unpack
from medperf.runtime.manifests.files import folder_identity, load_cube, task_mounts

MANIFEST = """
name: model
python: {project: ../project, entrypoint: main.py, requirements: requirements.txt}
tasks:
  infer:
    parameters:
      inputs:
        data_path: {type: directory, default: data}
        parameters_file: {type: file, default: parameters.yaml}
        weights: {type: file, default: additional_files/w.bin}
      outputs:
        output_path: {type: directory, default: predictions}
extra: {}
"""


def make_cube(folder: Path) -> Path:
    workspace = folder / "mlcube" / "workspace"
    (workspace / "additional_files").mkdir(parents=True)
    (workspace / "additional_files" / "w.bin").write_bytes(b"weights")
    (workspace / "parameters.yaml").write_text("a: 1\n")
    (folder / "mlcube" / "mlcube.yaml").write_text(MANIFEST)
    (folder / "project").mkdir()
    (folder / "project" / "main.py").write_text("pass\n")
    (folder / "project" / "requirements.txt").write_text("")
    return folder


@pytest.mark.parametrize("path", ["", "mlcube", "mlcube/mlcube.yaml"])
def test_every_way_to_name_it(tmp_path: Path, path: str) -> None:
    cube = load_cube(make_cube(tmp_path / "c") / path)
    assert set(cube.digests) == {"manifest", "parameters", "additional", "project"}
    assert cube.workspace == tmp_path / "c" / "mlcube" / "workspace"
    assert cube.project == tmp_path / "c" / "project"
    assert cube.manifest.unknown == ("extra",)


def test_digests_follow_content_only(tmp_path: Path) -> None:
    one, two = make_cube(tmp_path / "one"), make_cube(tmp_path / "two")
    (two / "project" / "__pycache__").mkdir()
    (two / "project" / "__pycache__" / "x.pyc").write_bytes(b"")
    assert load_cube(one).digests == load_cube(two).digests
    (two / "project" / "main.py").write_text("pass \n")
    first, second = load_cube(one).digests, load_cube(two).digests
    assert {name for name in first if first[name] != second[name]} == {"project"}


def test_identity_is_the_same_after_packing(tmp_path: Path) -> None:
    project = make_cube(tmp_path / "c") / "project"
    (project / "empty").mkdir()
    (project / "sub").mkdir()
    (project / "sub" / "u\u0308.txt").write_text("decomposed")
    (project / "._main.py").write_text("mac")
    pack_folder(project, tmp_path / "p.tar.gz")
    unpack(tmp_path / "p.tar.gz", tmp_path / "unpacked")
    assert folder_identity(tmp_path / "unpacked") == folder_identity(project)


def spoil_manifest(folder: Path) -> None:
    (folder / "mlcube" / "mlcube.yaml").unlink()


def spoil_project(folder: Path) -> None:
    (folder / "project").rename(folder / "elsewhere")


def spoil_entrypoint(folder: Path) -> None:
    (folder / "project" / "main.py").unlink()


def spoil_requirements(folder: Path) -> None:
    (folder / "project" / "requirements.txt").unlink()


def spoil_parameters(folder: Path) -> None:
    (folder / "mlcube" / "workspace" / "parameters.yaml").unlink()


def spoil_additional(folder: Path) -> None:
    (folder / "mlcube" / "workspace" / "additional_files" / "w.bin").unlink()


def spoil_link(folder: Path) -> None:
    (folder / "project" / "link").symlink_to("/etc/passwd")


def spoil_linked_project(folder: Path) -> None:
    (folder / "project").rename(folder.parent / "outside")
    (folder / "project").symlink_to(folder.parent / "outside")


def spoil_linked_parameters(folder: Path) -> None:
    path = folder / "mlcube" / "workspace" / "parameters.yaml"
    path.unlink()
    path.symlink_to("/etc/hostname")


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (spoil_manifest, "no_manifest"),
        (spoil_project, "missing_project"),
        (spoil_entrypoint, "missing_entrypoint"),
        (spoil_requirements, "missing_requirements"),
        (spoil_parameters, "missing_parameters"),
        (spoil_additional, "missing_additional"),
        (spoil_link, "not_plain"),
        (spoil_linked_project, "path_escapes"),
        (spoil_linked_parameters, "path_escapes"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, spoil: object, code: str) -> None:
    folder = make_cube(tmp_path / "c")
    spoil(folder)  # type: ignore[operator]
    with pytest.raises(InvalidInput) as caught:
        load_cube(folder)
    assert caught.value.code == code
    assert caught.value.fix


def test_mounts_are_filled(tmp_path: Path) -> None:
    cube = load_cube(make_cube(tmp_path / "c"))
    (tmp_path / "images").mkdir()
    mounts = task_mounts(cube, "infer", {"data_path": tmp_path / "images"})
    assert [(mount.parameter, mount.host, mount.type, mount.output) for mount in mounts] == [
        ("data_path", tmp_path / "images", "directory", False),
        ("parameters_file", cube.workspace / "parameters.yaml", "file", False),
        ("weights", cube.workspace / "additional_files" / "w.bin", "file", False),
        ("output_path", cube.workspace / "predictions", "directory", True),
    ]


@pytest.mark.parametrize(
    ("task", "given", "code"),
    [
        ("train", {}, "unknown_task"),
        ("infer", {"labels": "x"}, "unknown_parameter"),
        ("infer", {}, "missing_input"),
        ("infer", {"data_path": "mlcube/mlcube.yaml"}, "wrong_input"),
        ("infer", {"data_path": "nowhere"}, "missing_input"),
    ],
)
def test_wrong_mounts_are_refused(tmp_path: Path, task: str, given: dict[str, str], code: str) -> None:
    folder = make_cube(tmp_path / "c")
    with pytest.raises(InvalidInput) as caught:
        task_mounts(load_cube(folder), task, {name: folder / path for name, path in given.items()})
    assert caught.value.code == code
