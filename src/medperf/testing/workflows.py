"""A whole small workflow on disk: three MLCubes that need no packages, and demo data. For tests and for engines written elsewhere."""

from __future__ import annotations

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

from medperf.flows.templates import create_mlcube

PATHS_YAML = "data_path: mock/images\nlabels_path: mock/labels\n"


@dataclass(frozen=True)
class Workflow:
    """Folders of a workflow made by `make_workflow`."""

    folder: Path

    @property
    def preparator(self) -> Path:
        """The manifest of the preparator."""
        return self.folder / "prep" / "mlcube" / "mlcube.yaml"

    @property
    def model(self) -> Path:
        """The manifest of the model."""
        return self.folder / "model" / "mlcube" / "mlcube.yaml"

    @property
    def evaluator(self) -> Path:
        """The manifest of the evaluator."""
        return self.folder / "metrics" / "mlcube" / "mlcube.yaml"

    @property
    def data(self) -> Path:
        """The records."""
        return self.folder / "mock" / "images"

    @property
    def labels(self) -> Path:
        """The labels."""
        return self.folder / "mock" / "labels"

    def program(self, name: str) -> Path:
        """The program of the cube in folder ``name`` (prep, model or metrics)."""
        return self.folder / name / "project" / "mlcube.py"

    def replace_task(self, name: str, task: str, body: str) -> None:
        """Give a task of a cube another body (Python statements; the task's parameters are `pathlib.Path` variables)."""
        text = self.program(name).read_text()
        head, _, rest = text.partition(f"def {task}(")
        signature, _, tail = rest.partition(":\n")
        following = tail.find("\ndef ")
        indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
        self.program(name).write_text(f"{head}def {task}({signature}:\n{indented}\n{tail[following:]}")

    def test_arguments(self) -> list[str]:
        """Command line of ``medperf test run`` for this workflow."""
        return [
            "test",
            "run",
            f"--data_preparation={self.preparator}",
            f"--model={self.model}",
            f"--evaluator={self.evaluator}",
            f"--data_path={self.data}",
            f"--labels_path={self.labels}",
        ]


def make_workflow(folder: Path, *, cases: int = 3) -> Workflow:
    """Write ``prep``, ``model``, ``metrics``, ``mock`` and ``paths.yaml`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for template, name in (("data_preparator", "prep"), ("model", "model"), ("evaluator", "metrics")):
        create_mlcube(template, name=name, output=folder)
    workflow = Workflow(folder)
    workflow.data.mkdir(parents=True)
    workflow.labels.mkdir(parents=True)
    for case in range(cases):
        (workflow.data / f"case{case}.txt").write_text(f"record {case}\n")
    (workflow.labels / "labels.csv").write_text("".join(f"case{case}.txt,{case % 2}\n" for case in range(cases)))
    (folder / "paths.yaml").write_text(PATHS_YAML)
    return workflow


def make_demo(workflow: Workflow, target: Path) -> Path:
    """The demo dataset's tarball as the tutorial's ``tar -czf`` makes it."""
    with tarfile.open(target, "w:gz") as archive:
        for name in ("mock", "paths.yaml"):
            archive.add(workflow.folder / name, arcname=name)
    return target


def make_tarball(target: Path, members: dict[str, bytes | tarfile.TarInfo]) -> Path:
    """A tarball of hand-made members, for hostile archives: bytes become a file, a TarInfo is taken as it is."""
    with tarfile.open(target, "w:gz") as archive:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return target
