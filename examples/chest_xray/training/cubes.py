"""Run the tasks of the three cubes as plain programs, the way any engine calls them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

EXAMPLE = Path(__file__).resolve().parent.parent
WEIGHTS = EXAMPLE / "xrv_densenet" / "mlcube" / "workspace" / "additional_files" / "densenet.onnx"


def parameters_file(cube: str) -> Path:
    return EXAMPLE / cube / "mlcube" / "workspace" / "parameters.yaml"


def run_task(cube: str, task: str, **paths: Path) -> None:
    """Run ``<cube>/project/mlcube.py <task> --<name>=<path> ...`` with the cube's own parameters."""
    paths["parameters_file"] = parameters_file(cube)
    program = EXAMPLE / cube / "project" / "mlcube.py"
    subprocess.run([sys.executable, program, task, *(f"--{k}={v}" for k, v in paths.items())], check=True)


def prepare(dataset: Path, output: Path) -> tuple[Path, Path]:
    """Prepare a dataset of images/ and labels/; returns the folders of the prepared data and labels."""
    data, labels = output / "data", output / "labels"
    data.mkdir(parents=True)
    labels.mkdir()
    run_task(
        "chexpert_prep",
        "prepare",
        data_path=dataset / "images",
        labels_path=dataset / "labels",
        output_path=data,
        output_labels_path=labels,
    )
    return data, labels


def evaluate(dataset: Path, weights: Path, work: Path) -> dict[str, dict[str, Any]]:
    """The metrics of ``weights`` on a dataset of images/ and labels/: prepare, infer, evaluate."""
    data, labels = prepare(dataset, work / "prepared")
    predictions, results = work / "predictions", work / "results.yaml"
    predictions.mkdir()
    run_task("xrv_densenet", "infer", data_path=data, weights=weights, output_path=predictions)
    run_task("metrics", "evaluate", predictions=predictions, labels=labels, output_path=results)
    scores: dict[str, dict[str, Any]] = yaml.safe_load(results.read_text(encoding="utf-8"))
    return scores
