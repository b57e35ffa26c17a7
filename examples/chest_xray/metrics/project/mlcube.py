"""Evaluator: AUC and F1 of each finding.

* ``predictions``: ``predictions.csv`` (id, one probability per finding; further columns are ignored).
* ``labels``: ``labels.csv`` (id, one 0/1 column per finding).
* ``output_path``: a YAML file, ``{AUC: {finding: x}, F1: {finding: x}, cases: {evaluated, failed, total}}``.

Rows are matched by id, never by position. A case without a row, or with a blank or non-finite value, has *failed*:
it is left out of every metric and counted, so that a model that stays silent about hard cases is seen to do so.
A repeated id, an id that has no label, and a value that is no probability are errors: nothing is then written.
"""

from __future__ import annotations

import argparse
import csv
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml


class EvaluationError(Exception):
    """The predictions, the labels or the parameters cannot be used; the message says what is wrong and where."""


@dataclass(frozen=True)
class Parameters:
    labels: list[str]
    f1_threshold: float
    decimals: int


def read_parameters(file: Path) -> Parameters:
    """The parameters, checked."""
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        return Parameters(list(raw["labels"]), float(raw["f1_threshold"]), int(raw["decimals"]))
    except (OSError, yaml.YAMLError, TypeError, ValueError, KeyError) as error:
        raise EvaluationError(f"{file.name} needs labels, f1_threshold and decimals: {error!r}") from error


# --- tables


def read_table(file: Path, columns: list[str]) -> dict[str, np.ndarray]:
    """id -> values of ``columns`` (columns,) float64; a blank cell is NaN."""
    rows: dict[str, np.ndarray] = {}
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in ["id", *columns] if name not in (reader.fieldnames or [])]
            if missing:
                raise EvaluationError(f"{file.name} lacks the column(s) {', '.join(missing)}")
            for number, row in enumerate(reader, start=1):
                if row["id"] in rows:
                    raise EvaluationError(f"{file.name}, row {number}: id {row['id']!r} is repeated")
                rows[row["id"]] = read_values(row, columns, f"{file.name}, row {number}")
    except OSError as error:
        raise EvaluationError(f"{file.name} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise EvaluationError(f"{file.name} is not a readable csv file: {error}") from error
    return rows


def read_values(row: dict[str, str | None], columns: list[str], where: str) -> np.ndarray:
    """The values of one row (columns,) float64; a blank or absent cell is NaN."""
    try:
        return np.array([float(row[name] or "nan") for name in columns])
    except ValueError as error:
        raise EvaluationError(f"{where}: {error}") from error


def match(predictions: dict[str, np.ndarray], labels: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Scores and targets (evaluated cases, findings) of the cases with a usable prediction."""
    unknown = predictions.keys() - labels.keys()
    if unknown:
        raise EvaluationError(f"predictions.csv has {len(unknown)} id(s) without a label, such as {min(unknown)!r}")
    usable = [case for case in labels if case in predictions and np.isfinite(predictions[case]).all()]
    findings = len(next(iter(labels.values())))
    scores = np.array([predictions[case] for case in usable]).reshape(-1, findings)
    if ((scores < 0) | (scores > 1)).any():
        raise EvaluationError("predictions.csv has values that are not probabilities between 0 and 1")
    return scores, np.array([labels[case] for case in usable]).reshape(-1, findings)


# --- metrics of one finding, from scores and 0/1 targets (cases,); None where the definition has none


def auc(scores: np.ndarray, targets: np.ndarray) -> float | None:
    """The chance that a positive case scores above a negative one, a tie counting half; None with one class only.

    Mann and Whitney: the sum of the positives' ranks, less its smallest possible value, over the number of pairs.
    """
    positive = targets == 1
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    # Equal scores share the mean of the ranks that they take up together.
    ranks = np.cumsum(counts) - (counts - 1) / 2
    excess = ranks[inverse][positive].sum() - positives * (positives + 1) / 2
    return float(excess / (positives * negatives))


def f1(scores: np.ndarray, targets: np.ndarray, threshold: float) -> float | None:
    """2 TP / (2 TP + FP + FN); None when nothing is present and nothing was predicted."""
    predicted, present = scores >= threshold, targets == 1
    mentioned = int(predicted.sum() + present.sum())  # 2 TP + FP + FN
    return 2 * int((predicted & present).sum()) / mentioned if mentioned else None


def evaluate(predictions: Path, labels: Path, parameters: Parameters, output: Path) -> None:
    """Write the metrics."""
    truth = read_table(labels / "labels.csv", parameters.labels)
    if not truth or not np.isin(list(truth.values()), (0, 1)).all():
        raise EvaluationError("labels.csv must hold at least one case, and only 0 and 1 as labels")
    scores, targets = match(read_table(predictions / "predictions.csv", parameters.labels), truth)

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, parameters.decimals)

    columns = list(zip(parameters.labels, scores.T, targets.T, strict=True))
    results = {
        "AUC": {name: rounded(auc(score, target)) for name, score, target in columns},
        "F1": {name: rounded(f1(score, target, parameters.f1_threshold)) for name, score, target in columns},
        "cases": {"evaluated": len(scores), "failed": len(truth) - len(scores), "total": len(truth)},
    }
    output.write_text(yaml.safe_dump(results, sort_keys=False), encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="AUC and F1 of each finding")
    task = parser.add_subparsers(dest="task", required=True).add_parser("evaluate")
    for name in ("predictions", "labels", "parameters_file", "output_path"):
        task.add_argument(f"--{name}", type=Path, required=True)
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    try:
        parameters = read_parameters(arguments.parameters_file)
        evaluate(arguments.predictions, arguments.labels, parameters, arguments.output_path)
    except EvaluationError as error:
        sys.exit(f"metrics {arguments.task}: {error}")


if __name__ == "__main__":
    main()
