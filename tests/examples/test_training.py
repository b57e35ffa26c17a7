"""The generated data, how well the network does on it, and (long) whether training again gives the same."""

import subprocess
import venv

import numpy as np
import pytest
import yaml
from PIL import Image

FLOOR, CEILING = 0.75, 0.97  # neither guesswork nor a toy
LARGE = 1500


def scores(scored):
    results = yaml.safe_load(scored.results.read_text())
    assert results["cases"]["failed"] == 0
    return results["AUC"]


# --- the data


def test_a_seed_fixes_the_data(generator, tmp_path):
    for name in ("one", "two"):
        generator.write_dataset(tmp_path / name, seed=11, cases=5)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.*"))
    assert len(files) == 6
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_small_dataset_begins_a_larger_one(generator):
    assert np.array_equal(generator.make_case(11, 3).image, generator.make_case(11, 3).image)
    assert not np.array_equal(generator.make_case(11, 3).image, generator.make_case(11, 4).image)
    assert not np.array_equal(generator.make_case(11, 3).image, generator.make_case(12, 3).image)


def test_the_demo_data_comes_from_its_seed(example, generator, tmp_path):
    generator.write_dataset(tmp_path / "demo", generator.DEMO_SEED, generator.DEMO_CASES)
    table = "labels/labels.csv"
    assert (tmp_path / "demo" / table).read_bytes() == (example.demo / table).read_bytes()
    images = sorted(path.relative_to(example.demo) for path in example.demo.rglob("*.jpg"))
    assert images == sorted(path.relative_to(tmp_path / "demo") for path in (tmp_path / "demo").rglob("*.jpg"))
    assert len(images) == generator.DEMO_CASES
    for image in images:
        # Decoded, and with room for another JPEG library's rounding.
        drawn, stored = (np.asarray(Image.open(root / image), dtype=int) for root in (tmp_path / "demo", example.demo))
        assert drawn.shape == stored.shape
        assert np.abs(drawn - stored).max() <= 8


def test_the_demo_data_is_small(example):
    assert sum(path.stat().st_size for path in example.demo.rglob("*.*")) < 1_000_000


def test_every_label_value_occurs(example):
    with (example.demo / "labels" / "labels.csv").open() as stream:
        cells = [line.strip("\n").split(",")[5:] for line in stream][1:]
    for column in zip(*cells, strict=True):
        assert set(column) == {"1.0", "0.0", "-1.0", ""}


def test_the_seeds_differ(generator):
    assert len({generator.TRAIN_SEED, generator.TEST_SEED, generator.DEMO_SEED}) == 3


# --- the network


def test_demo_scores(demo):
    for finding, value in scores(demo).items():
        assert FLOOR <= value <= CEILING, finding


def test_unseen_scores(example, generator, tmp_path):
    generator.write_dataset(tmp_path / "raw", seed=20_000, cases=400)
    for finding, value in scores(example.score(tmp_path / "raw", tmp_path / "scored")).items():
        assert FLOOR <= value <= CEILING, finding


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_training_again(example, generator, tmp_path):
    """From nothing: install what training needs, train, and compare on cases that neither network has seen."""
    training = example.root / "training"
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:"]
    subprocess.run([*install, "-r", training / "requirements-train.txt"], check=True)
    subprocess.run([python, training / "train.py", "--output", tmp_path / "again.onnx"], check=True)
    generator.write_dataset(tmp_path / "raw", generator.TEST_SEED, LARGE)
    committed = scores(example.score(tmp_path / "raw", tmp_path / "committed"))
    again = scores(example.score(tmp_path / "raw", tmp_path / "again", tmp_path / "again.onnx"))
    for finding, value in committed.items():
        assert FLOOR <= value <= CEILING, finding
        assert abs(again[finding] - value) <= 0.02, finding
