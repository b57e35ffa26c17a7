"""What the tests of the example cubes share: how a task is run, and the demo data, scored once."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

Completed = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Scored:
    """What the three cubes made of a dataset."""

    data: Path
    labels: Path
    predictions: Path
    results: Path


@dataclass(frozen=True)
class Example:
    """The example's folder, and its tasks run as programs."""

    root: Path

    @property
    def demo(self) -> Path:
        return self.root / "mock_chexpert"

    @property
    def weights(self) -> Path:
        return self.root / "xrv_densenet" / "mlcube" / "workspace" / "additional_files" / "densenet.onnx"

    def parameters(self, cube: str) -> Path:
        return self.root / cube / "mlcube" / "workspace" / "parameters.yaml"

    def load(self, file: str) -> ModuleType:
        """A module by its path: three cubes have an ``mlcube.py``, so a name would not do."""
        name = "example_" + file.removesuffix(".py").replace("/", "_")
        spec = importlib.util.spec_from_file_location(name, self.root / file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        return module

    def run(self, cube: str, task: str, **paths: Path) -> Completed:
        """Run a task, with the cube's own parameters unless ``parameters_file`` is given."""
        paths.setdefault("parameters_file", self.parameters(cube))
        program = self.root / cube / "project" / "mlcube.py"
        command = [sys.executable, str(program), task, *(f"--{name}={path}" for name, path in paths.items())]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def prepare(self, images: Path, labels: Path, work: Path, **paths: Path) -> Completed:
        """Run ``prepare`` into ``work/data`` and ``work/labels``."""
        output, output_labels = work / "data", work / "labels"
        output.mkdir(parents=True)
        output_labels.mkdir()
        outputs = {"output_path": output, "output_labels_path": output_labels}
        return self.run("chexpert_prep", "prepare", data_path=images, labels_path=labels, **outputs, **paths)

    def score(self, dataset: Path, work: Path, weights: Path | None = None) -> Scored:
        """Prepare, infer, evaluate."""
        scored = Scored(work / "data", work / "labels", work / "predictions", work / "results.yaml")
        weights = weights or self.weights
        succeed(self.prepare(dataset / "images", dataset / "labels", work))
        scored.predictions.mkdir()
        succeed(
            self.run("xrv_densenet", "infer", data_path=scored.data, weights=weights, output_path=scored.predictions)
        )
        inputs = {"predictions": scored.predictions, "labels": scored.labels}
        succeed(self.run("metrics", "evaluate", **inputs, output_path=scored.results))
        return scored


def succeed(completed: Completed) -> None:
    assert completed.returncode == 0, completed.stderr


@pytest.fixture(scope="session")
def example() -> Example:
    return Example(Path(__file__).resolve().parents[2] / "examples" / "chest_xray")


@pytest.fixture(scope="session")
def demo(example: Example, tmp_path_factory: pytest.TempPathFactory) -> Scored:
    """The demo data, through all three cubes. Tests read it and never write to it."""
    return example.score(example.demo, tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="session")
def generator(example: Example) -> ModuleType:
    return example.load("training/generate.py")
