"""From raw records to a prepared dataset: prepare, sanity check, statistics. Nothing leaves the site."""

from __future__ import annotations

import os
import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medperf.domain import limits
from medperf.domain.digests import Digest
from medperf.domain.errors import Conflict, InvalidInput, MedPerfError, UsageError
from medperf.domain.events import Note
from medperf.domain.states import Kind
from medperf.flows.cubes import ReadyCube, registered_cube, resolve_cube
from medperf.flows.data import TestData, check_data, local_data
from medperf.flows.paths import local_path
from medperf.flows.site import Site
from medperf.flows.steps import DoneStep, StepRunner
from medperf.flows.waiting import held

if TYPE_CHECKING:
    from medperf.domain.statistics import StatisticsContract
    from medperf.runtime.hashindex import DataIndex
    from medperf.wire.models import BenchmarkView
    from medperf.workspace.datasets import LocalDataset
    from medperf.workspace.preparing import PreparingFolder

SALT_BYTES = 32
Inputs = Mapping[str, tuple[Path, str]]


@dataclass(frozen=True)
class DatasetRequest:
    """What the person gave. The preparator is the benchmark's, or named by a path or an id; one of the two is there.

    Attributes:
        site_label: what others see of the dataset in results; None: its location, or a name that says nothing.
        no_cache: check and describe the prepared data again although that was done before.
        go_on: a dataset of this name that an earlier call made of these records is taken as it is.
    """

    name: str
    data_path: str
    labels_path: str
    description: str = ""
    location: str = ""
    site_label: str | None = None
    benchmark: int | None = None
    preparator: str | None = None
    no_cache: bool = False
    go_on: bool = False


@dataclass(frozen=True)
class CreatedDataset:
    """The dataset. ``resumed``: an earlier call had begun to prepare it; ``already``: or had made it; ``seconds``: wall time."""

    dataset: LocalDataset
    resumed: bool
    containers_started: int
    seconds: float
    already: bool = False


@dataclass(frozen=True)
class _Raw:
    """The records as they were found before anything ran."""

    data: TestData
    inputs: Inputs
    root: Digest
    indexes: Mapping[str, DataIndex]

    def recheck(self, site: Site) -> None:
        """Raises:
        InvalidInput: ``data_changed``: somebody changed them meanwhile.
        """
        from medperf.runtime.hashing import data_identity

        for name, (path, identity) in self.inputs.items():
            role = name.removesuffix("_path")
            if data_identity({role: path}, index=self.indexes[name], emit=site.emit_or_stop).root != identity:
                raise InvalidInput(
                    "data_changed",
                    f"The records in {path} changed while they were prepared.",
                    "Run the same command again when nothing writes there.",
                )


def create_dataset(site: Site, request: DatasetRequest) -> CreatedDataset:
    """Prepare records, check and describe them, and keep the result as a dataset of this site. Nothing leaves it.

    A preparator that declares ``report_file`` goes on where an earlier call ended; any other begins anew unless it had ended.

    Raises:
        UsageError: options that contradict each other or are missing.
        InvalidInput: the preparator, the records or the statistics break a rule; ``data_changed``.
        Conflict: a dataset of this name, or of these records by this preparator, is here.
        TaskFailed: a task did not succeed.
    """
    clock = site.clock()
    _check_request(request)
    benchmark = site.api.benchmarks.get(request.benchmark) if request.benchmark is not None else None
    contract = statistics_contract(benchmark) if benchmark is not None else None
    preparator = _preparator(site, request, benchmark)
    data = _records(site, request)
    check_data(data, preparator.cube.manifest)
    runner = StepRunner(site, use_cache=not request.no_cache)
    runner.prepared(preparator)
    raw = _identified(site, data)
    prepared_from = Digest.of_document({"preparator": preparator.files, "raw": raw.root})
    datasets = site.workspace.datasets
    try:
        datasets.refuse_known(request.name.strip(), prepared_from)
    except Conflict as known:
        made = datasets.get(known.details["dataset"]) if request.go_on and known.code == "dataset_exists" else None
        if made is None or made.name != request.name.strip():
            raise
        return CreatedDataset(made, False, 0, site.clock() - clock, already=True)
    key = Digest.of_document(
        {"prepare": preparator.files, "data": os.fspath(data.data_path), "labels": os.fspath(data.labels_path)}
    )
    with held(site, key, task="prepare", what=f"the preparation of {data.source}"):
        datasets.refuse_known(request.name.strip(), prepared_from)
        folder, resumed = _prepared(runner, preparator, raw, key)
        raw.recheck(site)
        index, statistics = _described(site, runner, preparator, folder)
        flat = checked_statistics(contract, statistics)
        dataset = _adopt(
            site, request, preparator, raw, folder, index, flat=flat, benchmark=benchmark, prepared_from=prepared_from
        )
    return CreatedDataset(dataset, resumed, runner.containers_started, site.clock() - clock)


def statistics_contract(benchmark: BenchmarkView) -> StatisticsContract:
    """What a benchmark lets its datasets say about themselves, by its frozen report.

    Raises:
        InvalidInput: ``no_report``.
    """
    from medperf.domain.statistics import derive_statistics_contract

    if benchmark.report is None:
        raise InvalidInput(
            "no_report", f"Benchmark {benchmark.id} has no report of a compatibility test.", "Tell its owner."
        )
    return derive_statistics_contract(benchmark.report.statistics)


def checked_statistics(contract: StatisticsContract | None, document: Any) -> dict[str, Any]:
    """Statistics as they may leave, flat; without a contract only a few numbers may.

    Raises:
        InvalidInput: they break the contract, or the plain rules.
    """
    from medperf.domain.statistics import check_plain_statistics, check_statistics

    return check_statistics(contract, document) if contract is not None else check_plain_statistics(document)


# ------------------------------------------------------------------------------------------------------------ what is given


def _check_request(request: DatasetRequest) -> None:
    from medperf.wire.datasets import DatasetCreate

    if (request.benchmark is None) == (request.preparator is None):
        raise UsageError(
            "missing_option" if request.benchmark is None else "two_preparators",
            "Exactly one of --benchmark and --data_prep says which preparator is meant.",
            "Give the benchmark the dataset is for, or the preparator alone.",
        )
    DatasetCreate.check(name=request.name, description=request.description, location=request.location)
    if request.site_label is not None:
        DatasetCreate.check(site_label=request.site_label)


def _preparator(site: Site, request: DatasetRequest, benchmark: BenchmarkView | None) -> ReadyCube:
    if benchmark is not None:
        return registered_cube(site, site.api.mlcubes.get(benchmark.preparator), Kind.PREPARATOR)
    return resolve_cube(site, str(request.preparator), Kind.PREPARATOR, option="--data_prep")


def _records(site: Site, request: DatasetRequest) -> TestData:
    for option, value in (("--data_path", request.data_path), ("--labels_path", request.labels_path)):
        if not value.strip():
            raise UsageError("empty_option", f"{option} is empty.", "Give the path of the records.")
    data = local_data(local_path(request.data_path), local_path(request.labels_path))
    for option, path in (("--data_path", data.data_path), ("--labels_path", data.labels_path)):
        if site.home.resolve().is_relative_to(path):
            raise InvalidInput(
                "holds_workspace",
                f"{option} {str(path)!r} holds MedPerf's own files, which change while they are read.",
                "Give the folder of the data themselves.",
            )
    return data


def _identified(site: Site, data: TestData) -> _Raw:
    from medperf.runtime.hashing import data_identity

    inputs: dict[str, tuple[Path, str]] = {}
    indexes: dict[str, DataIndex] = {}
    for name, path in (("data_path", data.data_path), ("labels_path", data.labels_path)):
        found = data_identity({name.removesuffix("_path"): path}, emit=site.emit_or_stop)
        inputs[name], indexes[name] = (path, str(found.root)), found.index
    root = Digest.of_document({name: identity for name, (_, identity) in inputs.items()})
    return _Raw(data, inputs, root, indexes)


# ---------------------------------------------------------------------------------------------------------------- the tasks


def _prepared(runner: StepRunner, preparator: ReadyCube, raw: _Raw, key: Digest) -> tuple[PreparingFolder, bool]:
    """The folder with what prepare made, now or by an earlier call; and whether an earlier one had a part in it."""
    site = runner.site
    step = runner.key(preparator, "prepare", raw.inputs)
    ended = site.workspace.preparing.find(key)
    if ended is not None and ended.facts is not None and ended.facts.get("step") == step:
        site.emit(Note("The records were prepared by an earlier call: it goes on from there."))
        return ended, True
    continues = preparator.cube.manifest.tasks["prepare"].output("report_file") is not None
    folder = site.workspace.preparing.begin(key, keep=continues)
    resumed = continues and folder.begun
    if resumed:
        site.emit(Note(f"The preparation goes on from what an earlier call left in {folder.outputs}."))
    try:
        outcome = runner.fill(preparator, "prepare", raw.inputs, outputs=folder.outputs, log=folder.log)
    except MedPerfError:
        if continues:
            site.emit(Note(f"What was prepared so far stays in {folder.outputs}: the same command goes on from there."))
        else:
            from medperf.workspace.files import remove

            remove(folder.folder)
        raise
    folder.finish({"step": step, "seconds": outcome.seconds})
    return folder, resumed


def _roles(preparator: ReadyCube) -> dict[str, str]:
    """Role -> where prepare wrote it, relative to its folder."""
    separate = {"labels": "outputs/output_labels_path"} if preparator.cube.manifest.separates_labels else {}
    return {"data": "outputs/output_path", **separate}


def _described(
    site: Site, runner: StepRunner, preparator: ReadyCube, folder: PreparingFolder
) -> tuple[DataIndex, dict[str, Any]]:
    """Sanity check and statistics of the prepared data; what they read is what is kept."""
    from medperf.runtime.hashing import data_identity

    paths = {role: folder.folder / place for role, place in _roles(preparator).items()}
    index = data_identity(paths, emit=site.emit_or_stop).index
    if not any(path.startswith("data/") for path in index):
        raise InvalidInput("no_data", "The preparator wrote no file.", "Look at its log, or ask its owner.")
    given = {role: (path, str(index.part(role))) for role, path in paths.items()}

    def reads(task: str) -> Inputs:
        labels = preparator.cube.manifest.tasks[task].input("labels_path") is not None
        return {"data_path": given["data"], **({"labels_path": given.get("labels", given["data"])} if labels else {})}

    _, statistics = runner.side_by_side(
        (preparator, "sanity_check", reads("sanity_check")), (preparator, "statistics", reads("statistics"))
    )
    if data_identity(paths, index=index, emit=site.emit_or_stop).root != index.root:
        raise InvalidInput(
            "data_changed",
            "The prepared data changed while they were checked.",
            "Run the same command again when nothing writes there.",
        )
    return index, _read(statistics)


def _read(step: DoneStep) -> dict[str, Any]:
    from medperf.domain.statistics import read_statistics
    from medperf.runtime.manifests.files import read_plain

    return read_statistics(read_plain(step.outputs / "output_path", limits.STATISTICS_BYTES, "preparator's output"))


# ------------------------------------------------------------------------------------------------------------------ keeping


def _adopt(
    site: Site,
    request: DatasetRequest,
    preparator: ReadyCube,
    raw: _Raw,
    folder: PreparingFolder,
    index: DataIndex,
    *,
    flat: dict[str, Any],
    benchmark: BenchmarkView | None,
    prepared_from: Digest,
) -> LocalDataset:
    from medperf.domain.values import nested
    from medperf.wire.datasets import statistics_digest
    from medperf.workspace.datasets import DatasetFacts

    own = str(uuid.uuid4())
    roles = _roles(preparator)
    facts = DatasetFacts(
        description=request.description,
        location=request.location,
        site_label=request.site_label or request.location or f"site-{own[:8]}",
        preparator=preparator.mlcube,
        preparator_label=preparator.label,
        preparator_files={str(name): digest for name, digest in preparator.files.items()},
        benchmark=benchmark.id if benchmark is not None else None,
        raw_data=os.fspath(raw.data.data_path),
        raw_labels=os.fspath(raw.data.labels_path),
        raw_root=raw.root,
        identities={role: str(index.part(role)) for role in roles},
        places=roles,
        statistics=nested(flat),
        statistics_digest=statistics_digest(flat),
        files=len(index),
        bytes=index.bytes,
    )
    return site.workspace.datasets.adopt(
        folder.folder,
        uuid=own,
        name=request.name.strip(),
        root=index.root,
        salt=secrets.token_bytes(SALT_BYTES),
        prepared_from=prepared_from,
        facts=facts,
        index=index.dump(),
    )
