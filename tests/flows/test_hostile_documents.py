"""Hostile YAML at every door by which it comes in: the error names the file, the exit code is 1, soon.

The doors are manifests of both formats, ``paths.yaml`` of demo data, ``benchmark.yaml``, a metrics contract, and what a
hostile container leaves in place of its metrics and statistics.
"""

from __future__ import annotations

import io
import tarfile
import time
from pathlib import Path

import pytest

from medperf.testing.hostile import YAML
from medperf.testing.workflows import Workflow

from .conftest import Answer, Command, left_behind

#: Valid for both formats, then broken by one value.
WRONG_TYPES = {
    "list": b"[1, 2]",
    "text": b"hello",
    "number": b"17",
    "nothing": b"",
    "kind is a list": b"container_type: []\nimage: x\ntasks: {infer: {}}\n",
    "kind is a mapping": b"container_type: {a: 1}\nimage: x\ntasks: {infer: {}}\n",
    "tasks are a list": b"docker: {image: x}\ntasks: [infer]\n",
    "a task is a number": b"docker: {image: x}\ntasks: {infer: 1}\n",
    "inputs are a list": b"docker: {image: x}\ntasks: {infer: {parameters: {inputs: [data_path]}}}\n",
    "type is a list": b"docker: {image: x}\ntasks: {infer: {parameters: {inputs: {data_path: {type: []}}}}}\n",
    "default is a mapping": b"docker: {image: x}\ntasks: {infer: {parameters: {inputs: {data_path: {default: {}}}}}}\n",
    "image is 60 KB": b"docker: {image: %s}\ntasks: {infer: {}}\n" % (b"x" * 60_000),
    "entrypoint is a list": b"docker: {image: x}\ntasks: {infer: {entrypoint: [1]}}\n",
    "20,000 sections": b"".join(b"k%d:\n" % number for number in range(8_000)) + b"tasks: []",
}
MANIFESTS = {**{name: case.data for name, case in YAML.items()}, **WRONG_TYPES}
TYPICAL = ("billion laughs", "python object", "key twice", "depth in flow", "NUL", "UTF-16", "1e400", "more than 1 MiB")


def passed(medperf: Command) -> list[object]:
    """Tests that ended well."""
    items = medperf("test", "ls", "--format", "json").json["items"]
    return [item for item in items if item.get("state", "passed") == "passed"]


def refused(answer: Answer, home: Path, *, named: str) -> None:
    assert answer.code == 1, answer.err
    assert named in answer.error["what"]
    assert answer.error["what"].isprintable()
    assert len(answer.error["what"]) < 700
    assert answer.error["fix"]
    assert left_behind(home) == []


def test_manifests(medperf: Command, workflow: Workflow, home: Path) -> None:
    started = time.process_time()
    for name, data in MANIFESTS.items():
        workflow.model.write_bytes(data)
        refused(medperf(*workflow.test_arguments(), "--format", "json"), home, named="mlcube.yaml")
        assert time.process_time() - started < 60, name
    assert passed(medperf) == []


def test_manifests_being_registered(online: Command, workflow: Workflow, home: Path) -> None:
    for name in TYPICAL:
        workflow.model.write_bytes(MANIFESTS[name])
        answer = online("mlcube", "submit", "--name", "m", "--mlcube-file", workflow.model, "--format", "json")
        refused(answer, home, named="--mlcube-file")
    assert online("mlcube", "ls", "--format", "json").json["items"] == []


@pytest.mark.parametrize("name", [*TYPICAL, "list", "text", "nothing"])
def test_paths_yaml(medperf: Command, workflow: Workflow, home: Path, name: str) -> None:
    data = MANIFESTS[name]
    info = tarfile.TarInfo("paths.yaml")
    info.size = len(data)
    with tarfile.open("demo.tar.gz", "w:gz") as archive:
        archive.add(workflow.folder / "mock", arcname="mock")
        archive.addfile(info, io.BytesIO(data))
    answer = medperf(*workflow.test_arguments()[:5], "--demo_dataset_url=demo.tar.gz", "--format", "json")
    refused(answer, home, named="paths.yaml")


def test_contracts_and_folders(online: Command, workflow: Workflow, home: Path) -> None:
    numbers = ("--data-preparation-mlcube", 1, "--reference-model-mlcube", 2, "--evaluator-mlcube", 3)
    for name in (*TYPICAL, "list", "text", "nothing"):
        contract = workflow.folder / "contract.yaml"
        contract.write_bytes(MANIFESTS[name])
        answer = online(
            "benchmark", "submit", "--name", "b", "--description", "d", "--demo-url", "x", *numbers,
            "--metrics-contract", contract, "--format", "json",
        )  # fmt: skip
        refused(answer, home, named="contract")
        (workflow.folder / "benchmark.yaml").write_bytes(MANIFESTS[name])
        answer = online("benchmark", "submit", "--from", workflow.folder, "--format", "json")
        refused(answer, home, named="benchmark.yaml")


#: What a task does instead of writing its document, and the codes that may be said.
IN_PLACE = {
    "a link": "import os\nos.symlink('/etc/passwd', output_path)",
    "a link to a device": "import os\nos.symlink('/dev/zero', output_path)",
    "a pipe": "import os\nos.mkfifo(output_path)",
    "a folder": "output_path.mkdir()",
    "a hard link": "import os\n(output_path.parent / 'x').write_text('a: 1')\nos.link(output_path.parent / 'x', output_path)",
    "a hole of 10 GB": "with output_path.open('wb') as f:\n    f.seek(10 * 1024**3)\n    f.write(b'x')",
    "12 MB": "output_path.write_bytes(b'a: 1\\n' * 2_500_000)",
    "an endless stream": "with output_path.open('wb') as f:\n    while True:\n        f.write(b'#' * 1_000_000)",
}


@pytest.mark.parametrize(
    ("cube", "task", "name"),
    [
        *(("metrics", "evaluate", name) for name in IN_PLACE),
        *(("prep", "statistics", name) for name in ("a link", "12 MB")),
    ],
)
def test_in_place_of_a_document(
    medperf: Command, workflow: Workflow, home: Path, cube: str, task: str, name: str
) -> None:
    workflow.replace_task(cube, task, IN_PLACE[name])
    started = time.monotonic()
    answer = medperf(*workflow.test_arguments(), "--format", "json")
    assert answer.code == 1, answer.err
    assert answer.error["code"] in ("task_bad_output", "task_missing_output", "task_output_limit", "task_exit", "not_plain", "document_too_large", "unreadable")  # fmt: skip
    assert answer.error["fix"]
    assert time.monotonic() - started < 30
    assert left_behind(home) == []
    assert sum(path.lstat().st_size for path in home.rglob("*") if path.is_file()) < 64 * 1024**2
    assert passed(medperf) == []


def test_hostile_metrics(medperf: Command, workflow: Workflow, home: Path) -> None:
    for name in (
        "billion laughs",
        "python object",
        "depth in flow",
        "60,000 digits",
        "surrogate",
        "UTF-16",
        "two documents",
    ):
        (workflow.folder / "hostile.yaml").write_bytes(YAML[name].data)
        workflow.replace_task("metrics", "evaluate", f"output_path.write_bytes({YAML[name].data!r})")
        refused(medperf(*workflow.test_arguments(), "--format", "json"), home, named="The evaluator's metrics")
