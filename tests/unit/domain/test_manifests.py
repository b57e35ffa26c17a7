"""Both manifest formats, the kind that follows, and errors that name what is missing."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from medperf.domain.errors import InvalidInput
from medperf.domain.kinds import kind_of, require_kind
from medperf.domain.manifests import parse_manifest
from medperf.domain.states import Kind

MODEL: dict[str, Any] = {
    "name": "densenet",
    "docker": {"image": "organisation/densenet:1.0"},
    "tasks": {
        "infer": {
            "parameters": {
                "inputs": {
                    "data_path": "data/",
                    "parameters_file": "parameters.yaml",
                    "weights": "additional_files/weights.pt",
                },
                "outputs": {"output_path": {"type": "directory", "default": "predictions"}},
            }
        }
    },
}


def parse(document: Any) -> Any:
    return parse_manifest(yaml.safe_dump(document).encode())


def changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(MODEL)
    *parents, last = path.split("/")
    target = document
    for part in parents:
        target = target[part]
    if value is None:
        del target[last]
    else:
        target[last] = value
    return document


def test_mlcube_format() -> None:
    manifest = parse(MODEL)
    assert kind_of(manifest) is Kind.MODEL
    infer = manifest.tasks["infer"]
    assert infer.input("data_path").type == "directory"
    assert infer.input("data_path").default == "data"
    assert infer.output("output_path").type == "directory"
    assert manifest.docker_image == "organisation/densenet:1.0"


def test_container_config_format() -> None:
    manifest = parse(
        {
            "container_type": "DockerImage",
            "image": "organisation/metrics:1.0",
            "tasks": {
                "evaluate": {
                    "run_args": {"command": ["evaluate"]},
                    "input_volumes": {
                        "predictions": {"mount_path": "/mlcommons/volumes/predictions", "type": "directory"},
                        "labels": {"mount_path": "/mlcommons/volumes/labels", "type": "directory"},
                    },
                    "output_volumes": {
                        "output_path": {"mount_path": "/mlcommons/volumes/results.yaml", "type": "file"}
                    },
                }
            },
        }
    )
    assert kind_of(manifest) is Kind.EVALUATOR
    assert manifest.tasks["evaluate"].output("output_path").mount_path == "/mlcommons/volumes/results.yaml"


def test_unknown_sections_are_reported_not_fatal() -> None:
    assert parse({**MODEL, "k8s": {}, "mystery": 1}).unknown == ("k8s", "mystery")


def test_misspelt_keys_are_reported_too() -> None:
    document = changed("tasks/infer", {**MODEL["tasks"]["infer"], "entry_point": "x"})
    assert parse({**document, "python": {"requirments": "r.txt"}}).unknown == (
        "python.requirments",
        "tasks.infer.entry_point",
    )


def test_separate_labels() -> None:
    outputs = {"output_path": "a/", "output_labels_path": "b/"}
    inputs = {"data_path": "d/", "labels_path": "l/"}
    prepare = {"parameters": {"inputs": inputs, "outputs": outputs}}
    rest = {"sanity_check": {"parameters": {"inputs": {"data_path": "d/"}}}}
    statistics = {
        "parameters": {"inputs": {"data_path": "d/"}, "outputs": {"output_path": {"type": "file", "default": "s.yaml"}}}
    }
    manifest = parse({"docker": {"image": "a"}, "tasks": {"prepare": prepare, **rest, "statistics": statistics}})
    assert kind_of(manifest) is Kind.PREPARATOR
    assert manifest.separates_labels


@pytest.mark.parametrize(
    ("document", "named"),
    [
        (changed("tasks/infer/parameters/inputs/data_path", None), "data_path"),
        (changed("tasks/infer/parameters/outputs/output_path", None), "output_path"),
        (changed("tasks/infer/parameters/inputs/mine", "elsewhere/x"), "mine"),
        (changed("tasks/infer/parameters/outputs/more", "x/"), "more"),
        ({**MODEL, "tasks": {"train": {}}}, "train"),
        ({**MODEL, "tasks": {"infer": MODEL["tasks"]["infer"], "evaluate": {}}}, "evaluator"),
        ({**MODEL, "tasks": {"prepare": {"parameters": {"inputs": {"data_path": "a/"}}}}}, "labels_path"),
        (
            {
                **MODEL,
                "tasks": {
                    "prepare": {
                        "parameters": {
                            "inputs": {"data_path": "a/", "labels_path": "b/"},
                            "outputs": {"output_path": "c/"},
                        }
                    }
                },
            },
            "sanity_check",
        ),
    ],
)
def test_the_kind_error_names_what_is_missing(document: Any, named: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        kind_of(parse(document))
    assert named in caught.value.what


@pytest.mark.parametrize(
    "default",
    ["/etc/passwd", "../x", "a/../../x", "C:\\x", "a\\b", "\n", "c:/x", "", "..", "./../x", "a\x00b", "~\t/x"],
)
def test_defaults_never_lead_out(default: str) -> None:
    with pytest.raises(InvalidInput):
        parse(changed("tasks/infer/parameters/inputs/data_path", {"type": "directory", "default": default}))


@pytest.mark.parametrize(
    "document",
    [
        [],
        "text",
        None,
        {},
        {"tasks": {}},
        {"name": 3, **{k: v for k, v in MODEL.items() if k != "name"}},
        changed("docker", None),
        changed("docker", "image"),
        changed("docker/image", "-v /:/host"),
        changed("docker/image", "a b"),
        changed("tasks", ["infer"]),
        changed("tasks/infer", 3),
        changed("tasks/infer/parameters", []),
        changed("tasks/infer/parameters/inputs/data_path", 3),
        changed("tasks/infer/parameters/inputs/data_path", {"type": "blob"}),
        changed("tasks/infer/parameters/inputs/data_path", {"opts": "rwx"}),
        changed("tasks/infer/parameters/inputs/--flag", "x/"),
        changed("tasks/infer/parameters/inputs/output_path", "x/"),
        changed("tasks/--privileged", {}),
        {**MODEL, "platform": {"accelerator_count": "all"}},
        {**MODEL, "python": {"project": "../../etc"}},
        {**MODEL, "python": {"entrypoint": "../x.py"}},
        {**MODEL, "python": {"requirements": "/etc/passwd"}},
        {"container_type": "Mystery", "image": "a", "tasks": {"infer": {}}},
        {
            "container_type": "DockerImage",
            "image": "a",
            "tasks": {"infer": {"input_volumes": {"d": {"mount_path": "x"}}}},
        },
        {
            "container_type": "DockerImage",
            "image": "a",
            "tasks": {"infer": {"input_volumes": {"d": {"mount_path": "/../x"}}}},
        },
    ],
)
def test_wrong_shapes_are_refused(document: Any) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(document)
    assert caught.value.what


def test_wrong_kind_names_the_missing_task() -> None:
    with pytest.raises(InvalidInput, match="lacks the task 'evaluate'"):
        require_kind(parse(MODEL), Kind.EVALUATOR, label="--evaluator")
