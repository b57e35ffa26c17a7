"""Hostile archives at every door by which one comes in: the error names it, the exit code is 1, nothing stays behind.

The doors are a demo dataset (a path, a file on the server, a benchmark's own), the additional files and the project of an
MLCube being registered, those of a registered one, and the wheels of a lock.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from medperf.testing.hostile import ARCHIVES, WHEELS
from medperf.testing.workflows import Workflow, make_demo

from .conftest import Answer, Command, RunningServer, left_behind
from .test_wheel_sets import use

#: One of each kind, for every door; the others meet the same function, and all meet every door under ``long``.
TYPICAL = ("climbs", "symbolic link", "twice", "cut between members", "gzip, then text", "zip", "bomb of 10 GB")
Door = Callable[[Command, Workflow, Path], Answer]


def passed(medperf: Command) -> list[object]:
    """Tests that ended well."""
    items = medperf("test", "ls", "--format", "json").json["items"]
    return [item for item in items if item.get("state", "passed") == "passed"]


def refused(answer: Answer, home: Path, *, code: str = "bad_archive") -> None:
    """What a person sees, and what is left."""
    assert answer.code == 1, answer.err
    assert answer.error["code"] == code
    assert answer.error["what"].isprintable()
    assert len(answer.error["what"]) < 600
    assert answer.error["fix"]
    assert left_behind(home) == []
    assert [path for path in home.rglob("*") if "unpacking" in path.name or path.name in ("demo", "evil")] == []


def cubes(workflow: Workflow) -> list[str]:
    return workflow.test_arguments()[:5]


def demo_path(medperf: Command, workflow: Workflow, archive: Path) -> Answer:
    return medperf(*cubes(workflow), f"--demo_dataset_url={archive}", "--format", "json")


def demo_asset(medperf: Command, workflow: Workflow, archive: Path) -> Answer:
    uploaded = medperf("asset", "upload", archive, "--format", "json")
    assert uploaded.code == 0, uploaded.err
    return medperf(*cubes(workflow), f"--demo_dataset_url=asset:{uploaded.json['id']}", "--format", "json")


def benchmark_demo(medperf: Command, workflow: Workflow, archive: Path) -> Answer:
    numbers = ("--data-preparation-mlcube", 1, "--reference-model-mlcube", 2, "--evaluator-mlcube", 3)
    return medperf(
        "benchmark", "submit", "--name", "b", "--description", "d", "--demo-url", archive, *numbers, "--format", "json"
    )


def additional_files(medperf: Command, workflow: Workflow, archive: Path) -> Answer:
    return submit(medperf, workflow, "--additional-file", archive)


def project(medperf: Command, workflow: Workflow, archive: Path) -> Answer:
    return submit(medperf, workflow, "--project-file", archive)


def submit(medperf: Command, workflow: Workflow, *options: str | Path) -> Answer:
    folder = workflow.model.parent
    assert medperf("mlcube", "package", folder).code == 0
    return medperf(
        "mlcube", "submit", "--name", "hostile", "--mlcube-file", folder / "deploy/mlcube.yaml",
        "--parameters-file", folder / "deploy/parameters.yaml", *options, "--format", "json",
    )  # fmt: skip


OFFLINE: dict[str, Door] = {"demo data from a path": demo_path}
ONLINE: dict[str, Door] = {
    "demo data from the server": demo_asset,
    "additional files": additional_files,
    "project": project,
}


def archive_of(name: str, folder: Path) -> Path:
    path = folder / "hostile.tar.gz"
    path.write_bytes(ARCHIVES[name]())
    return path


def test_demo_data_from_a_path(medperf: Command, workflow: Workflow, home: Path) -> None:
    for name in TYPICAL:
        answer = demo_path(medperf, workflow, archive_of(name, Path.cwd()))
        refused(answer, home)
        assert "hostile.tar.gz" in answer.error["what"]
    assert passed(medperf) == []
    # The workspace is as good as before.
    assert demo_path(medperf, workflow, make_demo(workflow, Path.cwd() / "good.tar.gz")).code == 0


@pytest.mark.parametrize("door", ONLINE.values(), ids=ONLINE)
def test_doors_of_a_server(online: Command, workflow: Workflow, home: Path, server: RunningServer, door: Door) -> None:
    for name in TYPICAL:
        answer = door(online, workflow, archive_of(name, Path.cwd()))
        refused(answer, home)
        assert online("mlcube", "ls", "--format", "json").json["items"] == []
    if door is not demo_asset:  # that one uploads by itself, before anything is looked at
        assert [path for path in server.data.rglob("*") if path.is_file() and path.stat().st_size in sizes()] == []


def sizes() -> set[int]:
    return {len(ARCHIVES[name]()) for name in TYPICAL}


def test_demo_data_of_a_benchmark(registered: Command, workflow: Workflow, home: Path) -> None:
    for name in ("climbs", "bomb of 10 GB"):
        refused(benchmark_demo(registered, workflow, archive_of(name, Path.cwd())), home)
        assert registered("benchmark", "ls", "--format", "json").json["items"] == []


@pytest.mark.long
@pytest.mark.parametrize("door", [*OFFLINE.values(), *ONLINE.values()], ids=[*OFFLINE, *ONLINE])
def test_every_archive_at_every_door(online: Command, workflow: Workflow, home: Path, door: Door) -> None:
    for name in ARCHIVES:
        if not ARCHIVES[name]():
            continue  # the server takes no empty file: said before anything is unpacked
        refused(door(online, workflow, archive_of(name, Path.cwd())), home)


def test_an_archive_that_changes_between_two_readings(
    medperf: Command, workflow: Workflow, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the changed one would be kept under the digest of the good one, for every later run."""
    from medperf.workspace.steps import Steps

    demo = make_demo(workflow, Path.cwd() / "demo.tar.gz")
    good = demo.read_bytes()
    (workflow.data / "case0.txt").write_text("poisoned\n")
    poisoned = make_demo(workflow, Path.cwd() / "poisoned.tar.gz").read_bytes()
    begin = Steps.begin

    def swap(self: Steps, key: str, *, task: str, **options: object) -> object:
        if task == "unpack":
            demo.write_bytes(poisoned)
        return begin(self, key, task=task, **options)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Steps, "begin", swap)
        refused(demo_path(medperf, workflow, demo), home, code="changed")
    demo.write_bytes(good)
    assert demo_path(medperf, workflow, demo).code == 0


WHEELS_TYPICAL = ("climbs", "symbolic link", "lzma", "entries that overlap")


@pytest.mark.parametrize("name", WHEELS_TYPICAL)
def test_wheels(medperf: Command, workflow: Workflow, home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The lock names exactly this file, and pip fetches it: it is still not unpacked."""
    house = Path.cwd() / "house"
    house.mkdir()
    monkeypatch.setenv("MEDPERF_WHEELHOUSE", str(house))
    data = WHEELS[name]()
    (house / "tinyscore-1.0-py3-none-any.whl").write_bytes(data)
    use(workflow, f"tinyscore==1.0 --hash=sha256:{hashlib.sha256(data).hexdigest()}\n")
    answer = medperf(*workflow.test_arguments(), "--format", "json")
    assert answer.code == 1, answer.err
    # pip looks into some wheels itself, and refuses these in its own words.
    assert answer.error["code"] in ("bad_wheel", "download_failed", "wheels_missing")
    assert answer.error["fix"]
    assert left_behind(home) == []
    environments = [path for path in home.rglob("site-packages") if os.listdir(path)]  # noqa: PTH208 - names only
    assert environments == []
