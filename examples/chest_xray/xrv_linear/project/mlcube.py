"""Model: the probability of each finding in prepared chest X-rays, by a weighted sum of coarse grey levels.

* ``data_path``: ``data.csv`` (id, image) and the images, 8-bit grey, all of the side that the weights were fitted with.
* ``weights``: an ``.npz`` with ``labels`` (findings,), ``side`` pixels, ``weights`` (findings, grid * grid), ``bias`` (findings,).
* ``output_path``: ``predictions.csv`` (id, one probability per finding).

It needs no network and no large library; what a network is worth shows beside it.
"""

from __future__ import annotations

import argparse
import csv
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image


class InferenceError(Exception):
    """The data, the weights or the parameters cannot be used; the message says what is wrong and where."""


@dataclass(frozen=True)
class Linear:
    """``weights`` (findings, grid * grid) and ``bias`` (findings,) float64, for images of ``side`` pixels."""

    weights: np.ndarray
    bias: np.ndarray
    side: int

    @property
    def grid(self) -> int:
        """Cells per side."""
        return int(self.weights.shape[1] ** 0.5)


def features(images: np.ndarray, grid: int) -> np.ndarray:
    """Mean grey levels of a grid of cells, (cases, grid * grid), without brightness and contrast of the whole image.

    Args:
        images: (cases, side, side) grey levels; the side is a multiple of ``grid``.
    """
    cases, side, _ = images.shape
    cells = images.reshape(cases, grid, side // grid, grid, side // grid).mean(axis=(2, 4)).reshape(cases, -1)
    return (cells - cells.mean(axis=1, keepdims=True)) / np.maximum(cells.std(axis=1, keepdims=True), 1e-6)


def read_parameters(file: Path) -> tuple[list[str], float]:
    """The findings and the sharpness, checked."""
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        labels, sharpness = [str(label) for label in raw["labels"]], float(raw["sharpness"])
    except (OSError, yaml.YAMLError, TypeError, ValueError, KeyError) as error:
        raise InferenceError(f"{file.name} needs labels and sharpness: {error!r}") from error
    if not 0 < sharpness < 100:
        raise InferenceError("sharpness must be positive and below 100")
    return labels, sharpness


def load_weights(file: Path, labels: list[str]) -> Linear:
    """The weights, if they were fitted for these findings."""
    try:
        with np.load(file, allow_pickle=False) as stored:
            fitted = [str(label) for label in stored["labels"]]
            model = Linear(stored["weights"], stored["bias"], int(stored["side"]))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise InferenceError(f"the weights {file.name} cannot be loaded: {error}") from error
    if fitted != labels:
        raise InferenceError(f"the weights were fitted for {fitted}, the parameters say {labels}")
    return model


def read_cases(data: Path) -> list[tuple[str, Path]]:
    """(id, image file) of each prepared case."""
    try:
        with (data / "data.csv").open(newline="", encoding="utf-8") as stream:
            return [(row["id"], data / row["image"]) for row in csv.DictReader(stream)]
    except (OSError, KeyError, TypeError) as error:
        raise InferenceError(f"data.csv with the columns id and image cannot be read: {error!r}") from error


def load_image(file: Path, side: int) -> np.ndarray:
    """Grey levels (side, side) from 0 to 1."""
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L"), dtype=np.float64)
    except (OSError, SyntaxError, ValueError) as error:
        raise InferenceError(f"the image {file.name} cannot be read: {error}") from error
    if pixels.shape != (side, side):
        raise InferenceError(f"the image {file.name} has shape {pixels.shape}; the weights take {side}x{side}")
    return pixels / 255


def infer(data: Path, labels: list[str], sharpness: float, model: Linear, output: Path) -> None:
    """Write ``predictions.csv``, one row per prepared case; holds one image at a time."""
    with (output / "predictions.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", *labels])
        for case, file in read_cases(data):
            (row,) = features(load_image(file, model.side)[None], model.grid)
            # One product and one sum per finding: the same bytes whatever library multiplies matrices here.
            scores = np.array([np.sum(weights * row) for weights in model.weights]) + model.bias
            probabilities = 1 / (1 + np.exp(-sharpness * scores))
            writer.writerow([case, *(f"{value:.6f}" for value in probabilities)])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Linear model for chest X-rays")
    task = parser.add_subparsers(dest="task", required=True).add_parser("infer")
    for name in ("data_path", "parameters_file", "weights", "output_path"):
        task.add_argument(f"--{name}", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    try:
        labels, sharpness = read_parameters(arguments.parameters_file)
        model = load_weights(arguments.weights, labels)
        infer(arguments.data_path, labels, sharpness, model, arguments.output_path)
    except InferenceError as error:
        sys.exit(f"xrv_linear {arguments.task}: {error}")


if __name__ == "__main__":
    main()
