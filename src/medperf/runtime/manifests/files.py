"""An MLCube's folder on this machine: found, checked and given its digests."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.domain.identity import DataEntry, identity_root
from medperf.domain.manifests import Manifest, Parameter, Task, parameters_default, parse_manifest
from medperf.runtime.archives import package_entries
from medperf.runtime.engines.base import CubeFiles, Mount

MANIFEST_NAMES = ("mlcube.yaml", "container_config.yaml")
WORKSPACE = "workspace"
ADDITIONAL = "additional_files"


def load_cube(path: Path) -> CubeFiles:
    """Read a local MLCube.

    Args:
        path: its manifest, the folder that holds it, or the folder above (with ``mlcube/mlcube.yaml`` in it).

    Returns:
        The files with digests: ``manifest``; ``parameters``, ``additional`` and ``project`` where they exist.
        ``additional`` and ``project`` are identities of the folder's content, the same for a folder and for what its
        package unpacks to.

    Raises:
        InvalidInput: no manifest, a broken one, a path that leads out of the MLCube, or a file that it declares is missing.
    """
    found = find_manifest(path)
    data = read_plain(found, limits.MANIFEST_BYTES, "manifest")
    manifest = parse_manifest(data, label=str(found))
    folder = found.parent.resolve()
    workspace = folder / WORKSPACE
    _inside(workspace, folder)
    digests = {"manifest": Digest.of(data)}
    parameters = parameters_path(manifest, workspace)
    if parameters is not None:
        digests["parameters"] = Digest.of(read_plain(parameters, limits.PARAMETERS_BYTES, "parameters file"))
    additional = workspace / ADDITIONAL
    if additional.is_dir() and has_content(additional):
        digests["additional"] = folder_identity(additional)
    project = _project(manifest, folder)
    if project is not None:
        digests["project"] = folder_identity(project)
    _check_defaults(manifest, workspace)
    return CubeFiles(
        manifest=manifest, folder=folder, workspace=workspace, project=project, image=None, digests=digests
    )


def find_manifest(path: Path) -> Path:
    """The manifest that ``path`` means (see `load_cube`).

    Raises:
        InvalidInput: there is none.
    """
    if path.is_file():
        return path
    for folder in (path, path / "mlcube"):
        for name in MANIFEST_NAMES:
            if (folder / name).is_file():
                return folder / name
    raise InvalidInput(
        "no_manifest",
        f"There is no MLCube at {path}: no {' or '.join(MANIFEST_NAMES)} in it or in its folder mlcube/.",
        "Give the path of mlcube.yaml or of the folder that holds it.",
    )


def parameters_path(manifest: Manifest, workspace: Path) -> Path | None:
    """The parameters file that the tasks declare, in the workspace; None if none is declared.

    Raises:
        InvalidInput: it is declared but not there, or tasks declare different ones.
    """
    declared = parameters_default(manifest)
    if declared is None:
        return None
    path = workspace / declared
    _inside(path, workspace)
    if not path.is_file():
        raise InvalidInput(
            "missing_parameters",
            f"The manifest declares the parameters file {path}, which does not exist.",
            "Make it, or remove parameters_file.",
        )
    return path


def folder_identity(folder: Path) -> Digest:
    """Identity of a folder's content as a package would hold it (junk left out), from names, sizes and bytes.

    Raises:
        InvalidInput: links or special files.
    """
    entries = list(package_entries(folder))
    filled = {path.rsplit("/", 1)[0] for path, _, _ in entries if "/" in path}
    found = []
    for path, place, info in entries:
        if not stat.S_ISDIR(info.st_mode):
            found.append(DataEntry(path, info.st_size, _digest(place)))
        elif path not in filled:
            found.append(DataEntry(path, None, None))
    return identity_root(found)


def task_mounts(cube: CubeFiles, task: str, given: Mapping[str, Path]) -> tuple[Mount, ...]:
    """A path for every parameter that the task declares, inputs first, in the order declared.

    Args:
        given: parameter name -> host path; what is not given is its default in the workspace.

    Raises:
        InvalidInput: no such task, a name that it does not declare, no path for a parameter, an input that is missing.
    """
    declared = cube.manifest.tasks.get(task)
    if declared is None:
        raise InvalidInput(
            "unknown_task",
            f"The MLCube {cube.manifest.name!r} has no task {task!r}.",
            f"It has {', '.join(cube.manifest.tasks)}.",
        )
    names = [entry.name for entry in (*declared.inputs, *declared.outputs)]
    unknown = sorted(set(given) - set(names))
    if unknown:
        raise InvalidInput(
            "unknown_parameter",
            f"Task {task!r} declares no parameter {unknown[0]!r}.",
            f"It declares {', '.join(names) or 'none'}.",
        )
    inputs = tuple(_mount(cube, declared, entry, given.get(entry.name), output=False) for entry in declared.inputs)
    return inputs + tuple(
        _mount(cube, declared, entry, given.get(entry.name), output=True) for entry in declared.outputs
    )


def _mount(cube: CubeFiles, task: Task, entry: Parameter, given: Path | None, *, output: bool) -> Mount:
    host = given
    if host is None:
        if entry.default is None:
            raise InvalidInput(
                "missing_parameter",
                f"Task {task.name!r} needs a path for {entry.name!r}.",
                "Give one; the manifest has no default for it.",
            )
        host = cube.workspace / entry.default
        _inside(host, cube.workspace)
    if not output:
        if not host.exists():
            raise InvalidInput(
                "missing_input",
                f"The input {entry.name!r} of task {task.name!r} does not exist: {host}.",
                "Give an existing path.",
            )
        kind = "directory" if host.is_dir() else "file"
        if entry.type is not None and entry.type != kind:
            raise InvalidInput(
                "wrong_input",
                f"The input {entry.name!r} of task {task.name!r} must be a {entry.type}, but {host} is a {kind}.",
                "Give the right path.",
            )
        return Mount(entry.name, host, entry.type or ("directory" if kind == "directory" else "file"), output=False)
    # Without a declared type a name with an ending is a file, as MLCube runners take it.
    kind_out = entry.type or ("file" if Path(entry.default or entry.name).suffix else "directory")
    return Mount(entry.name, host, kind_out, output=True)


def _project(manifest: Manifest, folder: Path) -> Path | None:
    form = manifest.python
    if form is None:
        return None
    path = folder / form.project
    root = folder.parent if form.project.startswith("../") else folder
    if not path.is_dir():
        raise InvalidInput(
            "missing_project",
            f"The project folder of the 'python:' section does not exist: {path}.",
            "Check 'python.project' in the manifest.",
        )
    _inside(path, root)
    if folder.is_relative_to(path.resolve()):
        raise InvalidInput(
            "bad_path",
            f"The project folder {path} holds the MLCube's own folder.",
            "Give the project a folder of its own, such as ../project.",
        )
    for name, what in ((form.entrypoint, "entrypoint"), (form.requirements, "requirements")):
        if name is not None and not (path / name).is_file():
            raise InvalidInput(
                f"missing_{what}",
                f"The {what} of the 'python:' section does not exist: {path / name}.",
                f"Check 'python.{what}' in the manifest.",
            )
    return path.resolve()


def _check_defaults(manifest: Manifest, workspace: Path) -> None:
    """Inputs that come with the MLCube must be there: those below ``additional_files/``."""
    for task in manifest.tasks.values():
        for entry in task.inputs:
            if entry.default is None or Path(entry.default).parts[0] != ADDITIONAL:
                continue
            path = workspace / entry.default
            _inside(path, workspace)
            if not path.exists():
                raise InvalidInput(
                    "missing_additional",
                    f"Task {task.name!r} declares the input {entry.name!r}, which does not exist: {path}.",
                    "Put it there.",
                )


def has_content(folder: Path) -> bool:
    """Whether a package of the folder would hold anything."""
    return next(iter(package_entries(folder)), None) is not None


def _inside(path: Path, root: Path) -> None:
    """Refuse a path that a symbolic link takes out of its folder."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:
        raise InvalidInput("bad_path", f"{path} cannot be followed: {error}.", "Remove the link.") from error
    if not real.is_relative_to(root.resolve()):
        raise InvalidInput(
            "path_escapes",
            f"{path} leads out of the MLCube, to {real}.",
            "Put the file itself there instead of a link.",
        )


def read_plain(path: Path, most: int, what: str, *, follow: bool = False) -> bytes:
    """The bytes of a small plain file. Whatever lies there, no more than ``most`` and one are read, and nothing is waited for.

    Args:
        follow: a link at its end is fine: the person named it.

    Raises:
        InvalidInput: a link or special file, too large, unreadable.
    """
    links = 0 if follow else os.O_NOFOLLOW
    try:
        descriptor = os.open(path, os.O_RDONLY | links | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InvalidInput(
                    "not_plain", f"The {what} {path} is no plain file.", "Replace it by the file itself."
                )
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(most + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise InvalidInput(
            "unreadable",
            f"The {what} {path} cannot be read: {error.strerror}.",
            "Check the path; links are not followed." if not follow else "Check the path and who may read it.",
        ) from error
    if len(data) > most:
        raise InvalidInput("document_too_large", f"The {what} {path} has more than {most:,} bytes.", "Make it smaller.")
    return data


def _digest(path: Path) -> str:
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
