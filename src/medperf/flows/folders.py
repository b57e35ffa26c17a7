"""An MLCube's folder, packaged and registered in one go; one that is registered from the same files already is used again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from medperf.domain.errors import Conflict
from medperf.domain.states import State
from medperf.flows.organisations import owned_by, owner_filter, owner_id
from medperf.flows.paths import local_path
from medperf.flows.site import Site
from medperf.flows.uploads import forget_arrived
from medperf.wire.models import MLCubeCreate, MLCubeView

if TYPE_CHECKING:
    from medperf.flows.joining import Asked
    from medperf.flows.packaging import Package


def submit_mlcube_from_folder(
    site: Site, folder: Path, *, name: str | None = None, owner: str | None = None
) -> MLCubeView:
    """Package the MLCube in ``folder`` and register it.

    Args:
        folder: holds ``mlcube.yaml``, or ``mlcube/mlcube.yaml``.
        name: None: the one in its manifest.
        owner: an organisation, by name or id; None: the account itself.

    Raises:
        InvalidInput: what `medperf.flows.packaging.package_mlcube` or `medperf.flows.mlcubes.submit_mlcube` refuse.
        Conflict: the owner has an MLCube of this name with other files.
    """
    from medperf.flows.packaging import package_mlcube

    package = package_mlcube(_place(folder), home=site.home)
    name = (name or package.name).strip()
    found = registered_package(
        site, package, name=name, owner=owner_id(site, owner), fix="Give this one another name with --name."
    )
    return found or register_package(site, package, name=name, owner=owner)


def associate_model_from_folder(
    site: Site, benchmark_id: int, folder: Path, *, name: str | None = None, no_cache: bool = False, yes: bool = False
) -> Asked:
    """Test the model in ``folder`` with a benchmark as it lies there; only if it passes, register it and ask to join.

    Args:
        name, yes: see `submit_mlcube_from_folder` and `medperf.flows.joining.associate_model`.

    Raises:
        TaskFailed: the test failed; nothing was registered.
        MedPerfError: what the two flows raise.
    """
    from medperf.flows.compatibility import TestRequest, run_test
    from medperf.flows.joining import associate_model

    run_test(site, TestRequest(benchmark=benchmark_id, model=str(_place(folder)), no_cache=no_cache))
    model = submit_mlcube_from_folder(site, folder, name=name)
    return associate_model(site, benchmark_id, model.id, yes=yes)


def registered_package(site: Site, package: Package, *, name: str, owner: int | None, fix: str) -> MLCubeView | None:
    """The owner's MLCube of this name with exactly these files, None when the name is free.

    Raises:
        Conflict: it has other files.
        InvalidInput: no MLCube can have this name.
    """
    MLCubeCreate.check(name=name)
    views = site.api.mlcubes.list(owner=owner_filter(owner), name=name)
    taken = next((view for view in views if owned_by(view.owner, owner)), None)
    if taken is not None:
        same = {key: ref.digest for key, ref in taken.files.items()} == {
            key: str(file.digest) for key, file in package.files.items()
        }
        if same and taken.is_valid and taken.state is State.OPERATION:
            forget_arrived(site, "mlcube", name)
            return taken
        raise Conflict("name_taken", f"There is another MLCube named {name!r} (id {taken.id}) with other files.", fix)
    return None


def register_package(site: Site, package: Package, *, name: str, owner: str | None) -> MLCubeView:
    """Register what was packaged."""
    from medperf.flows.mlcubes import MLCubeSubmission, submit_mlcube

    files = {key: str(file.path) for key, file in package.files.items()}
    return submit_mlcube(
        site,
        MLCubeSubmission(
            name=name,
            manifest=files["manifest"],
            parameters=files.get("parameters"),
            additional=files.get("additional"),
            project=files.get("project"),
            owner=owner,
        ),
    )


def _place(folder: Path) -> Path:
    """Where the manifest of an MLCube's folder is."""
    folder = local_path(folder)
    inner = folder / "mlcube"
    return inner if (inner / "mlcube.yaml").is_file() else folder
