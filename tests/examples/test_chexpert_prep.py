"""The preparator, as a program, on the demo data and on data that is wrong in every way it knows of."""

import csv
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA,Atelectasis,Cardiomegaly,Consolidation,Edema"
LABELS = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema"]


def read(file):
    with file.open(newline="") as stream:
        return list(csv.reader(stream))


@pytest.fixture
def raw(tmp_path):
    """A site's folder with one gradient image, and a function that writes its table."""

    class Raw:
        images, labels, work = tmp_path / "images", tmp_path / "labels", tmp_path / "work"

        def table(self, *rows, header=HEADER, name="labels.csv"):
            (self.labels / name).write_text("\n".join([header, *rows]) + "\n")

    Raw.images.mkdir()
    Raw.labels.mkdir()
    Image.fromarray(np.tile(np.arange(80, dtype=np.uint8), (100, 1))).save(Raw.images / "a.png")
    return Raw()


def refusal(completed):
    assert completed.returncode == 1
    assert "Traceback" not in completed.stderr
    return completed.stderr


# --- prepare


def test_demo_data(example, demo):
    data, labels = read(demo.data / "data.csv"), read(demo.labels / "labels.csv")
    raw = read(example.demo / "labels" / "labels.csv")
    assert data[0] == ["id", "image"]
    assert labels[0] == ["id", *LABELS]
    assert len(data) == len(labels) == len(raw)
    for (case, image), (labelled, *values), row in zip(data[1:], labels[1:], raw[1:], strict=True):
        assert case == labelled
        assert image == f"images/{case}.png"
        cells = dict(zip(raw[0], row, strict=True))
        assert values == ["1" if cells[name] == "1.0" else "0" for name in LABELS]
        with Image.open(demo.data / image) as prepared:
            assert (prepared.size, prepared.mode) == ((64, 64), "L")
    assert sorted(path.name for path in demo.data.iterdir()) == ["data.csv", "images"]
    assert len(list((demo.data / "images").iterdir())) == len(data) - 1


def test_no_patient_identifier_is_left(demo):
    for file in (demo.data / "data.csv", demo.labels / "labels.csv"):
        assert "patient" not in file.read_text()


def test_rerun_gives_the_same_bytes(example, demo, tmp_path):
    example.prepare(example.demo / "images", example.demo / "labels", tmp_path)
    for file in [*demo.data.rglob("*.*"), *demo.labels.rglob("*.*")]:
        assert (tmp_path / file.relative_to(demo.data.parent)).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("policy", "expected"), [("zeros", ["1", "1", "0", "0", "0"]), ("ones", ["1", "1", "0", "0", "1"]), ("drop", None)]
)
def test_cells_and_the_uncertain_policy(example, raw, tmp_path, policy, expected):
    raw.table("a.png,Male,50,Frontal,AP,1.0,0.0,,-1.0", "a.png,Male,50,Frontal,AP,1,0,,")
    parameters = yaml.safe_load(example.parameters("chexpert_prep").read_text())
    file = tmp_path / "parameters.yaml"
    file.write_text(yaml.safe_dump({**parameters, "uncertain": policy}))
    assert example.prepare(raw.images, raw.labels, raw.work, parameters_file=file).returncode == 0
    rows = read(raw.work / "labels" / "labels.csv")[1:]
    kept = [] if expected is None else [["000001", *expected[1:]]]
    assert rows == [*kept, ["000002", "1", "0", "0", "0"]]


def test_lateral_views_are_left_out_and_ids_stay_row_numbers(example, raw):
    raw.table("b.png,Male,50,Lateral,,1.0,,,", "a.png,Male,50,Frontal,AP,1.0,,,")
    assert example.prepare(raw.images, raw.labels, raw.work).returncode == 0
    assert read(raw.work / "data" / "data.csv")[1:] == [["000002", "images/000002.png"]]


def test_a_table_saved_by_a_spreadsheet(example, raw):
    raw.table("a.png,Male,50,Frontal,AP,1.0,,,", header="\ufeff" + HEADER)
    (raw.labels / "._labels.csv").write_text("left by a file manager")
    assert example.prepare(raw.images, raw.labels, raw.work).returncode == 0


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("b.png", "row 1: there is no image 'b.png'"),
        ("", "there is no image ''"),
        ("broken.png", "'broken.png' cannot be read"),
        ("cut.png", "'cut.png' cannot be read"),
        ("deep.png", "more than 8 bits"),
        ("../secret.png", "leads outside"),
        ("link.png", "leads outside"),
        ("loop.png", "loop.png"),
        ("x" * 300, "cannot be followed"),
    ],
)
def test_bad_image(example, raw, path, says):
    Image.open(raw.images / "a.png").save(raw.images.parent / "secret.png")
    (raw.images / "link.png").symlink_to("../secret.png")
    (raw.images / "loop.png").symlink_to("loop.png")
    (raw.images / "broken.png").write_bytes(b"not an image")
    (raw.images / "cut.png").write_bytes((raw.images / "a.png").read_bytes()[:-60])
    Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)).save(raw.images / "deep.png")
    raw.table(f"{path},Male,50,Frontal,AP,1.0,,,")
    assert says in refusal(example.prepare(raw.images, raw.labels, raw.work))


def test_absolute_path(example, raw):
    Image.open(raw.images / "a.png").save(raw.images.parent / "secret.png")
    raw.table(f"{raw.images.parent / 'secret.png'},Male,50,Frontal,AP,1.0,,,")
    assert "leads outside" in refusal(example.prepare(raw.images, raw.labels, raw.work))


def test_no_table(example, raw):
    assert "exactly one .csv file; found: none" in refusal(example.prepare(raw.images, raw.labels, raw.work))


def test_two_tables(example, raw):
    raw.table(name="a.csv")
    raw.table(name="b.csv")
    assert "found: a.csv, b.csv" in refusal(example.prepare(raw.images, raw.labels, raw.work))


@pytest.mark.parametrize(
    ("header", "row", "says"),
    [
        (HEADER.replace(",Edema", ""), "a.png,M,5,Frontal,AP,1.0,,", "lacks the column(s) Edema"),
        (HEADER.replace("Path", "File"), "a.png,M,5,Frontal,AP,1.0,,,", "lacks the column(s) Path"),
        (HEADER, "a.png,M,5,Frontal,AP,2,,,", "row 1: Atelectasis is '2'"),
        (HEADER, "a.png,M,5,Frontal,AP,nan,,,", "row 1: Atelectasis is 'nan'"),
        (HEADER, "a.png,M,5", "fewer cells than the header"),
        (HEADER, "a.png,M,5,Lateral,,1.0,,,", "no frontal view"),
        ("", "", "lacks the column(s)"),
    ],
)
def test_bad_table(example, raw, header, row, says):
    raw.table(row, header=header)
    assert says in refusal(example.prepare(raw.images, raw.labels, raw.work))


def test_a_table_that_is_no_text(example, raw):
    (raw.labels / "labels.csv").write_bytes(b"\xff\xfe\x00\x01")
    assert "not a readable csv file" in refusal(example.prepare(raw.images, raw.labels, raw.work))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("labels: [Edema]\nimage_size: 64\nuncertain: maybe\n", "zeros, ones, drop"),
        ("labels: []\nimage_size: 64\nuncertain: ones\n", "must not be empty"),
        ("labels: [Edema]\nimage_size: 0\nuncertain: ones\n", "must be positive"),
        ("labels: [Edema]\n", "needs labels"),
        ("{", "needs labels"),
    ],
)
def test_bad_parameters(example, raw, tmp_path, text, says):
    file = tmp_path / "parameters.yaml"
    file.write_text(text)
    assert says in refusal(example.prepare(raw.images, raw.labels, raw.work, parameters_file=file))


# --- sanity check


def check(example, data, labels):
    return example.run("chexpert_prep", "sanity_check", data_path=data, labels_path=labels)


def test_demo_data_is_sane(example, demo):
    completed = check(example, demo.data, demo.labels)
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")


def replace(file, old, new):
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))


FIRST = "000001,images/000001.png"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data, labels: (data / "data.csv").unlink(), "data.csv cannot be read"),
        (lambda data, labels: (labels / "labels.csv").unlink(), "labels.csv cannot be read"),
        (lambda data, labels: (data / "images" / "000003.png").unlink(), "images/000003.png is missing"),
        (
            lambda data, labels: (data / "images" / "000003.png").write_bytes(b"no"),
            "id 000003: the image cannot be read",
        ),
        (lambda data, labels: Image.new("L", (64, 32)).save(data / "images" / "000003.png"), "64x32, expected 64"),
        (
            lambda data, labels: Image.new("L", (64, 64), 9).save(data / "images" / "000003.png"),
            "000003: the image is blank",
        ),
        (lambda data, labels: replace(data / "data.csv", "id,image", "id,file"), "lacks the column(s) image"),
        (
            lambda data, labels: replace(data / "data.csv", "id,image", "id,image,Edema"),
            "exactly the columns id, image",
        ),
        (lambda data, labels: replace(data / "data.csv", FIRST, "000002,images/000002.png"), "id '000002' is repeated"),
        (
            lambda data, labels: replace(data / "data.csv", FIRST, "000001,../000001.png"),
            "expected 'images/000001.png'",
        ),
        (lambda data, labels: replace(data / "data.csv", FIRST, "../1,images/../1.png"), "not a number"),
        (lambda data, labels: replace(data / "data.csv", FIRST + "\n", ""), "first difference: 000001"),
        (lambda data, labels: (data / "data.csv").write_text("id,image\n"), "holds no case"),
        (lambda data, labels: replace(labels / "labels.csv", "\n000001,0", "\n000001,-1"), "labels must be 0 or 1"),
        (lambda data, labels: replace(labels / "labels.csv", "\n000001,0", "\n000001,"), "labels must be 0 or 1"),
        (lambda data, labels: replace(labels / "labels.csv", ",Edema", ""), "lacks the column(s) Edema"),
    ],
)
def test_insane(example, demo, tmp_path, damage, says):
    data, labels = tmp_path / "data", tmp_path / "labels"
    shutil.copytree(demo.data, data)
    shutil.copytree(demo.labels, labels)
    damage(data, labels)
    assert says in refusal(check(example, data, labels))


# --- statistics


def test_statistics_are_aggregates(example, demo, tmp_path):
    output = tmp_path / "statistics.yaml"
    completed = example.run(
        "chexpert_prep", "statistics", data_path=demo.data, labels_path=demo.labels, output_path=output
    )
    assert completed.returncode == 0
    pixels = np.stack([np.asarray(Image.open(file)) for file in sorted((demo.data / "images").iterdir())])
    labels = np.array([row[1:] for row in read(demo.labels / "labels.csv")[1:]], dtype=int)
    assert yaml.safe_load(output.read_text()) == {
        "cases": len(pixels),
        "image_size": 64,
        "pixels": {"mean": round(float(pixels.mean()), 4), "std": round(float(pixels.std()), 4)},
        "positives": dict(zip(LABELS, labels.sum(axis=0).tolist(), strict=True)),
    }


def test_no_statistics_of_broken_data(example, demo, tmp_path):
    output = tmp_path / "statistics.yaml"
    completed = example.run(
        "chexpert_prep", "statistics", data_path=tmp_path, labels_path=demo.labels, output_path=output
    )
    assert "data.csv cannot be read" in refusal(completed)
    assert not output.exists()
