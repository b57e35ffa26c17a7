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
Part = Literal["benchmark", "model", "data", "all"]

#: The tutorial's accounts. Their password is public, which is why seeding works on development servers only.
TUTORIAL_USERS = {
    "testbenchmarkowner": "testbo@example.com",
    "testmodelowner": "testmo@example.com",
    "testdataowner": "testdo@example.com",
}
TUTORIAL_PASSWORD = "test"  # noqa: S105 - public, for development servers on this machine only
CUBES = ("chexpert_prep", "xrv_densenet", "metrics")
DATA = "mock_chexpert"
MODEL, HOSPITAL = "xrv_linear", "hospital"
BENCHMARK = "xrv"
_DESCRIPTION = "Chest X-ray findings, the tutorial's benchmark"
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
        if all((folder / name).is_dir() for name in (*CUBES, DATA, MODEL, HOSPITAL)):
            return folder
    raise MedPerfError(
        "no_examples",
        "The example MLCubes are not part of this installation.",
        "Install the medperf package again, or use a checkout of the repository.",
    )


def setup_tutorial(part: Part = "benchmark", *, folder: Path, force: bool = False) -> TutorialFolder:
    """Copy what a role needs into ``folder``, whole or not at all.

    Args:
        part: ``all``: what every role needs, the benchmark's in a folder of its own that is ready for ``benchmark submit --from``.

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
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch(folder.parent, prefix=prefix) as temporary:
        fresh = temporary / folder.name
        fresh.mkdir()
        for place in _PLACES[part]:
            target = fresh / place
            ignored = shutil.ignore_patterns("__pycache__", "deploy")
            shutil.copytree(source / target.name, target, ignore=ignored)
        if part == "all":
            (fresh / _WHOLE / "paths.yaml").write_text(PATHS_YAML)
        entries = tuple(sorted(entry.name for entry in fresh.iterdir()))
        if folder.exists():
            folder.rename(temporary / "old")  # removed in one instant: half a tutorial would not be known as one
        fresh.rename(folder)
    return TutorialFolder(path=folder, entries=entries, next=_NEXT[part].format(folder))


_WHOLE = "benchmark"
_PLACES: Mapping[Part, tuple[str, ...]] = {
    "benchmark": (*CUBES, DATA),
    "model": (MODEL,),
    "data": (HOSPITAL,),
    "all": (*(f"{_WHOLE}/{name}" for name in (*CUBES, DATA)), MODEL, HOSPITAL),
}
_NEXT: Mapping[Part, str] = {
    "benchmark": (
        "medperf test run --data_preparation {0}/chexpert_prep/mlcube/mlcube.yaml --model {0}/xrv_densenet/mlcube/mlcube.yaml "
        "--evaluator {0}/metrics/mlcube/mlcube.yaml --data_path {0}/mock_chexpert/images --labels_path {0}/mock_chexpert/labels"
    ),
    "model": "medperf test run --benchmark 1 --model {0}/xrv_linear/mlcube/mlcube.yaml",
    "data": (
        "medperf dataset create --benchmark 1 --data_path {0}/hospital/images --labels_path {0}/hospital/labels --name hospital"
    ),
    "all": "medperf benchmark submit --from {0}/benchmark --name chest",
}


def _is_tutorial(folder: Path) -> bool:
    """Whether ``force`` may remove it: a folder of its own, with a tutorial's entries, that nobody stands in."""
    if not folder.is_dir() or folder.is_symlink() or Path.cwd().is_relative_to(folder.resolve()):
        return False
    places = {folder / place for places in _PLACES.values() for place in places}
    return any((place / mark).is_file() for place in places for mark in ("mlcube/mlcube.yaml", "labels/labels.csv"))


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
            folder = setup_tutorial("all", folder=temporary / "folder").path
            with connect("testbenchmarkowner", TUTORIAL_PASSWORD, sub="owner") as owner:
                benchmark = next(iter(owner.api.benchmarks.list(owner="me", name=BENCHMARK, limit=1)), None)
                if benchmark is None:
                    changed = True
                    benchmark = submit_benchmark_from_folder(
                        owner, folder / _WHOLE, name=BENCHMARK, description=_DESCRIPTION
                    ).benchmark
                if benchmark.approval is not Approval.APPROVED:
                    changed = True
                    decide_benchmark(admin, benchmark.id, approve=True, reason="tutorial")
                    emit(Note(f"Benchmark {benchmark.id} is approved.", level="success"))
                cubes: tuple[int, ...] = (benchmark.preparator, benchmark.reference_model, benchmark.evaluator)
                if role == "data":
                    with connect("testmodelowner", TUTORIAL_PASSWORD, sub="model") as asking:
                        model, joined = _second_model(asking, owner, benchmark.id, folder / MODEL)
                    changed, cubes = changed or joined, (*cubes, model)
            if not changed:
                raise _already_seeded(server, role)
        return SeedResult(server=server, users=users, mlcubes=cubes, benchmarks=(benchmark.id,))


def _second_model(site: Site, owner: Site, benchmark: int, folder: Path) -> tuple[int, bool]:
    """The model owner's MLCube, in the benchmark; and whether anything had to be done for that.

    Args:
        site: the model owner's.
        owner: the benchmark owner's.
    """
    from medperf.domain.associations import Status
    from medperf.flows.associations import Which, decide_association
    from medperf.flows.folders import submit_mlcube_from_folder
    from medperf.flows.joining import associate_model

    model = submit_mlcube_from_folder(site, folder).id
    asked = associate_model(site, benchmark, model, yes=True)
    if asked.association.status is Status.APPROVED:
        return model, False
    decide_association(owner, Which(id=asked.association.id), Status.APPROVED, reason="tutorial")
    site.emit(Note(f"MLCube {model} is in benchmark {benchmark}.", level="success"))
    return model, True


def _already_seeded(server: str, role: Role) -> Conflict:
    return Conflict(
        "already_seeded",
        f"{server} has everything of the {role} tutorial already.",
        "Go on with it, or start afresh with: medperf server reset",
    )


def _known_certificate(environ: Mapping[str, str], cwd: Path, server: str) -> Path | None:
    """The certificate that the person's own profile would use for this server."""
    site = Site.open(SiteOptions(server=server), environ=environ, cwd=cwd)
    return site.certificate


def _cache(environ: Mapping[str, str]) -> Path:
    """The person's own wheel cache, so that seeding downloads nothing twice."""
    from medperf.workspace.paths import home

    return home(environ) / "cache"
