"""The manifests: what they point to exists, and each program takes exactly the parameters that they declare."""

import re
import subprocess
import sys

import pytest
import yaml

CUBES = ("chexpert_prep", "xrv_densenet", "xrv_linear", "metrics")


def manifest(example, cube):
    return yaml.safe_load((example.root / cube / "mlcube" / "mlcube.yaml").read_text())


@pytest.mark.parametrize("cube", CUBES)
def test_what_a_manifest_points_to_exists(example, cube):
    folder, declared = example.root / cube / "mlcube", manifest(example, cube)
    project = folder / declared["python"]["project"]
    assert (project / declared["python"]["entrypoint"]).is_file()
    assert (project / declared["python"]["requirements"]).is_file()
    assert (folder / declared["docker"]["build_context"] / declared["docker"]["build_file"]).is_file()
    assert (folder / "workspace" / "parameters.yaml").is_file()


@pytest.mark.parametrize("cube", CUBES)
def test_programs_take_the_declared_parameters(example, cube):
    declared = manifest(example, cube)
    for task, content in declared["tasks"].items():
        parameters = {**content["parameters"]["inputs"], **content["parameters"].get("outputs", {})}
        program = example.root / cube / "project" / "mlcube.py"
        usage = subprocess.run([sys.executable, program, task, "--help"], capture_output=True, text=True, check=True)
        assert set(re.findall(r"--(\w+) ", usage.stdout)) - {"help"} == set(parameters)


def test_the_preparator_separates_the_labels(example):
    outputs = manifest(example, "chexpert_prep")["tasks"]["prepare"]["parameters"]["outputs"]
    assert set(outputs) == {"output_path", "output_labels_path"}


@pytest.mark.parametrize(
    "file", [*(f"{cube}/project/requirements.txt" for cube in CUBES), "training/requirements-train.txt"]
)
def test_requirements_are_locked(example, file):
    text = (example.root / file).read_text()
    requirements = [part for part in re.split(r"\n(?=\w)", text) if part[0].isalnum()]
    assert requirements
    for requirement in requirements:
        assert re.match(r"[\w-]+==[\w.]+ ", requirement)
        assert "--hash=sha256:" in requirement
    assert "://" not in text


def test_cubes_share_versions(example):
    versions: dict[str, set[str]] = {}
    for cube in CUBES:
        text = (example.root / cube / "project" / "requirements.txt").read_text()
        for name, version in re.findall(r"^([\w-]+)==(\S+)", text, re.MULTILINE):
            versions.setdefault(name, set()).add(version)
    assert all(len(found) == 1 for found in versions.values()), versions


def test_all_agree_on_the_findings(example):
    labels = [yaml.safe_load(example.parameters(cube).read_text())["labels"] for cube in CUBES]
    assert labels[0] == labels[1] == labels[2]
