"""Fit the linear model on generated cases: logistic regression with a penalty, by Newton's method. numpy and Pillow only.

Usage: ``python fit_linear.py --output linear.npz``
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import tempfile
from pathlib import Path

import cubes
import generate
import numpy as np
from PIL import Image

CASES = 4000
GRID = 16  # cells per side
PENALTY = 30.0  # on squared weights, in units of one case
STEPS = 12

PROGRAM = cubes.EXAMPLE / "xrv_linear" / "project" / "mlcube.py"
WEIGHTS = cubes.EXAMPLE / "xrv_linear" / "mlcube" / "workspace" / "additional_files" / "linear.npz"


def load_program() -> object:
    """The cube's own program: what it computes from an image is what is fitted."""
    spec = importlib.util.spec_from_file_location("xrv_linear_program", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def load_prepared(data: Path, labels: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (cases, side, side) from 0 to 1, targets (cases, findings) of 0 and 1, and the findings."""
    with (labels / "labels.csv").open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    images = np.stack([np.asarray(Image.open(data / "images" / f"{row[0]}.png")) for row in rows])
    return images / 255, np.array([row[1:] for row in rows], dtype=np.float64), header[1:]


def fit(inputs: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, float]:
    """Weights and bias of one finding."""
    design = np.column_stack([inputs, np.ones(len(inputs))])
    penalty = np.diag([PENALTY] * inputs.shape[1] + [0.0])
    found = np.zeros(design.shape[1])
    for _ in range(STEPS):
        probability = 1 / (1 + np.exp(-design @ found))
        gradient = design.T @ (target - probability) - penalty @ found
        curvature = (design * (probability * (1 - probability))[:, None]).T @ design + penalty
        found += np.linalg.solve(curvature, gradient)
    return found[:-1], float(found[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description="Fit the linear model and write its weights.")
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="default: the weights of the model cube")
    arguments = parser.parse_args()
    program = load_program()
    with tempfile.TemporaryDirectory() as folder:
        generate.write_dataset(Path(folder, "raw"), generate.TRAIN_SEED, CASES)
        images, targets, labels = load_prepared(*cubes.prepare(Path(folder, "raw"), Path(folder, "prepared")))
    inputs = program.features(images, GRID)  # type: ignore[attr-defined]
    fitted = [fit(inputs, targets[:, index]) for index in range(len(labels))]
    np.savez(
        arguments.output,
        labels=np.array(labels),
        side=np.int64(images.shape[-1]),
        # Six decimals: more says nothing, and less is stored.
        weights=np.round(np.stack([weights for weights, _ in fitted]), 6),
        bias=np.round(np.array([bias for _, bias in fitted]), 6),
    )
    print(f"{arguments.output}: {GRID} x {GRID} weights for {', '.join(labels)}, from {len(images)} cases")


if __name__ == "__main__":
    main()
