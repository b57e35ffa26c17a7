"""The one internal model of an MLCube manifest; `medperf.domain.kinds` finds its kind.

Both formats (``mlcube.yaml`` and ``container_config.yaml``) parse into `Manifest`. Parsing is pure: the site and the server
give it the document they hold, so both find the same kind and the same faults.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from medperf.domain import limits
from medperf.domain.documents import load_yaml
from medperf.domain.manifest_fields import (
    bad_manifest,
    check_name,
    image_of,
    mapping_of,
    names_of,
    relative_path,
    shown,
    text_of,
)

PathType = Literal["file", "directory"]


@dataclass(frozen=True)
class Parameter:
    """One declared input or output of a task.

    ``default`` is relative to the workspace folder; None for formats that declare only mount points.
    ``mount_path`` is where a ``container_config.yaml`` wants it inside the container.
    """

    name: str
    type: PathType | None
    default: str | None = None
    writable_input: bool = False
    mount_path: str | None = None


@dataclass(frozen=True)
class Task:
    """A task and its parameters in the order declared."""

    name: str
    inputs: tuple[Parameter, ...] = ()
    outputs: tuple[Parameter, ...] = ()
    entrypoint: str | None = None
    run_args: Mapping[str, Any] = field(default_factory=dict)

    def input(self, name: str) -> Parameter | None:
        """The declared input of that name."""
        return next((entry for entry in self.inputs if entry.name == name), None)

    def output(self, name: str) -> Parameter | None:
        """The declared output of that name."""
        return next((entry for entry in self.outputs if entry.name == name), None)


@dataclass(frozen=True)
class PythonForm:
    """The ``python:`` section: what the sandbox engine runs. Paths are relative (project to the manifest, the rest to the project)."""

    project: str
    entrypoint: str
    requirements: str | None
    requires_python: str | None


@dataclass(frozen=True)
class Manifest:
    """An MLCube as its manifest describes it. ``unknown`` lists sections that were read over, for the person to see."""

    format: Literal["mlcube", "container_config"]
    name: str
    tasks: Mapping[str, Task]
    docker_image: str | None = None
    singularity_image: str | None = None
    python: PythonForm | None = None
    accelerators: int = 0
    unknown: tuple[str, ...] = ()

    @property
    def separates_labels(self) -> bool:
        """Whether prepare writes labels to a folder of their own, which models then never see."""
        prepare = self.tasks.get("prepare")
        return prepare is not None and prepare.output("output_labels_path") is not None


def parse_manifest(data: bytes, *, label: str = "mlcube.yaml") -> Manifest:
    """Read a manifest of either format.

    Raises:
        InvalidInput: not YAML within bounds, or a section has the wrong shape, an absolute or climbing default path,
            no tasks, no image and no project.
    """
    document = load_yaml(data, label=label, max_bytes=limits.MANIFEST_BYTES, max_nodes=limits.MANIFEST_NODES)
    if not isinstance(document, dict):
        raise bad_manifest(f"{label} is not a mapping at its top level.", "Start it with 'name: ...' and 'tasks: ...'.")
    if "container_type" in document:
        return _parse_container_config(document, label)
    return _parse_mlcube(document, label)


# ---------------------------------------------------------------------------------------------------------- mlcube.yaml

_MLCUBE_KEYS = {"name", "description", "authors", "platform", "docker", "singularity", "python", "tasks"}
_PYTHON_KEYS = {"project", "entrypoint", "requirements", "requires_python"}
_TASK_KEYS = {"parameters", "entrypoint"}
_UNKNOWN_SHOWN, _UNKNOWN_LENGTH = 20, 80


def _parse_mlcube(document: dict[str, Any], label: str) -> Manifest:
    tasks_raw = mapping_of(document, "tasks", label, required=True)
    tasks = {name: _mlcube_task(name, body, label) for name, body in tasks_raw.items()}
    docker = mapping_of(document, "docker", label)
    singularity = mapping_of(document, "singularity", label)
    python = mapping_of(document, "python", label)
    if all(document.get(section) is None for section in ("docker", "singularity", "python")):
        raise bad_manifest(
            f"{label} has none of the sections docker, singularity and python.",
            "Say what is run: an image, or a python project.",
        )
    platform = mapping_of(document, "platform", label)
    accelerators = platform.get("accelerator_count", 0)
    if not isinstance(accelerators, int) or isinstance(accelerators, bool) or not 0 <= accelerators <= 1024:
        raise bad_manifest(
            f"{label}: platform.accelerator_count must be a whole number from 0 to 1024.", "Use 0 for none."
        )
    return Manifest(
        format="mlcube",
        name=text_of(document, "name", label, default="mlcube"),
        tasks=tasks,
        docker_image=image_of(docker, f"{label}: docker") if document.get("docker") is not None else None,
        singularity_image=image_of(singularity, f"{label}: singularity")
        if document.get("singularity") is not None
        else None,
        python=_python(python, label) if document.get("python") is not None else None,
        accelerators=accelerators,
        unknown=_unknown(document),
    )


def _unknown(document: Mapping[str, Any]) -> tuple[str, ...]:
    """What nobody reads, so that a misspelt key does not go unnoticed. The sections docker and singularity have keys of their runners."""
    found = set(document) - _MLCUBE_KEYS
    found |= {f"python.{key}" for key in set(mapping_of(document, "python", "")) - _PYTHON_KEYS}
    for name, body in mapping_of(document, "tasks", "").items():
        found |= {f"tasks.{name}.{key}" for key in set(body or {}) - _TASK_KEYS}
    return _listed(found)


def _listed(unknown: set[str]) -> tuple[str, ...]:
    """A person reads this: the first few, none longer than a line."""
    return tuple(name[:_UNKNOWN_LENGTH] for name in sorted(unknown)[:_UNKNOWN_SHOWN])


def _mlcube_task(name: str, body: Any, label: str) -> Task:
    check_name(name, f"{label}: task")
    if body is None:
        body = {}
    if not isinstance(body, dict):
        raise bad_manifest(
            f"{label}: task {name!r} is not a mapping.", "Give it 'parameters: {inputs: ..., outputs: ...}'."
        )
    where = f"{label}: task {name!r}"
    parameters = mapping_of(body, "parameters", where)
    inputs = tuple(
        _mlcube_parameter(key, value, where, output=False)
        for key, value in mapping_of(parameters, "inputs", where).items()
    )
    outputs = tuple(
        _mlcube_parameter(key, value, where, output=True)
        for key, value in mapping_of(parameters, "outputs", where).items()
    )
    _refuse_both(inputs, outputs, where)
    entrypoint = body.get("entrypoint")
    if entrypoint is not None and not isinstance(entrypoint, str):
        raise bad_manifest(f"{where}: entrypoint must be text.", "Quote it, or leave it out.")
    return Task(name=name, inputs=inputs, outputs=outputs, entrypoint=entrypoint)


def _refuse_both(inputs: tuple[Parameter, ...], outputs: tuple[Parameter, ...], where: str) -> None:
    both = {entry.name for entry in inputs} & {entry.name for entry in outputs}
    if both:
        raise bad_manifest(
            f"{where} declares {names_of(sorted(both))} as input and as output.",
            "An input can never become an output: use two names.",
        )


def _mlcube_parameter(name: str, value: Any, where: str, *, output: bool) -> Parameter:
    check_name(name, f"{where}: parameter")
    where = f"{where}, parameter {name!r}"
    if isinstance(value, str):
        value = {"default": value}
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise bad_manifest(f"{where} is neither a path nor a mapping.", "Use '{type: directory, default: data}'.")
    kind: PathType | None = value.get("type")
    if kind not in (None, "file", "directory"):
        raise bad_manifest(
            f"{where}: type must be 'file' or 'directory', not {shown(kind)}.",
            "Write 'type: file' or 'type: directory'.",
        )
    default = value.get("default")
    if default is not None:
        if not isinstance(default, str):
            raise bad_manifest(f"{where}: default must be a path.", "Quote it.")
        if kind is None and default.endswith("/"):
            kind = "directory"
        default = relative_path(default, where)
    opts = value.get("opts", "ro" if not output else "rw")
    if opts not in ("ro", "rw"):
        raise bad_manifest(
            f"{where}: opts must be 'ro' or 'rw', not {shown(opts)}.", "Leave it out, or write 'opts: ro'."
        )
    return Parameter(name=name, type=kind, default=default, writable_input=not output and opts == "rw")


#: What a project can be no part of: names beside the manifest's folder and in it, as a registered MLCube is laid out.
_BESIDE = ("mlcube",)
_WITHIN = ("workspace", "deploy", "mlcube.yaml", "container_config.yaml")


def _python(section: dict[str, Any], label: str) -> PythonForm:
    where = f"{label}: python"
    project = text_of(section, "project", where, default="../project")
    # The project is the one path that may step out of the manifest's folder, by one level: the MLCube layout puts it there.
    inner = project.removeprefix("../")
    if inner.split("/")[0] in (_BESIDE if inner != project else _WITHIN):
        raise bad_manifest(
            f"{where}.project: {project[:100]!r} is a place of the MLCube's own files.",
            "Give the project a folder of its own, such as ../project.",
            code="bad_path",
        )
    requirements = section.get("requirements")
    requires = section.get("requires_python")
    if requires is not None and not isinstance(requires, str):
        raise bad_manifest(f"{where}: requires_python must be text such as '>=3.11'.", "Quote it.")
    return PythonForm(
        project=("../" if inner != project else "") + relative_path(inner, f"{where}.project"),
        entrypoint=relative_path(text_of(section, "entrypoint", where, default="mlcube.py"), f"{where}.entrypoint"),
        requirements=None
        if requirements is None
        else relative_path(text_of(section, "requirements", where), f"{where}.requirements"),
        requires_python=requires,
    )


# ------------------------------------------------------------------------------------------------ container_config.yaml

_CONTAINER_KEYS = {"container_type", "image", "tasks"}
_CONTAINER_TYPES = {
    "DockerImage",
    "DockerArchive",
    "EncryptedDockerArchive",
    "SingularityFile",
    "EncryptedSingularityFile",
}


def _parse_container_config(document: dict[str, Any], label: str) -> Manifest:
    container_type = document["container_type"]
    if not isinstance(container_type, str) or container_type not in _CONTAINER_TYPES:
        raise bad_manifest(
            f"{label}: container_type {shown(container_type)} is unknown.",
            f"Use one of {', '.join(sorted(_CONTAINER_TYPES))}.",
        )
    image = image_of(document, label)
    tasks = {
        name: _container_task(name, body, label)
        for name, body in mapping_of(document, "tasks", label, required=True).items()
    }
    sif = "Singularity" in container_type
    return Manifest(
        format="container_config",
        name=text_of(document, "name", label, default="container"),
        tasks=tasks,
        docker_image=None if sif else image,
        singularity_image=image if sif else None,
        unknown=_listed(set(document) - _CONTAINER_KEYS - {"name"}),
    )


def _container_task(name: str, body: Any, label: str) -> Task:
    check_name(name, f"{label}: task")
    if not isinstance(body, dict):
        raise bad_manifest(f"{label}: task {name!r} is not a mapping.", "Give it 'input_volumes' and 'output_volumes'.")
    where = f"{label}: task {name!r}"
    inputs = tuple(_volume(key, value, where) for key, value in mapping_of(body, "input_volumes", where).items())
    outputs = tuple(_volume(key, value, where) for key, value in mapping_of(body, "output_volumes", where).items())
    _refuse_both(inputs, outputs, where)
    return Task(name=name, inputs=inputs, outputs=outputs, run_args=mapping_of(body, "run_args", where))


def _volume(name: str, value: Any, where: str) -> Parameter:
    check_name(name, f"{where}: volume")
    where = f"{where}, volume {name!r}"
    if not isinstance(value, dict):
        raise bad_manifest(f"{where} is not a mapping.", "Use '{mount_path: /data, type: directory}'.")
    mount_path = text_of(value, "mount_path", where)
    if not mount_path.startswith("/") or ".." in PurePosixPath(mount_path).parts or mount_path == "/":
        raise bad_manifest(
            f"{where}: mount_path must be an absolute path inside the container without '..'.",
            "Use e.g. /mlcommons/volumes/data.",
        )
    kind = value.get("type")
    if kind not in ("file", "directory"):
        raise bad_manifest(
            f"{where}: type must be 'file' or 'directory', not {shown(kind)}.",
            "Write 'type: file' or 'type: directory'.",
        )
    return Parameter(name=name, type=kind, mount_path=mount_path)


def parameters_default(manifest: Manifest) -> str | None:
    """Where the tasks expect their parameters file, relative to the workspace folder; None if no task declares one.

    Raises:
        InvalidInput: two tasks expect it at two places.
    """
    declared = [entry for task in manifest.tasks.values() for entry in task.inputs if entry.name == "parameters_file"]
    found = {entry.default or "parameters.yaml" for entry in declared}
    if len(found) > 1:
        raise bad_manifest(
            f"The tasks expect parameters_file at different places: {names_of(sorted(found))}.",
            "Use one default for all tasks.",
        )
    return found.pop() if found else None
