"""Register, list and read MLCubes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput, NotFound, ServerUnavailable, UsageError
from medperf.domain.events import Note
from medperf.domain.sorting import Sort
from medperf.domain.states import Kind, State
from medperf.flows.files import FILE_NAMES, Obtained, digest_file, is_remote, obtain
from medperf.flows.organisations import listed_owner, owner_id
from medperf.flows.publishing import refuse_folder
from medperf.flows.site import Site
from medperf.flows.uploads import Uploads, create_once, refuse_taken_name
from medperf.wire.models import FileName, FileRef, FormName, MLCubeCreate, MLCubeView

if TYPE_CHECKING:
    from medperf.domain.manifests import Manifest


@dataclass(frozen=True)
class MLCubeSubmission:
    """What the person gave. Each file is a URL or a local path; each hash a sha256, optional."""

    name: str
    manifest: str
    parameters: str | None = None
    additional: str | None = None
    image: str | None = None
    project: str | None = None
    manifest_hash: str | None = None
    parameters_hash: str | None = None
    additional_hash: str | None = None
    image_hash: str | None = None
    project_hash: str | None = None
    owner: str | None = None  # an organisation, by name or id; None: the account itself


def submit_mlcube(site: Site, submission: MLCubeSubmission) -> MLCubeView:
    """Check, host what is local, register. Nothing is left on the server when it fails.

    Raises:
        InvalidInput: a file is missing, its digest differs, the manifest has no kind, or a form lacks what it needs.
        Conflict: its owner has an MLCube of this name already.
        NotFound: no such organisation.
    """
    # Here, so that listing costs none of it.
    from medperf.domain.kinds import kind_of
    from medperf.domain.manifests import parse_manifest
    from medperf.flows.cubes import check_layout
    from medperf.workspace.files import scratch, sweep_scratch

    sweep_scratch()
    submission = replace(submission, name=submission.name.strip())
    MLCubeCreate.check(name=submission.name)
    _check_hashes(submission)
    owner = owner_id(site, submission.owner)
    manifest_file = obtain(
        site,
        submission.manifest,
        option="--mlcube-file",
        expected=submission.manifest_hash,
        limit=limits.MANIFEST_BYTES,
    )
    with manifest_file.path.open("rb") as stream:
        data = stream.read(limits.MANIFEST_BYTES + 1)  # one more than the parser takes
    manifest = parse_manifest(data, label="--mlcube-file")
    kind = kind_of(manifest)
    if manifest.unknown:
        site.emit(
            Note(f"Unknown sections of the manifest were read over: {', '.join(manifest.unknown)}.", level="warning")
        )
    refuse_taken_name(site, "mlcube", submission.name, owner=owner)
    with scratch() as temporary:
        files: dict[FileName, Obtained] = {"manifest": manifest_file}
        if submission.parameters:
            files["parameters"] = obtain(
                site,
                submission.parameters,
                option="--parameters-file",
                expected=submission.parameters_hash,
                limit=limits.PARAMETERS_BYTES,
            )
        if submission.additional:
            files["additional"] = obtain(
                site, submission.additional, option="--additional-file", expected=submission.additional_hash
            )
        if submission.image:
            files["image"] = obtain(site, submission.image, option="--image-file", expected=submission.image_hash)
        project = _project(site, submission, manifest, manifest_file, temporary)
        if project is not None:
            files["project"] = project
        forms = _forms(manifest, files, submission)
        _check_needed(manifest, kind, files)
        check_layout(site, submission.name, {key: file.path for key, file in files.items()})
        with Uploads(site, owner=owner) as uploads:
            refs: dict[FileName, FileRef] = {}
            for key, file in files.items():
                refs[key] = uploads.host(file, name=f"{submission.name}-{FILE_NAMES.get(key, 'image')}")
            body = MLCubeCreate.of(
                name=submission.name,
                manifest_text=data.decode(),
                files=refs,
                forms=forms,
                owner=owner,
            )
            view = create_once(site, "mlcube", body, site.api.mlcubes.create)
            uploads.keep()
    return view


def list_mlcubes(
    site: Site,
    *,
    mine: bool = False,
    owner: str | None = None,
    kind: Kind | None = None,
    state: State | None = None,
    is_valid: bool | None = None,
    name: str | None = None,
    search: str | None = None,
    sort: Sort | None = None,
    limit: int | None = None,
) -> list[MLCubeView]:
    """What the account may see, oldest first unless ``sort`` or ``search`` says otherwise.

    Args:
        owner: see `medperf.flows.organisations.listed_owner`.
    """
    found = site.api.mlcubes.list(
        owner=listed_owner(site, mine=mine, owner=owner),
        kind=kind,
        state=state,
        is_valid=is_valid,
        name=name,
        search=search,
        sort=sort,
        limit=limit,
    )
    return list(found)


def view_mlcube(site: Site, mlcube_id: int) -> MLCubeView:
    """One MLCube with its manifest."""
    return site.api.mlcubes.get(mlcube_id)


def _check_hashes(submission: MLCubeSubmission) -> None:
    """Every hash is one, and belongs to a file that is given.

    Raises:
        UsageError: a hash without its file would check nothing.
        InvalidInput: no sha256 digest.
    """
    for file, source, given in (
        ("mlcube", submission.manifest, submission.manifest_hash),
        ("parameters", submission.parameters, submission.parameters_hash),
        ("additional", submission.additional, submission.additional_hash),
        ("image", submission.image, submission.image_hash),
        ("project", submission.project, submission.project_hash),
    ):
        if given is None:
            continue
        Digest(given)
        if source is None and file not in ("image", "project"):  # an image of a registry; a project beside the manifest
            raise UsageError(
                "missing_option",
                f"--{file}-hash is given without --{file}-file.",
                f"Give --{file}-file too, or neither.",
            )


def _project(
    site: Site, submission: MLCubeSubmission, manifest: Manifest, manifest_file: Obtained, temporary: Path
) -> Obtained | None:
    """The project archive of a ``python:`` section: given, found beside the manifest, or packed from the local project folder."""
    if submission.project:
        return obtain(site, submission.project, option="--project-file", expected=submission.project_hash)
    if manifest.python is None:
        return None
    if is_remote(submission.manifest):
        from urllib.parse import urljoin

        try:
            return obtain(
                site,
                urljoin(submission.manifest, FILE_NAMES["project"]),
                option="--project-file",
                expected=submission.project_hash,
            )
        except (NotFound, InvalidInput, ServerUnavailable):
            return None
    beside = manifest_file.path.parent / FILE_NAMES["project"]
    if beside.is_file():
        return obtain(site, str(beside), option="--project-file", expected=submission.project_hash)
    folder = manifest_file.path.parent / manifest.python.project
    if folder.is_dir():
        from medperf.runtime.archives import pack_folder

        refuse_folder(site.home, folder)
        packed = temporary / FILE_NAMES["project"]
        pack_folder(folder, packed, emit=site.emit)
        digest, size = digest_file(packed)
        return Obtained(path=packed, digest=digest, size=size, source=str(folder), url=None)
    return None


def _forms(
    manifest: Manifest, files: dict[FileName, Obtained], submission: MLCubeSubmission
) -> dict[FormName, dict[str, str]]:
    """The forms that can be registered, each with the digests that pin it.

    Raises:
        InvalidInput: there is none; the message says which file or hash would make one.
    """
    forms: dict[FormName, dict[str, str]] = {}
    if manifest.python is not None and "project" in files:
        forms["python"] = {"project": files["project"].digest}
    image = files.get("image")
    if manifest.singularity_image is not None and image is not None:
        forms["sif"] = {"file": image.digest}
    elif manifest.docker_image is not None and image is not None:
        forms["oci"] = {"archive": image.digest}
    elif manifest.docker_image is not None and submission.image_hash:
        forms["oci"] = {"image": Digest(submission.image_hash)}
    if forms:
        return forms
    ways = []
    if manifest.python is not None:
        ways.append("--project-file (project.tar.gz, which medperf mlcube package writes)")
    if manifest.docker_image is not None:
        ways.append("--image-hash (the image's digest) or --image-file (its archive)")
    if manifest.singularity_image is not None:
        ways.append("--image-file (the .sif file)")
    raise InvalidInput("no_form", "Nothing pins what this MLCube would run.", f"Give {', or '.join(ways)}.")


def _check_needed(manifest: Manifest, kind: Kind, files: dict[FileName, Obtained]) -> None:
    for task in manifest.tasks.values():
        for parameter in task.inputs:
            if parameter.name == "parameters_file" and "parameters" not in files:
                raise InvalidInput(
                    "file_missing",
                    f"The task {task.name} of this {kind.value} reads parameters_file.",
                    "Give it with --parameters-file.",
                )
            if (parameter.default or "").split("/")[0] == "additional_files" and "additional" not in files:
                raise InvalidInput(
                    "file_missing",
                    f"The task {task.name} of this {kind.value} reads {parameter.default}.",
                    "Give the tarball with --additional-file.",
                )
