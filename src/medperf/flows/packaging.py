"""Prepare the files of an MLCube for hosting: ``deploy/`` beside the manifest, the same bytes each time."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict
from medperf.domain.kinds import kind_of
from medperf.domain.manifests import parameters_default
from medperf.domain.states import Kind
from medperf.flows.files import FILE_NAMES, digest_file
from medperf.flows.paths import local_path
from medperf.flows.publishing import refuse_file, refuse_folder
from medperf.workspace.files import scratch


@dataclass(frozen=True)
class PackagedFile:
    """One file to host; ``size`` in bytes."""

    path: Path
    digest: Digest
    size: int


@dataclass(frozen=True)
class Package:
    """The files of one MLCube. ``output``: the single archive of all of them, if asked for."""

    kind: Kind
    name: str
    folder: Path
    files: dict[str, PackagedFile]
    unknown: tuple[str, ...]
    output: Path | None


def package_mlcube(folder: Path, *, home: Path, output: Path | None = None) -> Package:
    """Write ``deploy/`` in the MLCube's folder, whole or not at all.

    Args:
        folder: the folder of ``mlcube.yaml``, or the file.
        home: MedPerf's own folder, of which nothing is packaged.
        output: also write one ``.tar.gz`` of ``deploy/`` there.

    Raises:
        InvalidInput: no manifest, a wrong kind, a missing project or parameters file, links in a folder to pack, or files of a workspace.
        Conflict: there is a ``deploy`` that packaging did not write.
    """
    from medperf.runtime.archives import pack_folder
    from medperf.runtime.manifests.files import find_manifest, load_cube

    folder = local_path(folder)
    output = local_path(output) if output is not None else None
    cube = load_cube(folder)
    kind = kind_of(cube.manifest)
    parameters = cube.workspace / (parameters_default(cube.manifest) or "parameters.yaml")
    additional = cube.workspace / "additional_files"
    for file in (find_manifest(folder), parameters):
        if file.is_file():
            refuse_file(home, file)
    for packed in (additional, cube.project):
        if packed is not None and packed.is_dir():
            refuse_folder(home, packed)
    target = cube.folder / "deploy"
    _refuse_other(target)
    with scratch(cube.folder, prefix=".deploy-") as temporary:
        fresh = temporary / "deploy"
        fresh.mkdir()
        shutil.copyfile(find_manifest(folder), fresh / FILE_NAMES["manifest"])
        if parameters.is_file():
            shutil.copyfile(parameters, fresh / FILE_NAMES["parameters"])
        if additional.is_dir():
            pack_folder(additional, fresh / FILE_NAMES["additional"])
        if cube.project is not None:
            pack_folder(cube.project, fresh / FILE_NAMES["project"])
        fresh.chmod(0o755)
        if target.exists():
            target.rename(temporary / "old")
        fresh.rename(target)
    files = {}
    for name, file_name in FILE_NAMES.items():
        path = target / file_name
        if path.exists():
            digest, size = digest_file(path)
            files[name] = PackagedFile(path=path, digest=digest, size=size)
    if output is not None:
        with scratch(output.parent, prefix=f".{output.name}-") as temporary:
            pack_folder(target, temporary / output.name)
            (temporary / output.name).replace(output)
    return Package(
        kind=kind, name=cube.manifest.name, folder=target, files=files, unknown=cube.manifest.unknown, output=output
    )


def _refuse_other(target: Path) -> None:
    """What is replaced must be ours.

    Raises:
        Conflict: ``deploy`` is no folder, or holds what no package has.
    """
    if not target.exists() and not target.is_symlink():
        return
    others = (
        []
        if target.is_symlink() or not target.is_dir()
        else sorted({path.name for path in target.iterdir()} - set(FILE_NAMES.values()))
    )
    if target.is_symlink() or not target.is_dir() or others:
        what = f"holds {others[0]!r}, which no package has" if others else "is no plain folder"
        raise Conflict("deploy_taken", f"{target} {what}.", "Move it away; packaging writes that folder anew.")
