"""Data preparator: a CheXpert-like table and its images in; prepared images, their table and *separate* labels out.

Raw data, as a site has it:

* ``labels_path``: exactly one ``.csv`` with the columns Path, Frontal/Lateral and one per finding
  (1.0 present, 0.0 absent, blank not mentioned, -1.0 uncertain); any other column is ignored.
* ``data_path``: the images, each at its Path.

Prepared data, as a model and an evaluator get it:

* ``output_path``: ``data.csv`` (id, image) and ``images/000001.png``, ... (image_size x image_size, 8-bit grey).
* ``output_labels_path``: ``labels.csv`` (id, one 0/1 column per finding). A model never sees this folder.

An id is the number of the row in the site's table. It says nothing about the patient to anyone else, and lets
the site find the record again.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image, ImageOps

UNCERTAIN_POLICIES = ("zeros", "ones", "drop")
# What a cell of the raw table may hold. A finding that the report does not mention counts as absent.
CELL_VALUES = {"1.0": 1, "1": 1, "0.0": 0, "0": 0, "": 0}
UNCERTAIN_CELLS = ("-1.0", "-1")


class DataError(Exception):
    """The data or the parameters cannot be used; the message says what is wrong and where."""


@dataclass(frozen=True)
class Parameters:
    labels: list[str]
    image_size: int  # pixels per side
    uncertain: str  # one of UNCERTAIN_POLICIES


def read_parameters(file: Path) -> Parameters:
    """The parameters, checked."""
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        parameters = Parameters(list(raw["labels"]), int(raw["image_size"]), str(raw["uncertain"]))
    except (OSError, yaml.YAMLError, TypeError, ValueError, KeyError) as error:
        raise DataError(f"{file.name} needs labels, image_size and uncertain: {error!r}") from error
    if parameters.uncertain not in UNCERTAIN_POLICIES:
        raise DataError(f"uncertain must be one of {', '.join(UNCERTAIN_POLICIES)}, not {parameters.uncertain!r}")
    if not parameters.labels or parameters.image_size < 1:
        raise DataError("labels must not be empty and image_size must be positive")
    return parameters


# --- tables


def read_table(file: Path, columns: list[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (row number from 1, row) of a csv file that has at least ``columns``."""
    try:
        # Spreadsheets like to begin a csv with a byte order mark; utf-8-sig drops it.
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in columns if name not in (reader.fieldnames or [])]
            if missing:
                raise DataError(f"{file.name} lacks the column(s) {', '.join(missing)}")
            for number, row in enumerate(reader, start=1):
                if any(row[name] is None for name in columns):
                    raise DataError(f"{file.name}, row {number}: fewer cells than the header")
                yield number, row
    except OSError as error:
        raise DataError(f"{file.name} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file.name} is not a readable csv file: {error}") from error


def write_table(file: Path, header: list[str], rows: list[list[str]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream, lineterminator="\n").writerows([header, *rows])


def find_raw_table(folder: Path) -> Path:
    """The one csv file of the labels folder."""
    # A name that begins with a dot is a file manager's leftover, not somebody's table.
    tables = [file for file in sorted(folder.glob("*.csv")) if not file.name.startswith(".")]
    if len(tables) != 1:
        found = ", ".join(file.name for file in tables) or "none"
        raise DataError(f"the labels folder must hold exactly one .csv file; found: {found}")
    return tables[0]


# --- prepare


def prepare(data: Path, labels: Path, parameters: Parameters, output: Path, output_labels: Path) -> None:
    """Write the prepared images and tables of every frontal view."""
    table = find_raw_table(labels)
    (output / "images").mkdir()
    image_rows, label_rows = [], []
    for number, row in read_table(table, ["Path", "Frontal/Lateral", *parameters.labels]):
        if row["Frontal/Lateral"].strip().lower() != "frontal":
            continue  # the findings are read from frontal views only
        where = f"{table.name}, row {number}"
        values = label_values(row, parameters, where)
        if values is None:
            continue
        case = f"{number:06d}"
        image = load_raw_image(data, row["Path"], where)
        size = (parameters.image_size, parameters.image_size)
        ImageOps.fit(image, size, Image.Resampling.BILINEAR).save(output / "images" / f"{case}.png")
        image_rows.append([case, f"images/{case}.png"])
        label_rows.append([case, *map(str, values)])
    if not image_rows:
        raise DataError(f"{table.name} has no frontal view to prepare")
    write_table(output / "data.csv", ["id", "image"], image_rows)
    write_table(output_labels / "labels.csv", ["id", *parameters.labels], label_rows)


def label_values(row: dict[str, str], parameters: Parameters, where: str) -> list[int] | None:
    """0 or 1 per finding; None when the case is to be left out."""
    values = []
    for name in parameters.labels:
        cell = row[name].strip()
        if cell in UNCERTAIN_CELLS:
            if parameters.uncertain == "drop":
                return None
            values.append(int(parameters.uncertain == "ones"))
        elif cell in CELL_VALUES:
            values.append(CELL_VALUES[cell])
        else:
            raise DataError(f"{where}: {name} is {cell!r}; expected 1.0, 0.0, -1.0 or blank")
    return values


def load_raw_image(data: Path, path: str, where: str) -> Image.Image:
    """The image at ``path`` below ``data``, as 8-bit grey."""
    root = data.resolve()
    try:
        file = (root / path.strip()).resolve()
        found = file.is_file()
    # Names that are too long or hold a zero byte, and links in a circle.
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"{where}: Path {path!r} cannot be followed: {error}") from error
    # A table must not reach files that the site did not offer, be it by "..", an absolute path or a link.
    if not file.is_relative_to(root):
        raise DataError(f"{where}: Path {path!r} leads outside of the images folder")
    if not found:
        raise DataError(f"{where}: there is no image {path!r} in the images folder")
    return open_image(file, f"{where}: the image {path!r}")


def open_image(file: Path, what: str) -> Image.Image:
    """Read a whole image file as 8-bit grey."""
    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(f"{what} has more than 8 bits per pixel; apply the display window first")
            return image.convert("L")
    # Pillow's decoders also raise SyntaxError and ValueError on broken files.
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{what} cannot be read: {error}") from error


# --- sanity check and statistics, on prepared data


@dataclass(frozen=True)
class PreparedCase:
    case: str
    image: Path
    values: list[int]  # 0 or 1 per finding, in the order of the parameters


def read_prepared(data: Path, labels: Path, parameters: Parameters) -> list[PreparedCase]:
    """The prepared cases; raises DataError unless both tables are what ``prepare`` writes."""
    images = read_prepared_table(data / "data.csv", ["id", "image"])
    targets = read_prepared_table(labels / "labels.csv", ["id", *parameters.labels])
    if images.keys() != targets.keys():
        odd = sorted(images.keys() ^ targets.keys())
        raise DataError(f"data.csv and labels.csv do not hold the same ids; first difference: {odd[0]}")
    cases = []
    for case, (image,) in images.items():
        if image != f"images/{case}.png":
            raise DataError(f"data.csv, id {case}: image is {image!r}, expected 'images/{case}.png'")
        if not set(targets[case]) <= {"0", "1"}:
            raise DataError(f"labels.csv, id {case}: labels must be 0 or 1")
        cases.append(PreparedCase(case, data / image, [int(value) for value in targets[case]]))
    return cases


def read_prepared_table(file: Path, header: list[str]) -> dict[str, list[str]]:
    """id -> the other cells, of a table with exactly the columns of ``header``."""
    rows: dict[str, list[str]] = {}
    for number, row in read_table(file, header):
        if list(row) != header:
            raise DataError(f"{file.name} must have exactly the columns {', '.join(header)}")
        case, *cells = row.values()
        if not (case.isascii() and case.isdigit()) or case in rows:
            raise DataError(f"{file.name}, row {number}: id {case!r} is repeated or not a number")
        rows[case] = cells
    if not rows:
        raise DataError(f"{file.name} holds no case")
    return rows


def read_pixels(case: PreparedCase, parameters: Parameters) -> np.ndarray:
    """Grey levels 0-255 of a prepared image, (image_size, image_size) uint8."""
    if not case.image.is_file():
        raise DataError(f"id {case.case}: images/{case.image.name} is missing")
    pixels = np.asarray(open_image(case.image, f"id {case.case}: the image"))
    if pixels.shape != (parameters.image_size, parameters.image_size):
        height, width = pixels.shape
        raise DataError(f"id {case.case}: the image is {width}x{height}, expected {parameters.image_size} per side")
    return pixels


def sanity_check(data: Path, labels: Path, parameters: Parameters) -> None:
    """Raise DataError unless the prepared data is complete and every image shows something."""
    for case in read_prepared(data, labels, parameters):
        pixels = read_pixels(case, parameters)
        if pixels.min() == pixels.max():
            raise DataError(f"id {case.case}: the image is blank")


def statistics(data: Path, labels: Path, parameters: Parameters, output: Path) -> None:
    """Write aggregate numbers. They leave the site, so no id, file name or per-case value may be among them."""
    cases = read_prepared(data, labels, parameters)
    # Sums of whole numbers: exact, whatever the order and however many images.
    total = total_of_squares = pixel_count = 0
    for case in cases:
        pixels = read_pixels(case, parameters).astype(np.int64)
        total += int(pixels.sum())
        total_of_squares += int((pixels**2).sum())
        pixel_count += pixels.size
    mean = total / pixel_count
    deviation = max(total_of_squares / pixel_count - mean**2, 0.0) ** 0.5
    positives = np.array([case.values for case in cases]).sum(axis=0)
    summary = {
        "cases": len(cases),
        "image_size": parameters.image_size,
        "pixels": {"mean": round(mean, 4), "std": round(deviation, 4)},
        "positives": dict(zip(parameters.labels, positives.tolist(), strict=True)),
    }
    output.write_text(yaml.safe_dump(summary, sort_keys=False), encoding="utf-8")


# --- command line


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="CheXpert-like data preparator")
    tasks = parser.add_subparsers(dest="task", required=True)
    inputs = ["data_path", "labels_path", "parameters_file"]
    outputs = {"prepare": ["output_path", "output_labels_path"], "sanity_check": [], "statistics": ["output_path"]}
    for task, paths in outputs.items():
        task_parser = tasks.add_parser(task)
        for name in [*inputs, *paths]:
            task_parser.add_argument(f"--{name}", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    data, labels = arguments.data_path, arguments.labels_path
    try:
        parameters = read_parameters(arguments.parameters_file)
        if arguments.task == "prepare":
            prepare(data, labels, parameters, arguments.output_path, arguments.output_labels_path)
        elif arguments.task == "sanity_check":
            sanity_check(data, labels, parameters)
        else:
            statistics(data, labels, parameters, arguments.output_path)
    except DataError as error:
        sys.exit(f"chexpert_prep {arguments.task}: {error}")


if __name__ == "__main__":
    main()
