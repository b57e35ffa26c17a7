"""What a workspace says it has is on the disk, bytes and names: a power cut right after that takes nothing away."""

from __future__ import annotations

from pathlib import Path

from medperf.domain.digests import Digest
from medperf.testing.power import Disk
from medperf.workspace.workspace import Workspace

KEY = Digest.of(b"key")


def test_a_finished_step(tmp_path: Path) -> None:
    disk = Disk()
    with disk.watched(), Workspace.open(tmp_path / "home" / "localhost_8000") as workspace:
        with workspace.steps.begin(KEY, task="infer") as step:
            (step.outputs / "deep").mkdir()
            (step.outputs / "deep" / "file").write_text("prediction")
            step.log.write_text("said")
            sealed = step.seal({})
        found = [path for path in sealed.folder.rglob("*") if path.is_file()]
        assert len(found) >= 3
        for path in found:
            assert disk.misses(path, below=tmp_path) is None


def test_a_downloaded_file(tmp_path: Path) -> None:
    disk = Disk()
    content = b"weights"
    with disk.watched(), Workspace.open(tmp_path / "home" / "localhost_8000") as workspace:
        writer = workspace.store.partial(Digest.of(content), size=len(content))
        assert writer is not None
        with writer:
            writer.write(content)
            digest = writer.commit(Digest.of(content))
        path = workspace.store.path(digest)
        assert path is not None
        assert disk.misses(path, below=tmp_path) is None
