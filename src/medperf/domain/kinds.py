"""The kind of an MLCube, which follows from its tasks, and the tasks and parameters that each kind declares."""

from __future__ import annotations

from dataclasses import dataclass

from medperf.domain.manifest_fields import bad_manifest, names_of
from medperf.domain.manifests import Manifest, Task
from medperf.domain.states import Kind


@dataclass(frozen=True)
class _TaskRule:
    required_inputs: tuple[str, ...]
    optional_inputs: tuple[str, ...] = ()
    required_outputs: tuple[str, ...] = ()
    optional_outputs: tuple[str, ...] = ()
    extra_inputs: bool = False  # any name, if it lives under additional_files/


_COMMON = ("parameters_file", "metadata_path")
KIND_TASKS: dict[Kind, dict[str, _TaskRule]] = {
    Kind.PREPARATOR: {
        "prepare": _TaskRule(
            ("data_path", "labels_path"),
            _COMMON,
            ("output_path",),
            ("output_labels_path", "report_file"),
            extra_inputs=True,
        ),
        "sanity_check": _TaskRule(("data_path",), ("labels_path", *_COMMON), extra_inputs=True),
        "statistics": _TaskRule(("data_path",), ("labels_path", *_COMMON), ("output_path",), extra_inputs=True),
    },
    Kind.MODEL: {"infer": _TaskRule(("data_path",), ("parameters_file",), ("output_path",), extra_inputs=True)},
    Kind.EVALUATOR: {
        "evaluate": _TaskRule(("predictions", "labels"), ("parameters_file",), ("output_path",), extra_inputs=True)
    },
}


def kind_of(manifest: Manifest) -> Kind:
    """The kind whose tasks the manifest declares, with every parameter checked.

    Raises:
        InvalidInput: no kind fits; the error names the missing task or parameter.
    """
    owners = {task: kind for kind, tasks in KIND_TASKS.items() for task in tasks}
    kinds = {owners[name] for name in manifest.tasks if name in owners}
    if not kinds:
        raise bad_manifest(
            f"The manifest declares the tasks {names_of(manifest.tasks)}, which belong to no kind of MLCube.",
            "A preparator has prepare, sanity_check and statistics; a model has infer; an evaluator has evaluate.",
            code="unknown_kind",
        )
    if len(kinds) > 1:
        raise bad_manifest(
            f"The manifest mixes tasks of several kinds ({names_of(kinds)}).",
            "Split it: one MLCube has one kind.",
            code="unknown_kind",
        )
    (kind,) = kinds
    for name, rule in KIND_TASKS[kind].items():
        task = manifest.tasks.get(name)
        if task is None:
            raise bad_manifest(
                f"The {kind.value} lacks the task {name!r}.",
                f"{kind.with_article.capitalize()} declares {names_of(KIND_TASKS[kind])}.",
                code="missing_task",
            )
        _check_task(kind, task, rule)
    return kind


def require_kind(manifest: Manifest, wanted: Kind, *, label: str) -> None:
    """Raises:
    InvalidInput: the manifest is of another kind (the message names what it lacks).
    """
    found = kind_of(manifest)
    if found is not wanted:
        raise bad_manifest(
            f"{label} is {found.with_article}, but {wanted.with_article} is needed here: it lacks the task {next(iter(KIND_TASKS[wanted]))!r}.",
            f"Give an MLCube that declares {names_of(KIND_TASKS[wanted])}.",
            code="wrong_kind",
        )


def _check_task(kind: Kind, task: Task, rule: _TaskRule) -> None:
    for group, declared, required, optional in (
        ("input", task.inputs, rule.required_inputs, rule.optional_inputs),
        ("output", task.outputs, rule.required_outputs, rule.optional_outputs),
    ):
        names = {entry.name for entry in declared}
        missing = [name for name in required if name not in names]
        if missing:
            raise bad_manifest(
                f"Task {task.name!r} of the {kind.value} lacks the {group} {missing[0]!r}.",
                f"Its {group}s are {names_of(required) or 'none'}"
                + (f" and optionally {names_of(optional)}." if optional else "."),
                code="missing_parameter",
            )
        for entry in declared:
            if entry.name in required or entry.name in optional:
                continue
            extra = (
                group == "input"
                and rule.extra_inputs
                and (entry.default is None or entry.default.startswith("additional_files/"))
            )
            if entry.default == "additional_files" and group == "input" and rule.extra_inputs:
                extra = True
            if not extra:
                fix = f"Known {group}s: {names_of((*required, *optional)) or 'none'}"
                fix += (
                    "; an input of your own must have a default under additional_files/."
                    if group == "input" and rule.extra_inputs
                    else "."
                )
                raise bad_manifest(
                    f"Task {task.name!r} of the {kind.value} declares the unknown {group} {entry.name!r}.",
                    fix,
                    code="unknown_parameter",
                )
