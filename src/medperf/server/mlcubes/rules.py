"""Whether an MLCube's parts fit together: manifest, files and forms. Pure."""

from __future__ import annotations

import functools

from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.domain.kinds import kind_of
from medperf.domain.manifests import Manifest, Parameter, parse_manifest
from medperf.domain.states import Kind
from medperf.wire.models import MLCubeCreate


def check(wanted: MLCubeCreate) -> Kind:
    """The kind of a consistent MLCube.

    Raises:
        InvalidInput: says which part does not fit.
    """
    raw = wanted.manifest_text.encode()
    ref = wanted.files.get("manifest")
    if ref is None:
        raise _missing("manifest", "every MLCube has one")
    if (ref.digest, ref.size) != (Digest.of(raw), len(raw)):
        raise InvalidInput(
            "manifest_mismatch",
            f"The manifest's text has {Digest.of(raw)} and {len(raw):,} bytes, but files.manifest says {ref.digest} and {ref.size:,}.",
            "Register the manifest that was uploaded.",
        )
    manifest, kind = _parsed(raw)
    _check_files(wanted, manifest)
    _check_forms(wanted, manifest)
    return kind


@functools.lru_cache(maxsize=64)
def _parsed(raw: bytes) -> tuple[Manifest, Kind]:
    """Versions of an MLCube mostly share their manifest, and parsing one costs as much as the rest of a registration."""
    manifest = parse_manifest(raw)
    return manifest, kind_of(manifest)


def _check_files(wanted: MLCubeCreate, manifest: Manifest) -> None:
    inputs = [entry for task in manifest.tasks.values() for entry in task.inputs]
    if "parameters" not in wanted.files and any(entry.name == "parameters_file" for entry in inputs):
        raise _missing("parameters", "a task takes parameters_file")
    parameters = wanted.files.get("parameters")
    if parameters is not None and parameters.size > limits.PARAMETERS_BYTES:
        raise InvalidInput(
            "parameters_too_large",
            f"The file 'parameters' has {parameters.size:,} bytes; sites read at most {limits.PARAMETERS_BYTES:,}.",
            "Move large things to the additional files.",
        )
    if "additional" not in wanted.files and any(_is_additional(entry) for entry in inputs):
        raise _missing("additional", "a task takes an input under additional_files/")


def _is_additional(entry: Parameter) -> bool:
    return entry.name == "additional_files" or (entry.default or "").split("/")[0] == "additional_files"


def _check_forms(wanted: MLCubeCreate, manifest: Manifest) -> None:
    if not wanted.forms:
        raise InvalidInput(
            "no_form", "The MLCube has no form that could run.", "Give at least one of oci, sif and python."
        )
    files = wanted.files
    for form, digests in wanted.forms.items():
        if form == "python":
            if manifest.python is None:
                raise _bad_form(form, "the manifest has no section 'python'")
            if "project" not in files:
                raise _missing("project", "the form python runs it")
            if digests.get("project", files["project"].digest) != files["project"].digest:
                raise _bad_form(form, "its digest 'project' is not that of the file 'project'")
        elif form == "oci":
            if manifest.docker_image is None and "image" not in files:
                raise _bad_form(form, "the manifest names no docker image, and there is no file 'image'")
            if not digests:
                raise _bad_form(form, "it gives no digest of the image")
        elif manifest.singularity_image is None or "image" not in files:
            raise _bad_form(form, "it needs the section 'singularity' in the manifest and the file 'image'")


def _missing(name: str, why: str) -> InvalidInput:
    return InvalidInput(
        "missing_file", f"The file {name!r} is missing: {why}.", f"Give files.{name} with digest, size and URL."
    )


def _bad_form(form: str, why: str) -> InvalidInput:
    return InvalidInput(
        "bad_form", f"The form {form!r} does not fit: {why}.", "Mend the manifest, or leave the form out."
    )
