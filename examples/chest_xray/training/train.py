"""Train the network on generated cases and write it as ONNX.

The training set goes through the preparator, so that the network learns from exactly what it will be given.
Everything that is drawn at random comes from fixed seeds.

Usage: ``python train.py --output densenet.onnx``
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cubes
import generate
import jax
import jax.numpy as jnp
import model
import numpy as np
import onnx
import onnxruntime
import optax
from PIL import Image

CASES = 8000
EPOCHS = 12
BATCH = 50
LEARNING_RATE = 3e-3  # the peak of one warm-up and decay
WEIGHT_DECAY = 1e-2
MAX_SHIFT = 3  # pixels, when images are moved about
AVERAGING = 0.995  # per step; the exported weights are a moving average, which varies less from run to run


def load_prepared(data: Path, labels: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Images (cases, 1, side, side) from 0 to 1, targets (cases, findings) of 0 and 1, and the findings."""
    with (labels / "labels.csv").open(newline="", encoding="utf-8") as stream:
        header, *rows = csv.reader(stream)
    images = np.stack([np.asarray(Image.open(data / "images" / f"{row[0]}.png")) for row in rows])
    targets = np.array([row[1:] for row in rows], dtype=np.float32)
    return images[:, None].astype(np.float32) / 255, targets, header[1:]


def augment(rng: np.random.Generator, images: np.ndarray) -> np.ndarray:
    """Move each image a little and vary its brightness and contrast. Never mirrored: the heart is on the left."""
    side = images.shape[-1]
    padded = np.pad(images, ((0, 0), (0, 0), (MAX_SHIFT, MAX_SHIFT), (MAX_SHIFT, MAX_SHIFT)), mode="edge")
    moved = np.empty_like(images)
    for i, (top, left) in enumerate(rng.integers(0, 2 * MAX_SHIFT + 1, (len(images), 2))):
        moved[i] = padded[i, :, top : top + side, left : left + side]
    gain = rng.uniform(0.9, 1.1, (len(images), 1, 1, 1))
    offset = rng.uniform(-0.05, 0.05, (len(images), 1, 1, 1))
    return (moved * gain + offset).astype(np.float32)


def make_step(optimizer: optax.GradientTransformation) -> Callable[..., Any]:
    """One compiled training step."""

    def loss(parameters: model.Arrays, statistics: model.Arrays, images: jax.Array, targets: jax.Array) -> Any:
        scores, statistics = model.logits(parameters, statistics, images, training=True)
        return optax.sigmoid_binary_cross_entropy(scores, targets).mean(), statistics

    @jax.jit
    def step(
        parameters: model.Arrays,
        statistics: model.Arrays,
        state: Any,
        averages: Any,
        images: jax.Array,
        targets: jax.Array,
    ) -> Any:
        (value, statistics), gradient = jax.value_and_grad(loss, has_aux=True)(parameters, statistics, images, targets)
        updates, state = optimizer.update(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        averages = optax.incremental_update((parameters, statistics), averages, 1 - AVERAGING)
        return parameters, statistics, state, averages, value

    return step


def train(images: np.ndarray, targets: np.ndarray, seed: int) -> tuple[model.Arrays, model.Arrays]:
    """Parameters and running statistics after EPOCHS passes over the data."""
    rng = np.random.default_rng(seed)
    parameters, statistics = model.create(jax.random.key(seed), targets.shape[1])
    print(f"{model.count(parameters)} parameters, {len(images)} cases")
    steps = EPOCHS * (len(images) // BATCH)
    schedule = optax.warmup_cosine_decay_schedule(LEARNING_RATE / 20, LEARNING_RATE, steps // 10, steps)
    optimizer = optax.adamw(schedule, weight_decay=WEIGHT_DECAY)
    step, state, averages = make_step(optimizer), optimizer.init(parameters), (parameters, statistics)
    for epoch in range(EPOCHS):
        started, losses = time.monotonic(), []
        for batch in rng.permutation(len(images))[: len(images) // BATCH * BATCH].reshape(-1, BATCH):
            arrays = augment(rng, images[batch]), targets[batch]
            parameters, statistics, state, averages, value = step(parameters, statistics, state, averages, *arrays)
            losses.append(value)
        print(f"epoch {epoch + 1}: loss {np.mean(losses):.4f}, {time.monotonic() - started:.0f} s", flush=True)
    return averages


def check_export(file: Path, parameters: model.Arrays, statistics: model.Arrays, images: np.ndarray) -> float:
    """The largest difference between the exported network and the trained one; fails above 1e-5."""
    forward = jax.jit(partial(model.logits, training=False))
    expected = jax.nn.sigmoid(forward(parameters, statistics, jnp.asarray(images))[0])
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (actual,) = session.run(None, {"images": images})
    difference = float(np.abs(actual - np.asarray(expected)).max())
    if not difference <= 1e-5:
        raise SystemExit(f"the exported network differs from the trained one by {difference:.1e}")
    return difference


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the example network and export it as ONNX.")
    parser.add_argument("--output", type=Path, default=cubes.WEIGHTS, help="default: the weights of the model cube")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights and order; the data has its own")
    arguments = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        generate.write_dataset(Path(folder, "raw"), generate.TRAIN_SEED, CASES)
        images, targets, labels = load_prepared(*cubes.prepare(Path(folder, "raw"), Path(folder, "prepared")))
    parameters, statistics = train(images, targets, arguments.seed)
    onnx.save(model.to_onnx(parameters, statistics, labels, images.shape[-1]), arguments.output)
    difference = check_export(arguments.output, parameters, statistics, images[:200])
    print(f"{arguments.output}: differs by {difference:.1e} from the trained network")
    print(f"{time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
