"""The evaluator: its two formulas against their definitions, and how it treats cases that are missing or odd."""

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

LABELS = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema"]


@pytest.fixture(scope="module")
def metrics(example):
    return example.load("metrics/project/mlcube.py")


# Few distinct scores, so that ties are common.
scored_cases = st.lists(
    st.tuples(st.one_of(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), st.floats(0, 1)), st.integers(0, 1)), max_size=40
)


def split(cases):
    return np.array([score for score, _ in cases], dtype=float), np.array([target for _, target in cases], dtype=float)


@given(cases=scored_cases)
def test_auc_is_the_share_of_ordered_pairs(metrics, cases):
    positives = [score for score, target in cases if target]
    negatives = [score for score, target in cases if not target]
    expected = None
    if positives and negatives:
        wins = sum((p > n) + 0.5 * (p == n) for p in positives for n in negatives)
        expected = pytest.approx(wins / (len(positives) * len(negatives)), abs=1e-12)
    assert metrics.auc(*split(cases)) == expected


@given(cases=scored_cases, threshold=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_f1_is_the_mean_of_precision_and_recall(metrics, cases, threshold):
    hits = sum(score >= threshold and target == 1 for score, target in cases)
    predicted = sum(score >= threshold for score, _ in cases)
    present = sum(target for _, target in cases)
    if not predicted and not present:
        expected = None
    elif not hits:
        expected = 0.0
    else:
        precision, recall = hits / predicted, hits / present
        expected = pytest.approx(2 * precision * recall / (precision + recall), abs=1e-12)
    assert metrics.f1(*split(cases), threshold) == expected


def table(header, rows):
    return "\n".join(",".join(map(str, row)) for row in [header, *rows]) + "\n"


TARGETS = [("a", 1, 0, 1, 0), ("b", 0, 1, 0, 0), ("c", 1, 1, 0, 0)]
SCORES = [("a", 0.9, 0.2, 0.4, 0.1), ("b", 0.3, 0.8, 0.6, 0.2), ("c", 0.2, 0.7, 0.1, 0.3)]


@pytest.fixture
def evaluate(example, tmp_path):
    """Run the program on the given tables; returns the completed process and the results, if any."""

    def run(predictions=None, labels=None, **paths):
        for name, text in (("predictions", predictions), ("labels", labels)):
            (tmp_path / name).mkdir()
            rows = SCORES if name == "predictions" else TARGETS
            text = table(["id", *LABELS], rows) if text is None else text
            if text:
                (tmp_path / name / f"{name}.csv").write_text(text)
        output = tmp_path / "results.yaml"
        folders = {"predictions": tmp_path / "predictions", "labels": tmp_path / "labels"}
        completed = example.run("metrics", "evaluate", **folders, output_path=output, **paths)
        return completed, yaml.safe_load(output.read_text()) if output.exists() else None

    return run


EXPECTED = {
    "AUC": {"Atelectasis": 0.5, "Cardiomegaly": 1.0, "Consolidation": 0.5, "Edema": None},
    "F1": {"Atelectasis": 0.6667, "Cardiomegaly": 1.0, "Consolidation": 0.0, "Edema": None},
    "cases": {"evaluated": 3, "failed": 0, "total": 3},
}


def test_results(evaluate):
    completed, results = evaluate()
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")
    assert results == EXPECTED


def test_rows_match_by_id_and_columns_by_name(evaluate):
    rows = [(row[0], "x", *reversed(row[1:])) for row in reversed(SCORES)]
    assert evaluate(table(["id", "note", *reversed(LABELS)], rows))[1] == EXPECTED


@pytest.mark.parametrize("value", ["nan", "", "inf", "-inf", None])
def test_a_case_without_a_usable_prediction_has_failed(evaluate, value):
    rows = SCORES[:2] if value is None else [*SCORES[:2], ("c", 0.2, value, 0.1, 0.3)]
    results = evaluate(table(["id", *LABELS], rows))[1]
    assert results["cases"] == {"evaluated": 2, "failed": 1, "total": 3}
    assert results["AUC"] == {"Atelectasis": 1.0, "Cardiomegaly": 1.0, "Consolidation": 0.0, "Edema": None}


def test_every_case_failed(evaluate):
    completed, results = evaluate(table(["id", *LABELS], []))
    assert completed.returncode == 0
    assert results["cases"] == {"evaluated": 0, "failed": 3, "total": 3}
    assert set(results["AUC"].values()) == set(results["F1"].values()) == {None}


def test_the_threshold_comes_from_the_parameters(evaluate, tmp_path):
    file = tmp_path / "parameters.yaml"
    file.write_text("labels: [Atelectasis, Edema]\nf1_threshold: 0.2\ndecimals: 2\n")
    results = evaluate(parameters_file=file)[1]
    assert results["F1"] == {"Atelectasis": 0.8, "Edema": 0.0}


def test_undefined_is_written_as_null(evaluate, tmp_path):
    evaluate()
    text = (tmp_path / "results.yaml").read_text().lower()
    assert "edema: null" in text
    assert "nan" not in text


WIDE = ["id", *LABELS]


@pytest.mark.parametrize(
    ("predictions", "labels", "says"),
    [
        ("", None, "predictions.csv cannot be read"),
        (None, "", "labels.csv cannot be read"),
        (table(WIDE, [*SCORES, ("d", 0, 0, 0, 0)]), None, "1 id(s) without a label, such as 'd'"),
        (table(WIDE, [*SCORES, SCORES[0]]), None, "predictions.csv, row 4: id 'a' is repeated"),
        (None, table(WIDE, [*TARGETS, TARGETS[0]]), "labels.csv, row 4: id 'a' is repeated"),
        (table(WIDE[:-1], [row[:-1] for row in SCORES]), None, "predictions.csv lacks the column(s) Edema"),
        (table(["case", *LABELS], SCORES), None, "predictions.csv lacks the column(s) id"),
        (table(WIDE, [("a", "high", 0, 0, 0)]), None, "predictions.csv, row 1"),
        (table(WIDE, [("a", 1.5, 0, 0, 0)]), None, "not probabilities"),
        (table(WIDE, [("a", -0.1, 0, 0, 0)]), None, "not probabilities"),
        (table(WIDE, []), table(WIDE, []), "at least one case"),
        (None, table(WIDE, [("a", "", 0, 0, 0)]), "only 0 and 1"),
        (None, table(WIDE, [("a", -1, 0, 0, 0)]), "only 0 and 1"),
    ],
)
def test_refusals(evaluate, predictions, labels, says):
    completed, results = evaluate(predictions, labels)
    assert completed.returncode == 1
    assert "Traceback" not in completed.stderr
    assert says in completed.stderr
    assert results is None


def test_bad_parameters(evaluate, tmp_path):
    file = tmp_path / "parameters.yaml"
    file.write_text("labels: [Edema]\n")
    completed, results = evaluate(parameters_file=file)
    assert completed.returncode == 1
    assert "needs labels, f1_threshold and decimals" in completed.stderr
    assert results is None
