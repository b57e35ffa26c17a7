"""Submit, list, read and decide about benchmarks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from medperf.domain.digests import Digest
from medperf.domain.errors import InvalidInput
from medperf.domain.metrics import MetricsContract, contract_from_document
from medperf.domain.sorting import Sort
from medperf.domain.states import Approval, Kind, State
from medperf.flows.editing import BenchmarkPolicy
from medperf.flows.files import obtain
from medperf.flows.folders import register_package, registered_package
from medperf.flows.organisations import listed_owner, owner_id
from medperf.flows.paths import local_path
from medperf.flows.publishing import refuse_folder
from medperf.flows.site import Site
from medperf.flows.uploads import Uploads, create_once, refuse_taken_name
from medperf.wire.models import BenchmarkCreate, BenchmarkView, Decision, MLCubeView

if TYPE_CHECKING:  # the flows import them: listing costs none of it
    from medperf.flows.compatibility import TestResult
    from medperf.flows.packaging import Package

BENCHMARK_FILE = "benchmark.yaml"
CONTRACT_FILE = "metrics_contract.yaml"


@dataclass(frozen=True)
class BenchmarkSubmission:
    """What the person gave. ``demo_url``: a URL, ``asset:ID`` or a local tarball."""

    name: str
    description: str
    demo_url: str
    preparator: int
    reference_model: int
    evaluator: int
    demo_hash: str | None = None
    docs_url: str = ""
    metrics_contract: str | None = None  # a YAML file; None: derived from the test's metrics
    no_cache: bool = False
    owner: str | None = None  # an organisation, by name or id; None: the account itself
    policy: BenchmarkPolicy = field(default_factory=BenchmarkPolicy)


@dataclass(frozen=True)
class BenchmarkSubmitted:
    """The new benchmark, its compatibility test, and the MLCubes registered on the way."""

    benchmark: BenchmarkView
    test: TestResult
    mlcubes: tuple[MLCubeView, ...] = ()


def submit_benchmark(site: Site, submission: BenchmarkSubmission) -> BenchmarkSubmitted:
    """Find every conflict, run the compatibility test, host the demo data, register.

    Raises:
        Conflict: you have a benchmark of this name.
        InvalidInput: a cube of the wrong kind, bad demo data, metrics that cannot be a contract.
        TaskFailed: the compatibility test failed; nothing was sent.
    """
    from medperf.flows.compatibility import TestCubes, test_workflow
    from medperf.flows.cubes import registered_cube
    from medperf.flows.data import demo_data

    submission = replace(submission, name=submission.name.strip())
    BenchmarkCreate.check(name=submission.name, description=submission.description, docs_url=submission.docs_url)
    if submission.demo_hash:
        Digest(submission.demo_hash)
    contract = read_contract(submission.metrics_contract) if submission.metrics_contract else None
    owner, policy = owner_id(site, submission.owner), submission.policy.fields(site)
    refuse_taken_name(site, "benchmark", submission.name, owner=owner)
    wanted = (
        (submission.preparator, Kind.PREPARATOR),
        (submission.reference_model, Kind.MODEL),
        (submission.evaluator, Kind.EVALUATOR),
    )
    views = [_usable(site, mlcube_id, kind) for mlcube_id, kind in wanted]
    demo = obtain(site, submission.demo_url, option="--demo-url", expected=submission.demo_hash)
    data = demo_data(site, demo)
    preparator, model, evaluator = (
        registered_cube(site, view, kind) for view, (_, kind) in zip(views, wanted, strict=True)
    )
    test = test_workflow(
        site, TestCubes(preparator, model, evaluator), data, contract=contract, no_cache=submission.no_cache
    )
    with Uploads(site, owner=owner) as uploads:
        ref = uploads.host(demo, name=f"{submission.name}-demo.tar.gz")
        body = BenchmarkCreate.of(
            name=submission.name,
            description=submission.description,
            docs_url=submission.docs_url,
            demo=ref,
            preparator=submission.preparator,
            reference_model=submission.reference_model,
            evaluator=submission.evaluator,
            report=test.report,
            metrics_contract=test.contract.as_document(),
            owner=owner,
            **policy,
        )
        benchmark = create_once(site, "benchmark", body, site.api.benchmarks.create)
        uploads.keep()
    return BenchmarkSubmitted(benchmark=benchmark, test=test)


def submit_benchmark_from_folder(
    site: Site,
    folder: Path,
    *,
    name: str | None = None,
    description: str | None = None,
    docs_url: str | None = None,
    metrics_contract: str | None = None,
    no_cache: bool = False,
    owner: str | None = None,
    policy: BenchmarkPolicy = BenchmarkPolicy(),  # noqa: B008 - frozen
) -> BenchmarkSubmitted:
    """Test, package, register and submit a whole folder: three MLCubes, demo data with ``paths.yaml``, optionally
    ``benchmark.yaml`` and ``metrics_contract.yaml``.

    The test runs on the files as they lie there, before anything is sent: what fails can be mended and the command given again.
    An MLCube that was registered before from the same files is used again.

    Raises:
        InvalidInput: the folder lacks one of the three kinds, holds two of one, or has no demo data.
        Conflict: as `submit_benchmark`.
    """
    from medperf.flows.compatibility import TestCubes, test_workflow
    from medperf.flows.cubes import resolve_cube
    from medperf.flows.data import local_data, read_paths
    from medperf.workspace.files import scratch, sweep_scratch

    sweep_scratch()
    folder = local_path(folder)
    settings = _folder_settings(folder)
    name = (name or settings.get("name") or folder.resolve().name).strip()
    description = description if description is not None else settings.get("description", "")
    docs_url = docs_url if docs_url is not None else settings.get("docs_url", "")
    BenchmarkCreate.check(name=name, description=description, docs_url=docs_url)
    party = owner_id(site, owner)
    policy.fields(site)  # a name that nobody is known by is found before the test
    refuse_taken_name(site, "benchmark", name, owner=party)
    if metrics_contract is None and (folder / CONTRACT_FILE).is_file():
        metrics_contract = str(folder / CONTRACT_FILE)
    contract = read_contract(metrics_contract) if metrics_contract else None
    packages = _packages(folder, home=site.home)
    data_path, labels_path = read_paths(folder)
    reused = {
        kind: registered_package(
            site,
            package,
            name=_cube_name(name, package),
            owner=party,
            fix="Give the benchmark another name with --name.",
        )
        for kind, package in packages.items()
    }
    local = {
        kind: resolve_cube(site, str(package.folder.parent), kind, option="--from")
        for kind, package in packages.items()
    }
    test_workflow(
        site,
        TestCubes(local[Kind.PREPARATOR], local[Kind.MODEL], local[Kind.EVALUATOR]),
        local_data(data_path, labels_path),
        contract=contract,
        no_cache=no_cache,
    )
    with scratch() as temporary:
        demo = _pack_demo(site, folder, temporary / "demo.tar.gz")
        cubes = {
            kind: reused[kind] or register_package(site, package, name=_cube_name(name, package), owner=owner)
            for kind, package in packages.items()
        }
        submission = BenchmarkSubmission(
            name=name,
            description=description,
            docs_url=docs_url,
            demo_url=str(demo),
            preparator=cubes[Kind.PREPARATOR].id,
            reference_model=cubes[Kind.MODEL].id,
            evaluator=cubes[Kind.EVALUATOR].id,
            metrics_contract=metrics_contract,
            owner=owner,
            policy=policy,
        )
        submitted = submit_benchmark(site, submission)
    return replace(submitted, mlcubes=tuple(cubes.values()))


def list_benchmarks(
    site: Site,
    *,
    mine: bool = False,
    owner: str | None = None,
    approval: Approval | None = None,
    state: State | None = None,
    is_valid: bool | None = None,
    is_active: bool | None = None,
    name: str | None = None,
    search: str | None = None,
    sort: Sort | None = None,
    limit: int | None = None,
) -> list[BenchmarkView]:
    """What the account may see, oldest first unless ``sort`` or ``search`` says otherwise.

    Args:
        owner: see `medperf.flows.organisations.listed_owner`.
    """
    found = site.api.benchmarks.list(
        owner=listed_owner(site, mine=mine, owner=owner),
        approval=approval,
        state=state,
        is_valid=is_valid,
        is_active=is_active,
        name=name,
        search=search,
        sort=sort,
        limit=limit,
    )
    return list(found)


def view_benchmark(site: Site, benchmark_id: int) -> BenchmarkView:
    """One benchmark with its report and metrics contract."""
    return site.api.benchmarks.get(benchmark_id)


def decide_benchmark(site: Site, benchmark_id: int, *, approve: bool, reason: str = "") -> BenchmarkView:
    """Approve or reject, as an admin."""
    decision = Decision.of(approval=Approval.APPROVED if approve else Approval.REJECTED, reason=reason)
    return site.api.benchmarks.decide(benchmark_id, decision)


def read_contract(source: str) -> MetricsContract:
    """A metrics contract that a person wrote.

    Raises:
        InvalidInput: no such file, no YAML, or no contract.
    """
    from medperf.domain import limits
    from medperf.domain.documents import load_yaml
    from medperf.runtime.manifests.files import read_plain

    file = local_path(source)
    if not file.is_file():
        raise InvalidInput(
            "file_missing", f"--metrics-contract {source!r} is no file.", "Give a YAML file with 'rules:'."
        )
    data = read_plain(file, limits.METRICS_BYTES, "metrics contract", follow=True)
    document = load_yaml(data, label=file.name, max_bytes=limits.METRICS_BYTES)
    if not isinstance(document, dict):
        raise InvalidInput(
            "bad_contract", f"{file.name} is no mapping.", "Start it with 'rules:' and one entry per metric."
        )
    return contract_from_document(document)


def _usable(site: Site, mlcube_id: int, kind: Kind) -> MLCubeView:
    from medperf.flows.cubes import check_usable

    view = site.api.mlcubes.get(mlcube_id)
    check_usable(view, kind)
    if view.state is not State.OPERATION:
        raise InvalidInput(
            "not_in_operation",
            f"MLCube {view.id} ({view.name}) is still in DEVELOPMENT.",
            "Its owner puts it in OPERATION first.",
        )
    return view


def _folder_settings(folder: Path) -> dict[str, str]:
    file = folder / BENCHMARK_FILE
    if not folder.is_dir():
        raise InvalidInput(
            "path_missing",
            f"--from {str(folder)!r} is no folder.",
            "Give the folder that holds the three MLCubes and the demo data.",
        )
    if not file.is_file():
        return {}
    from medperf.domain import limits
    from medperf.domain.documents import load_yaml
    from medperf.runtime.manifests.files import read_plain

    document = load_yaml(read_plain(file, limits.MANIFEST_BYTES, "file", follow=True), label=BENCHMARK_FILE)
    known = {"name", "description", "docs_url"}
    if (
        not isinstance(document, dict)
        or set(document) - known
        or not all(isinstance(value, str) for value in document.values())
    ):
        raise InvalidInput(
            "bad_benchmark_yaml",
            f"{BENCHMARK_FILE} must be a mapping of {', '.join(sorted(known))} to text.",
            "Mend the file.",
        )
    return document


def _packages(folder: Path, *, home: Path) -> dict[Kind, Package]:
    from medperf.domain.kinds import kind_of
    from medperf.flows.packaging import package_mlcube
    from medperf.runtime.manifests.files import load_cube

    found: dict[Kind, list[Path]] = {kind: [] for kind in Kind}
    for manifest in sorted([*folder.glob("*/mlcube.yaml"), *folder.glob("*/mlcube/mlcube.yaml")]):
        found[kind_of(load_cube(manifest).manifest)].append(manifest)
    for kind, manifests in found.items():
        if len(manifests) != 1:
            what = "no" if not manifests else "more than one"
            names = f": {', '.join(str(path.relative_to(folder)) for path in manifests)}" if manifests else ""
            raise InvalidInput(
                "folder_incomplete",
                f"{str(folder)!r} holds {what} {kind.value}{names}.",
                "Put exactly one preparator, one model and one evaluator there, each as NAME/mlcube/mlcube.yaml.",
            )
    return {kind: package_mlcube(manifests[0], home=home) for kind, manifests in found.items()}


def _cube_name(benchmark: str, package: Package) -> str:
    return f"{benchmark}-{package.name}"


def _pack_demo(site: Site, folder: Path, target: Path) -> Path:
    """A tarball of ``paths.yaml`` and the two folders that it names."""
    from medperf.flows.data import PATHS_FILE, read_paths
    from medperf.runtime.archives import pack_folder

    data_path, labels_path = read_paths(folder)
    tops = {path.relative_to(folder).parts[0] for path in (data_path, labels_path)}
    for top in sorted(tops):
        refuse_folder(site.home, folder / top)
    others = tuple(entry.name for entry in folder.iterdir() if entry.name not in tops | {PATHS_FILE})
    pack_folder(folder, target, exclude=others, emit=site.emit_or_stop)
    return target
