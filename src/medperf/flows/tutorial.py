"""The tutorial's folder, and the server's tutorial content."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import medperf
from medperf.domain.errors import Conflict, Forbidden, MedPerfError
from medperf.domain.events import Emit, Note, ignore
from medperf.domain.states import Approval
from medperf.flows.accounts import add_user, login
from medperf.flows.benchmarks import decide_benchmark, submit_benchmark_from_folder
from medperf.flows.interaction import Scripted
from medperf.flows.paths import local_path
from medperf.flows.site import Site, SiteOptions
from medperf.workspace.files import scratch, sweep_scratch

Role = Literal["benchmark", "model", "data"]

#: The tutorial's accounts. Their password is public, which is why seeding works on development servers only.
TUTORIAL_USERS = {
    "testbenchmarkowner": "testbo@example.com",
    "testmodelowner": "testmo@example.com",
    "testdataowner": "testdo@example.com",
}
TUTORIAL_PASSWORD = "test"  # noqa: S105 - public, for development servers on this machine only
CUBES = ("chexpert_prep", "xrv_densenet", "metrics")
DATA = "mock_chexpert"
BENCHMARK, SECOND_MODEL = "xrv", "xrv_densenet_2"
PATHS_YAML = "data_path: mock_chexpert/images\nlabels_path: mock_chexpert/labels\n"


@dataclass(frozen=True)
class TutorialFolder:
    """The folder made, what is in it, and the command to go on with."""

    path: Path
    entries: tuple[str, ...]
    next: str


@dataclass(frozen=True)
class SeedResult:
    """What seeding made on the server."""

    server: str
    users: tuple[str, ...]
    mlcubes: tuple[int, ...]
    benchmarks: tuple[int, ...]


def examples_folder() -> Path:
    """Where the example MLCubes are: inside the installed package, or in the repository beside ``src``.

    Raises:
        MedPerfError: neither is there.
    """
    package = Path(medperf.__file__).parent
    for folder in (package / "_examples" / "chest_xray", package.parents[1] / "examples" / "chest_xray"):
        if all((folder / name).is_dir() for name in (*CUBES, DATA)):
            return folder
    raise MedPerfError(
        "no_examples",
        "The example MLCubes are not part of this installation.",
        "Install the medperf package again, or use a checkout of the repository.",
    )


def setup_tutorial(role: Role = "benchmark", *, folder: Path, force: bool = False) -> TutorialFolder:
    """Copy what a role needs into ``folder``, whole or not at all.

    Raises:
        Conflict: the folder exists and ``force`` was not given, or it is not what this function made.
    """
    folder = local_path(folder)
    prefix = f".{folder.name}-"
    sweep_scratch(folder.parent, prefix=prefix)
    if folder.exists() and not force:
        raise Conflict(
            "folder_exists",
            f"The folder {str(folder)!r} exists already.",
            f"Remove it (rm -r {folder}), or give --force to write it anew.",
        )
    if folder.exists() and not _is_tutorial(folder):
        raise Conflict(
            "not_a_tutorial",
            f"{str(folder)!r} is no folder of a tutorial, so it is not removed.",
            "Choose another one with --folder.",
        )
    source = examples_folder()
    names = {"benchmark": (*CUBES, DATA), "model": ("xrv_densenet",), "data": (DATA,)}[role]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch(folder.parent, prefix=prefix) as temporary:
        fresh = temporary / folder.name
        fresh.mkdir()
        for name in names:
            shutil.copytree(source / name, fresh / name, ignore=shutil.ignore_patterns("__pycache__", "deploy"))
        if folder.exists():
            folder.rename(temporary / "old")  # removed in one instant: half a tutorial would not be known as one
        fresh.rename(folder)
    following = {
        "benchmark": "medperf test run --data_preparation {0}/chexpert_prep/mlcube/mlcube.yaml --model {0}/xrv_densenet/mlcube/mlcube.yaml "
        "--evaluator {0}/metrics/mlcube/mlcube.yaml --data_path {0}/mock_chexpert/images --labels_path {0}/mock_chexpert/labels",
        "model": "medperf test run --benchmark 1 --model {0}/xrv_densenet/mlcube/mlcube.yaml",
        "data": "medperf benchmark ls",
    }[role]
    return TutorialFolder(path=folder, entries=tuple(sorted(names)), next=following.format(folder))


def _is_tutorial(folder: Path) -> bool:
    """Whether ``force`` may remove it: a folder of its own, with a tutorial's entries, that nobody stands in."""
    inside = Path.cwd().is_relative_to(folder.resolve())
    return (
        folder.is_dir()
        and not folder.is_symlink()
        and not inside
        and any((folder / name).is_dir() for name in (*CUBES, DATA))
    )


def seed_server(
    role: Role,
    *,
    server: str,
    certificate: str | None,
    environ: Mapping[str, str],
    cwd: Path,
    username: str = "admin",
    password: str | None = None,
    emit: Emit = ignore,
) -> SeedResult:
    """Make the tutorial's accounts and, for the later roles, a benchmark to work with. Uses a home of its own.

    What an earlier try made is used: a seeding that was interrupted is finished by the next one.

    Raises:
        Forbidden: the server is not marked for development.
        Conflict: nothing is left to do.
    """
    with scratch(prefix="medperf-seed-") as temporary:
        private = {**environ, "MEDPERF_HOME": str(temporary), "MEDPERF_PROFILE": "local"}

        def connect(name: str, secret: str, *, sub: str) -> Site:
            options = SiteOptions(server=server, certificate=certificate)
            site = Site.open(
                options, environ={**private, "MEDPERF_HOME": f"{temporary}/{sub}"}, cwd=cwd, emit=emit, ask=Scripted()
            )
            if certificate is None:
                site.certificate = _known_certificate(environ, cwd, site.profile.server)
            site.cache = _cache(environ)
            site.home.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not site.anonymous_api.server.get().development:
                site.close()
                raise Forbidden(
                    "not_development",
                    f"{server} is not marked for development: it is never seeded.",
                    "Make one with: medperf server init --development",
                )
            login(site, username=name, password=secret)
            return site

        with connect(username, password or "admin", sub="admin") as admin:
            present = {user.username for user in admin.api.users.list()}
            missing = {name: email for name, email in TUTORIAL_USERS.items() if name not in present}
            for name, email in missing.items():
                add_user(admin, username=name, password=TUTORIAL_PASSWORD, email=email)
            users = tuple(TUTORIAL_USERS)
            changed = bool(missing)
            if role == "benchmark":
                if not changed:
                    raise _already_seeded(server, role)
                return SeedResult(server=server, users=users, mlcubes=(), benchmarks=())
            folder = setup_tutorial(folder=temporary / "folder").path
            with connect("testbenchmarkowner", TUTORIAL_PASSWORD, sub="owner") as owner:
                benchmark = next(iter(owner.api.benchmarks.list(owner="me", name=BENCHMARK, limit=1)), None)
                if benchmark is None:
                    changed = True
                    (folder / "paths.yaml").write_text(PATHS_YAML)
                    benchmark = submit_benchmark_from_folder(
                        owner, folder, name=BENCHMARK, description="Chest X-ray findings, the tutorial's benchmark"
                    ).benchmark
            if benchmark.approval is not Approval.APPROVED:
                changed = True
                decide_benchmark(admin, benchmark.id, approve=True, reason="tutorial")
                emit(Note(f"Benchmark {benchmark.id} is approved.", level="success"))
            cubes: tuple[int, ...] = (benchmark.preparator, benchmark.reference_model, benchmark.evaluator)
            if role == "data":
                with connect("testmodelowner", TUTORIAL_PASSWORD, sub="model") as owner:
                    second = next(iter(owner.api.mlcubes.list(owner="me", name=SECOND_MODEL, limit=1)), None)
                    changed = changed or second is None
                    cubes += (second.id if second is not None else _second_model(owner, folder),)
            if not changed:
                raise _already_seeded(server, role)
        return SeedResult(server=server, users=users, mlcubes=cubes, benchmarks=(benchmark.id,))


def _already_seeded(server: str, role: Role) -> Conflict:
    return Conflict(
        "already_seeded",
        f"{server} has everything of the {role} tutorial already.",
        "Go on with it, or start afresh with: medperf server reset",
    )


def _second_model(site: Site, folder: Path) -> int:
    """The model owner's own MLCube."""
    from medperf.flows.mlcubes import MLCubeSubmission, submit_mlcube
    from medperf.flows.packaging import package_mlcube

    package = package_mlcube(folder / "xrv_densenet" / "mlcube", home=site.home)
    files = {key: str(file.path) for key, file in package.files.items()}
    submission = MLCubeSubmission(
        name=SECOND_MODEL,
        manifest=files["manifest"],
        parameters=files["parameters"],
        additional=files["additional"],
        project=files["project"],
    )
    return submit_mlcube(site, submission).id


def _known_certificate(environ: Mapping[str, str], cwd: Path, server: str) -> Path | None:
    """The certificate that the person's own profile would use for this server."""
    site = Site.open(SiteOptions(server=server), environ=environ, cwd=cwd)
    return site.certificate


def _cache(environ: Mapping[str, str]) -> Path:
    """The person's own wheel cache, so that seeding downloads nothing twice."""
    from medperf.workspace.paths import home

    return home(environ) / "cache"
