"""Runs one scenario on a workspace; with a number, kills itself at that executed line of the workspace room. Prints lines executed.

usage: killed.py FOLDER SCENARIO [LINE]
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from medperf.domain.digests import Digest
from medperf.workspace.workspace import Workspace

KEY = Digest.of(b"the step")
PAYLOAD = b"payload" * 1000
ROOM = f"{os.sep}workspace{os.sep}"


def do_step(workspace: Workspace) -> None:
    """What a flow does: look, and run what was not done."""
    if workspace.steps.lookup(KEY) is None:
        with workspace.steps.begin(KEY, task="infer") as step:
            (step.outputs / "output_path").mkdir()
            (step.outputs / "output_path" / "a").write_bytes(b"first")
            (step.outputs / "output_path" / "b").write_bytes(b"second")
            step.log.write_text("said")
            step.seal({"seconds": 1.5})


def again(workspace: Workspace) -> None:
    """As with --no-cache: the step is done anew although it is sealed."""
    do_step(workspace)
    with workspace.steps.begin(KEY, task="infer") as step:
        (step.outputs / "c").write_bytes(b"third")
        step.seal({"seconds": 2.5})


def store(workspace: Workspace) -> None:
    """A file, a report and a pending submission."""
    digest = Digest.of(PAYLOAD)
    writer = workspace.store.partial(digest, size=len(PAYLOAD))
    assert writer is not None
    with writer:
        for at in range(writer.written, len(PAYLOAD), 1000):
            writer.write(PAYLOAD[at : at + 1000])
        writer.commit(digest)
    assert workspace.store.path(digest) is not None
    workspace.reports.save({"metrics": {"AUC": 0.9}})
    workspace.pending.forget(workspace.pending.remember("mlcube", "instance", digest, b"{}"))


SCENARIOS = {"step": do_step, "again": again, "store": store}


def main() -> None:
    """See the module."""
    folder, scenario = Path(sys.argv[1]), SCENARIOS[sys.argv[2]]
    fatal = int(sys.argv[3]) if len(sys.argv) > 3 else -1
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
    scenario(Workspace.open(folder))
    sys.settrace(None)
    print(lines)


if __name__ == "__main__":
    main()
