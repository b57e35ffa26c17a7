"""Makes a dataset, and removes it, again and again, killed at one executed line of the workspace room after the other.

usage: killed_datasets.py FOLDER SCENARIO FIRST STEP. Prints how many lines there were to be killed at.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from medperf.domain.digests import Digest
from medperf.domain.errors import NotFound
from medperf.workspace.datasets import DatasetFacts, LocalDataset
from medperf.workspace.workspace import Workspace

ROOM = f"{os.sep}workspace{os.sep}"
KEY, FROM, ROOT = (Digest.of(word) for word in (b"key", b"records", b"root"))
UUID = "0b7c2d4e-1111-4222-8333-444455556666"
FILES = {"output_path/a": "first", "output_path/b": "second", "output_labels_path/l": "label"}
INDEX = b"index"


def facts() -> DatasetFacts:
    return DatasetFacts(
        description="", location="", site_label="s", preparator=1, preparator_label="p", preparator_files={}, benchmark=None,
        raw_data="/raw", raw_labels="/raw", raw_root=str(ROOT), identities={"data": str(ROOT)},
        places={"data": "outputs/output_path", "labels": "outputs/output_labels_path"}, statistics={"cases": 2},
        statistics_digest=str(ROOT), files=3, bytes=16,
    )  # fmt: skip


def prepare(workspace: Workspace, *, keep: bool) -> Path:
    """What a flow does: use what ended before, or fill a folder."""
    found = workspace.preparing.find(KEY)
    if found is None:
        found = workspace.preparing.begin(KEY, keep=keep)
        for name, text in FILES.items():
            (found.outputs / name).parent.mkdir(exist_ok=True)
            (found.outputs / name).write_text(text)
        found.finish({"step": "s"})
    return found.folder


def make(workspace: Workspace, *, keep: bool = False) -> LocalDataset:
    """The dataset, unless it is there."""
    workspace.datasets.recover()
    try:
        return workspace.datasets.get(UUID)
    except NotFound:
        folder = prepare(workspace, keep=keep)
        mark(workspace, "prepared")
        return workspace.datasets.adopt(
            folder, uuid=UUID, name="d", root=ROOT, salt=bytes(32), prepared_from=FROM, facts=facts(), index=INDEX
        )


def mark(workspace: Workspace, what: str) -> None:
    """Said beside the workspace, for whoever looks after the kill."""
    workspace.path.with_name(f"{workspace.path.name}.{what}").touch()


def marked(folder: Path, what: str) -> bool:
    return folder.with_name(f"{folder.name}.{what}").exists()


def remove(workspace: Workspace) -> None:
    make(workspace)
    mark(workspace, "made")
    workspace.datasets.remove(UUID)


def check(folder: Path, scenario: str) -> None:
    """It is there whole or not at all; the same again works; nothing of the dead one is left."""
    with Workspace.open(folder) as workspace:
        workspace.sweep()
        found = workspace.datasets.ls()
        assert len(found) <= 1
        for dataset in found:
            whole(workspace, dataset)
        lying = {path.name for path in (folder / "datasets").glob("*")}
        assert lying == {one.uuid for one in found}, lying
        for one in workspace.preparing.ls():
            assert not found or not one.finished, "a dataset and what it was made of"
            assert one.finished or scenario == "continued"
        if scenario == "removed":
            if marked(folder, "made") and not found:
                assert workspace.preparing.find(KEY) is None, "deleted, and there again"
            remove(workspace)
            assert workspace.datasets.ls() == []
        else:
            if marked(folder, "prepared") and not found:
                assert workspace.preparing.find(KEY) is not None, "days of work are lost"
            whole(workspace, make(workspace, keep=scenario == "continued"))
        workspace.sweep()
        for part in ("datasets", "preparing"):
            lying = {path.name for path in (folder / part).glob("*")}
            assert lying == ({UUID} if part == "datasets" and scenario != "removed" else set()), lying


def whole(workspace: Workspace, dataset: LocalDataset) -> None:
    outputs = dataset.data.parent
    assert {str(path.relative_to(outputs)): path.read_text() for path in outputs.rglob("*") if path.is_file()} == FILES
    assert workspace.datasets.index(dataset.uuid) == INDEX
    assert dataset.facts == facts()


SCENARIOS = {
    "made": make,
    "continued": lambda workspace: make(workspace, keep=True),
    "removed": remove,
}


def killed(folder: Path, scenario: str, fatal: int) -> bool:
    """Whether there was such a line."""
    child = os.fork()
    if child == 0:
        lines = 0

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal lines
            if ROOM not in frame.f_code.co_filename or frame.f_code.co_filename == __file__:
                return None
            if event == "line":
                lines += 1
                if lines == fatal:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        with Workspace.open(folder) as workspace:
            SCENARIOS[scenario](workspace)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) == 0, "it failed by itself"
    return False


def main() -> None:
    """See the module."""
    base, scenario, line, step = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    times = 0
    while True:
        folder = base / f"{scenario}{line}"
        if not killed(folder, scenario, line):
            break
        try:
            check(folder, scenario)
        except BaseException:
            print(f"{scenario}, killed at line {line}", file=sys.stderr)
            raise
        shutil.rmtree(folder, ignore_errors=True)
        times += 1
        line += step
    print(times)


if __name__ == "__main__":
    main()
