"""A new MLCube to start from: manifest, parameters, project and Dockerfile that already run."""

from __future__ import annotations

from pathlib import Path
from string import Template

from medperf.domain.errors import Conflict, InvalidInput
from medperf.domain.kinds import KIND_TASKS
from medperf.domain.states import Kind
from medperf.flows.paths import local_path
from medperf.workspace.files import scratch, sweep_scratch

TEMPLATES: dict[str, Kind] = {"data_preparator": Kind.PREPARATOR, "model": Kind.MODEL, "evaluator": Kind.EVALUATOR}

_SCRATCH = ".medperf-"
_TYPES = {
    ("evaluate", "output_path"): "file",
    ("statistics", "output_path"): "file",
    ("prepare", "report_file"): "file",
}

_MANIFEST = Template("""\
name: $name
description: $description
authors:
  - {name: Your name}
platform: {accelerator_count: 0}
docker:
  image: your-organisation/$name:0.1.0
  build_context: ../project
  build_file: Dockerfile
# What the sandbox engine runs where no container engine is installed. Requirements are hash-locked, wheels only:
#   uv pip compile --generate-hashes --universal requirements.in -o requirements.txt
python:
  project: ../project
  entrypoint: mlcube.py
  requires_python: ">=3.11"
tasks:
$tasks""")

_DOCKERFILE = """\
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}
COPY . /mlcube_project
USER 1000:1000
ENTRYPOINT ["python3", "/mlcube_project/mlcube.py"]
"""

_PROGRAM_HEAD = Template('''\
"""$description.

Called as: mlcube.py TASK --PARAMETER=PATH ... with every parameter that mlcube.yaml declares for the task.
Inputs are read-only; there is no network; what is written to the outputs is what goes on.
"""

import argparse
import json
from pathlib import Path

''')

_BODIES = {
    "prepare": """\
    output_path.mkdir(parents=True, exist_ok=True)
    output_labels_path.mkdir(parents=True, exist_ok=True)
    for source, target in ((data_path, output_path), (labels_path, output_labels_path)):
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            copy = target / file.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
""",
    "sanity_check": """\
    if not any(path.is_file() for path in data_path.rglob("*")):
        raise SystemExit("sanity check: the prepared data holds no file")
""",
    "statistics": """\
    cases = sum(1 for path in data_path.rglob("*") if path.is_file())
    output_path.write_text(json.dumps({"cases": cases}))
""",
    "infer": """\
    output_path.mkdir(parents=True, exist_ok=True)
    predictions = {str(file.relative_to(data_path)): 0.5 for file in sorted(data_path.rglob("*")) if file.is_file()}
    (output_path / "predictions.json").write_text(json.dumps(predictions))
""",
    "evaluate": """\
    predicted = json.loads((predictions / "predictions.json").read_text())
    total = len(predicted)
    mean = round(sum(predicted.values()) / total, 4) if total else None
    output_path.write_text(json.dumps({"mean_score": mean, "cases": {"evaluated": total, "failed": 0, "total": total}}))
""",
}

_EXTRA_INPUTS = {"sanity_check": ("labels_path",), "statistics": ("labels_path",)}
_EXTRA_OUTPUTS = {"prepare": ("output_labels_path",)}


def create_mlcube(template: str, *, name: str, output: Path) -> Path:
    """Write ``output/name`` with ``mlcube/`` and ``project/``; it can be tested at once.

    Raises:
        InvalidInput: no such template, or a name that is no plain word.
        Conflict: the folder exists.
    """
    if template not in TEMPLATES:
        raise InvalidInput("unknown_template", f"{template!r} is no template.", f"Use one of {', '.join(TEMPLATES)}.")
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise InvalidInput("bad_name", f"{name!r} is not a plain name.", "Use letters, digits, dashes and underscores.")
    output = local_path(output)
    folder = output / name
    sweep_scratch(output, prefix=_SCRATCH)
    if folder.exists():
        raise Conflict(
            "folder_exists", f"The folder {str(folder)!r} exists already.", "Choose another --name or --output."
        )
    output.mkdir(parents=True, exist_ok=True)
    with scratch(output, prefix=_SCRATCH) as temporary:
        fresh = temporary / name
        _write(fresh, TEMPLATES[template], name)
        fresh.rename(folder)
    return folder


def _write(folder: Path, kind: Kind, name: str) -> None:
    description = f"{kind.with_article.capitalize()} for a MedPerf benchmark"
    workspace = folder / "mlcube" / "workspace"
    workspace.mkdir(parents=True)
    (folder / "project").mkdir()
    (folder / "mlcube" / "mlcube.yaml").write_text(
        _MANIFEST.substitute(name=name.lower(), description=description, tasks=_tasks(kind))
    )
    (workspace / "parameters.yaml").write_text(
        "# Settings of your own, read by the tasks through parameters_file.\nversion: 1\n"
    )
    (folder / "project" / "Dockerfile").write_text(_DOCKERFILE)
    (folder / "project" / "mlcube.py").write_text(_program(kind, description))


def _parameters(task: str, kind: Kind) -> tuple[list[str], list[str]]:
    rule = KIND_TASKS[kind][task]
    inputs = [*rule.required_inputs, *_EXTRA_INPUTS.get(task, ()), "parameters_file"]
    return inputs, [*rule.required_outputs, *_EXTRA_OUTPUTS.get(task, ())]


def _tasks(kind: Kind) -> str:
    lines = []
    for task in KIND_TASKS[kind]:
        inputs, outputs = _parameters(task, kind)
        lines += [f"  {task}:", "    parameters:", "      inputs:"]
        lines += [
            f"        {name}: {{type: file, default: parameters.yaml}}"
            if name == "parameters_file"
            else f"        {name}: {{type: directory, default: {name}}}"
            for name in inputs
        ]
        if outputs:
            lines.append("      outputs:")
            lines += [
                f"        {name}: {{type: {_TYPES.get((task, name), 'directory')}, default: {task}_{name}}}"
                for name in outputs
            ]
    return "\n".join(lines) + "\n"


def _program(kind: Kind, description: str) -> str:
    text = _PROGRAM_HEAD.substitute(description=description)
    for task in KIND_TASKS[kind]:
        inputs, outputs = _parameters(task, kind)
        arguments = ", ".join(f"{name}: Path" for name in (*inputs, *outputs))
        text += f'\ndef {task}({arguments}) -> None:\n    """Task {task}."""\n{_BODIES[task]}\n'
    tasks = ", ".join(f'"{task}": {task}' for task in KIND_TASKS[kind])
    return (
        text
        + f'''
def main() -> None:
    """Call the task with its paths."""
    tasks = {{{tasks}}}
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=tasks)
    chosen, rest = parser.parse_known_args()
    paths = dict(argument.removeprefix("--").split("=", 1) for argument in rest)
    tasks[chosen.task](**{{name: Path(path) for name, path in paths.items()}})


if __name__ == "__main__":
    main()
'''
    )
