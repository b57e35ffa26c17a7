"""One MLCube made ready to run: a folder on this machine, or a registered one fetched, verified and unpacked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput, NotFound
from medperf.domain.events import Note, StepFinished, StepStarted
from medperf.domain.kinds import require_kind
from medperf.domain.manifests import Manifest, parameters_default, parse_manifest
from medperf.domain.numbers import whole_number
from medperf.domain.states import Kind
from medperf.flows.paths import local_path
from medperf.flows.site import Site
from medperf.flows.waiting import held
from medperf.runtime.engines.base import CubeFiles
from medperf.wire.models import FileName, FileRef, MLCubeView
from medperf.workspace.files import temporary_name


@dataclass(frozen=True)
class ReadyCube:
    """A cube whose files are here. ``files`` are the digests that a report names: of the registered files, or of the folder's content."""

    label: str
    mlcube: int | None
    cube: CubeFiles
    files: dict[FileName, str]


def resolve_cube(site: Site, reference: str, wanted: Kind, *, option: str) -> ReadyCube:
    """A path to a manifest (or its folder), or the id of a registered MLCube.

    Raises:
        InvalidInput: neither exists, or it is of another kind.
    """
    path = local_path(reference)
    if not path.exists():
        number = whole_number(reference)
        if number is not None:
            return registered_cube(site, site.api.mlcubes.get(number), wanted)
        raise InvalidInput(
            "cube_missing",
            f"{option} {reference!r} is neither a path that exists nor the id of a registered MLCube.",
            "List the registered ones with: medperf mlcube ls",
        )
    from medperf.runtime.manifests.files import load_cube

    cube = load_cube(path)
    require_kind(cube.manifest, wanted, label=f"{option} {reference!r}")
    _warn_unknown(site, cube.manifest, reference)
    return ReadyCube(
        label=reference,
        mlcube=None,
        cube=cube,
        files=_named({name: str(digest) for name, digest in cube.digests.items()}),
    )


def registered_cube(site: Site, view: MLCubeView, wanted: Kind) -> ReadyCube:
    """Fetch a registered MLCube's files (each once) and unpack them (once: the folder is kept as a sealed step).

    Raises:
        InvalidInput: another kind, marked invalid, or a file whose digest differs.
    """
    check_usable(view, wanted)
    from medperf.runtime.manifests.files import load_cube

    key = Digest.of_document({"cube": {name: ref.digest for name, ref in view.files.items()}})
    sealed = site.workspace.steps.lookup(key)
    if sealed is None:
        title = f"Fetching {view.name}"
        with held(site, key, task="fetch", what=f"the fetching of MLCube {view.id} ({view.name})") as step:
            sealed = site.workspace.steps.lookup(key)
            if sealed is None:
                site.emit(StepStarted(title))
                clock = site.clock()
                _lay_out(site, view.name, _fetching(site, view), step.outputs / "cube")
                load_cube(step.outputs / "cube" / "mlcube" / "mlcube.yaml")
                sealed = step.seal({"name": view.name})
                site.emit(StepFinished(title, site.clock() - clock))
    cube = load_cube(sealed.outputs / "cube" / "mlcube" / "mlcube.yaml")
    require_kind(cube.manifest, wanted, label=f"MLCube {view.id}")
    return ReadyCube(
        label=view.name, mlcube=view.id, cube=cube, files=_named({name: ref.digest for name, ref in view.files.items()})
    )


def check_usable(view: MLCubeView, wanted: Kind) -> None:
    """Whether a registered MLCube may be run as this kind.

    Raises:
        InvalidInput: another kind, or marked invalid.
    """
    if view.kind is not wanted:
        raise InvalidInput(
            "wrong_kind",
            f"MLCube {view.id} ({view.name}) is {view.kind.with_article}, but {wanted.with_article} is needed here.",
            "List yours with: medperf mlcube ls --mine",
        )
    if not view.is_valid:
        raise InvalidInput(
            "invalid_mlcube", f"MLCube {view.id} ({view.name}) was marked invalid by its owner.", "Use another one."
        )


def check_layout(site: Site, name: str, files: Mapping[FileName, Path]) -> None:
    """Whether others will be able to lay out an MLCube of these files, found before it is registered. Nothing is kept.

    Raises:
        InvalidInput: an archive that cannot be unpacked, or one that lacks what the manifest names.
    """
    from medperf.runtime.manifests.files import load_cube

    # A name nobody else has: nothing is kept, so two that check the same files need not wait for each other.
    key = Digest.of_document({"check": temporary_name()})
    with site.workspace.steps.begin(key, task="check") as step:
        _lay_out(site, name, files, step.outputs / "cube")
        load_cube(step.outputs / "cube" / "mlcube" / "mlcube.yaml")


def _fetching(site: Site, view: MLCubeView) -> dict[FileName, Path]:
    """The registered files that a layout is made of, downloaded and verified.

    Raises:
        InvalidInput: it has no manifest.
    """
    if "manifest" not in view.files:
        raise InvalidInput("no_manifest", f"MLCube {view.id} ({view.name}) has no manifest.", "Use another one.")
    wanted: tuple[FileName, ...] = ("manifest", "parameters", "additional", "project")
    most = {"manifest": limits.MANIFEST_BYTES, "parameters": limits.PARAMETERS_BYTES}
    try:
        return {
            key: fetch(site, view.files[key], name=f"{key} of {view.name}", limit=most.get(key, limits.ASSET_BYTES))
            for key in wanted
            if key in view.files
        }
    except NotFound as error:
        if error.code != "no_such_asset":
            raise
        raise _not_open(view, error) from error


def _not_open(view: MLCubeView, error: NotFound) -> NotFound:
    """A registered MLCube whose files, hosted by the server, this account may not read, or not yet."""
    fix = "Ask its owner."
    if view.kind is Kind.MODEL:
        fix = (
            "Register your dataset and ask with: medperf dataset associate -b BENCHMARK -d DATASET. Once it is approved "
            "in a benchmark with this model, the files open to you. Before that, only files at a public address do."
        )
    return NotFound(
        error.code,
        f"You may not read the files of MLCube {view.id} ({view.name}){' yet' if view.kind is Kind.MODEL else ''}.",
        fix,
        details=error.details,
    )


def _lay_out(site: Site, name: str, files: Mapping[FileName, Path], base: Path) -> None:
    """The MLCube layout: ``mlcube/mlcube.yaml``, ``mlcube/workspace/...`` and the project where the manifest expects it."""
    from medperf.runtime.archives import unpack

    folder = base / "mlcube"
    workspace = folder / "workspace"
    workspace.mkdir(parents=True)
    shutil.copyfile(files["manifest"], folder / "mlcube.yaml")
    manifest = parse_manifest((folder / "mlcube.yaml").read_bytes())
    if "additional" in files:
        _unpack_as(site, unpack, files["additional"], workspace / "additional_files", f"additional files of {name}")
    if "parameters" in files:
        target = workspace / (parameters_default(manifest) or "parameters.yaml")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files["parameters"], target)
    if "project" in files and manifest.python is not None:
        target = Path(os.path.normpath(folder / manifest.python.project))  # one ".." at most; nothing there is a link
        if not target.is_relative_to(base):
            raise InvalidInput("bad_path", f"The project of {name} leads out of its folder.", "Tell its owner.")
        target.parent.mkdir(parents=True, exist_ok=True)
        _unpack_as(site, unpack, files["project"], target, f"project of {name}")


def _unpack_as(site: Site, unpack: Callable[..., None], archive: Path, target: Path, what: str) -> None:
    """Unpack, and name the archive as the person knows it."""
    try:
        unpack(archive, target, emit=site.emit_or_stop)
    except InvalidInput as error:
        raise InvalidInput(error.code, f"The {what} cannot be unpacked. {error.what}", error.fix) from error


def fetch(site: Site, ref: FileRef, *, name: str, limit: int = limits.ASSET_BYTES) -> Path:
    """The file's bytes from the content store, downloaded and verified if they are not there yet.

    Raises:
        InvalidInput: ``file_too_large``: it was registered with more bytes than ``limit``; nothing is downloaded.
    """
    here = site.workspace.store.path(Digest(ref.digest))
    if here is not None:
        return here
    if ref.size > limit:
        raise InvalidInput(
            "file_too_large", f"The {name} has {ref.size:,} bytes, but at most {limit:,} are read.", "Tell its owner."
        )
    return site.fetch(ref, name=name).path


def _warn_unknown(site: Site, manifest: Manifest, reference: str) -> None:
    if manifest.unknown:
        site.emit(
            Note(f"{reference}: unknown sections were read over: {', '.join(manifest.unknown)}.", level="warning")
        )


def _named(digests: Mapping[str, str]) -> dict[FileName, str]:
    """Only the file names that the wire knows; a newer server's others are not this client's to report."""
    return {name: digests[name] for name in get_args(FileName) if name in digests}
