"""The data of a compatibility test: folders on this machine, or a demo dataset (a tarball with ``paths.yaml`` at its root)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.documents import load_yaml
from medperf.domain.errors import InvalidInput
from medperf.domain.manifest_fields import relative_path
from medperf.domain.manifests import Manifest
from medperf.flows.files import Obtained
from medperf.flows.site import Site
from medperf.flows.waiting import held

PATHS_FILE = "paths.yaml"


@dataclass(frozen=True)
class TestData:
    """Records and labels, and where they come from (for listings). ``demo_digest`` None for plain folders."""

    __test__ = False

    data_path: Path
    labels_path: Path
    source: str
    demo_digest: Digest | None = None


def local_data(data_path: Path, labels_path: Path) -> TestData:
    """Folders given on the command line.

    Raises:
        InvalidInput: one of them does not exist.
    """
    for option, path in (("--data_path", data_path), ("--labels_path", labels_path)):
        if not path.exists():
            raise InvalidInput(
                "path_missing",
                f"{option} {str(path)!r} does not exist.",
                "Check the path; it is relative to the current folder.",
            )
    return TestData(data_path=data_path.resolve(), labels_path=labels_path.resolve(), source=str(data_path))


def demo_data(site: Site, demo: Obtained) -> TestData:
    """Unpack a demo dataset (once: the unpacked folder is kept as a sealed step) and find its two paths.

    Raises:
        InvalidInput: no safe archive, no ``paths.yaml``, or a path in it that leads elsewhere or to nothing.
    """
    key = Digest.of_document({"unpack": demo.digest, "purpose": "demo"})
    sealed = site.workspace.steps.lookup(key)
    if sealed is None:
        from medperf.runtime.archives import unpack

        with held(site, key, task="unpack", what=f"the unpacking of {demo.source}") as step:
            sealed = site.workspace.steps.lookup(key)
            if sealed is None:
                unpack(demo.path, step.outputs / "demo", digest=demo.digest, emit=site.emit_or_stop)
                read_paths(step.outputs / "demo")
                sealed = step.seal({"source": demo.source})
    data_path, labels_path = read_paths(sealed.outputs / "demo")
    return TestData(data_path=data_path, labels_path=labels_path, source=demo.source, demo_digest=demo.digest)


def check_data(data: TestData, manifest: Manifest) -> None:
    """Whether the preparator can read this data at all.

    Raises:
        InvalidInput: a file where it reads a folder, or the other way round, or an empty folder.
    """
    prepare = manifest.tasks["prepare"]
    for name, path in (("data_path", data.data_path), ("labels_path", data.labels_path)):
        declared = prepare.input(name)
        wanted = declared.type if declared is not None else None
        whose = f"paths.yaml: {name} of {data.source}" if data.demo_digest is not None else f"--{name} {str(path)!r}"
        if wanted == "directory" and path.is_file():
            raise InvalidInput("wrong_data", f"{whose} is a file, but the preparator reads a folder.", "Name a folder.")
        if wanted == "file" and path.is_dir():
            raise InvalidInput("wrong_data", f"{whose} is a folder, but the preparator reads a file.", "Name a file.")
        if path.is_dir() and not any(path.iterdir()):
            raise InvalidInput("no_data", f"{whose} is an empty folder.", "Give a folder that holds files.")


def read_paths(folder: Path) -> tuple[Path, Path]:
    """The two paths that ``paths.yaml`` in ``folder`` names.

    Raises:
        InvalidInput: missing, wrong shape, or a path that leads out of the folder or to nothing.
    """
    file = folder / PATHS_FILE
    fix = "Put a file paths.yaml beside the data with 'data_path: mock/images' and 'labels_path: mock/labels'."
    from medperf.runtime.manifests.files import read_plain

    if not file.is_file() or file.is_symlink():
        raise InvalidInput("no_paths_yaml", "The demo dataset has no paths.yaml at its root.", fix)
    document = load_yaml(read_plain(file, limits.MANIFEST_BYTES, "file"), label=PATHS_FILE)
    if not isinstance(document, dict):
        raise InvalidInput("bad_paths_yaml", "paths.yaml is no mapping.", fix)
    found = []
    for name in ("data_path", "labels_path"):
        value = document.get(name)
        if not isinstance(value, str):
            raise InvalidInput("bad_paths_yaml", f"paths.yaml does not say {name!r}.", fix)
        path = folder / relative_path(value, f"paths.yaml: {name}")
        if not path.exists() or not path.resolve().is_relative_to(folder.resolve()):
            raise InvalidInput(
                "bad_paths_yaml",
                f"paths.yaml: {name} {value!r} does not exist in the demo dataset.",
                "Name a folder that is in the tarball.",
            )
        found.append(path)
    return found[0], found[1]
