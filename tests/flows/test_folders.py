"""An MLCube from its folder: registered, or registered and asked for, in one command."""

from __future__ import annotations

import pytest

from medperf.testing.workflows import Workflow, make_workflow

from .association_scene import Act, Scene, act, scene

__all__ = ["act", "scene"]


@pytest.fixture
def model(scene: Scene) -> Workflow:
    """A model with files of its own, in a folder of its own."""
    number = next(scene.numbers)
    made = make_workflow(scene.folder / "folders" / str(number))
    parameters = made.model.parent / "workspace" / "parameters.yaml"
    parameters.write_text(f"{parameters.read_text()}\n# folder {number}\n")
    return made


def test_a_folder_is_packaged_and_registered_once(scene: Scene, act: Act, model: Workflow) -> None:
    made = act(
        "maker", "mlcube", "submit", "--from", model.folder / "model", "--name", "from-folder", "--format", "json"
    )
    assert made.code == 0, made.err
    assert (made.json["name"], made.json["kind"]) == ("from-folder", "model")
    again = act("maker", "mlcube", "submit", "--from", model.model.parent, "--name", "from-folder", "--format", "json")
    assert again.json["id"] == made.json["id"], "the same files: what is there is used"
    parameters = model.model.parent / "workspace" / "parameters.yaml"
    parameters.write_text(f"{parameters.read_text()}\n# changed\n")
    other = act("maker", "mlcube", "submit", "--from", model.folder / "model", "--name", "from-folder")
    assert other.code == 1
    assert "another MLCube named 'from-folder'" in other.err
    assert "Give this one another name with --name." in other.err


def test_a_folder_or_files_not_both(scene: Scene, act: Act, model: Workflow) -> None:
    both = act("maker", "mlcube", "submit", "--from", model.folder / "model", "--mlcube-file", "x", "--image-hash", "y")
    assert (both.code, "--mlcube-file, --image-hash cannot be given with --from" in both.err) == (2, True)
    neither = act("maker", "mlcube", "submit")
    assert (neither.code, "--name, --mlcube-file must be given (or --from FOLDER)" in neither.err) == (2, True)
    for words in ([], ["-m", "1", "--from", "x"], ["--from", "x", "--report", "1"]):
        assert act("maker", "mlcube", "associate", "-b", "1", *words).code == 2


def test_a_folder_is_registered_only_once_it_passed(scene: Scene, act: Act, model: Workflow) -> None:
    before = len(act("maker", "mlcube", "ls", "--mine", "--format", "json").json["items"])
    whole = model.program("model").read_text()
    model.replace_task("model", "infer", "raise SystemExit('no predictions today')")
    failed = act("maker", "mlcube", "associate", "-b", "1", "--from", model.folder / "model", "--yes")
    assert failed.code == 1
    assert "no predictions today" in failed.err
    assert len(act("maker", "mlcube", "ls", "--mine", "--format", "json").json["items"]) == before
    model.program("model").write_text(whole)
    asked = act(
        "maker", "mlcube", "associate", "-b", "1", "--from", model.folder / "model", "--yes", "--format", "json"
    )
    assert asked.code == 0, asked.err
    assert asked.json["association"]["status"] == "PENDING"
    # Once more: it is registered and asked for, and nothing is done twice.
    again = act(
        "maker", "mlcube", "associate", "-b", "1", "--from", model.folder / "model", "--yes", "--format", "json"
    )
    assert again.json["already"] is True
    assert len(act("maker", "mlcube", "ls", "--mine", "--format", "json").json["items"]) == before + 1
