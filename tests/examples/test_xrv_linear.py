"""The tutorial's second model and its hospital: the program on the demo data, on the hospital's, and on what it must refuse."""

import csv

import numpy as np
import pytest
import yaml
from PIL import Image

LABELS = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema"]


@pytest.fixture(scope="module")
def weights(example):
    return example.root / "xrv_linear" / "mlcube" / "workspace" / "additional_files" / "linear.npz"


def infer(example, data, output, **paths):
    output.mkdir(exist_ok=True)
    return example.run("xrv_linear", "infer", data_path=data, output_path=output, **paths)


def evaluate(example, predictions, labels, output):
    done = example.run("metrics", "evaluate", predictions=predictions, labels=labels, output_path=output)
    assert done.returncode == 0, done.stderr
    return yaml.safe_load(output.read_text())


def refusal(completed):
    assert completed.returncode == 1
    assert "Traceback" not in completed.stderr
    return completed.stderr


def test_it_is_of_use_and_another_model(example, demo, weights, tmp_path):
    done = infer(example, demo.data, tmp_path / "predictions", weights=weights)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "predictions" / "predictions.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    assert header == ["id", *LABELS]
    with (demo.data / "data.csv").open(newline="") as stream:
        assert [row[0] for row in rows] == [row["id"] for row in csv.DictReader(stream)]
    found = evaluate(example, tmp_path / "predictions", demo.labels, tmp_path / "results.yaml")
    reference = yaml.safe_load(demo.results.read_text())
    assert found["cases"] == {"evaluated": 120, "failed": 0, "total": 120}
    for finding, value in found["AUC"].items():
        assert 0.6 <= value <= 0.97, finding
        assert value != reference["AUC"][finding]
    again = infer(example, demo.data, tmp_path / "again", weights=weights)
    assert again.returncode == 0
    assert (tmp_path / "again" / "predictions.csv").read_bytes() == (
        tmp_path / "predictions" / "predictions.csv"
    ).read_bytes()


def test_brightness_and_contrast_do_not_matter(example):
    program = example.load("xrv_linear/project/mlcube.py")
    images = np.random.default_rng(1).uniform(0.2, 0.8, (2, 64, 64))
    assert np.allclose(program.features(images, 16), program.features(images * 0.5 + 0.1, 16))


def test_the_hospital_is_drawn_from_its_seed_and_scores(example, generator, tmp_path):
    hospital = example.root / "hospital"
    generator.write_dataset(tmp_path / "drawn", generator.HOSPITAL_SEED, generator.HOSPITAL_CASES)
    table = "labels/labels.csv"
    assert (tmp_path / "drawn" / table).read_bytes() == (hospital / table).read_bytes()
    assert len(list(hospital.rglob("*.jpg"))) == generator.HOSPITAL_CASES
    assert generator.HOSPITAL_SEED not in (generator.TRAIN_SEED, generator.TEST_SEED, generator.DEMO_SEED)
    scored = example.score(hospital, tmp_path / "scored")
    found = yaml.safe_load(scored.results.read_text())
    assert found["cases"] == {"evaluated": 60, "failed": 0, "total": 60}
    assert all(0.6 <= value <= 1 for value in found["AUC"].values())


def test_what_it_refuses(example, demo, weights, tmp_path):
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("labels: [Edema]\nsharpness: 1\n")
    said = refusal(infer(example, demo.data, tmp_path / "out", weights=weights, parameters_file=wrong))
    assert "the weights were fitted for" in said
    wrong.write_text("labels: [Edema]\n")
    assert "needs labels and sharpness" in refusal(
        infer(example, demo.data, tmp_path / "out", weights=weights, parameters_file=wrong)
    )
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"no archive")
    assert "cannot be loaded" in refusal(infer(example, demo.data, tmp_path / "out", weights=broken))
    assert "data.csv" in refusal(infer(example, tmp_path, tmp_path / "out", weights=weights))
    data = tmp_path / "data"
    data.mkdir()
    (data / "data.csv").write_text("id,image\n1,a.png\n")
    Image.new("L", (32, 32)).save(data / "a.png")
    assert "has shape (32, 32)" in refusal(infer(example, data, tmp_path / "out", weights=weights))
    (data / "a.png").write_bytes(b"no image")
    assert "cannot be read" in refusal(infer(example, data, tmp_path / "out", weights=weights))
