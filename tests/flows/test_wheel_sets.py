"""The packages of an MLCube: hash-locked wheels from a folder, and steps that know which ones they ran with."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

import pytest

from medperf.testing.workflows import Workflow

from .conftest import Command
from .test_compatibility import STEPS, ran


def make_wheel(wheelhouse: Path, version: str, score: float) -> str:
    """A small real wheel; returns its line for a lock file."""
    wheelhouse.mkdir(exist_ok=True)
    wheel = wheelhouse / f"tinyscore-{version}-py3-none-any.whl"
    info = f"tinyscore-{version}.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tinyscore.py", f"SCORE = {score}\n")
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tinyscore\nVersion: {version}\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return f"tinyscore=={version} --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


@pytest.fixture
def wheelhouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "wheelhouse"
    monkeypatch.setenv("MEDPERF_WHEELHOUSE", str(folder))
    return folder


def use(workflow: Workflow, lock: str) -> None:
    """Let the evaluator import its score from the locked package."""
    (workflow.folder / "metrics" / "project" / "requirements.txt").write_text(lock)
    text = workflow.evaluator.read_text()
    if "requirements:" not in text:
        workflow.evaluator.write_text(
            text.replace("  entrypoint: mlcube.py\n", "  entrypoint: mlcube.py\n  requirements: requirements.txt\n")
        )
    workflow.replace_task(
        "metrics", "evaluate", "import tinyscore\noutput_path.write_text(json.dumps({'score': tinyscore.SCORE}))"
    )


def test_another_wheel_reruns_only_who_uses_it(medperf: Command, workflow: Workflow, wheelhouse: Path) -> None:
    use(workflow, make_wheel(wheelhouse, "1.0", 0.25))
    first = medperf(*workflow.test_arguments(), "--format", "json")
    assert first.code == 0, first.err
    assert (ran(first), first.json["metrics"]) == (STEPS, {"score": 0.25})
    use(workflow, make_wheel(wheelhouse, "1.1", 0.75))
    second = medperf(*workflow.test_arguments(), "--format", "json")
    assert (ran(second), second.json["metrics"]) == (["evaluate"], {"score": 0.75})
    wheels = [answer.json["report"]["evaluator"]["form_digests"]["wheels"] for answer in (first, second)]
    assert wheels[0] != wheels[1]


def test_a_wheel_with_other_bytes_is_refused(medperf: Command, workflow: Workflow, wheelhouse: Path) -> None:
    lock = make_wheel(wheelhouse, "1.0", 0.25)
    make_wheel(wheelhouse, "1.0", 0.99)
    use(workflow, lock)
    answer = medperf(*workflow.test_arguments(), "--format", "json")
    assert answer.code == 1
    assert answer.error["fix"]
    listed = medperf("test", "ls", "--format", "json").json["items"]
    assert {entry["state"] for entry in listed} == {"failed"}


@pytest.mark.parametrize(
    "lock", ["tinyscore==1.0\n", "tinyscore\n", "-e .\n", "https://example.org/x.whl\n", "--index-url https://x\n"]
)
def test_what_is_not_locked_is_refused(medperf: Command, workflow: Workflow, wheelhouse: Path, lock: str) -> None:
    make_wheel(wheelhouse, "1.0", 0.25)
    use(workflow, lock)
    answer = medperf(*workflow.test_arguments(), "--format", "json")
    assert answer.code == 1
    assert "hash" in answer.error["what"] + answer.error["fix"] or "requirements" in answer.error["what"]
