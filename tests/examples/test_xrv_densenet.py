"""The model: its network, and the program on the demo data and on what it must refuse."""

import csv
import shutil

import numpy as np
import onnx
import pytest
import yaml
from PIL import Image

LABELS = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema"]


@pytest.fixture(scope="module")
def network(example):
    return onnx.load(example.weights)


def infer(example, data, output, **paths):
    output.mkdir(exist_ok=True)
    paths.setdefault("weights", example.weights)
    return example.run("xrv_densenet", "infer", data_path=data, output_path=output, **paths)


def refusal(completed):
    assert completed.returncode == 1
    assert "Traceback" not in completed.stderr
    return completed.stderr


def test_the_network_is_densely_connected(network):
    """In a dense block each layer's output is appended to all that came before it."""
    joins = [node for node in network.graph.node if node.op_type == "Concat"]
    assert len(joins) >= 10
    chained = [node for node in joins if any(other.output[0] in node.input for other in joins)]
    assert len(chained) >= 10


def test_the_network_is_of_use_and_small(network, example):
    running = {node.input[i] for node in network.graph.node if node.op_type == "BatchNormalization" for i in (3, 4)}
    trained = [tensor for tensor in network.graph.initializer if tensor.name not in running]
    assert sum(int(np.prod(tensor.dims)) for tensor in trained) >= 50_000
    assert example.weights.stat().st_size <= 600_000


def test_the_network_says_what_it_finds(network):
    assert {entry.key: entry.value for entry in network.metadata_props} == {"labels": ",".join(LABELS)}


def test_predictions(demo):
    with (demo.predictions / "predictions.csv").open(newline="") as stream:
        header, *rows = csv.reader(stream)
    with (demo.data / "data.csv").open(newline="") as stream:
        assert [row[0] for row in rows] == [row["id"] for row in csv.DictReader(stream)]
    assert header == ["id", *LABELS]
    values = np.array([row[1:] for row in rows], dtype=float)
    assert ((values > 0) & (values < 1)).all()
    assert (values.std(axis=0) > 0.1).all()


def test_rerun_gives_the_same_bytes(example, demo, tmp_path):
    assert infer(example, demo.data, tmp_path).returncode == 0
    assert (tmp_path / "predictions.csv").read_bytes() == (demo.predictions / "predictions.csv").read_bytes()


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_the_batch_size_does_not_matter(example, demo, tmp_path, batch_size):
    parameters = yaml.safe_load(example.parameters("xrv_densenet").read_text())
    file = tmp_path / "parameters.yaml"
    file.write_text(yaml.safe_dump({**parameters, "batch_size": batch_size}))
    assert infer(example, demo.data, tmp_path, parameters_file=file).returncode == 0
    np.testing.assert_allclose(values(tmp_path), values(demo.predictions), atol=2e-6)


def values(folder):
    return np.loadtxt(folder / "predictions.csv", delimiter=",", skiprows=1)


def test_no_case_no_prediction(example, tmp_path):
    (tmp_path / "data.csv").write_text("id,image\n")
    assert infer(example, tmp_path, tmp_path / "out").returncode == 0
    assert (tmp_path / "out" / "predictions.csv").read_text() == ",".join(["id", *LABELS]) + "\n"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: (data / "data.csv").unlink(), "data.csv"),
        (lambda data: (data / "data.csv").write_text("id,file\n1,a.png\n"), "columns id and image"),
        (lambda data: (data / "data.csv").write_text("id,image\n1\n"), "columns id and image"),
        (lambda data: (data / "images" / "000002.png").unlink(), "000002.png cannot be read"),
        (lambda data: (data / "images" / "000002.png").write_bytes(b"no"), "000002.png cannot be read"),
        (lambda data: Image.new("L", (32, 64)).save(data / "images" / "000002.png"), "takes 64x64"),
    ],
)
def test_bad_data(example, demo, tmp_path, damage, says):
    shutil.copytree(demo.data, tmp_path / "data")
    damage(tmp_path / "data")
    assert says in refusal(infer(example, tmp_path / "data", tmp_path / "out"))


def test_bad_weights(example, demo, tmp_path):
    weights = tmp_path / "densenet.onnx"
    weights.write_bytes(example.weights.read_bytes()[:1000])
    assert "densenet.onnx cannot be loaded" in refusal(infer(example, demo.data, tmp_path / "out", weights=weights))


def test_weights_for_other_findings(example, demo, tmp_path):
    file = tmp_path / "parameters.yaml"
    file.write_text("labels: [Edema]\nbatch_size: 8\nthreads: 1\n")
    assert "trained for" in refusal(infer(example, demo.data, tmp_path / "out", parameters_file=file))


@pytest.mark.parametrize(
    ("text", "says"),
    [("labels: [Edema]\nbatch_size: 8\nthreads: 0\n", "must be positive"), ("labels: [Edema]\n", "needs labels")],
)
def test_bad_parameters(example, demo, tmp_path, text, says):
    file = tmp_path / "parameters.yaml"
    file.write_text(text)
    assert says in refusal(infer(example, demo.data, tmp_path / "out", parameters_file=file))
