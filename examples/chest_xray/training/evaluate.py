"""Score weights on the demo data and on a larger test set, through the three cubes.

Usage: ``python evaluate.py --weights densenet.onnx``
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cubes
import generate

TEST_CASES = 1500


def main() -> None:
    parser = argparse.ArgumentParser(description="Score weights on the demo data and on a generated test set.")
    parser.add_argument("--weights", type=Path, default=cubes.WEIGHTS, help="default: the weights of the model cube")
    parser.add_argument("--cases", type=int, default=TEST_CASES, help="size of the test set")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        generate.write_dataset(work / "test", generate.TEST_SEED, arguments.cases)
        for name, dataset in (("demo", cubes.EXAMPLE / "mock_chexpert"), ("test", work / "test")):
            results = cubes.evaluate(dataset, arguments.weights, work / f"{name}_results")
            print(f"{name}: {results['cases']}")
            for finding in results["AUC"]:
                print(f"  {finding:15} AUC {results['AUC'][finding]}  F1 {results['F1'][finding]}")


if __name__ == "__main__":
    main()
