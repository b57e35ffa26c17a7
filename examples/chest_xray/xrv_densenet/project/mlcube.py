"""Model: the probability of each finding in prepared chest X-rays, by a DenseNet in ONNX Runtime.

* ``data_path``: ``data.csv`` (id, image) and the images, 8-bit grey, of the side that the network was trained with.
* ``weights``: the network. Input (n, 1, side, side) float32 from 0 to 1; output (n, findings) probabilities;
  the findings, in order, are in its metadata.
* ``output_path``: ``predictions.csv`` (id, one probability per finding).
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import yaml
from PIL import Image


class InferenceError(Exception):
    """The data, the weights or the parameters cannot be used; the message says what is wrong and where."""


@dataclass(frozen=True)
class Parameters:
    labels: list[str]  # names of the network's outputs, in order
    batch_size: int
    threads: int


def read_parameters(file: Path) -> Parameters:
    """The parameters, checked."""
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        parameters = Parameters(list(raw["labels"]), int(raw["batch_size"]), int(raw["threads"]))
    except (OSError, yaml.YAMLError, TypeError, ValueError, KeyError) as error:
        raise InferenceError(f"{file.name} needs labels, batch_size and threads: {error!r}") from error
    if parameters.batch_size < 1 or parameters.threads < 1:
        raise InferenceError("batch_size and threads must be positive")
    return parameters


def load_network(weights: Path, parameters: Parameters) -> tuple[onnxruntime.InferenceSession, int]:
    """A CPU session for the network, and the side of its images in pixels."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = parameters.threads
    options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(weights, options, providers=["CPUExecutionProvider"])
    # ONNX Runtime's own exceptions have no common base below Exception.
    except Exception as error:
        raise InferenceError(f"the weights {weights.name} cannot be loaded: {error}") from error
    trained = session.get_modelmeta().custom_metadata_map.get("labels", "").split(",")
    if trained != parameters.labels:
        raise InferenceError(f"the network was trained for {trained}, the parameters say {parameters.labels}")
    return session, session.get_inputs()[0].shape[-1]


def read_cases(data: Path) -> list[tuple[str, Path]]:
    """(id, image file) of each prepared case."""
    try:
        with (data / "data.csv").open(newline="", encoding="utf-8") as stream:
            return [(row["id"], data / row["image"]) for row in csv.DictReader(stream)]
    except (OSError, KeyError, TypeError) as error:
        raise InferenceError(f"data.csv with the columns id and image cannot be read: {error!r}") from error


def load_image(file: Path, side: int) -> np.ndarray:
    """An image as (1, side, side) float32 from 0 to 1."""
    try:
        with Image.open(file) as image:
            pixels = np.asarray(image.convert("L"), dtype=np.float32)
    except (OSError, SyntaxError, ValueError) as error:
        raise InferenceError(f"the image {file.name} cannot be read: {error}") from error
    if pixels.shape != (side, side):
        raise InferenceError(f"the image {file.name} has shape {pixels.shape}; the network takes {side}x{side}")
    return pixels[None] / 255


def predict(
    session: onnxruntime.InferenceSession, side: int, cases: list[tuple[str, Path]], batch_size: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (id, probabilities (findings,)); holds no more than one batch of images."""
    for start in range(0, len(cases), batch_size):
        batch = cases[start : start + batch_size]
        images = np.stack([load_image(file, side) for _, file in batch])
        (probabilities,) = session.run(["probabilities"], {"images": images})
        yield from zip((case for case, _ in batch), probabilities, strict=True)


def infer(data: Path, parameters: Parameters, weights: Path, output: Path) -> None:
    """Write ``predictions.csv``, one row per prepared case."""
    session, side = load_network(weights, parameters)
    cases = read_cases(data)
    with (output / "predictions.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["id", *parameters.labels])
        for case, probabilities in predict(session, side, cases, parameters.batch_size):
            writer.writerow([case, *(f"{value:.6f}" for value in probabilities)])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="DenseNet for chest X-rays")
    task = parser.add_subparsers(dest="task", required=True).add_parser("infer")
    for name in ("data_path", "parameters_file", "weights", "output_path"):
        task.add_argument(f"--{name}", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    try:
        parameters = read_parameters(arguments.parameters_file)
        infer(arguments.data_path, parameters, arguments.weights, arguments.output_path)
    except InferenceError as error:
        sys.exit(f"xrv_densenet {arguments.task}: {error}")


if __name__ == "__main__":
    main()
